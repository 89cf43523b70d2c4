"""Directed edges with two values each over one sparsity pattern: some of their rows, and values looked up in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from hardgnn.ops.form import fast
from hardgnn.ops.sparse import rows_of


@dataclass(frozen=True)
class Edges:
    """The edges (i, j) of n rows and `width` columns, and two values of each; a pair without an edge has zeros.

    Shapes: offsets (n + 1,), columns (E,), ascending within a row, both int32 or both int64; first, second (E,).
    """

    width: int
    offsets: Tensor
    columns: Tensor
    first: Tensor
    second: Tensor

    @staticmethod
    def of(first: sparse.csr_array, second: sparse.csr_array) -> Edges:
        """Those of two matrices of one shape, of which either may lack edges of the other."""
        matrices = [sparse.csr_array(one) for one in (first, second)]
        for one in matrices:
            one.sum_duplicates()  # sorts, too
        present = [_with_values(one, np.ones(one.nnz, np.int8)) for one in matrices]
        union = (present[0] + present[1]).tocsr()
        union.sort_indices()
        kind = np.int32 if union.nnz < 2**31 else np.int64  # scipy's sum has 64 bits, twice the memory
        numbers = _with_values(union, np.arange(1, union.nnz + 1, dtype=kind))
        values = []
        for one, edges in zip(matrices, present, strict=True):
            spread = np.zeros(union.nnz, np.float32)
            spread[edges.multiply(numbers).tocsr().data - 1] = one.data
            values.append(torch.from_numpy(spread))
        pattern = (torch.from_numpy(part.astype(kind)) for part in (union.indptr, union.indices))
        return Edges(union.shape[1], *pattern, *values)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    def to(self, device: torch.device) -> Edges:
        """The same on a device."""
        parts = (part.to(device) for part in (self.offsets, self.columns, self.first, self.second))
        return Edges(self.width, *parts)

    @cached_property
    def matrices(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """One matrix of each value, (n, width); on a processor they share the memory."""
        offsets, columns, *values = (
            part.cpu().numpy() for part in (self.offsets, self.columns, self.first, self.second)
        )
        shape = (len(self), self.width)
        first, second = (sparse.csr_array((one, columns, offsets), shape=shape) for one in values)
        return first, second

    def __getitem__(self, rows: Tensor | NDArray[np.integer]) -> Edges:
        """The given rows, in that order."""
        rows = torch.as_tensor(rows, device=self.columns.device)
        if fast(self.first):
            first, second = (one[rows.numpy()] for one in self.matrices)
            parts = (torch.from_numpy(part) for part in (first.indptr, first.indices, first.data, second.data))
            return Edges(self.width, *parts)
        offsets, place = rows_of(self.offsets, rows)
        return Edges(self.width, offsets, self.columns[place], self.first[place], self.second[place])

    def dense(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Both values of all rows and the chosen `columns` (c,), and a last row of zeros: (n + 1, c) each."""
        if not fast(self.first):
            rows = torch.arange(len(self), device=columns.device)
            first, second = (F.pad(one, (0, 0, 0, 1)) for one in self.at(rows[:, None], columns))
            return first, second
        pattern = self.matrices[0]
        chosen = _with_values(pattern, np.arange(pattern.nnz, dtype=pattern.indices.dtype))[:, columns.numpy()]
        numbers = torch.from_numpy(chosen.data)
        found = self.first.new_zeros(2, len(self) + 1, len(columns))
        for table, values in zip(found.numpy(), (self.first, self.second), strict=True):
            _with_values(chosen, values.index_select(0, numbers).numpy()).toarray(out=table[:-1])
        return found[0], found[1]

    def at(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Both values of the edges from `rows` to `columns`, which are broadcast to one shape: two of that shape."""
        asked = rows.to(self._keys.dtype) * self.width + columns.to(self._keys.dtype)
        if not len(self.columns):
            return self.first.new_zeros(asked.shape), self.second.new_zeros(asked.shape)
        place = torch.searchsorted(self._keys, asked).clamp_max(len(self.columns) - 1)
        there = self._keys[place] == asked
        return torch.where(there, self.first[place], 0), torch.where(there, self.second[place], 0)

    @cached_property
    def _keys(self) -> Tensor:
        """`row * width + column` of each edge, ascending, (E,); int32 where that holds them, at a fifth of the time."""
        kind = torch.int32 if len(self) * self.width < 2**31 else torch.int64
        starts = torch.arange(len(self), dtype=kind, device=self.offsets.device) * self.width
        return starts.repeat_interleave(self.offsets.diff(), output_size=len(self.columns)).add_(self.columns)


def _with_values(matrix: sparse.csr_array, values: np.ndarray) -> sparse.csr_array:
    """The edges of a matrix with other values (E,)."""
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
