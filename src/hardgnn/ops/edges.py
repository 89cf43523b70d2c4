"""Directed edges with two values each over one sparsity pattern: some of their rows, and values looked up in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from hardgnn.ops.form import fast
from hardgnn.ops.native.library import native
from hardgnn.ops.native.transitions import Chosen
from hardgnn.ops.sparse import index_type, rows_of
from hardgnn.storage.columns import tally


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
        return Edges.of_columns(first.shape[0], [(first.T.tocsr(), second.T.tocsr())])

    @staticmethod
    def of_columns(rows: int, blocks: Iterable[tuple[sparse.csr_array, sparse.csr_array]]) -> Edges:
        """Those of blocks of columns beside each other, each column given as a row of `rows`, as of `of`.

        24 bytes an edge and 16 a row at most, and what a block takes.
        """
        joined = [_joined(*block) for block in blocks]
        ends, width = np.zeros(rows + 1, dtype=np.int64), sum(len(one[0]) for one in joined)
        for one in joined:
            tally(ends[1:], one[1])
        kind = index_type(max(int(np.cumsum(ends, out=ends)[-1]), width))
        offsets: NDArray[Any] = ends.astype(kind)
        free = offsets[:-1].copy()
        columns, values = np.empty(ends[-1], dtype=kind), np.empty((2, ends[-1]), dtype=np.float32)
        del ends
        joined.reverse()
        start = 0
        while joined:
            lengths, row, *of_block = joined.pop()
            order = np.argsort(row, kind="stable")
            row = row[order]
            begins = np.flatnonzero(np.diff(row, prepend=-1))
            sizes = np.diff(begins, append=len(row))
            place = np.repeat(free[row[begins]] - begins, sizes) + np.arange(len(row))
            columns[place] = np.repeat(np.arange(start, start + len(lengths)), lengths)[order]
            for one, other in zip(values, of_block, strict=True):
                one[place] = other[order]
            free[row[begins]] += sizes.astype(kind)
            start += len(lengths)
        parts = (torch.from_numpy(part) for part in (offsets, columns, *values))
        return Edges(width, *parts)

    @staticmethod
    def beside(parts: Sequence[Edges]) -> Edges:
        """Edges of the same rows as one, the columns of each after those of the parts before."""
        counts = torch.stack([part.offsets.diff() for part in parts])  # (p, n)
        ends = F.pad(counts.sum(0).cumsum(0), (1, 0))
        size = int(ends[-1])
        columns, first, second = (one.new_empty(size) for one in (parts[0].columns, parts[0].first, parts[0].second))
        free, before = ends[:-1].clone(), 0
        for part, count in zip(parts, counts, strict=True):
            shift = (free - part.offsets[:-1]).repeat_interleave(count, output_size=len(part.columns))
            place = shift.add_(torch.arange(len(part.columns), device=shift.device))
            columns[place], first[place], second[place] = part.columns + before, part.first, part.second
            free += count
            before += part.width
        return Edges(before, ends.to(parts[0].offsets.dtype), columns, first, second)

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

    def among(self, rows: Tensor | NDArray[np.integer], columns: Tensor | NDArray[np.integer]) -> Edges:
        """The edges of `rows` (n,) into `columns` (c,), ascending, which are numbered 0 to c - 1 in what is found."""
        rows, columns = (torch.as_tensor(one, device=self.columns.device) for one in (rows, columns))
        functions = native(self.first) if self.columns.dtype == torch.int32 else None
        if functions is not None:
            parts = self.offsets, self.columns, self.first, self.second
            return Edges(len(columns), *self._chosen.edges(functions, parts, rows, columns))
        some = self[rows]
        place = torch.searchsorted(columns, some.columns.to(columns.dtype)).clamp_max(max(0, len(columns) - 1))
        kept = columns[place] == some.columns if len(columns) else torch.zeros_like(place, dtype=torch.bool)
        before = F.pad(kept.cumsum(0), (1, 0))
        parts = before[some.offsets.long()].int(), place[kept].int(), some.first[kept], some.second[kept]
        return Edges(len(columns), *parts)

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
    def _chosen(self) -> Chosen:
        return Chosen(self.width)

    @cached_property
    def _keys(self) -> Tensor:
        """`row * width + column` of each edge, ascending, (E,); int32 where that holds them, at a fifth of the time."""
        kind = torch.int32 if len(self) * self.width < 2**31 else torch.int64
        starts = torch.arange(len(self), dtype=kind, device=self.offsets.device) * self.width
        return starts.repeat_interleave(self.offsets.diff(), output_size=len(self.columns)).add_(self.columns)


def _joined(
    first: sparse.csr_array, second: sparse.csr_array
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """The edges of two matrices of one shape: how many are in each row, their columns and values."""
    matrices = [sparse.csr_array(one) for one in (first, second)]
    for one in matrices:
        one.sum_duplicates()  # sorts, too
    rows, width = matrices[0].shape
    keys = [np.repeat(np.arange(rows) * width, np.diff(one.indptr)) + one.indices for one in matrices]
    there = np.minimum(np.searchsorted(keys[0], keys[1]), max(0, len(keys[0]) - 1))
    more = keys[1][keys[0][there] != keys[1]] if len(keys[0]) else keys[1]
    every = np.sort(np.concatenate([keys[0], more]), kind="stable") if len(more) else keys[0]  # two sorted runs
    values = np.zeros((2, len(every)), dtype=np.float32)
    for row, key, one in zip(values, keys, matrices, strict=True):
        row[np.searchsorted(every, key)] = one.data
    row, column = np.divmod(every, width)
    return np.bincount(row, minlength=rows), column.astype(np.int32), values[0].copy(), values[1].copy()


def _with_values(matrix: sparse.csr_array, values: np.ndarray) -> sparse.csr_array:
    """The edges of a matrix with other values (E,)."""
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
