"""Tables with named columns: RecBole .inter, CSV and TSV, Parquet; and the guess at which column means what."""

from __future__ import annotations

import bisect
import io
import itertools
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER, Reading
from hardgnn.data.raw.file import PARQUET_ENDINGS, PARQUET_MAGIC, RawFile
from hardgnn.data.raw.layers import refuse_swelling
from hardgnn.data.raw.quoted import Dialect, parsed, read_header, row_blocks
from hardgnn.data.readers.base import Fit, named, reader, text_sample
from hardgnn.data.readers.frames import Table
from hardgnn.data.readers.source import Columns, Source, listed, parsing, streamed
from hardgnn.data.readers.values import checked_table
from hardgnn.errors import HardGNNError, nearest, reason, shown
from hardgnn.wording import option, said

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
STORES = ("s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "hf", "http", "https", "file")  # of polars
ROW_BYTES = 16  # of a row in memory
OPTIONS = {USER: "user_col", ITEM: "item_col", TIMESTAMP: "time_col", RATING: "rating_col"}
SIGNS = {",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}


def without_times(table: bool) -> str:
    """How users and their items are read that have no times."""
    if table:
        return "; give time=False where the rows are in order, oldest first"
    how = option("format", said("sequences", "'sequences'"))
    return f"; users and their items without times, oldest first, are read with {how}"


def inter_fits(raw: RawFile) -> Fit:
    """By the header, or by the name."""
    typed = re.match(r"[^\t]+:(token|float|token_seq|float_seq)\s*(\t|$)", raw.start())
    return Fit.SURE if typed else named(".inter")(raw)


def parquet_fits(raw: RawFile) -> Fit:
    """By the first bytes, or by the name."""
    return Fit.SURE if raw.head.startswith(PARQUET_MAGIC) else named(*PARQUET_ENDINGS)(raw)


def parquet_sample() -> bytes:
    """Three rows."""
    rows = pl.DataFrame({USER: ["ann", "ann", "bob"], ITEM: ["x", "y", "x"], TIMESTAMP: [1.4e9, 1.5e9, 1.6e9]})
    rows.write_parquet(written := io.BytesIO())
    return written.getvalue()


@reader(
    "inter",
    columns=True,
    fits=inter_fits,
    sample=text_sample("user_id:token\titem_id:token\ttimestamp:float", "ann\tx\t1400000000", "bob\ty\t1500000000"),
)
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
    return delimited(raw, "\t", False, wanted)


@reader(
    "csv",
    columns=True,
    fits=lambda raw: Fit.DEFAULT,
    sample=text_sample("user,item,timestamp", "ann,x,1400000000", '"b,b",y,1500000000'),
)
def read_csv(raw: RawFile, wanted: Columns) -> Source:
    """A header and named columns, between commas, tabs, semicolons or bars."""
    return delimited(raw, likely_separator(raw), True, wanted)


def column_names(raw: RawFile, kind: str) -> list[str]:
    """The names of the columns of a table of the format `kind`: csv, inter or parquet."""
    if kind == "parquet":
        return parquet_table(raw, raw.parts[0] if raw.parts else raw.path).collect_schema().names()
    return read_header(raw, "\t" if kind == "inter" else likely_separator(raw), kind == "csv")[0]


def likely_separator(raw: RawFile) -> str:
    """The one of comma, tab, semicolon and bar that the header has most of."""
    return max(",\t;|", key=raw.first_line().count)


@reader("parquet", columns=True, fits=parquet_fits, sample=parquet_sample)
def read_parquet(raw: RawFile, wanted: Columns) -> Source:
    """Parquet, one file or several; numbers, strings, dates and datetimes are taken as they are.

    Raises:
        HardGNNError: it is none, lies in an archive, or the files have not the same columns; names the file.
    """
    files = raw.parts or (raw.path,)
    tables = [parquet_table(raw, file) for file in files]
    schemas, counts = [], []
    for file, table in zip(files, tables):
        with parsing(shown(file), "parquet"):
            schemas.append(table.collect_schema())
            counts.append(int(table.select(pl.len()).collect().item()))
            refuse_swelling(counts[-1] * ROW_BYTES, file.stat().st_size, "Parquet file", shown(file), raw.max_bytes)
    names = chosen_names(schemas[0].names(), wanted, shown(files[0]))
    for file, schema in zip(files, schemas):
        for name in names.values():
            if schema.get(name) != schemas[0][name]:
                found = f"of type {schema[name]}" if name in schema else "missing"
                first_file = f"in {shown(files[0].name)} it is of type {schemas[0][name]}"
                raise HardGNNError(f"{shown(file)}: the column '{name}' is {found}, but {first_file}")
    whole = pl.concat(table.select(pl.col(name).alias(meaning) for meaning, name in names.items()) for table in tables)

    def place(row: int) -> str:
        ends = list(itertools.accumulate(counts))
        number = bisect.bisect_right(ends, row)
        before = ends[number - 1] if number else 0
        where = f"{shown(files[number].name)}: " if raw.parts else ""
        return f"{where}row {row - before + 1}"

    return Source(whole, place, text=False, rows=sum(counts), names=names)


def remote_parquet(url: str, wanted: Columns) -> Source:
    """Parquet at an address that polars reads: `s3://…`, `gs://…`, `az://…`, `https://…`; a pattern is several files.

    Raises:
        HardGNNError: there is none, it cannot be reached, or a column is missing.
    """
    if url.partition("://")[0].lower() not in STORES:
        ways = [f"{one}://" for one in STORES]
        raise HardGNNError(f"{shown(url)}: expected a file, or an address that begins with {listed(ways)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that no region of S3 is set, and is asked for
            table = pl.scan_parquet(url)
            found = table.collect_schema().names()
            rows = int(table.select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HardGNNError(f"{shown(url)}: {_unreached(error)}") from None
    names = chosen_names(found, wanted, shown(url))
    columns = table.select(pl.col(name).alias(meaning) for meaning, name in names.items())
    return Source(columns, lambda row: f"row {row + 1}", text=False, rows=rows, names=names)


def _unreached(error: Exception) -> str:
    """Why an address cannot be read, out of polars' words for it."""
    words = reason(error).removeprefix("object-store error: ").split(" (path: ")[0]
    if isinstance(error, PermissionError) or "token request" in words:
        return "access is refused; the credentials of its store are taken from the environment"
    if isinstance(error, FileNotFoundError) or "expanded paths were empty" in words:
        return "nothing is there"
    if answer := re.search(r"status code: (\d+ [A-Z][A-Za-z ]*[a-z])", words):
        return f"its server answers {answer[1]}"
    if re.search("error sending request|Error performing", words):
        return "its server cannot be reached"
    return f"cannot be read as Parquet ({words})"


def checked_frame(
    table: Any, label: str, wanted: Columns | None = None, drop_missing: bool | None = None
) -> tuple[pl.DataFrame, Reading]:
    """A table of the caller's own (polars, pandas, Arrow, a dictionary) as a log's, checked by the rules for files.

    Raises:
        HardGNNError: it is no table, or as `chosen_names` and `checked_table`, naming the row.
    """
    found = Table(table, label)
    names = chosen_names(found.columns, wanted or dict.fromkeys((USER, ITEM, TIMESTAMP, RATING)), label, table=True)
    columns = found.select(names.values()).lazy().select(pl.col(name).alias(meaning) for meaning, name in names.items())
    source = Source(columns, lambda row: f"row {row + 1}", text=False, names=names)
    return checked_table(source, label, "table", drop_missing)


def parquet_table(raw: RawFile, file: Path) -> pl.LazyFrame:
    """One Parquet file of a log.

    Raises:
        HardGNNError: it is none, or compressed or in an archive.
    """
    if not raw.is_on_disk:
        raise HardGNNError(f"{raw.label}: Parquet is not read through a pipe; save it to a file")
    with raw.stored.open() if not raw.parts else file.open("rb") as stream:
        first = stream.read(len(PARQUET_MAGIC))
    if first != PARQUET_MAGIC:
        packed = "; unpack it and name the file" if raw.head.startswith(PARQUET_MAGIC) and not raw.parts else ""
        raise HardGNNError(f"{shown(file) if raw.parts else raw.label}: not a Parquet file{packed}")
    return pl.scan_parquet(scannable(file), glob=False)


def scannable(file: Path) -> str | IO[bytes]:
    """What polars takes for a file: its path, or the open file where the path is not UTF-8."""
    path = os.path.abspath(file)  # else a ~ in front would be a home
    try:
        path.encode()
    except UnicodeEncodeError:
        return file.open("rb")
    return path


def delimited(raw: RawFile, separator: str, quoted: bool, wanted: Columns) -> Source:
    """A text table with a header."""
    found, skip = read_header(raw, separator, quoted)
    names = chosen_names(found, wanted, raw.label)
    columns = {meaning: found.index(name) for meaning, name in names.items()}
    dialect = Dialect(separator, quoted, len(found), columns.get(TIMESTAMP))

    def parts() -> Iterator[pl.DataFrame]:
        return (parsed(raw, block, dialect, columns) for block in row_blocks(raw, dialect, skip))

    def place(row: int) -> str:
        for block in row_blocks(raw, dialect, skip):
            if row < block.rows:
                return f"line {block.line_of(row)}"
            row -= block.rows
        raise AssertionError("a row behind the last one")

    return Source(streamed(parts, dict.fromkeys(columns, pl.String())), place, names=names)


def plain(name: str) -> str:
    """A column name without case, punctuation and the type that .inter has behind a colon."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def chosen_names(found: Sequence[str], wanted: Columns, label: str, table: bool = False) -> dict[str, str]:
    """Which column of a file, or of a table in memory, means what: those asked for, or those with usual names.

    Raises:
        HardGNNError: one is missing or there twice; names those found.
    """
    bare = {name: name.strip().strip('"').split(":")[0] for name in found}
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
                f"{label}: no column '{asked}'; columns found: {listed(found)}; {nearest(asked, bare.values())}"
            )
        elif meaning != RATING:
            if not table and (
                len(found) == 1 or not any(re.match(r"\s*[\"']?[^\W\d]", name) for name in found if name)
            ):
                remedy = "the first line looks like data: put a header such as user,item,timestamp in front"
                remedy += without_times(table)
            else:
                short = OPTIONS[meaning].removesuffix("_col")
                asked_by = f"{short}=, as Dataset.from_frame has it" if table else option(OPTIONS[meaning])
                remedy = f"name it with {asked_by}{without_times(table) if meaning == TIMESTAMP else ''}"
            raise HardGNNError(f"{label}: no {meaning} column; columns found: {listed(found)}; {remedy}")
    if len(set(columns.values())) < len(columns):
        raise HardGNNError(
            f"{label}: one column cannot mean two things ({', '.join(f'{k}={v}' for k, v in columns.items())})"
        )
    if twice := next((name for name in columns.values() if list(found).count(name) > 1), None):
        raise HardGNNError(f"{label}: two columns are called '{twice}'")
    return columns
