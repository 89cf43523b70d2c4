"""Rows of a table under AdamW, in C (rows.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from hardgnn.ops.native.library import address, each

TOGETHER = 1024  # rows of a part


def drift(functions: ctypes.CDLL, rows: Tensor, kinds: Tensor, since: Tensor, tables: Sequence[Tensor | None]) -> None:
    """What `hardgnn.ops.rows.drift` says."""
    given = map(address, (rows, kinds, since, *tables))
    each(len(rows), TOGETHER, functions.hardgnn_rows_drift, _width(tables), *given)


def step(
    functions: ctypes.CDLL, rows: Tensor, gradient: Tensor, numbers: Tensor, tables: Sequence[Tensor | None]
) -> None:
    """What `hardgnn.ops.rows.step` says, of the numbers (9,) that rows.c names."""
    given = map(address, (rows, gradient, numbers, *tables))
    each(len(rows), TOGETHER, functions.hardgnn_rows_step, _width(tables), *given)


def _width(tables: Sequence[Tensor | None]) -> ctypes.c_long:
    assert tables[0] is not None
    return ctypes.c_long(tables[0].shape[1])
