"""Recommendations in shards: processes on any number of hosts fill one folder, each with a file of some of the users.

Names that begin with `_` are no data to Spark, Arrow and their like, so that the folder is a table to them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn.data import arguments as given
from hardgnn.data.columns import USER
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.evaluation.protocols import Progress
from hardgnn.recommend.answers import write_blocks
from hardgnn.recommend.recommender import Choice, Ids, Recommender  # noqa: F401  Ids: what Wanted inherits names it
from hardgnn.runs.folder import MODEL, check_version, run_name
from hardgnn.runs.users import known_users, users_in
from hardgnn.storage.files import is_leftover, writing
from hardgnn.storage.locks import LOCK, locked
from hardgnn.storage.records import check_file, digest, read_json, recorded, sha256, write_json
from hardgnn.wording import option, warn

PLAN, MANIFEST = "_shards.json", "_manifest.json"
FORMATS = ("parquet", "csv")
FORMAT_VERSION = 3
PATIENCE_S = 20.0
AGAIN = "make the shard again with --overwrite"
MOST_NAMED = 8  # of the missing shards
OPTIONS = {
    "n": "n",
    "exclude_seen": "exclude_seen",
    "allow": "allow_items",
    "block": "block_items",
    "users": "users_file",
    "events": "events",
    "format": "format",
    "csv_safe": "csv_safe",
}
"""What was asked of a folder of shards, and the option that says it."""


class Unfinished(HardGNNError):
    """Not all shards of a folder are there yet."""


@dataclass(frozen=True)
class Shard:
    """The shard `number` (from 1) of `of`: a stretch of the users, none of whom is in another shard."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard out of `i/n`, counted from 1 as by test runners and GNU split.

        Raises:
            HardGNNError: it is none.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise HardGNNError(
                f"--shard {shown(text)}: expected i/n with i from 1 to n, as in 1/8, 2/8 and so on to 8/8"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, users: int) -> range:
        """The places of its users among all; shards differ by one user at most."""
        return range(users * (self.number - 1) // self.of, users * self.number // self.of)

    def name(self, ending: str) -> str:
        """The name of its file, which tells how many there are."""
        return f"part-{self.number:05}-of-{self.of:05}.{ending}"


@dataclass(frozen=True, kw_only=True)
class Wanted(Choice):
    """What all shards of a folder have in common.

    Args:
        exclude_seen, allow, block: as in `Choice`.
        n: items per user.
        users: raw ids (U,), each of them once; None is all that the run knows.
        events: what users had since, as in `Recommender.blocks`; it names no users here.
        format: of the files, `parquet` or `csv`.
        csv_safe: as in `write_blocks`.
    """

    n: int = 10
    users: pl.Series | None = None
    events: pl.DataFrame | None = None
    format: str = "parquet"
    csv_safe: bool = False

    def described(self, run: Path, shards: int) -> dict[str, Any]:
        """As the folder's plan has it; lists by their digest."""
        lists = {"allow": self.allow, "block": self.block, "users": self.users}
        return {
            "format_version": FORMAT_VERSION,
            "run": run_name(run),
            "run_digest": run_digest(run),
            "shards": shards,
            "users": users_in(run) if self.users is None else len(self.users),
            "settings": {
                "n": self.n,
                "exclude_seen": self.exclude_seen,
                "format": self.format,
                "csv_safe": self.csv_safe,
                "events": None if self.events is None else digest(self.events.to_dict(as_series=False)),
                **{
                    name: None if ids is None else digest(given.ids(ids, name).to_list()) for name, ids in lists.items()
                },
            },
        }


def run_digest(run: Path) -> str:
    """What tells a run from every other, weights and histories included."""
    if not (run / MODEL).exists():
        raise HardGNNError(f"{shown(run)}: no trained model yet")
    return digest([check_version(run).get("files", {}), sha256(run / MODEL)])


def recommend_shard(
    run: str | Path,
    out: str | Path,
    shard: Shard,
    wanted: Wanted | None = None,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = warn,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes one shard of the recommendations of many users; whoever completes the folder writes its manifest.

    All shards together have the users, items and scores of `Recommender.for_users`. A shard has in memory the model,
    the items, and the histories of its own users; what is counted of everybody is read block by block.
    A shard that is there is left as it is: the same call may be made again, by anybody, after any failure.

    Args:
        run: a run folder.
        out: the folder of the shards; `part-00001-of-00008.parquet` and so on, and `_manifest.json` once all are there.
        shard: which one.
        wanted: what is wanted, the same for all shards.
        overwrite: make the shard anew where it is there.
        say: told in one sentence about what is unknown, as in `Recommender`.
        progress: called with the users done and the users of the shard.

    Returns:
        `file`, `made` (False where it was there), `there` (how many shards are) and `shards`.

    Raises:
        HardGNNError: the folder holds something else, or shards of another run or other settings.
    """
    run, out, wanted = Path(run), Path(out), wanted or Wanted()
    if wanted.format not in FORMATS:
        raise HardGNNError(f"{option('format')} {shown(wanted.format)}: expected {' or '.join(FORMATS)}")
    if wanted.csv_safe and wanted.format != "csv":
        raise HardGNNError(f"{option('csv_safe')} goes with {option('format', 'csv')}")
    plan = _agreed(out, wanted.described(run, shard.of))
    path = out / shard.name(wanted.format)
    made = overwrite or not path.exists()
    if made:
        rows = shard.rows(plan["users"])
        named = None if wanted.users is None else wanted.users[rows.start : rows.stop]
        recommender = Recommender.of_users(run, rows if named is None else named, say)
        users = recommender.tables.user_ids if named is None else named
        events = _events_of(users, wanted, run, say)
        (out / MANIFEST).unlink(missing_ok=True)
        blocks = recommender.blocks(users, wanted.n, wanted, events=events, progress=progress)
        write_blocks(blocks, path, wanted.csv_safe)
    there = [Shard(number, shard.of).name(wanted.format) for number in range(1, shard.of + 1)]
    there = [name for name in there if (out / name).exists()]
    if len(there) == shard.of and (made or not (out / MANIFEST).exists()):
        _complete(out, plan, there)
    return {"file": str(path), "made": made, "there": len(there), "shards": shard.of}


def _agreed(out: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of a folder, which the first shard writes.

    Raises:
        HardGNNError: it is another one, or the folder holds something else.
    """
    with writing(out):
        if out.suffix in (".parquet", ".csv"):
            raise HardGNNError(f"{shown(out)}: the name of a file, expected that of a folder, which shards fill")
        if os.path.lexists(out) and not out.is_dir():
            raise HardGNNError(f"{shown(out)}: a file is in the way of the folder of the shards")
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, PATIENCE_S):
            if not (out / PLAN).exists():
                if any(path.name != LOCK and not is_leftover(path) for path in out.iterdir()):
                    raise HardGNNError(
                        f"{shown(out)}: the folder is not empty and holds no {PLAN}, so it is left alone"
                    )
                write_json(out / PLAN, plan, sealed=True, make_parent=False)
                return plan
            other = read_plan(out)
    if difference := _difference(other, plan):
        raise HardGNNError(f"{shown(out)}: {difference}; name another folder, or remove this one")
    return plan


def read_plan(out: Path) -> dict[str, Any]:
    """What all shards of a folder have in common.

    Raises:
        HardGNNError: the plan is missing or damaged.
    """
    with reading(out / PLAN):
        plan = read_json(out / PLAN)
        plan["run_digest"], plan["shards"] + 0, plan["users"] + 0, plan["settings"]["n"]
        return dict(plan)


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """In which way a shard is not one of the folder's; empty where it is."""
    if old["run_digest"] != new["run_digest"]:
        same = "of that name " if old["run"] == new["run"] else ""
        return f"holds shards of another run {same}({shown(old['run'])})"
    if old["shards"] != new["shards"]:
        return f"its shards are of {old['shards']:,}, not of {new['shards']:,}"
    for name, argument in OPTIONS.items():
        before, now = old["settings"].get(name), new["settings"].get(name)
        if before != now:
            plain = isinstance(before, int | str) and isinstance(now, int | str) and name not in ("allow", "block")
            plain = plain and name not in ("users", "events")
            values = f" ({before}, not {now})" if plain else ""
            return f"its shards were made with another {option(argument)}{values}"
    return ""


def _events_of(users: pl.Series, wanted: Wanted, run: Path, say: Callable[[str], None]) -> pl.DataFrame | None:
    """The events of the shard's users; those of users that no shard has are told."""
    if wanted.events is None:
        return None
    named = wanted.events[USER].unique(maintain_order=True)
    everybody = known_users(run, named) if wanted.users is None else wanted.users
    strangers = named.filter(~named.is_in(everybody.implode()))
    if len(strangers):
        say(f"events of {len(strangers):,} users such as '{strangers[0]}' whom no shard has, left out")
    return wanted.events.filter(pl.col(USER).is_in(users.implode()))


def _complete(out: Path, plan: dict[str, Any], names: list[str]) -> None:
    """Says that all shards are there, with what each holds."""
    files = recorded(out, names)
    for name in names:
        scan = pl.scan_csv if name.endswith(".csv") else pl.scan_parquet
        with reading(out / name, AGAIN):
            files[name]["rows"] = scan(out / name, glob=False).select(pl.len()).collect().item()
    rows = sum(record["rows"] for record in files.values())
    write_json(out / MANIFEST, plan | {"rows": rows, "files": files}, sealed=True, make_parent=False)


def check_shards(out: Path) -> None:
    """Compares a folder of shards with its manifest.

    Raises:
        Unfinished: a shard is still missing, or the manifest of them all.
        HardGNNError: a shard is not what was written.
    """
    plan = read_plan(out)
    if not (out / MANIFEST).exists():
        raise Unfinished(f"{shown(out)}: unfinished, {_left(out, plan)}")
    for name, record in read_json(out / MANIFEST)["files"].items():
        check_file(out / name, record, AGAIN)


def _left(out: Path, plan: dict[str, Any]) -> str:
    """What is still to be done in a folder of shards."""
    every = [Shard(number, plan["shards"]) for number in range(1, plan["shards"] + 1)]
    missing = [str(one) for one in every if not (out / one.name(plan["settings"]["format"])).exists()]
    if not missing:
        return f"all shards are there and {MANIFEST} is not; the command of any of them writes it"
    more = f" and {len(missing) - MOST_NAMED:,} more" if len(missing) > MOST_NAMED else ""
    there = f"{len(every) - len(missing):,} of {len(every):,} shards are there"
    return f"{there}, missing: {', '.join(missing[:MOST_NAMED])}{more}"
