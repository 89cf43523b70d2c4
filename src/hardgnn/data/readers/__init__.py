"""Raw files to an interaction log, read as a stream: plain, gzipped, or inside the archive they are published in.

A format is one function in `FORMATS` that answers a `Source`: a lazy table and how to name one of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from hardgnn.arguments import as_path
from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER, InteractionLog
from hardgnn.data.readers import titles
from hardgnn.data.readers.amazon import read_amazon
from hardgnn.data.readers.gowalla import read_gowalla
from hardgnn.data.readers.guess import guess_format
from hardgnn.data.readers.json_lines import read_json
from hardgnn.data.readers.layers import bare
from hardgnn.data.readers.movielens import read_movielens
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.sequences import read_sequences
from hardgnn.data.readers.source import Columns, Source, parsing
from hardgnn.data.readers.tables import read_csv, read_inter, read_parquet
from hardgnn.data.readers.values import checked_table
from hardgnn.data.readers.yelp import read_yelp
from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.forks import enter

FORMATS: dict[str, Callable[[RawFile, Columns], Source]] = {
    "inter": read_inter,
    "csv": read_csv,
    "parquet": read_parquet,
    "movielens": read_movielens,
    "amazon": read_amazon,
    "gowalla": read_gowalla,
    "yelp": read_yelp,
    "json": read_json,
    "sequences": read_sequences,
}


def read_log(
    path: str | Path,
    *,
    format: str = "auto",
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    rating_col: str | None = None,
    items_file: str | Path | None = None,
    encoding: str | None = None,
    max_bytes: int | None = None,
    drop_missing: bool = False,
) -> InteractionLog:
    """Reads a raw interaction log, plain, compressed or in an archive; docs/data.md describes each format.

    Args:
        path: the file, a folder or pattern of Parquet files, or `-` for standard input.
        format: `inter` (RecBole: tabs, header `name:type`), `csv` (header; comma, tab, semicolon or bar),
            `parquet`, `movielens` (u.data, ratings.dat, ratings.csv, or GroupLens' zip), `amazon` (the ratings CSV
            of 2014), `gowalla` (SNAP's check-ins), `yelp` (review JSON lines, or the official archive), `json` (an
            object a line, such as Amazon's reviews), `sequences` (users and their items, oldest first, without
            times), or `auto`: told from the content, then from the name.
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
        HardGNNError: the file, a column or a value cannot be read; names the line where there is one.
    """
    enter()
    path = as_path(path, "path")
    if format == "selfgnn":
        raise HardGNNError(f"{path}: released pickles are no log but split already; see `readers.selfgnn.read_selfgnn`")
    if format != "auto" and format not in FORMATS:
        raise HardGNNError(f"unknown format '{format}': {nearest(format, [*FORMATS, 'auto', 'selfgnn'])}")
    raw = RawFile.find(path, encoding, max_bytes)
    kind = guess_format(raw) if format == "auto" else format
    wanted: Columns = {USER: user_col, ITEM: item_col, TIMESTAMP: time_col, RATING: rating_col}
    return log_of(raw, kind, wanted, items_file, drop_missing)


def log_of(
    raw: RawFile,
    kind: str,
    wanted: Columns,
    items_file: str | Path | None = None,
    drop_missing: bool | None = None,
) -> InteractionLog:
    """Reads a log that is found already, in the format `kind`; see `read_log`."""
    with explained(raw, kind):
        source = FORMATS[kind](raw, wanted)
        table, found = checked_table(source, raw.label, kind, drop_missing)
    if items_file is not None or raw.is_on_disk:
        names = titles.find_titles(raw.path, items_file, kind == "movielens", raw.member, raw.encoding)
    else:
        names = None
    return InteractionLog(table, short_name(raw), raw.sha256(), names, found)


def short_name(raw: RawFile) -> str:
    """The log's name: its stem, or the folder's name for MovieLens' u.data and ratings.*, and for a pattern."""
    if not raw.is_on_disk:
        return raw.name
    path = raw.path
    stem = path.name if path.is_dir() else bare(path.name).rsplit(".", 1)[0]
    folder = (raw.parts and not path.is_dir()) or stem.lower() in ("u", "ratings")
    return shown(path.resolve().parent.name or stem if folder else stem)


def explained(raw: RawFile, kind: str) -> AbstractContextManager[None]:
    """Turns what polars or the system says about a log of a format into one sentence; see `source.parsing`."""
    return parsing(raw.label, kind)
