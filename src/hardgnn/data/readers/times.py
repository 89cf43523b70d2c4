"""The times of a log: numbers in a unit that their size tells, compact dates, ISO dates, or no times but an order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from hardgnn.data.columns import TIMESTAMP
from hardgnn.storage.columns import BLOCK, by_blocks, smallest

UNITS = (("seconds", 0.0, 1.0), ("milliseconds", 1e11, 1e3), ("microseconds", 1e14, 1e6), ("nanoseconds", 1e17, 1e9))
"""Each unit, the number from which on a time is in it, and how many make a second: 1e11 seconds are the year 5138."""
ORDER_END = 1e8
"""Numbers that are all smaller are no times since 1970 (they would end in 1973) but tell an order."""
COMPACT = ((1.9e7, 2.2e7), (1.9e11, 2.2e11), (1.9e13, 2.2e13))
"""Where the numbers 20140514, 201405140930 and 20140514093000 lie; as times since 1970 they would be nonsense."""
FIRST_YEAR = 1990
"""Earlier times are implausible in a log, and so are those after next year."""
DATES, COMPACT_DATES, ORDER = "dates", "dates as 20140514", "order, small numbers that are no dates"
ROWS = "order of the rows"
# the forms that whole files have are tried alone first, for trying them all takes several times as long
PLAIN_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")
ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
NO_TIMES: dict[Any, str] = {
    pl.Time: "times of day without a date",
    pl.Duration: "lengths of time",
    pl.Boolean: "true and false",
    pl.List: "lists",
    pl.Array: "lists",
    pl.Struct: "records of several fields",
    pl.Binary: "bytes",
    pl.Object: "Python objects",
}
"""What cannot be a time, in words."""


def no_times(dtype: pl.DataType) -> str | None:
    """What values of a type are in words, where they cannot be times."""
    return next((words for kind, words in NO_TIMES.items() if dtype == kind), None)


@dataclass(frozen=True)
class Times:
    """The time column as Float64: seconds for dates, the file's own unit for numbers, null where it is neither.

    `quick` knows only the form of the first value, `every` every form; `dates` tells them from numbers.
    """

    quick: pl.Expr
    every: pl.Expr
    dates: bool


def times_of(table: pl.LazyFrame, dtype: pl.DataType) -> Times:
    """How the column timestamp of `table` is read."""
    time = pl.col(TIMESTAMP)
    if dtype == pl.Date or dtype == pl.Datetime:
        seconds = seconds_of(time.dt.epoch("us"))  # with a zone, too, this is UTC
        return Times(seconds, seconds, True)
    if dtype.is_numeric():
        number = time.cast(pl.Float64)
        return Times(number, number, False)
    text = time.cast(pl.String).str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False).alias(TIMESTAMP)
    spaced = text.str.replace(r"^(\S{10})T", "${1} ").str.replace(r"\s*(Z|UTC)$", "+00:00")
    every = seconds_of(pl.coalesce(microseconds(spaced, form) for form in ISO_FORMATS))
    first = table.select(text).filter(time.is_not_null()).head(1).collect()
    if first.is_empty() or first.select(numbers.is_not_null() | every.is_null()).item():
        return Times(numbers, numbers, False)
    plain = next((form for form in PLAIN_FORMATS if first.select(microseconds(text, form)).item() is not None), None)
    return Times(every if plain is None else seconds_of(microseconds(text, plain)), every, True)


def microseconds(text: pl.Expr, form: str) -> pl.Expr:
    """Microseconds since 1970 of times in UTC or with an offset, null where the form does not fit."""
    zone = "UTC" if "z" in form else None
    return text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False).dt.timestamp("us")


def seconds_of(microseconds: pl.Expr) -> pl.Expr:
    """The time column in seconds."""
    return (microseconds.cast(pl.Float64) / 1e6).alias(TIMESTAMP)


@dataclass(frozen=True)
class Unit:
    """What numbers are: a `name`, the column in seconds, and the rows that are in another unit."""

    name: str
    seconds: pl.Expr
    foreign: pl.Expr


def unit_of(numbers: pl.Series) -> Unit:
    """The unit of most of the times (N,), which are finite and not negative; N > 0."""
    time, table = pl.col(TIMESTAMP), numbers.to_frame(TIMESTAMP)
    values, half = numbers.to_numpy(), len(numbers) // 2
    places = [half - 1 if len(numbers) % 2 == 0 else half, half, len(numbers) - 1]
    low, middle, most = smallest(by_blocks(values), places)
    middle = (low + middle) / 2
    if any(start <= middle < end for start, end in COMPACT):
        dates = compact_dates()
        if sum(part.select(dates.is_not_null().sum()).item() for part in table.iter_slices(BLOCK)) > 0.5 * len(numbers):
            return Unit(COMPACT_DATES, dates, dates.is_null())
    place = max(place for place, (_, start, _) in enumerate(UNITS) if middle >= start)
    name, start, factor = UNITS[place]
    end = UNITS[place + 1][1] if place + 1 < len(UNITS) else float("inf")
    foreign = (time >= end) | ((time < start) & (time > 0))  # 0 is 1970 in every unit
    return Unit(ORDER if most < ORDER_END else name, time if factor == 1 else time / factor, foreign)


def compact_dates() -> pl.Expr:
    """The time column in seconds, of numbers such as 20140514 and 20140514093000; null where there is none."""
    time = pl.col(TIMESTAMP)
    inside = pl.any_horizontal((time >= start) & (time < end) for start, end in COMPACT) & (time == time.floor())
    digits = pl.when(inside).then(time).cast(pl.Int64).cast(pl.String).str.pad_end(14, "0")
    return seconds_of(microseconds(digits, "%Y%m%d%H%M%S"))


def plausible_span() -> tuple[float, float]:
    """The seconds since 1970 between which the times of a log should lie: from 1990 to the end of next year."""
    first, last = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (FIRST_YEAR, datetime.now(UTC).year + 2))
    return first, last
