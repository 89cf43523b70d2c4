"""Tables with named columns: RecBole .inter, CSV and TSV, Parquet; and the guess at which column means what."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER, Reading
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.source import Columns, Source
from hardgnn.data.readers.values import checked_table
from hardgnn.errors import HardGNNError, nearest

# guessed column names, best first, compared without case and punctuation
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    USER: ("user", "userid", "uid", "reviewerid", "customerid", "visitorid", "sessionid"),
    ITEM: (
        "item",
        "itemid",
        "iid",
        "movieid",
        "productid",
        "parentasin",
        "asin",
        "businessid",
        "locationid",
        "venueid",
    ),
    TIMESTAMP: ("timestamp", "time", "ts", "datetime", "date", "unixreviewtime", "createdat", "eventtime"),
    RATING: ("rating", "ratings", "stars", "score", "overall"),
}
OPTIONS = {
    USER: "--user-col (in Python user_col)",
    ITEM: "--item-col (in Python item_col)",
    TIMESTAMP: "--time-col (in Python time_col)",
    RATING: "--rating-col (in Python rating_col)",
}
ORDERED = "; users and their items without times, oldest first, are read with --format sequences"
SIGNS = {",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}


def read_inter(raw: RawFile, wanted: Columns) -> Source:
    """RecBole's atomic file: tabs, no quoting, header `name:type`."""
    header = raw.first_line()
    if ":" not in header:
        raise HardGNNError(
            f"{raw.label}: a .inter file starts with a header such as user_id:token, found '{header[:80]}'"
        )
    if "\t" not in header and (found := next((words for sign, words in SIGNS.items() if sign in header), None)):
        raise HardGNNError(
            f"{raw.label}: the fields of a .inter file stand between tabs, found {found} in '{header[:80]}'"
        )
    return delimited(raw, "\t", None, wanted)


def read_csv(raw: RawFile, wanted: Columns) -> Source:
    """A header and named columns, between commas, tabs, semicolons or bars."""
    return delimited(raw, likely_separator(raw), '"', wanted)


def likely_separator(raw: RawFile) -> str:
    """The one of comma, tab, semicolon and bar that the header has most of."""
    return max(",\t;|", key=raw.first_line().count)


def read_parquet(raw: RawFile, wanted: Columns) -> Source:
    """A Parquet file; numbers, strings, dates and datetimes are taken as they are."""
    if raw.head[:4] != b"PAR1":
        raise HardGNNError(f"{raw.label}: not a Parquet file")
    refuse_archive(raw, "Parquet")
    return chosen(pl.scan_parquet(raw.path, glob=False), wanted, raw.label, lambda row: f"row {row + 1}", text=False)


def checked_frame(table: Any, label: str) -> tuple[pl.DataFrame, Reading]:
    """A table of the caller's own as a log's, checked by the rules for files.

    Raises:
        HardGNNError: it is no table, or as `chosen_names` and `checked_table`, naming the row.
    """
    if not isinstance(table, pl.DataFrame):
        kind = f"{type(table).__module__.split('.')[0]} {type(table).__name__}"
        raise HardGNNError(f"{label}: expected a polars DataFrame, got a {kind}; polars.DataFrame(…) makes one")
    wanted = dict.fromkeys((USER, ITEM, TIMESTAMP, RATING))
    source = chosen(table.lazy(), wanted, label, lambda row: f"row {row + 1}", text=False)
    return checked_table(source, label, "table")


def delimited(raw: RawFile, separator: str, quote: str | None, wanted: Columns) -> Source:
    """A text table with a header."""
    refuse_archive(raw, "a table with quoted values")
    table = pl.scan_csv(raw.path, separator=separator, quote_char=quote, infer_schema=False)
    return chosen(table, wanted, raw.label, lambda row: f"line {line_of(raw, row + 1, separator, quote)}")


def refuse_archive(raw: RawFile, what: str) -> None:
    """Refuses what is not read as a stream of lines when it is inside an archive.

    Raises:
        HardGNNError: it is.
    """
    if raw.member is not None:
        raise HardGNNError(f"{raw.label}: {what} is not read out of an archive; unpack it and name the file")


def chosen(table: pl.LazyFrame, wanted: Columns, label: str, place: Callable[[int], str], text: bool = True) -> Source:
    """The columns that are asked for, or have usual names, under our names.

    Raises:
        HardGNNError: as `chosen_names`.
    """
    names = chosen_names(table.collect_schema().names(), wanted, label)
    return Source(table.select(pl.col(name).alias(meaning) for meaning, name in names.items()), place, text, names)


def plain(name: str) -> str:
    """A column name without case, punctuation and the type that .inter has behind a colon."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def chosen_names(found: Sequence[str], wanted: Columns, label: str) -> dict[str, str]:
    """Which column means what: those asked for, or those with usual names.

    Raises:
        HardGNNError: one is missing or there twice; names those found.
    """
    bare = {name: name.strip().strip('"').split(":")[0] for name in found}
    listed = ", ".join(found)[:300]
    columns: dict[str, str] = {}
    for meaning, asked in wanted.items():
        if asked is not None:
            fits = [name for name in found if asked in (name, bare[name])]
        else:
            fits = [name for usual in USUAL_NAMES[meaning] for name in found if plain(name) == usual]
        if fits:
            columns[meaning] = fits[0]
        elif asked is not None:
            raise HardGNNError(
                f"{label}: no column '{asked}'; columns found: {listed}; {nearest(asked, bare.values())}"
            )
        elif meaning != RATING:
            if not any(re.match(r"\s*[\"']?[^\W\d]", name) for name in found if name):
                remedy = "the first line looks like data: put a header such as user,item,timestamp in front" + ORDERED
            else:
                remedy = f"name it with {OPTIONS[meaning]}{ORDERED if meaning == TIMESTAMP else ''}"
            raise HardGNNError(f"{label}: no {meaning} column; columns found: {listed}; {remedy}")
    if len(set(columns.values())) < len(columns):
        raise HardGNNError(
            f"{label}: one column cannot mean two things ({', '.join(f'{k}={v}' for k, v in columns.items())})"
        )
    for meaning, name in columns.items():
        if f"{name}_duplicated_0" in found:  # so polars calls the second of two columns of one name
            raise HardGNNError(f"{label}: two columns are called '{name}', so it is not clear which is the {meaning}")
    return columns


def line_of(raw: RawFile, row: int, separator: str, quote: str | None) -> int:
    """The line, from 1, on which the row numbered `row` from 0 starts; quoted values may span lines."""
    with raw.open_text() as lines:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
        try:
            for _ in itertools.islice(reader, row):
                pass
        except csv.Error:
            return row + 1
        return reader.line_num + 1


def ragged_line(raw: RawFile, separator: str, quote: str | None) -> str:
    """Names the first line with more fields than the first one."""
    with raw.open_text() as lines:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
        width = len(next(reader, []))
        for fields in reader:
            if len(fields) > width:
                return f"line {reader.line_num}: {len(fields)} fields, expected {width}"
    return "a line has too many fields"
