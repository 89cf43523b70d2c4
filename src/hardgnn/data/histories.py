"""Ragged item sequences, one per user, and the windows cut from their ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardgnn.storage.columns import BLOCK, counted, release

PADDING = -1


class Everybody(Protocol):
    """The histories of everybody, in memory (`Histories`) or in a file that is read block by block."""

    @property
    def timed(self) -> bool:
        """Whether it is known when each event was."""

    def blocks(self) -> Iterator[Histories]:
        """All of them, some users after the other; asked for anew, they come again in the same order."""


@dataclass(frozen=True)
class Histories:
    """One item sequence per user, oldest first.

    Shapes: `offsets` (U + 1,) int64, `items` (N,) int32, N the sum of lengths; the items of user u are
    `items[offsets[u]:offsets[u + 1]]`. Where they are known, `times` (N,) tells when each was, and `asked` (U,) when
    each user is asked for the next one, both in seconds since 1970; who is asked at no time named is asked after all
    that is known.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.float64] | None = None
    asked: NDArray[np.float64] | None = None

    @property
    def timed(self) -> bool:
        """Whether it is known when each event was."""
        return self.times is not None

    def blocks(self) -> Iterator[Histories]:
        """All of them, some users after the other, as views."""
        for first, end in self.stretches():
            rows = slice(self.offsets[first], self.offsets[end])
            items, times = self.items[rows], None if self.times is None else self.times[rows]
            asked = None if self.asked is None else self.asked[first:end]
            yield Histories(self.offsets[first : end + 1] - self.offsets[first], items, times, asked)
            for column in (items, times):
                if column is not None:
                    release(column)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Items per user, (U,)."""
        return np.diff(self.offsets)

    def of(self, user: int) -> NDArray[np.int32]:
        """The items of one user."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def take(self, users: NDArray[np.integer]) -> Histories:
        """The histories of `users` (B,), in that order."""
        asked = None if self.asked is None else self.asked[users]
        return replace(self.between(self.offsets[users], self.offsets[users + 1]), asked=asked)

    def between(self, starts: NDArray[np.integer], ends: NDArray[np.integer]) -> Histories:
        """Those of which each is a stretch of `items`, from `starts` (B,) up to `ends` (B,)."""
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Histories(offsets, self.items[positions], None if self.times is None else self.times[positions])

    def extended(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> Histories:
        """These histories with `items` (E,) appended, oldest first, to those of `users` (E,); times are not known."""
        owners = np.concatenate([np.repeat(np.arange(len(self.lengths)), self.lengths), users])
        counts = self.lengths + np.bincount(users, minlength=len(self.lengths))
        order = np.argsort(owners, kind="stable")
        joined = np.concatenate([self.items, items]).astype(np.int32)
        return Histories(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), joined[order], None, self.asked)

    def windows(
        self, users: NDArray[np.integer], length: int, drop_last: NDArray[np.integer] | int = 0
    ) -> NDArray[np.int64]:
        """The last `length` items of each user, aligned to the right and padded with `PADDING` on the left.

        `drop_last` items at the end are left out first. The width is that of the longest window present,
        at least 1 and at most `length`: (B, M) int64.
        """
        rows = self.places(users, length, drop_last)
        if len(self.items) == 0:
            return rows
        return np.where(rows != PADDING, self.items[np.maximum(rows, 0)], PADDING).astype(np.int64)

    def places(
        self, users: NDArray[np.integer], length: int, drop_last: NDArray[np.integer] | int = 0
    ) -> NDArray[np.int64]:
        """Where the items of `windows` stand in `items`, (B, M) int64."""
        ends = self.offsets[users + 1] - drop_last
        sizes = np.clip(ends - self.offsets[users], 0, length)
        width = max(1, int(sizes.max(initial=0)))
        back = np.arange(width, 0, -1)  # (M,) steps before the end
        return np.where(back <= sizes[:, None], ends[:, None] - back, PADDING)

    def item_counts(self, n_items: int) -> NDArray[np.int64]:
        """How often each item occurs, repeats too: (I,)."""
        return counted(self.items, n_items)

    def keys(self, n_items: int) -> NDArray[np.int64]:
        """Every (user, item) pair as one sorted int64 key, `user * n_items + item`, without repeats."""
        owners = np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), self.lengths)
        return np.unique(owners * n_items + self.items)

    def different(self) -> NDArray[np.int64]:
        """How many different items each user has, (U,)."""
        found = np.empty(len(self.offsets) - 1, dtype=np.int64)
        for first, end in self.stretches():
            part = self.between(self.offsets[first:end], self.offsets[first + 1 : end + 1])
            n_items = int(part.items.max(initial=0)) + 1
            found[first:end] = np.bincount(part.keys(n_items) // n_items, minlength=end - first)
        return found

    def stretches(self, rows: int | None = None) -> Iterator[tuple[int, int]]:
        """Bounds of stretches of users with `BLOCK` items in each, or of one user with more."""
        first, users = 0, len(self.offsets) - 1
        while first < users:
            end = int(np.searchsorted(self.offsets, self.offsets[first] + (rows or BLOCK), side="right")) - 1
            end = max(first + 1, end)
            yield first, end
            first = end

    @staticmethod
    def from_lists(lists: list[list[int]] | list[NDArray[np.int32]]) -> Histories:
        """Histories from one list of item indices per user."""
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
        items = np.concatenate([np.asarray(one, dtype=np.int32) for one in lists] or [np.empty(0, np.int32)])
        return Histories(offsets, items.astype(np.int32))
