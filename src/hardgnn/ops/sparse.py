"""Sparse matrices as rows of tensors: their product with a table, some of their rows, and which rows have anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Rows = tuple[Tensor, Tensor, Tensor | None]
"""A CSR matrix as row offsets (n + 1,), column indices (E,) and values (E,), where no values means all ones."""


def index_type(largest: int) -> type[np.int32] | type[np.int64]:
    """What holds the numbers from 0 to `largest`: 32 bits, or 64 where they would wrap."""
    return np.int32 if largest < 2**31 else np.int64


def sparse_product(matrix: Rows, x: Tensor) -> Tensor:
    """`A @ x` of A (n, m) and x (m, d): (n, d)."""
    offsets, columns, values = matrix
    return F.embedding_bag(columns, x, offsets, mode="sum", per_sample_weights=values, include_last_offset=True)


def row_slice(matrix: Rows, rows: Tensor | None) -> Rows:
    """The given rows of a matrix, in that order; None is all of them."""
    if rows is None:
        return matrix
    offsets, columns, values = matrix
    offsets, place = rows_of(offsets, rows)
    return offsets, columns[place], None if values is None else values[place]


def rows_of(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The row offsets (n + 1,) of the given rows (n,) alone, int32, and the places of their edges, one row after the
    other."""
    starts = offsets[rows]
    counts = offsets[rows + 1] - starts
    ends = counts.cumsum(0)
    shift = (starts - ends + counts).repeat_interleave(counts)
    return F.pad(ends, (1, 0)).int(), torch.arange(len(shift), device=shift.device) + shift


@dataclass
class Active:
    """The rows of a table that have an edge, in order (n,), and the place of each row among them, -1 for none."""

    rows: Tensor
    place: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> Active:
        """Those of a CSR matrix with these row offsets."""
        rows = offsets.diff().nonzero()[:, 0]
        place = torch.full((len(offsets) - 1,), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        return cls(rows, place)

    @classmethod
    def all(cls, size: int, device: torch.device) -> Active:
        """Every row of a table."""
        return cls(torch.arange(size, device=device), torch.arange(size, device=device))

    def among(self, asked: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Where in `asked` active rows stand, and which active ones these are (None: all of them)."""
        if asked is None:
            return self.rows, None
        found = self.place[asked]
        where = (found >= 0).nonzero()[:, 0]
        return where, found[where]
