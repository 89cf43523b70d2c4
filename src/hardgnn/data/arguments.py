"""Ids, events and data sets that callers pass in, checked in one place; a sentence names the argument."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from hardgnn.arguments import refuse
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.dataset import Dataset
from hardgnn.data.ids import id_text, is_number, no_ids
from hardgnn.data.log import InteractionLog
from hardgnn.data.readers.frames import AN_ID, Table, as_series, is_table
from hardgnn.data.readers.tables import USUAL_NAMES, plain
from hardgnn.errors import HardGNNError


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
        values: one id, or any collection of them: a list, set, generator, array, or a column of polars, pandas or
            Arrow, also as a table of one column.
        name: of the argument.
        ordered: their order counts, so a set will not do.

    Raises:
        HardGNNError: a value is no id, or `values` no collection of them.
    """
    return typed_ids(values, name, ordered)[0]


def typed_ids(values: object, name: str, ordered: bool = False) -> tuple[pl.Series, pl.DataType]:
    """The raw ids of `ids`, and the type that they came in: that of a column of numbers, otherwise String."""
    if isinstance(values, (set, frozenset)):
        if ordered:
            refuse(name, "ids in their order, oldest first", values)
        values = sorted(values, key=str)
    if isinstance(values, str) or np.isscalar(values):
        values = [values]
    if isinstance(values, np.ndarray) and values.ndim == 0:
        values = values.reshape(1)
    if is_table(values) and not isinstance(values, Mapping) and len((table := Table(values, name)).columns) == 1:
        values = table.column(table.columns[0])
    if isinstance(values, (bytes, Mapping)) or hasattr(values, "columns") or not isinstance(values, Iterable):
        refuse(name, f"ids, as in {name}=['a', 'b']", values)
    found = as_series(values, name)
    if words := no_ids(found.dtype):
        raise HardGNNError(f"{name}: expected ids (text or whole numbers), got {words}, such as {found[0]!r}")
    named = found.to_frame("id").select(id_text(pl.col("id"), found.dtype))["id"].cast(pl.String).alias(name)
    if named.null_count():
        place = named.is_null().arg_max()
        assert place is not None
        refuse(f"{name}[{place}]", AN_ID, found[place])
    return named, found.dtype if is_number(found.dtype) else pl.String()


def events(frame: object, name: str = "events") -> pl.DataFrame:
    """Newer events as the columns user and item (both String), oldest first.

    Args:
        frame: a table of polars, pandas or Arrow, a dictionary of columns, or a log: user, item and perhaps a
            time, by which the rows are sorted; without it they are in order.
        name: of the argument.

    Raises:
        HardGNNError: it is no table, lacks a column, or a value cannot be read.
    """
    if isinstance(frame, InteractionLog):
        frame = frame.table
    if not is_table(frame):
        refuse(name, "a table with the columns user and item", frame)
    table = Table(frame, name)
    names = table.columns
    for wanted in (USER, ITEM):
        if wanted not in names:
            listed = ", ".join(names)[:300]
            raise HardGNNError(f"{name}: no column '{wanted}'; columns found: {listed}; rename the one that is meant")
    user, item = (ids(table.column(one), f"{name}['{one}']") for one in (USER, ITEM))
    by_plain = {plain(column): column for column in reversed(names)}
    time = next((by_plain[usual] for usual in USUAL_NAMES[TIMESTAMP] if usual in by_plain), None)
    order = None if time is None else _times(table.value[time], f"{name}['{time}']")
    if len(user) != len(item) or (order is not None and len(order) != len(user)):
        raise HardGNNError(f"{name}: its columns differ in length")
    found = pl.DataFrame({USER: user, ITEM: item})
    return found if order is None else found[np.argsort(order.to_numpy(), kind="stable")]


def _times(values: Any, name: str) -> pl.Series:
    """Times as numbers in their order (n,)."""
    plain = isinstance(values, (list, tuple))
    found = pl.Series(name, values, strict=False) if plain else as_series(values, name)
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
