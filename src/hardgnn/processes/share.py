"""Which rows of a table each of several processes owns, and how rows come to those who ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardgnn.processes.group import processes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ROWS_TOGETHER = 2**15
"""Rows that go between two processes, or are drawn, at once: 8 MiB of 64 numbers."""


@dataclass(frozen=True)
class Share:
    """A stretch of the `rows` of a table: that of process `rank` of `world`. Each has rows / world, about."""

    rows: int
    rank: int
    world: int

    @classmethod
    def own(cls, rows: int) -> Share:
        """That of this process."""
        group = processes()
        return cls(rows, group.launched.rank, group.world)

    def of(self, rank: int) -> range:
        """The rows of a process."""
        return range(self.rows * rank // self.world, self.rows * (rank + 1) // self.world)

    @property
    def mine(self) -> slice:
        """The rows of this one."""
        return slice(self.of(self.rank).start, self.of(self.rank).stop)

    def __len__(self) -> int:
        return len(self.of(self.rank))

    def here(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Which of some rows of the whole (n,) are this process's, by their place (m,), and where it has them (m,)."""
        place = ((rows >= self.mine.start) & (rows < self.mine.stop)).nonzero()[:, 0]
        return place, rows[place] - self.mine.start

    def joined(self, rows: Tensor, given: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        """The rows (n, d) of the whole that all processes ask for alike, each out of its owner's `given(where)` (m, d).

        The sum over processes of blocks that are 0 but for the owner's rows, so that it is exact.
        """
        place, where = self.here(rows)
        found = like.new_zeros(len(rows), *like.shape[1:])
        if len(place):
            found.index_copy_(0, place, given(where))
        processes().summed(found)
        return found

    def draw(self, own: Tensor, bound: float, generator: torch.Generator) -> None:
        """Fills this process's rows (m, d) out of numbers from -`bound` to `bound` for the whole, as one would draw."""
        block = own.new_empty(min(self.rows, ROWS_TOGETHER), *own.shape[1:])
        for part in blocks(range(self.rows)):
            drawn = block[: len(part)].uniform_(-bound, bound, generator=generator)
            first, last = max(part.start, self.mine.start), min(part.stop, self.mine.stop)
            if first < last:
                to = slice(first - self.mine.start, last - self.mine.start)
                own[to] = drawn[first - part.start : last - part.start]

    def sent(self, own: Tensor) -> Iterator[Tensor]:
        """The whole table, block by block, in process 0; elsewhere nothing, but its rows go there."""
        group = processes()
        for rank in range(self.world):
            for part in blocks(self.of(rank)):
                if rank == self.rank:
                    block = own[part.start - self.mine.start : part.stop - self.mine.start]
                else:
                    block = own.new_empty(len(part), *own.shape[1:])
                if rank and self.rank in (0, rank):
                    group.handed(block, rank, 0)
                if self.rank == 0:
                    yield block

    def received(self, own: Tensor, read: Callable[[int, int], Tensor] | None = None) -> None:
        """Fills the rows of each out of what process 0 reads, from row `first` to before `last` at a time."""
        group = processes()
        for rank in range(self.world):
            for part in blocks(self.of(rank)):
                block = own.new_empty(0)
                if read is not None:
                    block = read(part.start, part.stop).to(own)
                elif rank == self.rank:
                    block = own.new_empty(len(part), *own.shape[1:])
                if rank and self.rank in (0, rank):
                    group.handed(block, 0, rank)
                if rank == self.rank:
                    own[part.start - self.mine.start : part.stop - self.mine.start] = block


@dataclass(frozen=True)
class Stretch:
    """A tensor of which each process has its rows: to be written by process 0, block by block."""

    share: Share
    own: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return self.share.rows, *self.own.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.own.dtype

    def blocks(self) -> Iterator[Tensor]:
        """See `Share.sent`."""
        for block in self.share.sent(self.own.detach()):
            yield block.cpu()


def blocks(rows: range, together: int | None = None) -> Iterator[range]:
    """Rows in stretches of so many, `ROWS_TOGETHER` by default."""
    step = together or ROWS_TOGETHER
    for start in range(rows.start, rows.stop, step):
        yield range(start, min(start + step, rows.stop))


__all__ = ["Share", "Stretch", "blocks"]
