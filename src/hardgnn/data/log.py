"""The raw interaction log: read from a file or made of a table, and before anything is dropped."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np
import polars as pl

from hardgnn.arguments import as_path, flag, text
from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER, Reading
from hardgnn.data.raw.layers import bare
from hardgnn.data.readers import READERS, RawFile, formats, guess_format, titles
from hardgnn.data.readers.frames import is_table
from hardgnn.data.readers.source import Columns, joined, parsing
from hardgnn.data.readers.tables import checked_frame, remote_parquet
from hardgnn.data.readers.values import Room, checked_table
from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.forks import enter

if TYPE_CHECKING:
    from hardgnn.data.dataset import Dataset

COLUMNS = {USER: "user_col", ITEM: "item_col", TIMESTAMP: "time_col", RATING: "rating_col"}
PATTERN = re.compile("[*?]")
OF_TABLES = (*COLUMNS.values(), "drop_missing")


class ReadOptions(TypedDict, total=False):
    """How a raw log is read; see `read_log`."""

    format: str
    user_col: str | None
    item_col: str | None
    time_col: str | None
    rating_col: str | None
    items_file: str | Path | None
    encoding: str | None
    max_bytes: int | None
    drop_missing: bool


@dataclass(frozen=True)
class InteractionLog:
    """Who interacted with what and when.

    `table` has the columns user and item (Categorical, for that keeps each text once), timestamp (Float64, seconds
    since 1970) and, where the source has it, rating (Float64), in the source's row order. A table of your own (polars,
    pandas, Arrow, a dictionary of columns) is checked and brought into this form by the rules for files, so its columns
    may have the usual other names, ids be text or whole numbers, times be numbers, texts or dates. `titles` maps item
    to title (both String). `name` is the source's short name, `sha256` the hash of its bytes, or of the table's values,
    `reading` how it was understood.

    Raises:
        HardGNNError: as `read_log`, naming the row.
    """

    table: pl.DataFrame
    name: str = "table"
    sha256: str = ""
    titles: pl.DataFrame | None = None
    checked: InitVar[Reading | None] = None
    reading: Reading = field(init=False)

    def __post_init__(self, checked: Reading | None) -> None:
        if checked is None:
            table, checked = checked_frame(self.table, self.name)
            object.__setattr__(self, "table", table)
            object.__setattr__(self, "sha256", digest_of(table))
        object.__setattr__(self, "reading", checked)

    @classmethod
    def read(cls, source: Any, **options: Unpack[ReadOptions]) -> InteractionLog:
        """Reads a raw log, a file or a table; see `read_log` for the options."""
        return read_log(source, **options)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        user: str | None = None,
        item: str | None = None,
        time: str | Literal[False] | None = None,
        rating: str | None = None,
        *,
        name: str = "table",
        drop_missing: bool = False,
    ) -> InteractionLog:
        """The log of a table in memory.

        Args:
            frame: a table of polars, pandas or Arrow, or a dictionary of columns.
            user, item, time, rating: the names of its columns; usual names are found without them. `time=False` says
                that there are no times: the rows are in order, oldest first.
            name: what tables call the data.
            drop_missing: leave out rows whose user or item is empty, which are an error otherwise.

        Raises:
            HardGNNError: as `read_log`, naming the row.
        """
        enter()
        named = {"user": user, "item": item, "time": time, "rating": rating}
        for argument, column in named.items():
            if column is not None and not (argument == "time" and column is False):
                text(column, argument)
        wanted = dict(zip(COLUMNS, named.values()))
        if time is False:
            del wanted[TIMESTAMP]
        return log_of_table(frame, wanted, text(name, "name"), flag(drop_missing, "drop_missing"))  # type: ignore[arg-type]

    def prepare(self, preset: str | None = None, **settings: Any) -> Dataset:
        """Filters, splits and indexes the log; see `hardgnn.prepare.settings.PrepareConfig` for the settings.

        `preset` names settings that the others win over; see `hardgnn prepare --list-presets`. What makes the figures
        doubtful is told as Python warnings, and stands in the manifest.
        """
        if _preparing is None:
            raise HardGNNError(
                "a log is prepared by hardgnn.prepare; import that, or `from hardgnn import InteractionLog`"
            )
        return _preparing(self, preset, settings)


Prepares = Callable[[InteractionLog, str | None, dict[str, Any]], "Dataset"]
_preparing: Prepares | None = None


def prepares(function: Prepares) -> Prepares:
    """Makes a function of a log, a preset and settings what `InteractionLog.prepare` does.

    `hardgnn.prepare` stands above this room, which does not know it: the log is data, and what prepares it comes here.
    """
    global _preparing
    _preparing = function
    return function


def read_log(path: Any, room: Room | None = None, **options: Unpack[ReadOptions]) -> InteractionLog:
    """Reads a raw interaction log, plain, compressed or in an archive; docs/data.md describes each format.

    Args:
        path: the file, a folder or pattern of Parquet files, an address of Parquet that polars reads (`s3://…`), a
            list of such, or `-` for standard input; or a table (polars, pandas, Arrow, a dictionary of columns), which
            takes the options of columns and `drop_missing`.
        room: from how many rows on the log's columns are files without a name, and where; None keeps all in memory.
        format: `inter` (RecBole: tabs, header `name:type`), `csv` (header; comma, tab, semicolon or bar),
            `parquet`, `movielens` (u.data, ratings.dat, ratings.csv, or GroupLens' zip), `amazon` (the ratings CSV
            of 2014), `gowalla` (SNAP's check-ins), `yelp` (review JSON lines, or the official archive), `json` (an
            object a line, such as Amazon's reviews), `sequences` (users and their items, oldest first, without
            times), the name of a reader of your own (`hardgnn.data.readers.reader`) or of an installed package, or
            `auto`, the default: told from the content, then from the name.
        user_col, item_col, time_col, rating_col: column names; usual names are found without them.
        items_file: item titles; without it a file beside the log is used: `<stem>.item`, and for MovieLens
            `u.item`, `movies.csv` or `movies.dat`, beside the log or in its archive.
        encoding: of a text that is not UTF-8, such as `latin-1`; any name that Python knows.
        max_bytes: the most bytes that may come out of a compressed file or a pipe. By default a compressed file may
            be 32 MiB, or 50 times its size and at most 64 GiB, and a pipe 8 GiB.
        drop_missing: leaves out rows whose user or item is empty, which are an error otherwise.

    Times may be seconds, milliseconds (or finer, told by their size) since 1970 in UTC, dates such as 20140514, or
    ISO dates and times, which without an offset are taken as UTC. `reading` of the log tells what became of it.

    Raises:
        HardGNNError: the file, a column or a value cannot be read, naming the line where there is one; a reader fails;
            or there is no such option, naming the nearest.
    """
    enter()
    known = ReadOptions.__annotations__
    if unknown := next((name for name in options if name not in known), None):
        raise HardGNNError(f"unknown option '{unknown}' of reading: {nearest(unknown, known)}")
    wanted: Columns = {meaning: options.get(name) for meaning, name in COLUMNS.items()}  # type: ignore[misc]
    if is_table(path):
        if unused := next((name for name in options if name not in OF_TABLES), None):
            raise HardGNNError(f"{unused}: an option of files, which would do nothing to a table")
        return log_of_table(path, wanted, drop_missing=options.get("drop_missing", False))
    every = path if isinstance(path, (list, tuple)) else [path]
    if not every:
        raise HardGNNError("path: expected a file or several, got none")
    kind = options.get("format", "auto")
    if any(is_address(one) for one in every):
        return log_at(every, kind, wanted, options, room)
    path, *rest = paths = [as_path(one, "path") for one in every]
    if again := next((one for place, one in enumerate(paths) if one in paths[:place]), None):
        raise HardGNNError(f"{shown(again)}: given twice, so that its rows would count twice")
    if kind == "selfgnn":
        raise HardGNNError(
            f"{path}: released pickles are no log but split already; see `hardgnn.prepare.released.selfgnn`"
        )
    if kind != "auto" and kind not in (names := formats()):
        raise HardGNNError(f"unknown format '{kind}': {nearest(str(kind), names)}")
    raw = RawFile.find(path, options.get("encoding"), options.get("max_bytes"))
    more = [RawFile.find(one, options.get("encoding"), options.get("max_bytes")) for one in rest]
    chosen = guess_format(raw) if kind == "auto" else kind
    return log_of(raw, chosen, wanted, options.get("items_file"), options.get("drop_missing", False), room, more)


def log_of(
    raw: RawFile,
    kind: str,
    wanted: Columns,
    items_file: str | Path | None = None,
    drop_missing: bool | None = None,
    room: Room | None = None,
    more: Sequence[RawFile] = (),
) -> InteractionLog:
    """Reads a log that is found already, in the format `kind`; see `read_log`.

    `room` is what memory it may take, `more` are the files that go on where the first ends.
    """
    reader = READERS.find(kind)
    label = f"{raw.label} and {len(more)} more" if more else raw.label
    with parsing(label, kind):
        sources = [reader.source(one, wanted) for one in (raw, *more)]
        source = joined(sources, [one.label for one in (raw, *more)]) if more else sources[0]
        table, found = checked_table(source, label, kind, drop_missing, room)
    if items_file is not None or raw.is_on_disk:
        names = titles.find_titles(raw.path, items_file, kind == "movielens", raw.member, raw.encoding)
    else:
        names = None
    sums = [one.sha256() for one in (raw, *more)]
    whole = hashlib.sha256("".join(sums).encode()).hexdigest() if more else sums[0]
    return InteractionLog(table, short_name(raw), whole, names, found)


def is_address(value: object) -> bool:
    """Whether it is an address such as s3://bucket/log.parquet, and no path."""
    return isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value) is not None


def log_at(
    addresses: Sequence[Any], kind: str, wanted: Columns, options: ReadOptions, room: Room | None
) -> InteractionLog:
    """The log in Parquet at addresses that polars reads; there is no hash of its bytes, which are read once."""
    if other := next((one for one in addresses if not is_address(one)), None):
        raise HardGNNError(f"{shown(other)}: files and addresses cannot be one log; name either")
    if kind not in ("auto", "parquet"):
        raise HardGNNError(f"{shown(addresses[0])}: only Parquet is read from an address")
    labels = [shown(one) for one in addresses]
    with parsing(labels[0], "parquet"):
        sources = [remote_parquet(one, wanted) for one in addresses]
        source = joined(sources, labels) if len(sources) > 1 else sources[0]
        table, found = checked_table(source, labels[0], "parquet", options.get("drop_missing", False), room)
    names = None
    if (items := options.get("items_file")) is not None:
        names = titles.find_titles(as_path(items, "items_file"), items, False, None, None)
    return InteractionLog(table, name_at(labels[0]), "", names, found)


def log_of_table(table: Any, wanted: Columns, name: str = "table", drop_missing: bool = False) -> InteractionLog:
    """The log of a table in memory; one that is not asked for a time has its rows in order, oldest first."""
    checked, found = checked_frame(table, name, wanted, drop_missing)
    return InteractionLog(checked, name, digest_of(checked), None, found)


def digest_of(table: pl.DataFrame) -> str:
    """A hash of the values of a log's table, the same whatever numbers its categories have in this process."""
    found = hashlib.sha256()
    for name in table.columns:
        column = table[name]
        found.update(f"{name} {len(column)}\n".encode())
        if column.dtype == pl.Categorical:
            codes = column.to_physical().to_numpy()
            first = np.full(int(codes.max(initial=0)) + 1, len(codes), dtype=np.int64)
            first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of each category the last written is the first
            once = np.flatnonzero(first < len(codes))
            once = once[np.argsort(first[once])]
            rank = np.empty(len(first), dtype=np.int64)
            rank[once] = np.arange(len(once))
            found.update("\0".join(column.gather(first[once]).cast(pl.String).to_list()).encode())
            found.update(rank[codes].tobytes())
        else:
            found.update(np.ascontiguousarray(column.to_numpy()).tobytes())
    return found.hexdigest()


def short_name(raw: RawFile) -> str:
    """The log's name: its stem, or the folder's name for MovieLens' u.data and ratings.*, and for a pattern."""
    if not raw.is_on_disk:
        return raw.name
    path = raw.path
    if raw.parts and not path.is_dir():
        return shown(before_pattern(path.resolve().parts))
    stem = path.name if path.is_dir() else bare(path.name).rsplit(".", 1)[0]
    return shown(path.resolve().parent.name or stem if stem.lower() in ("u", "ratings") else stem)


def name_at(address: str) -> str:
    """The name of a log at an address: its stem, and for a pattern that of the folder."""
    place = address.partition("://")[2]
    if address.startswith("http"):
        place = place.partition("?")[0]
    parts = place.strip("/").split("/")
    return before_pattern(parts) if PATTERN.search(place) else parts[-1].rsplit(".", 1)[0]


def before_pattern(parts: Sequence[str]) -> str:
    """The last folder of a path that is none of a pattern's."""
    plain = list(itertools.takewhile(lambda part: not PATTERN.search(part), parts))
    return (plain[-1].strip("/") if plain else "") or "log"
