"""The values of a log: ids, times and ratings, parsed and checked; a wrong one is named with its line."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers.source import Source
from hardgnn.errors import HardGNNError

# the unit of a time column is told by its median: seconds until the year 5138, then milli-, micro-, nanoseconds
UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
SECONDS_END = UNITS[-1][0]
# the forms that whole files have are tried alone first, for trying them all takes several times as long
PLAIN_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")
ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def checked_table(source: Source, label: str) -> pl.DataFrame:
    """The log's table, its values parsed and checked.

    Raises:
        HardGNNError: an id, a time or a rating is missing or wrong; names the line and the value.
    """
    schema = source.table.collect_schema()
    quick, every = time_expressions(source.table, schema[TIMESTAMP])
    parsed = [identity(USER), identity(ITEM), every]
    if RATING in schema:
        text = pl.col(RATING).str.strip_chars() if schema[RATING] == pl.String else pl.col(RATING)
        # an empty rating is no rating; one that is not a number becomes NaN, and an error below
        number = text.cast(pl.Float64, strict=False)
        missing = (text == "") if schema[RATING] == pl.String else pl.lit(False)
        parsed.append(
            pl.when(text.is_null() | missing).then(None).otherwise(number.fill_null(float("nan"))).alias(RATING)
        )
    blank = pl.all_horizontal(pl.all().is_null()) if source.text else pl.lit(False)
    rows = source.table.filter(~blank)
    table = rows.select(*parsed[:2], quick, *parsed[3:]).collect(engine="streaming")
    if quick is not every and table[TIMESTAMP].null_count():
        table = rows.select(parsed).collect(engine="streaming")

    wrong = wrong_values(table.columns)
    flagged = table.lazy().select(expression.any().alias(what) for what, expression in wrong.items()).collect()
    if any(flagged.row(0)):
        raise HardGNNError(f"{label}: {first_wrong(source, parsed, blank, wrong)}")
    median = table[TIMESTAMP].median() if len(table) else None
    if not isinstance(median, float):
        return table
    factor = next((factor for start, factor in UNITS if median > start), 1.0)
    if factor == 1.0:
        mixed = {"time {} is not in seconds as most others are": pl.col(TIMESTAMP) > SECONDS_END}
        if table.select(*mixed.values()).to_series().any():
            raise HardGNNError(f"{label}: {first_wrong(source, parsed, blank, mixed)}")
        return table
    return table.with_columns(pl.col(TIMESTAMP) / factor)


def identity(name: str) -> pl.Expr:
    """A column of ids, each text kept once; null where it is blank."""
    text = pl.col(name).cast(pl.String)
    return pl.when(text.str.strip_chars() != "").then(text).cast(pl.Categorical).alias(name)


def wrong_values(columns: Sequence[str]) -> dict[str, pl.Expr]:
    """What may be wrong with a parsed row, in the words of the error."""
    time = pl.col(TIMESTAMP)
    wrong = {f"the {name} id is empty": pl.col(name).is_null() for name in (USER, ITEM)}
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


def time_expressions(table: pl.LazyFrame, dtype: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    """The time column as Float64: seconds for dates, the file's own unit for numbers, null where it is neither.

    The first expression knows only the form of the first value, the second every form.
    """
    time = pl.col(TIMESTAMP)
    if dtype == pl.Date or dtype == pl.Datetime:
        seconds = time.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / 1e6
        return seconds, seconds
    if dtype != pl.String:
        number = time.cast(pl.Float64, strict=False)
        return number, number
    text = time.str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    first = table.select(text).filter(time.is_not_null()).head(1).collect()
    if first.is_empty() or first.select(numbers.is_not_null()).item():
        return numbers, numbers
    spaced = text.str.replace(r"^(\S{10})T", "${1} ").str.replace(r"\s*(Z|UTC)$", "+00:00")
    every = seconds_of(pl.coalesce(microseconds(spaced, form) for form in ISO_FORMATS))
    plain = next((form for form in PLAIN_FORMATS if first.select(microseconds(text, form)).item() is not None), None)
    return every if plain is None else seconds_of(microseconds(text, plain)), every


def microseconds(text: pl.Expr, form: str) -> pl.Expr:
    """Microseconds since 1970 of times in UTC or with an offset, null where the form does not fit."""
    zone = "UTC" if "z" in form else None
    return text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False).dt.timestamp("us")


def seconds_of(microseconds: pl.Expr) -> pl.Expr:
    """The time column in seconds."""
    return (microseconds.cast(pl.Float64) / 1e6).alias(TIMESTAMP)
