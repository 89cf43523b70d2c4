"""The edges of transitions where processes share them out, each with those into its items: in a step, and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.ops.edges import Edges
from hardgnn.ops.sparse import index_type
from hardgnn.processes.group import processes
from hardgnn.processes.share import Share, blocks

Ends = tuple[NDArray[np.int64], NDArray[np.int64]]
ROWS_TOGETHER = 2**12  # whose edges process 0 has in memory to write them: 0.8 MB of 50 each


class SharedEdges:
    """The edges (I, I), of which this process has the columns of its items (I, I / W).

    Before a step each process is sent the edges that its parts walk (`gather`), and each part asks for some of them
    (`among`), as of `Edges`.
    """

    def __init__(self, own: Edges, share: Share) -> None:
        self.own, self.share = own, share
        self._asked: Ends = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        self._edges: Edges | None = None

    def to(self, device: torch.device) -> SharedEdges:
        """The same on a device."""
        return SharedEdges(self.own.to(device), self.share)

    @property
    def matrices(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """See `Edges.matrices`: of the columns of this process, (I, I / W)."""
        return self.own.matrices

    def gather(self, asked: Sequence[Ends]) -> None:
        """Sends each process the edges that it asks for out of those here, and takes what this one asks for.

        Args:
            asked: of each process, in their order, the rows (n,) and the columns (c,), both ascending.
        """
        mine = self.share.mine
        given = []
        for rows, columns in asked:
            first, last = np.searchsorted(columns, [mine.start, mine.stop])
            given.append(_packed(self.own.among(rows, columns[first:last] - mine.start)))
        rows, columns = self._asked = asked[self.share.rank]
        bounds = [self.share.of(rank).start for rank in range(self.share.world)]
        widths = np.diff(np.searchsorted(columns, [*bounds, self.share.rows])).tolist()
        taken = processes().exchanged(given)
        self._edges = Edges.beside([_unpacked(part, len(rows), width) for part, width in zip(taken, widths)])

    def among(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Edges:
        """See `Edges.among`: of rows and columns that were gathered."""
        assert self._edges is not None
        places = (np.searchsorted(one, some) for one, some in zip(self._asked, (rows, columns)))
        return self._edges.among(*places)


def _packed(edges: Edges) -> Tensor:
    """Edges as numbers of 32 bits, (n + 3 E,)."""
    values = (one.view(torch.int32) for one in (edges.first, edges.second))
    return torch.cat([edges.offsets.diff().int(), edges.columns.int(), *values])


def _unpacked(packed: Tensor, rows: int, width: int) -> Edges:
    counts, *parts = packed.split([rows, *[(len(packed) - rows) // 3] * 3])
    offsets = torch.nn.functional.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
    return Edges(width, offsets, parts[0], parts[1].view(torch.float32), parts[2].view(torch.float32))


@dataclass(frozen=True)
class MergedOffsets:
    """Where the rows of a matrix begin, (I + 1,), of which each process has the columns of its items.

    It is a `hardgnn.storage.tensors.Streamed`.
    """

    own: NDArray[np.integer]
    dtype = torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return self.own.shape

    def blocks(self) -> Iterator[Tensor]:
        """All of it, in each process."""
        for part in blocks(range(len(self.own))):
            block = torch.from_numpy(self.own[part.start : part.stop].astype(np.int64))
            processes().summed(block)
            yield block


@dataclass(frozen=True)
class MergedNumbers:
    """One number of each edge of such a matrix, row after row, (E,): to be written by process 0, some rows at a time.

    `given(start, stop)` tells those of this process's edges; rows begin at `offsets` (I + 1,) among them. It is a
    `hardgnn.storage.tensors.Streamed`.
    """

    offsets: NDArray[np.integer]
    given: Callable[[int, int], Tensor]
    dtype: torch.dtype
    shape: tuple[int, ...]

    def blocks(self) -> Iterator[Tensor]:
        """All of them in process 0; elsewhere nothing, but its numbers go there."""
        group = processes()
        for part in blocks(range(len(self.offsets) - 1), ROWS_TOGETHER):
            bounds = self.offsets[part.start : part.stop + 1].astype(np.int64)
            counts, own = torch.from_numpy(np.diff(bounds)), self.given(int(bounds[0]), int(bounds[-1]))
            if group.first:
                others = [self._taken(len(part), rank) for rank in range(1, group.world)]
                yield _merged([(counts, own), *others])
                continue
            group.handed(counts, group.launched.rank, 0)
            if len(own):
                group.handed(own, group.launched.rank, 0)

    def _taken(self, rows: int, rank: int) -> tuple[Tensor, Tensor]:
        """How many another process has in each of so many rows, and what they are."""
        counts = torch.empty(rows, dtype=torch.int64)
        processes().handed(counts, rank, 0)
        numbers = torch.empty(int(counts.sum()), dtype=self.dtype)
        if len(numbers):
            processes().handed(numbers, rank, 0)
        return counts, numbers


def _merged(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Row after row, of each what every part has of it."""
    counts = torch.stack([count for count, _ in parts])
    free = counts.sum(0).cumsum(0) - counts.sum(0)
    found = parts[0][1].new_empty(int(counts.sum()))
    for count, numbers in parts:
        shift = (free - count.cumsum(0) + count).repeat_interleave(count)
        found[shift.add_(torch.arange(len(numbers)))] = numbers
        free += count
    return found


def merged(matrix: sparse.csr_array, share: Share) -> dict[str, MergedOffsets | MergedNumbers]:
    """Offsets, columns and values of a matrix (I, I) of which each process has some columns, (I, I / W)."""
    starts, columns, values = matrix.indptr, matrix.indices, matrix.data
    size = sum(processes().gathered(len(values)))
    kind = index_type(max(size, share.rows))  # as of one process

    def of_columns(start: int, stop: int) -> Tensor:
        return torch.from_numpy(columns[start:stop].astype(kind) + kind(share.mine.start))

    def of_values(start: int, stop: int) -> Tensor:
        return torch.from_numpy(values[start:stop])

    return {
        "offsets": MergedOffsets(starts),
        "columns": MergedNumbers(starts, of_columns, torch.int32 if kind is np.int32 else torch.int64, (size,)),
        "values": MergedNumbers(starts, of_values, torch.float32, (size,)),
    }
