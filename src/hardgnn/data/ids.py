"""Raw ids: the one way in which a value becomes an id, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.storage.columns import counted, most

MISSING = (
    *("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NaT"),
    *("None", "none", "NONE", "Null", "null", "NULL", "(null)", "\\N", "undefined"),
)
"""Words that programs write where there is no value."""
POINT = r"^(-?[0-9]+)\.0+$"
POWER = r"^-?[0-9](?:\.[0-9]+[eE]\+?|[eE]\+)[0-9]+$"
"""Whole numbers as columns of floats are written: 26.0 and 2.6e+01; a hexadecimal id such as 26e1 is none."""
NUMBER = r"^-?[0-9]+$"
FRACTION = r"^-?[0-9]+\.[0-9]*[1-9][0-9]*$"
EXACT = 2**53  # of larger whole numbers a float does not know the last digits
NO_IDS: dict[Any, str] = {
    pl.Boolean: "true and false",
    pl.Date: "dates",
    pl.Datetime: "times",
    pl.Time: "times of day",
    pl.Duration: "lengths of time",
    pl.List: "lists",
    pl.Array: "lists",
    pl.Struct: "records of several fields",
    pl.Binary: "bytes",
    pl.Object: "Python objects",
}
"""What cannot be an id, in words."""


def id_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A column as ids: text without blanks around it, whole numbers without a fraction; null where there is no id.

    The same value gives the same id whatever its type: 26, 26.0, " 26" and "2.6e+01" are the id "26".
    """
    if dtype.is_float():
        exact = column.is_finite() & (column == column.floor()) & (column.abs() <= EXACT)
        return pl.when(exact).then(column).cast(pl.Int64).cast(pl.String)
    text = column.cast(pl.String).str.strip_chars()
    if dtype.is_integer():
        return text
    if dtype.is_decimal():
        return pl.when(~text.str.contains(FRACTION)).then(text.str.replace(POINT, "${1}"))
    number = pl.when(text.str.contains(POWER)).then(text).cast(pl.Float64, strict=False)
    whole = pl.when((number == number.floor()) & (number.abs() <= EXACT)).then(number).cast(pl.Int64).cast(pl.String)
    return pl.when(text != "").then(pl.coalesce(whole, text.str.replace(POINT, "${1}")))


def is_number(dtype: pl.DataType) -> bool:
    """Whether ids of a column of this type are numbers, and are given back as such."""
    return dtype.is_integer() or dtype.is_float()


def no_ids(dtype: pl.DataType) -> str | None:
    """What values of a type are in words, where they cannot be ids."""
    return next((words for kind, words in NO_IDS.items() if dtype == kind), None)


def decoded(codes: NDArray[np.integer], ids: pl.Series) -> pl.Series:
    """The ids that these numbers (n,) stand for in a Categorical column, as such a column."""
    numbers = pl.Series(codes.astype(np.uint32, copy=False))
    if hasattr(numbers.cat, "to"):
        return numbers.cat.to(ids.dtype)
    return ids.cat.get_categories().gather(numbers).cast(pl.Categorical)  # type: ignore[attr-defined]  # polars before 2.0


@dataclass(frozen=True)
class Glance:
    """What a column of ids is like before `id_text`: whether that changes any, what to tell of it, and whether some
    are fractions where all are numbers."""

    changes: bool
    told: tuple[str, ...]
    fractions: bool


def glance(ids: pl.Series, name: str) -> Glance:
    """Looks at each different id of a Categorical column (N,) once; `name` is user or item in what is told."""
    text = pl.col("text")
    codes = ids.to_physical().drop_nulls().to_numpy()
    counts = counted(codes, int(most(codes)) + 1 if len(codes) else 0)
    known = decoded(np.flatnonzero(counts), ids).to_frame("id").lazy().with_columns(text=pl.col("id").cast(pl.String))
    changed = known.filter(id_text(text, pl.String()).ne_missing(text)).collect(engine="streaming")
    if changed.is_empty():
        return Glance(False, (), False)
    bare = text.str.strip_chars()
    blank, whole = (bare != text) & (bare != ""), bare.str.contains(POINT) | bare.str.contains(POWER)
    told = []
    for kind, words in ((blank, "blanks around the {} id"), (whole, "the {} id written as a decimal number")):
        some = changed.filter(kind).sort("text")  # the same example every time
        if not some.is_empty():
            rows = int(counts[some["id"].to_physical().to_numpy()].sum())
            shown = some["text"][0]
            told.append(
                f"{rows:,} of {len(ids):,} events have {words.format(name)}, such as '{shown}': "
                f"it is read as '{some.select(id_text(text, pl.String())).item(0, 0)}'"
            )
    numbers = pl.any_horizontal(bare.str.contains(form) for form in (POINT, POWER, NUMBER, FRACTION)) | (bare == "")
    decimal = known.select(numbers.all() & bare.str.contains(FRACTION).any())
    fractions = changed.select(whole.any()).item() and decimal.collect(engine="streaming").item()
    return Glance(True, tuple(told), bool(fractions))
