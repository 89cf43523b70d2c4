"""When each item was taken: what counts that know the moment of asking are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.data.histories import Everybody, Histories
from hardgnn.models.base import Stored, as_tensors, checked_matrix

DAY = 86_400.0
DIGIT = 11  # bits of a pass of `quantiles`
NEVER = 1e9  # days after which nothing is left; with infinity the gradient would be no number


@dataclass(frozen=True)
class Past:
    """What happened when, in steps of time, to (T + 1) readings of the clock: reading r knows the first r steps.

    `edges` (T,) float64, ascending: the seconds since 1970 at which each step ends, the time of its last event;
    `counts` (T, I): how often each item occurred in it.
    """

    edges: NDArray[np.float64]
    counts: sparse.csc_array

    @classmethod
    def of(cls, histories: Everybody, n_items: int, bins: int) -> Past:
        """Of all events of histories with times."""
        shares = np.linspace(0, 1, bins + 1)[1:]
        if isinstance(histories, Histories):
            times = _times(histories)
            edges = np.unique(np.quantile(times, shares, method="higher")) if len(times) else times
        else:
            edges = np.unique(quantiles(lambda: map(_times, histories.blocks()), shares))
        shape, parts = (len(edges), n_items), [sparse.csc_array((len(edges), n_items), dtype=np.float32)]
        for block in histories.blocks():
            steps = np.searchsorted(edges, _times(block), side="left")
            ones = np.ones(len(steps), dtype=np.float32)
            parts.append(sparse.csc_array((ones, (steps, block.items)), shape=shape))
            while len(parts) > 1 and 2 * parts[-1].nnz >= parts[-2].nnz:  # so that each event is added up few times
                parts[-2:] = [parts[-2] + parts[-1]]
        return cls(edges, sum(parts[:-1], start=parts[-1]))

    def readings(self, asked: NDArray[np.float64]) -> NDArray[np.int64]:
        """What the clock reads at these times, any shape: how many steps are over before, 0 to T."""
        return np.searchsorted(self.edges, asked, side="left")

    def tensors(self) -> dict[str, Tensor]:
        """What `restored` needs."""
        counts = self.counts
        parts = {"edges": self.edges, "offsets": counts.indptr.astype(np.int64), "columns": counts.indices}
        return as_tensors(parts | {"values": counts.data})

    @classmethod
    def restored(cls, parts: Stored, n_items: int) -> Past:
        """What gave these `tensors`.

        Raises:
            ValueError: they cannot be.
        """
        edges = parts["edges"].numpy()
        if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError("the steps of the clock are not in order")
        return cls(edges, checked_matrix(dict(parts), n_items, len(edges)).T)

    def asked(self, histories: Histories) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """The different readings at which users are asked (R,), and that of each, by its place among them (B,)."""
        if histories.asked is None:  # after everything
            return np.array([len(self.edges)]), np.zeros(len(histories.lengths), dtype=np.int64)
        return np.unique(self.readings(histories.asked), return_inverse=True)

    def left(self, kernel: NDArray[np.floating]) -> NDArray[np.float32]:
        """What is left of each item's events at R readings (R, I), of what is left of one in each step (R, T)."""
        return np.ascontiguousarray((self.counts.T @ kernel.T).T, dtype=np.float32)

    def ages(self, readings: NDArray[np.integer]) -> NDArray[np.float32]:
        """How many days each step is over at these readings (R,), `NEVER` for what comes later: (R, T)."""
        ends = np.concatenate([self.edges[:1], self.edges])[readings]
        old = (ends[:, None] - self.edges) / DAY
        return np.where(np.arange(len(self.edges)) < readings[:, None], old, NEVER).astype(np.float32)


def _times(histories: Histories) -> NDArray[np.float64]:
    assert histories.times is not None
    return histories.times


def quantiles(blocks: Callable[[], Iterator[NDArray[np.float64]]], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `numpy.quantile(…, method="higher")` finds of numbers that come in blocks, without keeping them.

    A radix selection: each pass counts the next `DIGIT` bits of the numbers that still may be one of those wanted.

    Args:
        blocks: gives all numbers anew, none of them NaN.
        shares: (R,) ascending, each 0 to 1.

    Returns:
        (R,), or (0,) where there are no numbers.
    """
    left = np.ceil((sum(map(len, blocks())) - 1) * shares).astype(np.int64)  # ranks, later those among equal heads
    if left[-1] < 0:
        return np.empty(0)
    heads, which = np.zeros(1, np.uint64), np.zeros(len(shares), np.int64)
    for done in range(0, 64, DIGIT):
        bits = min(DIGIT, 64 - done)
        counts = np.zeros(len(heads) << bits, np.int64)
        for keys in map(_sortable, blocks()):
            digits = ((keys >> np.uint64(64 - done - bits)) & np.uint64((1 << bits) - 1)).astype(np.int64)
            if done:
                theirs = keys >> np.uint64(64 - done)
                places = np.minimum(np.searchsorted(heads, theirs), len(heads) - 1)
                digits = ((places << bits) + digits)[heads[places] == theirs]
            counts += np.bincount(digits, minlength=len(counts))
        before = np.cumsum(counts.reshape(len(heads), -1), axis=1)[which]  # (R, 2^bits)
        digit = (before <= left[:, None]).sum(1)
        left = left - np.where(digit > 0, before[np.arange(len(left)), digit - 1], 0)
        heads, which = np.unique(heads[which] << np.uint64(bits) | digit.astype(np.uint64), return_inverse=True)
    return _number(heads[which])


def _sortable(numbers: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Whole numbers in the same order."""
    bits = np.ascontiguousarray(numbers).view(np.int64)
    return (bits ^ (bits >> 63 | np.int64(-(2**63)))).view(np.uint64)


def _number(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """What `_sortable` made these of."""
    bits = keys.view(np.int64)
    return (bits ^ (~(bits >> 63) | np.int64(-(2**63)))).view(np.float64)
