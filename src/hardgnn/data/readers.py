"""Raw files to an interaction log: RecBole .inter, CSV and TSV, Parquet, MovieLens; plain or gzipped.

A format is one function in `FORMATS` that answers a `Source`: a lazy table and how to name one of its rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER, InteractionLog
from hardgnn.data.titles import find_titles
from hardgnn.errors import HardGNNError, nearest
from hardgnn.files import sha256

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
OPTIONS = {USER: "user_col", ITEM: "item_col", TIMESTAMP: "time_col", RATING: "rating_col"}
# the unit of a time column is told by its median: seconds until the year 5138, then milli-, micro-, nanoseconds
UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
SECONDS_END = UNITS[-1][0]
ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
HEAD_BYTES = 65_536
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """A file ready to be read: `table` holds the columns user, item, timestamp and perhaps rating, in file order.

    `place` names the row with a 0-based number as the user finds it in the file ("line 7"). `text` says that rows
    without any value are blank lines.
    """

    table: pl.LazyFrame
    place: Callable[[int], str]
    text: bool = True


Columns = dict[str, str | None]
"""The column names that the user gave, by what they mean."""


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
    """Reads a raw interaction log, plain or gzipped.

    Args:
        path: the file.
        format: `inter` (RecBole: tabs, header `name:type`), `csv` (header; comma, tab, semicolon or bar),
            `parquet`, `movielens` (u.data, ratings.dat, ratings.csv), or `auto`: told from the file.
        user_col, item_col, time_col, rating_col: column names; usual names are found without them.
        items_file: item titles; without it a file beside the log is used: `<stem>.item`, and for MovieLens
            `u.item`, `movies.csv` or `movies.dat`.

    Times may be seconds, milliseconds (or finer, told by their size) since 1970 in UTC, or ISO dates and times,
    which without an offset are taken as UTC.

    Raises:
        HardGNNError: the file, a column or a value cannot be read; names the line where there is one.
    """
    path = Path(path)
    if format != "auto" and format not in FORMATS:
        raise HardGNNError(f"unknown format '{format}': {nearest(format, [*FORMATS, 'auto'])}")
    head = read_head(path)
    kind = guess_format(path, head) if format == "auto" else format
    wanted: Columns = {USER: user_col, ITEM: item_col, TIMESTAMP: time_col, RATING: rating_col}
    with explained(path, kind, head):
        table = checked_table(FORMATS[kind](path, head, wanted), path)
    if table.is_empty():
        raise HardGNNError(f"{path}: no data rows")
    titles = find_titles(path, items_file, kind == "movielens")
    return InteractionLog(table=table, name=short_name(path), sha256=sha256(path), titles=titles)


def plain_name(path: Path) -> str:
    """The file's name in lower case, without .gz."""
    return path.name.lower().removesuffix(".gz")


def short_name(path: Path) -> str:
    """The log's name: its stem, or the folder's name for MovieLens' u.data and ratings.*."""
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return path.resolve().parent.name or stem if plain_name(path).split(".")[0] in ("u", "ratings") else stem


def read_head(path: Path) -> bytes:
    """The first bytes of a file, decompressed.

    Raises:
        HardGNNError: there is no such file, it is a folder, empty, unreadable, or a damaged gzip.
    """
    if path.is_dir():
        raise HardGNNError(f"{path}: a folder, expected a file")
    try:
        with path.open("rb") as handle:
            zipped = handle.read(2) == GZIP_MAGIC
        with gzip.open(path) if zipped else path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except FileNotFoundError:
        raise HardGNNError(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HardGNNError(f"{path}: the gzip file is truncated or damaged ({error})") from None
    except OSError as error:
        raise HardGNNError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise HardGNNError(f"{path}: the file is empty")
    return head


def guess_format(path: Path, head: bytes) -> str:
    """The format, from the content first and the name second."""
    name = plain_name(path)
    if head.startswith(b"PAR1") or name.endswith((".parquet", ".pq")):
        return "parquet"
    first = head.split(b"\n", 1)[0]
    if name.endswith(".inter") or re.match(rb"[^\t]+:(token|float|token_seq|float_seq)\s*(\t|$)", first):
        return "inter"
    if name == "u.data" or b"::" in first:
        return "movielens"
    return "csv"


def first_line(head: bytes, path: Path) -> str:
    """The first line of a text file.

    Raises:
        HardGNNError: the file is not UTF-8 text.
    """
    if b"\0" in head:
        raise HardGNNError(f"{path}: binary data, expected a table in UTF-8 text")
    return head.decode("utf-8-sig", errors="replace").split("\n", 1)[0].rstrip("\r")


def read_inter(path: Path, head: bytes, wanted: Columns) -> Source:
    """RecBole's atomic file: tabs, no quoting, header `name:type`."""
    header = first_line(head, path)
    if ":" not in header:
        raise HardGNNError(f"{path}: a .inter file starts with a header such as user_id:token, found '{header[:80]}'")
    return delimited(path, "\t", None, wanted)


def read_csv(path: Path, head: bytes, wanted: Columns) -> Source:
    """A header and named columns, between commas, tabs, semicolons or bars."""
    header = first_line(head, path)
    separator = max(",\t;|", key=header.count)
    return delimited(path, separator, '"', wanted)


def read_movielens(path: Path, head: bytes, wanted: Columns) -> Source:
    """GroupLens' u.data (tabs) and ratings.dat (::), both without a header, or ratings.csv."""
    line = first_line(head, path)
    if "::" in line:  # to a reader of single separators there is an empty column inside each ::
        return headless(path, ":", [USER, "_1", ITEM, "_2", RATING, "_3", TIMESTAMP])
    if "\t" in line:
        return headless(path, "\t", [USER, ITEM, RATING, TIMESTAMP])
    return read_csv(path, head, wanted)


def read_parquet(path: Path, head: bytes, wanted: Columns) -> Source:
    """A Parquet file; numbers, strings, dates and datetimes are taken as they are."""
    if head[:4] != b"PAR1":
        raise HardGNNError(f"{path}: not a Parquet file")
    return Source(chosen(pl.scan_parquet(path), wanted, path), lambda row: f"row {row + 1}", text=False)


FORMATS: dict[str, Callable[[Path, bytes, Columns], Source]] = {
    "inter": read_inter,
    "csv": read_csv,
    "parquet": read_parquet,
    "movielens": read_movielens,
}


def delimited(path: Path, separator: str, quote: str | None, wanted: Columns) -> Source:
    """A text table with a header."""
    table = pl.scan_csv(path, separator=separator, quote_char=quote, infer_schema=False)
    return Source(chosen(table, wanted, path), lambda row: f"line {line_of(path, row + 1, separator, quote)}")


def headless(path: Path, separator: str, names: Sequence[str]) -> Source:
    """A text table without a header, its columns in a known order."""
    schema = dict.fromkeys(names, pl.String)
    table = pl.scan_csv(path, has_header=False, separator=separator, quote_char=None, schema=schema)
    named = table.select(name for name in names if not name.startswith("_"))
    return Source(named, lambda row: f"line {line_of(path, row, separator, None)}")


def chosen(table: pl.LazyFrame, wanted: Columns, path: Path) -> pl.LazyFrame:
    """The columns that are asked for, or have usual names, under our names.

    Raises:
        HardGNNError: one is missing; names those found.
    """
    found = table.collect_schema().names()
    bare = {name: name.strip().split(":")[0] for name in found}  # .inter has the type behind a colon
    plain = {name: re.sub(r"[^a-z0-9]", "", text.lower()) for name, text in bare.items()}
    columns: dict[str, str] = {}
    for meaning, asked in wanted.items():
        if asked is not None:
            fits = [name for name in found if asked in (name, bare[name])]
        else:
            fits = [name for usual in USUAL_NAMES[meaning] for name in found if plain[name] == usual]
        if fits:
            columns[meaning] = fits[0]
        elif asked is not None:
            listed = ", ".join(found)
            raise HardGNNError(f"{path}: no column '{asked}'; columns found: {listed}; {nearest(asked, bare.values())}")
        elif meaning != RATING:
            listed = ", ".join(found)[:300]
            raise HardGNNError(f"{path}: no {meaning} column; columns found: {listed}; name it with {OPTIONS[meaning]}")
    if len(set(columns.values())) < len(columns):
        raise HardGNNError(
            f"{path}: one column cannot mean two things ({', '.join(f'{k}={v}' for k, v in columns.items())})"
        )
    return table.select(pl.col(name).alias(meaning) for meaning, name in columns.items())


def checked_table(source: Source, path: Path) -> pl.DataFrame:
    """The log's table, its values parsed and checked.

    Raises:
        HardGNNError: an id, a time or a rating is missing or wrong; names the line and the value.
    """
    schema = source.table.collect_schema()
    parsed = [
        pl.col(USER).cast(pl.String),
        pl.col(ITEM).cast(pl.String),
        time_expression(source.table, schema[TIMESTAMP]),
    ]
    if RATING in schema:
        text = pl.col(RATING).str.strip_chars() if schema[RATING] == pl.String else pl.col(RATING)
        # an empty rating is no rating; one that is not a number becomes NaN, and an error below
        number = text.cast(pl.Float64, strict=False)
        missing = (text == "") if schema[RATING] == pl.String else pl.lit(False)
        parsed.append(
            pl.when(text.is_null() | missing).then(None).otherwise(number.fill_null(float("nan"))).alias(RATING)
        )
    blank = pl.all_horizontal(pl.all().is_null()) if source.text else pl.lit(False)
    table = source.table.filter(~blank).select(parsed).collect(engine="streaming")

    wrong = wrong_values(table.columns)
    flagged = table.lazy().select(expression.any().alias(what) for what, expression in wrong.items()).collect()
    if any(flagged.row(0)):
        raise HardGNNError(f"{path}: {first_wrong(source, parsed, blank, wrong)}")
    median = table[TIMESTAMP].median() if len(table) else None
    if not isinstance(median, float):
        return table
    factor = next((factor for start, factor in UNITS if median > start), 1.0)
    if factor == 1.0:
        mixed = {"time {} is not in seconds as most others are": pl.col(TIMESTAMP) > SECONDS_END}
        if table.select(*mixed.values()).to_series().any():
            raise HardGNNError(f"{path}: {first_wrong(source, parsed, blank, mixed)}")
        return table
    return table.with_columns(pl.col(TIMESTAMP) / factor)


def wrong_values(columns: Sequence[str]) -> dict[str, pl.Expr]:
    """What may be wrong with a parsed row, in the words of the error."""
    time = pl.col(TIMESTAMP)
    wrong = {
        f"the {name} id is empty": pl.col(name).is_null() | (pl.col(name).str.strip_chars() == "")
        for name in (USER, ITEM)
    }
    wrong["time {} is neither a number of seconds or milliseconds nor an ISO date"] = time.is_null()
    wrong["time {} is not a finite number"] = time.is_not_null() & ~time.is_finite()
    wrong["time {} is negative"] = time < 0
    if RATING in columns:
        wrong["rating {} is not a number"] = pl.col(RATING).is_not_null() & ~pl.col(RATING).is_finite()
    return {what: expression.fill_null(False) for what, expression in wrong.items()}


def first_wrong(source: Source, parsed: list[pl.Expr], blank: pl.Expr, wrong: dict[str, pl.Expr]) -> str:
    """The first wrong row and what is wrong there; reads the file again, as this ends in an error anyway."""
    raw = source.table.select(pl.all().name.prefix("raw_"), *parsed, blank.alias("blank")).with_row_index("row")
    row = raw.filter(~pl.col("blank") & pl.any_horizontal(*wrong.values())).head(1).collect()
    flags = row.select(expression.alias(what) for what, expression in wrong.items()).row(0, named=True)
    what = next(text for text, flag in flags.items() if flag)
    value = row[f"raw_{RATING if what.startswith(RATING) else TIMESTAMP}"][0]
    told = "(nothing)" if value is None or str(value).strip() == "" else f"'{value}'"
    return f"{source.place(row['row'][0])}: {what.format(told)}"


def time_expression(table: pl.LazyFrame, dtype: pl.DataType) -> pl.Expr:
    """The time column as Float64: seconds for dates, the file's own unit for numbers, null where it is neither."""
    time = pl.col(TIMESTAMP)
    if dtype == pl.Date or dtype == pl.Datetime:
        return time.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / 1e6
    if dtype != pl.String:
        return time.cast(pl.Float64, strict=False)
    text = time.str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    first = table.select(text).filter(time.is_not_null()).head(1).collect()
    if first.is_empty() or first.select(numbers.is_not_null()).item():
        return numbers
    spaced = text.str.replace(r"^(\S{10})T", "${1} ").str.replace(r"\s*(Z|UTC)$", "+00:00")
    moments = [
        spaced.str.to_datetime(
            form, time_unit="us", time_zone="UTC" if "z" in form else None, strict=False
        ).dt.timestamp("us")
        for form in ISO_FORMATS
    ]
    return (pl.coalesce(moments).cast(pl.Float64) / 1e6).alias(TIMESTAMP)


def line_of(path: Path, row: int, separator: str, quote: str | None) -> int:
    """The line, from 1, on which the row numbered `row` from 0 starts; quoted values may span lines."""
    with open_text(path) as lines:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
        try:
            for _ in itertools.islice(reader, row):
                pass
        except csv.Error:
            return row + 1
        return reader.line_num + 1


def ragged_line(path: Path, separator: str, quote: str | None) -> str:
    """Names the first line with more fields than the first one."""
    with open_text(path) as lines:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
        width = len(next(reader, []))
        for fields in reader:
            if len(fields) > width:
                return f"line {reader.line_num}: {len(fields)} fields, expected {width}"
    return "a line has too many fields"


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """The lines of a text file, decompressed."""
    with path.open("rb") as handle:
        zipped = handle.read(2) == GZIP_MAGIC
    with gzip.open(path) if zipped else path.open("rb") as binary:
        yield io.TextIOWrapper(binary, "utf-8-sig", errors="replace", newline="")


@contextmanager
def explained(path: Path, kind: str, head: bytes) -> Iterator[None]:
    """Turns what polars says about a file into one sentence."""
    try:
        yield
    except pl.exceptions.NoDataError:
        raise HardGNNError(f"{path}: the file is empty") from None
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        with path.open("rb") as handle:
            zipped = handle.read(2) == GZIP_MAGIC
        if zipped and (not isinstance(error, pl.exceptions.PolarsError) or re.search("end of file|deflate", reason)):
            raise HardGNNError(f"{path}: the gzip file is truncated or damaged ({reason})") from None
        if "utf-8" in reason.lower() or "utf8" in reason.lower():
            raise HardGNNError(f"{path}: binary data or another encoding, expected a table in UTF-8 text") from None
        if "more fields" in reason:
            separator = "\t" if kind == "inter" else max(",\t;|:", key=first_line(head, path).count)
            where = ragged_line(path, separator, '"' if kind == "csv" else None)
            raise HardGNNError(f"{path}: {where}") from None
        raise HardGNNError(f"{path}: cannot be read as {kind} ({reason})") from None
