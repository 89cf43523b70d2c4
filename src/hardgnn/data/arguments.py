"""Ids, events and data sets that callers pass in, checked in one place; a sentence names the argument."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import polars as pl

from hardgnn.arguments import refuse
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.dataset import Dataset
from hardgnn.data.ids import id_text, no_ids
from hardgnn.data.log import InteractionLog
from hardgnn.data.readers.tables import USUAL_NAMES, plain
from hardgnn.errors import HardGNNError

AN_ID = "an id (text or a whole number)"


def dataset(value: object, name: str = "data") -> Dataset:
    """A prepared data set.

    Raises:
        HardGNNError: it is none; says how to come by one.
    """
    if isinstance(value, InteractionLog):
        raise HardGNNError(f"{name}: a log that is not prepared yet; give log.prepare(), as in log.prepare(k_core=5)")
    if isinstance(value, (str, os.PathLike)):
        refuse(name, "a prepared Dataset; load it with Dataset.load(path)", value)
    if not isinstance(value, Dataset):
        refuse(name, "a prepared Dataset", value)
    return value


def ids(values: object, name: str, ordered: bool = False) -> pl.Series:
    """Raw ids (n,) as a log's own are kept: text without blanks around it, whole numbers as text.

    Args:
        values: one id, or any collection of them: a list, set, generator, array, or series of polars or pandas.
        name: of the argument.
        ordered: their order counts, so a set will not do.

    Raises:
        HardGNNError: a value is no id, or `values` no collection of them.
    """
    if isinstance(values, (set, frozenset)):
        if ordered:
            refuse(name, "ids in their order, oldest first", values)
        values = sorted(values, key=str)
    if isinstance(values, str) or np.isscalar(values):
        values = [values]
    if isinstance(values, (bytes, Mapping)) or hasattr(values, "columns") or not isinstance(values, Iterable):
        refuse(name, f"ids, as in {name}=['a', 'b']", values)
    found = series(values, name)
    if words := no_ids(found.dtype):
        raise HardGNNError(f"{name}: expected ids (text or whole numbers), got {words}, such as {found[0]!r}")
    named = found.to_frame("id").select(id_text(pl.col("id"), found.dtype))["id"].cast(pl.String).alias(name)
    if named.null_count():
        place = named.is_null().arg_max()
        assert place is not None
        refuse(f"{name}[{place}]", AN_ID, found[place])
    return named


def series(values: Iterable[Any], name: str) -> pl.Series:
    """A collection as one column; texts and whole numbers may be mixed.

    Raises:
        HardGNNError: it has more than one dimension, or something else is among them.
    """
    if isinstance(values, pl.Series):
        return values
    if hasattr(values, "to_numpy"):  # pandas
        values = values.to_numpy()
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


def _one(value: object, name: str) -> str:
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


def events(frame: object, name: str = "events") -> pl.DataFrame:
    """Newer events as the columns user and item (both String), oldest first.

    Args:
        frame: a table of polars or pandas, a dictionary of columns, or a log: user, item and perhaps a time, by which
            the rows are sorted; without it they are in order.
        name: of the argument.

    Raises:
        HardGNNError: it is no table, lacks a column, or a value cannot be read.
    """
    if isinstance(frame, InteractionLog):
        frame = frame.table
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    columns = frame if isinstance(frame, Mapping) else getattr(frame, "columns", None)
    if columns is None:
        refuse(name, "a table with the columns user and item", frame)
    table: Any = frame
    names = [str(column) for column in columns]
    for wanted in (USER, ITEM):
        if wanted not in names:
            listed = ", ".join(names)[:300]
            raise HardGNNError(f"{name}: no column '{wanted}'; columns found: {listed}; rename the one that is meant")
    user, item = ids(table[USER], f"{name}['{USER}']"), ids(table[ITEM], f"{name}['{ITEM}']")
    by_plain = {plain(column): column for column in reversed(names)}
    time = next((by_plain[usual] for usual in USUAL_NAMES[TIMESTAMP] if usual in by_plain), None)
    order = None if time is None else _times(table[time], f"{name}['{time}']")
    if len(user) != len(item) or (order is not None and len(order) != len(user)):
        raise HardGNNError(f"{name}: its columns differ in length")
    found = pl.DataFrame({USER: user, ITEM: item})
    return found if order is None else found[np.argsort(order.to_numpy(), kind="stable")]


def _times(values: Iterable[Any], name: str) -> pl.Series:
    """Times as numbers in their order (n,)."""
    if isinstance(values, pl.Series):
        found = values
    else:
        every = values.to_numpy() if hasattr(values, "to_numpy") else list(values)
        found = pl.Series(name, every, strict=False)
    if found.dtype == pl.String:
        numbers = found.cast(pl.Float64, strict=False)
        try:
            found = numbers if not numbers.null_count() else found.str.to_datetime(strict=False)
        except pl.exceptions.PolarsError:  # in no form that is known
            found = numbers
    if not (found.dtype.is_numeric() or found.dtype.is_temporal()):
        raise HardGNNError(f"{name}: expected times (numbers or dates), got {found.dtype}")
    missing = found.is_null() | found.is_nan() if found.dtype.is_float() else found.is_null()
    if missing.any():
        raise HardGNNError(f"{name}: row {(missing.arg_max() or 0) + 1} has no time that can be read")
    return found.to_physical()
