"""What one training step sees: windows, positives, negatives, and pairs of edges for the self-augmented loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardgnn.config import SelfAugmentedConfig, TrainConfig
from hardgnn.data.histories import Histories
from hardgnn.data.negatives import UniformNegatives


@dataclass(frozen=True)
class Batch:
    """One step's users.

    Shapes: `users`, `positives` (B,), `windows` (B, m); `rows`, `negatives` (P,): pair p is
    (positives[rows[p]], negatives[p]); `edges`: per interval (users, items), each (m_t,), of which edge j is paired
    with edge j + m_t / 2.
    """

    users: NDArray[np.int64]
    windows: NDArray[np.int64]
    positives: NDArray[np.int64]
    rows: NDArray[np.int64]
    negatives: NDArray[np.int64]
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


class Batches:
    """Draws the batches of an epoch from the training part.

    Args:
        train: each user's training items.
        edges: row offsets (T * U + 1,) and columns (E,) of the stacked interval graph.
        shape: (T, U, I).
        window: longest window M.
        avoided: what is never a user's negative.
    """

    def __init__(
        self,
        train: Histories,
        edges: tuple[NDArray[np.integer], NDArray[np.integer]],
        shape: tuple[int, int, int],
        window: int,
        config: TrainConfig,
        ssl: SelfAugmentedConfig,
        avoided: Histories,
    ) -> None:
        self.train, self.shape, self.window = train, shape, window
        self.config, self.ssl = config, ssl
        self._offsets, self._columns = edges
        self._negatives = UniformNegatives(avoided, shape[2])
        # A user needs a positive with at least one item before it, and an item left to be a negative.
        distinct = np.bincount(avoided.keys(shape[2]) // shape[2], minlength=len(train.lengths))
        self._eligible = np.flatnonzero((train.lengths >= 2) & (distinct < shape[2]))

    def __len__(self) -> int:
        users = min(len(self._eligible), self.config.users_per_epoch)
        return -(-users // self.config.batch_users)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of one epoch, in random order, each user at most once."""
        users = rng.permutation(self._eligible)[: self.config.users_per_epoch]
        for start in range(0, len(users), self.config.batch_users):
            yield self.batch(users[start : start + self.config.batch_users], rng)

    def batch(self, users: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """A batch of the given users.

        The positive is one of the last pred_num + 1 training items, never one of the first three unless the user
        has no more; the window is what came before it (specification, section 2).
        """
        lengths = self.train.lengths[users]
        choices = np.clip(lengths - 3, 1, self.config.pred_num + 1)
        back = rng.integers(1, choices + 1)  # (B,) 1 is the last training item
        positives = self.train.items[self.train.offsets[users + 1] - back].astype(np.int64)
        rows = np.repeat(np.arange(len(users)), np.minimum(self.config.pairs_per_user, lengths))
        return Batch(
            users=users,
            windows=self.train.windows(users, self.window, drop_last=back),
            positives=positives,
            rows=rows,
            negatives=self._negatives.sample(users[rows], rng),
            edges=self._edge_pairs(users, rng) if self.ssl.weight > 0 else [],
        )

    def _edge_pairs(
        self, users: NDArray[np.int64], rng: np.random.Generator
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Random training edges of these users in each interval, an even number per user, then paired."""
        pairs = []
        intervals, n_users, n_items = self.shape
        for interval in range(intervals):
            starts = self._offsets[interval * n_users + users]
            degree = self._offsets[interval * n_users + users + 1] - starts
            count = 2 * np.minimum(self.ssl.pairs, degree // 2)
            place = np.repeat(starts, count) + (rng.random(count.sum()) * np.repeat(degree, count)).astype(np.int64)
            owners, items = np.repeat(users, count), self._columns[place] - interval * n_items
            if self.ssl.pairing == "random":
                order = rng.permutation(len(owners))
                owners, items = owners[order], items[order]
            pairs.append((owners.astype(np.int64), items.astype(np.int64)))
        return pairs
