"""What one step of `train.objective = "positions"` sees: windows, the item after each position, candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardgnn.config import TrainConfig
from hardgnn.data.histories import Histories
from hardgnn.models.similarity import LONGEST


@dataclass(frozen=True)
class SequenceBatch:
    """One step's users.

    Shapes: `users` (B,); `windows` (B, m), `PADDING` on the left; `targets` (B, m): targets[b, p] came after
    windows[b, p]; `candidates` (C,), sorted; `inclusion` (C,), the probability with which each was among them.
    """

    users: NDArray[np.int64]
    windows: NDArray[np.int64]
    targets: NDArray[np.int64]
    candidates: NDArray[np.int64]
    inclusion: NDArray[np.float32]


class Sequences:
    """Draws the batches of an epoch from the training part: each user once, those of like length together.

    Args:
        train: each user's training items.
        n_items: I.
        window: longest window M.
    """

    def __init__(self, train: Histories, n_items: int, window: int, config: TrainConfig) -> None:
        self.train, self.n_items, self.window, self.config = train, n_items, window, config
        distinct = np.bincount(train.keys(n_items) // n_items, minlength=len(train.lengths))
        eligible = np.flatnonzero((train.lengths >= 2) & (distinct < n_items))
        size = np.minimum(train.lengths[eligible] - 1, window)
        order = np.argsort(size, kind="stable")
        self._users, size = eligible[order], size[order]
        self._starts = _cut(size, config.batch_positions)
        counts = np.maximum(train.item_counts(n_items), 1)
        self._inclusion = inclusion_probabilities(counts**config.candidate_popularity, config.candidates)

    def __len__(self) -> int:
        return len(self._starts)

    def epoch(self, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """The batches of one epoch, in random order."""
        lengths = np.minimum(self.train.lengths[self._users] - 1, self.window)
        # Users of equal length change places, so that batches are not always of the same ones.
        users = self._users[np.lexsort((rng.random(len(lengths)), lengths))]
        for part in rng.permutation(len(self)):
            stop = self._starts[part + 1] if part + 1 < len(self) else len(users)
            yield self.batch(users[self._starts[part] : stop], rng)

    def batch(self, users: NDArray[np.int64], rng: np.random.Generator) -> SequenceBatch:
        """The windows of these users, which end with the last training item or, of longer histories, anywhere.

        That is anywhere in what `LONGEST` leaves of a very long one, so that the transitions count all of a window.
        """
        spare = np.maximum(np.minimum(self.train.lengths[users], LONGEST) - self.window - 1, 0)
        anywhere = rng.random(len(users)) >= self.config.recent_share
        back = np.where(anywhere, rng.integers(0, spare + 1), 0)
        whole = self.train.windows(users, self.window + 1, drop_last=back)
        candidates = systematic_sample(self._inclusion, rng)
        chance = self._inclusion[candidates].astype(np.float32)
        return SequenceBatch(users, whole[:, :-1], whole[:, 1:], candidates, chance)


def inclusion_probabilities(weights: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Probabilities `min(1, c · weight)` of being drawn, with c such that `size` items are: (I,).

    `weights` (I,), above 0; where there are no more items than `size`, all are certain.
    """
    if size >= len(weights):
        return np.ones(len(weights))
    falling = np.sort(weights)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # the sum of a weight and all below it
    # The k heaviest are certain, for the smallest k that leaves the next one a probability of at most 1.
    k = int(np.argmax((size - np.arange(size)) * falling[:size] <= rest[:size]))
    return np.minimum(1, (size - k) / rest[k] * weights)


def systematic_sample(probabilities: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Different items, each drawn with exactly its probability: sorted, as many as the probabilities' sum (rounded).

    Equal steps over the probabilities laid end to end, in random order (Madow 1949).
    """
    order = rng.permutation(len(probabilities))
    marks = np.floor(np.cumsum(probabilities[order]) + rng.random())
    return np.sort(order[np.diff(marks, prepend=0) > 0])


def _cut(sizes: NDArray[np.int64], positions: int) -> list[int]:
    """Where the batches start among users sorted by size, about so many positions each, padding included."""
    starts, start = [], 0
    while start < len(sizes):
        starts.append(start)
        width = max(1, int(sizes[min(len(sizes) - 1, start + max(1, positions // max(1, int(sizes[start]))) - 1)]))
        start += max(1, positions // width)
    return starts
