"""The commands that make data: download, prepare, simulate; it parses, calls and prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hardgnn.cli.options import Json
from hardgnn.cli.progress import bytes_bar
from hardgnn.cli.terminal import print_block, print_json, print_line, print_table
from hardgnn.errors import HardGNNError
from hardgnn.screen import say, wait
from hardgnn.storage.kinds import kind_of, mistaken

OURS = ("a prepared folder", "a run folder", "a study", "an exported folder")  # which are no logs


def download(
    name: Annotated[str, typer.Argument(help="A public data set, such as ml-100k.")],
    to: Annotated[Path | None, typer.Option(help="Folder for the files; data/NAME by default.")] = None,
    as_json: Json = False,
) -> None:
    """Fetches a public data set from its origin, resumable and checksummed.

    Example: `hardgnn download ml-100k --to data/ml-100k`
    """
    from hardgnn.prepare.download import download as fetch

    with bytes_bar(name) as bar:
        path = fetch(name, to or Path("data") / name, progress=bar, say=say)
    print_json({"path": str(path)}) if as_json else print_line(path)


def prepare(
    source: Annotated[
        list[str] | None,
        typer.Argument(help="The raw log: files, a folder, an address as s3://…, or - for standard input."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The prepared folder to write.")] = None,
    preset: Annotated[str | None, typer.Option(help="A paper's settings; see --list-presets.")] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="How the log is written, as csv or sequences (users and their items, oldest first, without times); "
            "auto by default; see --list-formats.",
        ),
    ] = None,
    user_col: Annotated[str | None, typer.Option(help="Column of users.")] = None,
    item_col: Annotated[str | None, typer.Option(help="Column of items.")] = None,
    time_col: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    rating_col: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    items_file: Annotated[Path | None, typer.Option(help="A table of items with titles.")] = None,
    drop_missing: Annotated[
        bool | None,
        typer.Option("--drop-missing", help="Drop rows whose user or item is empty, NA, nan, None or the like."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text that is not UTF-8, such as latin-1.")] = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Most bytes out of a compressed file or a pipe; see docs/data.md.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Drop what is earlier than this date (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Drop what is not earlier than this date (UTC).")] = None,
    min_rating: Annotated[float | None, typer.Option(help="Keep ratings of at least this.")] = None,
    repeats: Annotated[str | None, typer.Option(help="Repeated pairs: first (default), last or all.")] = None,
    k_core: Annotated[int | None, typer.Option(help="Fewest interactions per user and item, iterated; 5.")] = None,
    thresholds: Annotated[str | None, typer.Option(help="k_core (default), or selfgnn: passes of 20, 15, 5.")] = None,
    split: Annotated[str | None, typer.Option(help="leave-one-out (default) or global-time.")] = None,
    candidate_users: Annotated[
        int | None, typer.Option(min=0, help="Users at most with candidates of sampled-999; 10,000; 0 is all.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="What preparing may take, as 2GB; a longer log goes to the disk of --out. Half of what is free."
        ),
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Leave test items in the sequences of released pickles.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the prepared folder of another log; one of this log always is.")
    ] = False,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="Lists the presets and ends.")] = False,
    list_formats: Annotated[
        bool, typer.Option("--list-formats", help="Lists the formats, those of installed packages too, and ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Reads a raw log, filters and splits it, and writes the prepared folder.

    Example: `hardgnn prepare events.csv --out data/events --k-core 5`
    """
    from hardgnn.prepare.pipeline import check_place, prepare_file
    from hardgnn.prepare.presets import prepare_presets
    from hardgnn.storage.columns import shelf_of

    if list_presets or list_formats:
        from hardgnn.data.readers import formats

        names = list(prepare_presets()) if list_presets else formats()
        print_json(names) if as_json else print_block("\n".join(names))
        return
    if not source or out is None:
        raise HardGNNError("prepare needs a raw log and a folder to write: hardgnn prepare SOURCE --out DATA")
    for one in map(Path, source):
        if format_ is None and kind_of(one) in OURS:
            raise HardGNNError(str(mistaken(one, "a raw log")))
    settings = {
        "drop_missing": drop_missing,
        "since": since,
        "until": until,
        "min_rating": min_rating,
        "repeats": repeats,
        "k_core": k_core,
        "thresholds": thresholds,
        "split": split,
        "candidate_users": candidate_users,
    }
    columns = {"user_col": user_col, "item_col": item_col, "time_col": time_col, "rating_col": rating_col}
    reading = {**columns, "items_file": items_file, "encoding": encoding, "max_bytes": max_bytes}
    reading["drop_missing"] = drop_missing
    wait(f"reading {', '.join(source)}")
    beside = next(folder for folder in (out.absolute()).parents if folder.is_dir())
    data = prepare_file(source, preset, format_, reading, settings, allow_leaks, memory, beside)
    if not overwrite:
        check_place(out, data)
    data.save(out)
    where = "on disk" if shelf_of(data.user).folder is not None else "in memory"
    for warning in data.provenance.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"out": str(out), **data.manifest})
        return
    if read := data.provenance.read:
        meanings = ", ".join(f"{name}={read[name] or 'none'}" for name in ("user", "item", "time", "rating"))
        print_line(f"read as {read['format']}: {meanings}; times are {read['time_unit']}; prepared {where}")
    rows = [
        [step.step, *(f"{count:,}" for count in (step.interactions, step.users, step.items))]
        for step in data.provenance.steps
    ]
    print_table(f"{data.name} → {out}", ["step", "interactions", "users", "items"], rows)
    print_line(f"next: `hardgnn train {shlex.quote(str(out))} --out runs/{shlex.quote(out.name)}`")
    if found := data.provenance.released:
        print_table("found in the released pickles", ["what", "count"], [[k, f"{v:,}"] for k, v in found.items()])


def simulate(
    users: Annotated[int, typer.Option(min=1, help="Users.")],
    items: Annotated[int, typer.Option(min=2, help="Items.")],
    events: Annotated[int, typer.Option(min=1, help="Interactions.")],
    out: Annotated[Path, typer.Option(help="The log to write: .inter, .csv or .parquet.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    as_json: Json = False,
) -> None:
    """A synthetic log with a known answer: each item has a planted successor.

    Example: `hardgnn simulate --users 1000 --items 500 --events 30000 --out market.inter`
    """
    from hardgnn.prepare.simulate import write_simulated

    wait("drawing events")
    write_simulated(out, users, items, events, seed)
    print_json({"out": str(out)}) if as_json else print_line(out)
