"""The sampled negatives of the protocol `sampled-999`, drawn once and stored with the data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.dataset import TEST, VALID, Candidates, Dataset
from hardgnn.data.histories import Histories

BLOCK_CELLS = 4_000_000  # numbers drawn at once: bounds the memory, and is fixed so that the draw is too


def draw_candidates(dataset: Dataset, count: int, max_users: int | None, seed: int) -> Candidates:
    """`count` distinct items per user with a target, none of which the user interacted with in any part.

    `max_users` users at most, drawn at random; None takes all. Source: specification, section 5.
    """
    users = np.union1d(dataset.targets(VALID)[0], dataset.targets(TEST)[0])
    rng = np.random.default_rng(seed)
    if max_users is not None and len(users) > max_users:
        users = np.sort(rng.choice(users, max_users, replace=False))
    items = np.empty((len(users), count), dtype=np.int32)
    size = max(1, BLOCK_CELLS // (2 * count))
    for start in range(0, len(users), size):
        block = users[start : start + size]
        items[start : start + size] = sample_unseen(dataset.everything.take(block), dataset.n_items, count, rng)
    return Candidates(users.astype(np.int32), items)


def sample_unseen(histories: Histories, n_items: int, count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """For each of B histories, `count` distinct items outside it, uniformly at random: (B, count).

    Where a history leaves fewer, all of them, and -1 for the rest.
    """
    n_rows = len(histories.offsets) - 1
    keys = histories.keys(n_items)
    rows, seen = keys // n_items, keys % n_items
    starts = np.searchsorted(rows, np.arange(n_rows))
    free = n_items - np.bincount(rows, minlength=n_rows)
    ranks = distinct_ranks(free, count, rng)
    # the i-th smallest seen item has (seen - i) unseen ones below it, so the unseen item of rank r lies above
    # every seen item for which that number is at most r
    below = rows * (n_items + 1) + seen - (np.arange(len(keys)) - starts[rows])
    wanted = np.arange(n_rows)[:, None] * (n_items + 1) + ranks
    jumped = np.searchsorted(below, wanted, side="right") - starts[:, None]
    return np.where(ranks < 0, -1, ranks + jumped).astype(np.int32)


def distinct_ranks(sizes: NDArray[np.integer], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """For each size n, `count` distinct numbers out of 0..n-1 in random order, -1 where there are no more."""
    ranks = np.full((len(sizes), count), -1, dtype=np.int64)
    width = 2 * count
    small = np.flatnonzero(sizes < width)
    shuffle = rng.random((len(small), width))
    shuffle[np.arange(width) >= sizes[small, None]] = 2.0  # numbers that do not exist come last
    drawn = np.argsort(shuffle, axis=1)[:, :count]
    ranks[small] = np.where(drawn < sizes[small, None], drawn, -1)

    pending = np.flatnonzero(sizes >= width)
    while len(pending):  # twice as many draws as needed nearly always hold enough different ones
        draws = rng.integers(sizes[pending, None], size=(len(pending), width))
        new = first_of_row(draws)
        place = np.cumsum(new, axis=1)
        full = place[:, -1] >= count
        ranks[pending[full]] = draws[full][(new & (place <= count))[full]].reshape(-1, count)
        pending = pending[~full]
    return ranks


def first_of_row(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Marks, row by row, the first occurrence of each value: (B, n)."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    changes = np.ones(values.shape, dtype=bool)
    changes[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty(values.shape, dtype=bool)
    np.put_along_axis(first, order, changes, axis=1)
    return first
