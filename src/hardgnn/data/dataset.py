"""The prepared data set: dense ids, per-user order, the split, the stored candidates; kept as a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.arguments import as_path
from hardgnn.data.histories import Histories
from hardgnn.data.id_tables import read_ids, unread_ids, write_ids
from hardgnn.data.log import InteractionLog, ReadOptions, read_log
from hardgnn.data.provenance import AGAIN, FILES, FORMAT_VERSION, Provenance
from hardgnn.data.provenance import same_data as same_data  # its older home
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.forks import enter
from hardgnn.screen import html_table
from hardgnn.storage.columns import blocks, least, most, places_of, release, shelf_for, shelf_of, tally
from hardgnn.storage.files import atomic_folder, recover
from hardgnn.storage.frames import check_index, read_columns, write_parts
from hardgnn.storage.kinds import mistaken
from hardgnn.storage.records import check_file, read_json, recorded, write_json
from hardgnn.wording import said

TRAIN, VALID, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}
READABLE = (1, FORMAT_VERSION)  # 1 has no hashes
MANIFEST = "manifest.json"
INTERACTIONS, USERS, ITEMS, CANDIDATES = "interactions.parquet", "users.parquet", "items.parquet", "candidates.npz"
SCHEMA = {"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Float64, "order": pl.Int32, "part": pl.UInt8}
ROW_BYTES = 17  # of a row in memory, without its place


@dataclass(frozen=True)
class Candidates:
    """Sampled negatives, the same for every model: `users` (V,) int32 and `items` (V, C) int32.

    A row holds items its user never interacted with, in any part; where there are fewer than C, -1 fills it.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]


@dataclass(frozen=True, repr=False)
class Dataset:
    """Interactions with dense ids, sorted by user and, within a user, by time.

    Shapes: `user`, `item` (N,) int32, `timestamp` (N,) float64 seconds since 1970, `part` (N,) uint8
    (0 train, 1 valid, 2 test); `user_ids` (U,) and `item_ids` (I,) the raw ids as strings, `item_titles` (I,).
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    timestamp: NDArray[np.float64]
    part: NDArray[np.uint8]
    user_ids: pl.Series
    item_ids: pl.Series
    item_titles: pl.Series | None
    candidates: Candidates
    manifest: dict[str, Any]

    @staticmethod
    def read(source: Any, **options: Unpack[ReadOptions]) -> InteractionLog:
        """Reads a raw log, a file or a table of polars, pandas or Arrow; see `hardgnn.data.log.read_log`."""
        return read_log(source, **options)

    @staticmethod
    def from_frame(
        frame: Any,
        user: str | None = None,
        item: str | None = None,
        time: str | Literal[False] | None = None,
        rating: str | None = None,
        *,
        name: str = "table",
        drop_missing: bool = False,
        preset: str | None = None,
        **settings: Any,
    ) -> Dataset:
        """A prepared data set of a table in memory: filtered, numbered and split.

        Args:
            frame, user, item, time, rating, name: as of `InteractionLog.from_frame`.
            drop_missing: leave out rows whose user or item is empty, or a word for a missing value.
            preset, settings: of preparing, as of `InteractionLog.prepare`: `k_core=5`, `split="leave-one-out"` and
                others.

        Raises:
            HardGNNError: the table cannot be read, naming the row, or nothing of it is left.

        Example:
            >>> data = Dataset.from_frame(df, user="customer", item="sku", time="bought_at", k_core=3)
        """
        log = InteractionLog.from_frame(frame, user, item, time, rating, name=name, drop_missing=drop_missing)
        return log.prepare(preset, **({"drop_missing": True} if drop_missing else {}), **settings)

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items I."""
        return len(self.item_ids)

    @property
    def name(self) -> str:
        """The source's name, as the manifest has it."""
        return self.provenance.name

    @property
    def time_span(self) -> tuple[float, float] | None:
        """The seconds between which intervals are cut, where the source tells them: released pickles do."""
        return self.provenance.time_span_s

    @cached_property
    def provenance(self) -> Provenance:
        """Where the data come from and what was done to them: the manifest, which is its record, with types."""
        return Provenance.of(self.manifest)

    @cached_property
    def train(self) -> Histories:
        """Each user's training items."""
        return self.before(VALID)

    @cached_property
    def everything(self) -> Histories:
        """Each user's items of all parts: what serving knows, never what training or evaluating may see."""
        return self.before(TEST + 1)

    def before(self, part: int) -> Histories:
        """What may be known when `part` is predicted: the training items, and at test time the validation items.

        Nothing tells when the next item came: in a split by time everybody is asked at the moment that `part` begins,
        otherwise each user right after the last item that may be known of them.

        Source: specification, section 5, "at test time the validation item belongs to the user's history".
        """
        offsets = np.concatenate([[0], np.cumsum(self._known(part))]).astype(np.int64)
        items = self._early(self.item, part)
        if not self.timed:
            return Histories(offsets, items)
        times = self._early(self.timestamp, part)
        return Histories(offsets, items, times, self._asked(part, offsets, times))

    def _known(self, part: int) -> NDArray[np.int64]:
        """How many interactions each user has before `part`, (U,)."""
        counts = np.zeros(self.n_users, dtype=np.int64)
        for user, code in blocks(self.user, self.part):
            tally(counts, user[code < part])
        return counts

    def _early(self, values: NDArray[Any], part: int) -> NDArray[Any]:
        """Those of the interactions before `part`."""
        if part > TEST:
            return values
        kept = shelf_of(values).column(values.dtype)
        for one, code in blocks(values, self.part):
            kept.add(one[code < part])
        return kept.done()

    def _asked(self, part: int, offsets: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """When each user is asked for the next item, (U,); None is after everything."""
        if part > TEST:
            return None
        if self.provenance.cut_times_s is not None:
            begins = {code: self.provenance.cut_times_s[name] for name, code in PARTS.items() if code != TRAIN}
            return np.full(self.n_users, begins[part])
        asked = np.full(self.n_users, -np.inf)
        known = np.diff(offsets) > 0
        asked[known] = times[offsets[1:][known] - 1]
        release(times)
        return asked

    @property
    def by_time(self) -> bool:
        """Whether the parts are of different times, the same for everybody."""
        return self.provenance.cut_times_s is not None

    @cached_property
    def timed(self) -> bool:
        """Whether timestamps are times, and not only an order."""
        dated = self.provenance.dated
        return dated and bool(len(self.timestamp)) and least(self.timestamp) < most(self.timestamp)

    def joined(self) -> Dataset:
        """The same interactions, those of the validation part in the training part: what is learnt from in the end."""
        part = shelf_of(self.part).column(np.uint8)
        for (codes,) in blocks(self.part):
            part.add(np.where(codes == VALID, TRAIN, codes))
        return replace(self, part=part.done())

    def targets(self, part: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The users that `part` judges and the item each should get: (V,) and (V,), sorted by user.

        The target is the user's first interaction of the part; users with nothing before it are left out.
        """
        users, rows = self.target_rows(part)
        return users, self.item[rows]

    def target_rows(self, part: int, which: str = "first") -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The users that `part` judges and the rows of their targets: (V,) and (V,), sorted by user, then by time.

        `which` of a user's interactions of the part: the `first`, the `last`, a `random` one, drawn with a fixed seed,
        or all of them, one after the other (`successive`).
        """
        rows = places_of(self.part, part)
        users, first, counts = np.unique(self.user[rows], return_index=True, return_counts=True)
        kept = self._known(part)[users] > 0
        users, first, counts = users[kept].astype(np.int32), first[kept], counts[kept]
        if which == "successive":
            places = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
            return np.repeat(users, counts), rows[places]
        if which == "last":
            return users, rows[first + counts - 1]
        drawn = np.random.default_rng(0).integers(0, counts) if which == "random" else 0
        return users, rows[first + drawn]

    def before_rows(self, rows: NDArray[np.int64]) -> Histories:
        """What each user had before an interaction of theirs, of `rows` (B,), and is asked with right after it.

        In a split by time nobody is asked before the part of the interaction begins.
        """
        everything = self.everything
        found = everything.between(everything.offsets[self.user[rows]], rows)
        if found.times is None:
            return found
        asked = np.where(found.lengths > 0, found.times[found.offsets[1:] - 1], -np.inf)
        if self.by_time:
            for part in np.unique(self.part[rows]):
                begins = self._asked(int(part), found.offsets, found.times)
                assert begins is not None
                asked = np.where(self.part[rows] == part, np.maximum(asked, begins[0]), asked)
        return replace(found, asked=asked)

    @property
    def counts(self) -> dict[str, int]:
        """How many users, items and interactions there are, and how many interactions of each part."""
        counts = {"users": self.n_users, "items": self.n_items, "interactions": len(self.user)}
        found = np.zeros(256, dtype=np.int64)
        for (codes,) in blocks(self.part):
            tally(found, codes)
        return counts | {name: int(found[code]) for name, code in PARTS.items()}

    @property
    def lacking(self) -> str | None:
        """Which of "validation" and "test" has no target at all; None where both have some."""
        parts = {"validation": VALID, "test": TEST}
        return next((name for name, code in parts.items() if not len(self.targets(code)[0])), None)

    def __repr__(self) -> str:
        told = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return f"Dataset({self.name}: {told})"

    def _repr_html_(self) -> str:
        """The same as a table, for a notebook."""
        return html_table(f"Dataset {self.name}", ["", "count"], [[name, f"{n:,}"] for name, n in self.counts.items()])

    def interactions(self) -> pl.DataFrame:
        """All interactions in raw ids: user, item, timestamp (seconds since 1970) and part (train, valid or test)."""
        parts = pl.Series(list(PARTS), dtype=pl.Enum(list(PARTS)))
        columns = {"user": self.user_ids.gather(self.user), "item": self.item_ids.gather(self.item)}
        return pl.DataFrame({**columns, "timestamp": self.timestamp, "part": parts.gather(self.part)})

    def save(self, folder: str | Path) -> None:
        """Writes the prepared folder (docs/data.md) in one step: it is there whole or not at all."""
        enter()
        with atomic_folder(as_path(folder, "folder"), MANIFEST) as out:
            starts = self.everything.offsets
            columns: dict[str, NDArray[Any]] = {
                "user": self.user,
                "item": self.item,
                "timestamp": self.timestamp,
                "part": self.part,
            }

            def rows(first: int, end: int) -> pl.DataFrame:
                part = {name: np.array(values[first:end]) for name, values in columns.items()}
                for values in columns.values():
                    release(values[first:end])
                order = np.arange(first, end) - starts[part["user"]]
                return pl.DataFrame({**part, "order": order.astype(np.int32)})

            write_parts(out / INTERACTIONS, rows, len(self.user), SCHEMA)
            write_ids(out / USERS, self.user_ids)
            write_ids(out / ITEMS, self.item_ids, self.item_titles)
            np.savez_compressed(out / CANDIDATES, users=self.candidates.users, items=self.candidates.items)
            files = recorded(out, [INTERACTIONS, USERS, ITEMS, CANDIDATES])
            self.manifest.update({"format_version": FORMAT_VERSION, FILES: files})  # as a run then has it
            write_json(out / MANIFEST, self.manifest, sealed=True)

    @classmethod
    def load(cls, folder: str | Path, ids: bool = True) -> Dataset:
        """Reads a prepared folder and checks it against the hashes in its manifest.

        Args:
            folder: which.
            ids: whether raw ids and titles are read; without, as many are missing, and take no memory.

        Raises:
            HardGNNError: the folder is missing, incomplete, damaged or of another format version.
        """
        enter()
        folder = as_path(folder, "folder")
        manifest = read_manifest(folder)
        Provenance.of(manifest, shown(folder / MANIFEST))
        files = manifest.get(FILES, {})
        for name in (INTERACTIONS, USERS, ITEMS, CANDIDATES):
            check_file(folder / name, files.get(name), AGAIN)
        used = {name: kind for name, kind in SCHEMA.items() if name != "order"}  # which the place tells
        rows = read_columns(folder / INTERACTIONS, used, AGAIN, lambda count: shelf_for(count * ROW_BYTES, folder))
        user_ids, _ = read_ids(folder / USERS) if ids else unread_ids(folder / USERS)
        item_ids, titles = read_ids(folder / ITEMS) if ids else unread_ids(folder / ITEMS)
        with reading(folder / CANDIDATES, AGAIN), np.load(folder / CANDIDATES, allow_pickle=False) as stored:
            candidates = Candidates(*(_int32(stored[name], name) for name in ("users", "items")))
        data = cls(
            **rows,
            user_ids=user_ids,
            item_ids=item_ids,
            item_titles=titles,
            candidates=candidates,
            manifest=manifest,
        )
        data.check(folder)
        return data

    def check(self, folder: Path) -> None:
        """Checks that every number is in its range, that rows are in order and as many as the manifest counts.

        Raises:
            HardGNNError: something is not; names the file and the row.
        """
        path = folder / INTERACTIONS
        sizes = {"user": self.n_users, "item": self.n_items, "part": len(PARTS)}
        before, last = 0, 0
        for user, item, part, time in blocks(self.user, self.item, self.part, self.timestamp):
            for name, values in zip(sizes, (user, item, part)):
                check_index(pl.Series(name, values), sizes[name], path, AGAIN, before=before)
            wrong = {"is not sorted by user": np.diff(user, prepend=last) < 0, "has no time": ~np.isfinite(time)}
            for what, rows in wrong.items():
                if rows.any():
                    raise HardGNNError(f"{shown(path)}: row {before + int(rows.argmax()) + 1} {what}; {AGAIN}")
            before, last = before + len(user), user[-1]
        counts = self.counts
        for name, wanted in self.provenance.counts.items():
            if counts.get(name, wanted) != wanted:
                raise HardGNNError(
                    f"{shown(folder)}: damaged, {counts[name]:,} {name} where its {MANIFEST} counts {wanted:,}; {AGAIN}"
                )
        users, items = self.candidates.users, self.candidates.items
        if users.ndim != 1 or items.ndim != 2 or len(users) != len(items) or (np.diff(users) <= 0).any():
            expected = "expected one row for each of its users"
            raise HardGNNError(f"{shown(folder / CANDIDATES)}: damaged, {expected}; {AGAIN}")
        check_index(pl.Series("user", users), self.n_users, folder / CANDIDATES, AGAIN)
        check_index(pl.Series("item", items.ravel()), self.n_items, folder / CANDIDATES, AGAIN, first=-1)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        HardGNNError: there is no such folder, it is none of this version, or its manifest is damaged.
    """
    recover(folder)
    if wrong := mistaken(folder, "a prepared folder"):
        raise HardGNNError(wrong)
    if not folder.is_dir():
        raise HardGNNError(
            f"{shown(folder)}: no such folder; make it with "
            + said(f"`hardgnn prepare SOURCE --out {shown(folder)}`", "Dataset.read(SOURCE).prepare().save(…)")
        )
    if not (folder / MANIFEST).exists():
        raise HardGNNError(f"{shown(folder)}: not a prepared data set, {MANIFEST} is missing")
    manifest = read_json(folder / MANIFEST)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version not in READABLE:
        raise HardGNNError(
            f"{shown(folder)}: prepared by another version (format {version}, this one reads {FORMAT_VERSION}); {AGAIN}"
        )
    return dict(manifest)


def _int32(values: NDArray[Any], name: str) -> NDArray[np.int32]:
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} are of type {values.dtype}, expected whole numbers")
    return values.astype(np.int32)
