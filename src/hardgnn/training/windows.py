"""What one step for the next item sees: windows, the item after each position, candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.histories import PADDING, Histories
from hardgnn.models.similarity import LONGEST


@dataclass(frozen=True)
class SequenceBatch:
    """One step's users.

    Shapes: `users` (B,); `windows` (B, m), `PADDING` on the left; `targets` (B, m): targets[b, p] came after
    windows[b, p]; `candidates` (C,), sorted; `inclusion` (C,), the probability with which each was among them. `asked`
    (B, m) are the seconds since 1970 at which targets[b, p] is asked for, where that matters. `share` is that of a
    part (`cut`) in the positions of the step.
    """

    users: NDArray[np.int64]
    windows: NDArray[np.int64]
    targets: NDArray[np.int64]
    candidates: NDArray[np.int64]
    inclusion: NDArray[np.float32]
    asked: NDArray[np.float64] | None = None
    share: float = 1.0

    def cut(self, rows: slice) -> SequenceBatch:
        """The part of these users, which has the candidates of all."""
        positions = np.count_nonzero(self.windows[rows] != PADDING)
        return replace(
            self,
            users=self.users[rows],
            windows=self.windows[rows],
            targets=self.targets[rows],
            asked=None if self.asked is None else self.asked[rows],
            share=positions / np.count_nonzero(self.windows != PADDING),
        )


class Windows:
    """Draws the batches of an epoch from the training part: each user once, those of like length together.

    Args:
        train: each user's training items.
        users: who can be learnt from.
        window: longest window M.
        positions: per batch, about.
        recent: share of windows of long histories that end with the last training item.
        sampler: draws the candidates of a batch (`hardgnn.training.samplers`).
        waits: whether the next item is asked for at a random moment until it comes, as in a split by time, where all
            are asked at once; otherwise right after the item before. None is where the moment does not matter.
    """

    def __init__(
        self,
        train: Histories,
        users: NDArray[np.int64],
        window: int,
        positions: int,
        recent: float,
        sampler: Any,
        waits: bool | None = None,
    ) -> None:
        self.train, self.window, self.recent, self.sampler, self.waits = train, window, recent, sampler, waits
        size = np.minimum(train.lengths[users] - 1, window)
        order = np.argsort(size, kind="stable")
        self._users = users[order]
        self._starts = _cut(size[order], positions)

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
        lengths = self.train.offsets[users + 1] - self.train.offsets[users]
        spare = np.maximum(np.minimum(lengths, LONGEST) - self.window - 1, 0)
        anywhere = rng.random(len(users)) >= self.recent
        back = np.where(anywhere, rng.integers(0, spare + 1), 0)
        whole = self.train.windows(users, self.window + 1, drop_last=back)
        batch = SequenceBatch(users, whole[:, :-1], whole[:, 1:], *self.sampler.draw(rng))
        if self.waits is None or self.train.times is None:
            return batch
        times = self.train.times[self.train.places(users, self.window + 1, drop_last=back)]  # any where padded
        before, after = times[:, :-1], times[:, 1:]
        share = rng.random(before.shape) if self.waits else 0.0
        return replace(batch, asked=before + share * np.maximum(after - before, 0))


def _cut(sizes: NDArray[np.int64], positions: int) -> list[int]:
    """Where the batches start among users sorted by size, about so many positions each, padding included."""
    starts, start = [], 0
    while start < len(sizes):
        starts.append(start)
        width = max(1, int(sizes[min(len(sizes) - 1, start + max(1, positions // max(1, int(sizes[start]))) - 1)]))
        start += max(1, positions // width)
    return starts
