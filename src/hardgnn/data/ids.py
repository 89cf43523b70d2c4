"""Raw ids: the one way in which a value becomes an id, wherever it comes from."""

from __future__ import annotations

from typing import Any

import polars as pl

POINT = r"^(-?\d+)\.0+$"
POWER = r"^-?\d(?:\.\d+[eE]\+?|[eE]\+)\d+$"
"""Whole numbers as columns of floats are written: 26.0 and 2.6e+01; a hexadecimal id such as 26e1 is none."""
FRACTION = r"^-?\d+\.\d*[1-9]\d*$"
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


def no_ids(dtype: pl.DataType) -> str | None:
    """What values of a type are in words, where they cannot be ids."""
    return next((words for kind, words in NO_IDS.items() if dtype == kind), None)
