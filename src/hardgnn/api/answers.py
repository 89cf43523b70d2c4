"""Answers as they are asked for: of polars or pandas, with ids in the type that they came in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hardgnn.arguments import text
from hardgnn.data.columns import ITEM, USER
from hardgnn.errors import HardGNNError, nearest

OUTPUTS = ("polars", "pandas")
Answer = Any
"""A table of polars or pandas, as the model's `output` says."""


def checked_output(output: object) -> str:
    """The name of what answers are tables of.

    Raises:
        HardGNNError: another name, or a package that is not installed.
    """
    name = text(output, "output")
    if name not in OUTPUTS:
        raise HardGNNError(f"output: expected one of {', '.join(OUTPUTS)}, got '{name}'; {nearest(name, OUTPUTS)}")
    if name == "pandas":
        _pandas()
    return name


def id_types(manifest: Mapping[str, Any]) -> dict[str, pl.DataType]:
    """The types of user and item ids in the data that a model was trained on: those of numbers, otherwise String."""
    read = manifest.get("read") or {}
    return {name: getattr(pl, str(read.get(f"{name}_type", "String")), pl.String)() for name in (USER, ITEM)}


def handed(table: pl.DataFrame, output: str, types: Mapping[str, pl.DataType]) -> Answer:
    """A table as it is asked for, the columns that `types` names in these types."""
    table = table.with_columns(pl.col(name).cast(kind) for name, kind in types.items() if name in table.columns)
    if output == "polars":
        return table
    return _pandas().DataFrame({name: _column(table[name]) for name in table.columns})


def _column(values: pl.Series) -> Any:
    """A column for pandas, which needs no Arrow for it."""
    if isinstance(values.dtype, pl.Enum):
        codes = values.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        return _pandas().Categorical.from_codes(codes, categories=values.dtype.categories.to_list())
    if values.dtype == pl.Datetime:
        return _pandas().Series(values.dt.replace_time_zone(None).to_numpy()).dt.tz_localize("UTC")
    if values.dtype.is_numeric() and not values.null_count():
        return np.array(values.to_numpy())
    return values.to_list()


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError:
        raise HardGNNError("output='pandas' needs pandas: pip install pandas") from None
