"""Tables of other libraries (pandas, Arrow, dictionaries) as polars has them; none of these libraries is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import polars as pl

from hardgnn.arguments import refuse
from hardgnn.errors import HardGNNError

AN_ID = "an id (text or a whole number)"
UNITS = ("ms", "us", "ns")


def is_table(value: object) -> bool:
    """Whether it is a table of polars, pandas or Arrow, or a dictionary of columns."""
    if isinstance(value, (pl.DataFrame, pl.LazyFrame, Mapping)) or _is_pandas(value, "DataFrame"):
        return True
    return _streams(value) and (hasattr(value, "schema") or hasattr(value, "columns"))  # a column has neither


def is_pandas(value: object) -> bool:
    """Whether it is a frame, a series or an index of pandas."""
    return any(_is_pandas(value, kind) for kind in ("DataFrame", "Series", "Index"))


class Table:
    """A table of whatever library, whose columns become those of polars when they are asked for.

    Raises:
        HardGNNError: `value` is no table; `name` is what the sentence calls it.
    """

    def __init__(self, value: Any, name: str) -> None:
        if not is_table(value):
            kind = f"{type(value).__module__.split('.')[0]} {type(value).__name__}"
            raise HardGNNError(f"{name}: expected a table of polars, pandas or Arrow, got a {kind}")
        if isinstance(value, pl.LazyFrame):
            value = value.collect()
        if not isinstance(value, (pl.DataFrame, Mapping)) and not is_pandas(value):
            value = pl.DataFrame(value)  # of Arrow: nothing is copied
        self.value, self.name = value, name
        columns = value if isinstance(value, Mapping) else value.columns
        self._labels = {str(label): label for label in reversed(list(columns))}
        self.columns = [str(label) for label in columns]

    def column(self, name: str) -> pl.Series:
        """A column by its name."""
        return as_series(self.value[self._labels[name]], f"{self.name}['{name}']")

    def select(self, names: Iterable[str]) -> pl.DataFrame:
        """Some columns by their names.

        Raises:
            HardGNNError: they differ in length.
        """
        found = {name: self.column(name) for name in names}
        if len({len(one) for one in found.values()}) > 1:
            raise HardGNNError(f"{self.name}: its columns differ in length")
        return pl.DataFrame(found)


def as_series(values: Iterable[Any], name: str) -> pl.Series:
    """A collection as one column; texts and whole numbers may be mixed, which makes them texts.

    Raises:
        HardGNNError: it has more than one dimension, or something else is among them.
    """
    if isinstance(values, pl.Series):
        return values
    if _is_pandas(values, "Series") or _is_pandas(values, "Index"):
        return _of_pandas(values, name)
    if _streams(values):  # of Arrow
        return pl.Series(name, values)
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    values = _in_units(values)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise HardGNNError(f"{name}: expected one dimension, got an array of shape {values.shape}")
    every = values if isinstance(values, np.ndarray) else list(values)
    try:
        found = pl.Series(name, every, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, [_one(value, f"{name}[{place}]") for place, value in enumerate(every)], dtype=pl.String)
    if found.dtype.is_integer() and isinstance(every, list) and any(value is True or value is False for value in every):
        raise HardGNNError(f"{name}: expected ids (text or whole numbers), got true and false among them")
    return found.cast(pl.String) if found.dtype == pl.Null else found


def _of_pandas(values: Any, name: str) -> pl.Series:
    """A series or an index of pandas; what it has for missing (NaN, NaT, NA, None) is null."""
    pandas: Any = sys.modules["pandas"]
    if isinstance(values.dtype, pandas.CategoricalDtype):
        codes = pl.Series(np.asarray(values.cat.codes if hasattr(values, "cat") else values.codes))
        categories = as_series(values.dtype.categories, name)
        return categories.gather(codes.replace(-1, None).cast(pl.Int64)).alias(name)
    if isinstance(values.dtype, pandas.DatetimeTZDtype):
        moments = (values.dt if hasattr(values, "dt") else values).tz_convert("UTC")
        plain = (moments.dt if hasattr(moments, "dt") else moments).tz_localize(None)
        return pl.Series(name, _in_units(np.array(plain.to_numpy())))
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iufM":
        found = pl.Series(name, _in_units(np.array(values.to_numpy())))
        return found.fill_nan(None) if found.dtype.is_float() else found
    missing = values.isna()
    every = values.astype(object)
    return as_series(every.where(~missing, None).tolist() if missing.any() else every.tolist(), name)


def _in_units(values: Any) -> Any:
    """Moments in units that polars has; it has no seconds, minutes and days of numpy's."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "M" or np.datetime_data(values.dtype)[0] in UNITS:
        return values
    return values.astype("datetime64[us]")


def _one(value: object, name: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            refuse(name, "text that is valid UTF-8", value)
        return value
    number = isinstance(value, (Integral, np.integer)) or (isinstance(value, (float, np.floating)) and value % 1 == 0)
    if not number or isinstance(value, (bool, np.bool_)):
        refuse(name, AN_ID, value)
    return str(int(value))  # type: ignore[call-overload]


def _is_pandas(value: object, kind: str) -> bool:
    """Whoever passes something of pandas has loaded it."""
    pandas = sys.modules.get("pandas")
    found = getattr(pandas, kind, None)
    return found is not None and isinstance(value, found)


def _streams(value: object) -> bool:
    """Whether it is data of Arrow, of whichever library."""
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")
