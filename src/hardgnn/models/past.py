"""When each item was taken: what counts that know the moment of asking are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.data.histories import Everybody, Histories
from hardgnn.models.base import Stored, as_tensors, checked_matrix
from hardgnn.storage.columns import quantiles

DAY = 86_400.0
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
        """What is left of each item's events at R readings (I, R), of what is left of one in each step (R, T)."""
        return np.asarray(self.counts.T @ kernel.T, dtype=np.float32)

    def ages(self, readings: NDArray[np.integer]) -> NDArray[np.float32]:
        """How many days each step is over at these readings (R,), `NEVER` for what comes later: (R, T)."""
        ends = np.concatenate([self.edges[:1], self.edges])[readings]
        old = (ends[:, None] - self.edges) / DAY
        return np.where(np.arange(len(self.edges)) < readings[:, None], old, NEVER).astype(np.float32)


def _times(histories: Histories) -> NDArray[np.float64]:
    assert histories.times is not None
    return histories.times
