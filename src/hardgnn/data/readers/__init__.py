"""Raw files to an interaction log, read as a stream: plain, gzipped, or inside the archive they are published in.

A format is one function in `FORMATS` that answers a `Source`: a lazy table and how to name one of its rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from hardgnn.arguments import as_path
from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER, InteractionLog
from hardgnn.data.readers.amazon import looks_like_amazon, read_amazon
from hardgnn.data.readers.gowalla import looks_like_gowalla, read_gowalla
from hardgnn.data.readers.movielens import looks_like_movielens, read_movielens
from hardgnn.data.readers.raw import DAMAGE, GZIP_MAGIC, RawFile, damage
from hardgnn.data.readers.source import Columns, Source
from hardgnn.data.readers.tables import likely_separator, ragged_line, read_csv, read_inter, read_parquet
from hardgnn.data.readers.values import checked_table
from hardgnn.data.readers.yelp import looks_like_yelp, read_yelp
from hardgnn.data.titles import find_titles
from hardgnn.errors import HardGNNError, nearest
from hardgnn.forks import enter
from hardgnn.records import sha256

FORMATS: dict[str, Callable[[RawFile, Columns], Source]] = {
    "inter": read_inter,
    "csv": read_csv,
    "parquet": read_parquet,
    "movielens": read_movielens,
    "amazon": read_amazon,
    "gowalla": read_gowalla,
    "yelp": read_yelp,
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
) -> InteractionLog:
    """Reads a raw interaction log, plain, gzipped or in an archive; docs/data.md describes each format.

    Args:
        path: the file.
        format: `inter` (RecBole: tabs, header `name:type`), `csv` (header; comma, tab, semicolon or bar),
            `parquet`, `movielens` (u.data, ratings.dat, ratings.csv, or GroupLens' zip), `amazon` (the ratings CSV
            of 2014), `gowalla` (SNAP's check-ins), `yelp` (review JSON lines, or the official archive), or `auto`:
            told from the content, then from the name.
        user_col, item_col, time_col, rating_col: column names; usual names are found without them.
        items_file: item titles; without it a file beside the log is used: `<stem>.item`, and for MovieLens
            `u.item`, `movies.csv` or `movies.dat`, beside the log or in its archive.

    Times may be seconds, milliseconds (or finer, told by their size) since 1970 in UTC, or ISO dates and times,
    which without an offset are taken as UTC.

    Raises:
        HardGNNError: the file, a column or a value cannot be read; names the line where there is one.
    """
    enter()
    path = as_path(path, "path")
    if format == "selfgnn":
        raise HardGNNError(f"{path}: released pickles are no log but split already; see `readers.selfgnn.read_selfgnn`")
    if format != "auto" and format not in FORMATS:
        raise HardGNNError(f"unknown format '{format}': {nearest(format, [*FORMATS, 'auto', 'selfgnn'])}")
    raw = RawFile.find(path)
    kind = guess_format(raw) if format == "auto" else format
    wanted: Columns = {USER: user_col, ITEM: item_col, TIMESTAMP: time_col, RATING: rating_col}
    with explained(raw, kind):
        table = checked_table(FORMATS[kind](raw, wanted), raw.label)
    if table.is_empty():
        raise HardGNNError(f"{raw.label}: no data rows")
    titles = find_titles(path, items_file, kind == "movielens", raw.member)
    return InteractionLog(table=table, name=short_name(path), sha256=sha256(path), titles=titles)


def short_name(path: Path) -> str:
    """The log's name: its stem, or the folder's name for MovieLens' u.data and ratings.*."""
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return path.resolve().parent.name or stem if stem.lower() in ("u", "ratings") else stem


def guess_format(raw: RawFile) -> str:
    """The format, from the content first and the name second."""
    if raw.head.startswith(b"PAR1"):
        return "parquet"
    first = (
        raw.head.removeprefix(b"\xef\xbb\xbf")
        .lstrip(b"\r\n")
        .split(b"\n", 1)[0]
        .rstrip(b"\r")
        .decode("utf-8", "replace")
    )
    if re.match(r"[^\t]+:(token|float|token_seq|float_seq)\s*(\t|$)", first):
        return "inter"
    looks = {
        "yelp": looks_like_yelp,
        "gowalla": looks_like_gowalla,
        "movielens": looks_like_movielens,
        "amazon": looks_like_amazon,
    }
    if kind := next((kind for kind, fits in looks.items() if fits(first)), None):
        return kind
    names = {"parquet": (".parquet", ".pq"), "inter": (".inter",), "movielens": ("u.data",)}
    if raw.member is not None and raw.name == "ratings.csv":
        return "movielens"
    return next((kind for kind, endings in names.items() if raw.name.endswith(endings)), "csv")


@contextmanager
def explained(raw: RawFile, kind: str) -> Iterator[None]:
    """Turns what polars or an archive says about a file into one sentence."""
    try:
        yield
    except pl.exceptions.NoDataError:
        raise HardGNNError(f"{raw.label}: the file is empty") from None
    except (OSError, *DAMAGE, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, DAMAGE):
            raise HardGNNError(f"{raw.path}: {damage(raw.path, error)}") from None
        with raw.path.open("rb") as handle:
            zipped = handle.read(2) == GZIP_MAGIC
        if zipped and (isinstance(error, OSError) or re.search("end of file|deflate", reason)):
            raise HardGNNError(f"{raw.path}: the gzip file is truncated or damaged ({reason})") from None
        if "utf-8" in reason.lower() or "utf8" in reason.lower():
            raise HardGNNError(
                f"{raw.label}: binary data or another encoding, expected a table in UTF-8 text"
            ) from None
        if "more fields" in reason or "extra" in reason:
            separator = "\t" if kind == "inter" else likely_separator(raw)
            where = ragged_line(raw, separator, '"' if kind == "csv" else None)
            raise HardGNNError(f"{raw.label}: {where}") from None
        raise HardGNNError(f"{raw.label}: cannot be read as {kind} ({reason})") from None
