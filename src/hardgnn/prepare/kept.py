"""The rows of a log that are kept, in parts: filtered, numbered and put in order wherever their columns are.

Rows are gone through by blocks, and sorted by parts that each have some of the users with all of their rows. So memory
is bounded by the number of users and items and the size of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.ids import decoded
from hardgnn.data.log import InteractionLog
from hardgnn.data.provenance import Step
from hardgnn.data.readers.values import slices
from hardgnn.errors import HardGNNError, shown
from hardgnn.storage.columns import BLOCK, Column, blocks, most, release, shelf_of, tally

Steps = list[tuple[str, Callable[[pl.DataFrame], NDArray[np.bool_]]]]
EVENT = np.dtype([("row", "<i8"), ("time", "<f8"), ("user", "<u4"), ("item", "<u4")])
PLACED = np.dtype([("time", "<f8"), ("user", "<i4"), ("item", "<i4")])
PART_ROWS = 4_000_000  # rows that are sorted at once, about; they take 100 bytes each
MOST_PARTS = 200  # each is a file
SKEWED = 3  # so many times the rows of a part make one that is too large


class Kept:
    """The rows still kept, with a record of what each step left.

    `parts` are arrays (n,) of `EVENT`: the place in the log, the time, and codes of user and item. A user's rows are
    all in one part, which is in time order; ties keep the order of the log. `counts` tell how often each user's and
    item's code occurred after the steps that look at one row alone.
    """

    def __init__(self, log: InteractionLog, steps: Steps, part_rows: int = PART_ROWS) -> None:
        self.ids = {name: log.table[name] for name in (USER, ITEM)}
        coded = {name: codes(log.table[name]) for name in (USER, ITEM)}
        self.sizes = {name: int(most(one)) + 1 for name, one in coded.items()}
        self.shelf = shelf_of(coded[USER])
        self.counts = {name: np.zeros(size, dtype=np.int64) for name, size in self.sizes.items()}
        self.steps: list[Step] = []
        self.part_rows = max(part_rows, -(-log.table.height // MOST_PARTS))
        self._read(log, [("read", lambda rows: np.ones(rows.height, dtype=bool)), *steps])

    def _read(self, log: InteractionLog, steps: Steps) -> None:
        parts = [self.shelf.column(EVENT) for _ in range(-(-log.table.height // self.part_rows))]
        left = np.zeros(len(steps), dtype=np.int64)
        seen = [{name: np.zeros(size, dtype=bool) for name, size in self.sizes.items()} for _ in steps]
        before = 0
        for frame in slices(log.table):
            events = np.empty(frame.height, EVENT)
            events["row"] = np.arange(before, before + frame.height)
            events["time"] = frame[TIMESTAMP].to_numpy()
            events["user"], events["item"] = codes(frame[USER]), codes(frame[ITEM])
            before += frame.height
            stays = np.ones(frame.height, dtype=bool)
            for number, (_, step) in enumerate(steps):
                stays &= step(frame)
                left[number] += np.count_nonzero(stays)
                for name in (USER, ITEM):
                    seen[number][name][events[name][stays]] = True
            events = events[stays]
            for name in (USER, ITEM):
                tally(self.counts[name], events[name])
            scatter(events, events["user"] % np.uint32(len(parts)), parts)
        for number, (name, _) in enumerate(steps):
            self._record(name, int(left[number]), seen[number][USER], seen[number][ITEM])
        self.parts = [self._in_time(one.done()) for one in parts]

    def _in_time(self, events: NDArray[Any]) -> NDArray[Any]:
        """A part in time order; ties keep the order of the log.

        Raises:
            HardGNNError: it is far larger than the others, for it has a user with that many rows.
        """
        if self.shelf.folder is not None and len(events) > SKEWED * self.part_rows:
            counts = self.counts[USER]
            first = int(np.argmax(counts))
            raise HardGNNError(
                f"the user '{shown(decoded(np.array([first]), self.ids[USER])[0])}' has {counts[first]:,} of "
                f"{counts.sum():,} events, which are too many to be sorted at once: drop its rows, or give more memory"
            )
        return self._put(events[np.argsort(events["time"], kind="stable")], events)

    def _put(self, events: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
        release(old)
        kept = self.shelf.put(events)
        release(kept)
        return kept

    def keep(self, step: str, mask: Callable[[NDArray[Any]], NDArray[np.bool_]], remedy: str = "") -> None:
        """Drops the rows outside the `mask` (n,) of each part; `remedy` says what to do if none is left.

        Raises:
            HardGNNError: nothing is left; says what each step left.
        """
        seen = {name: np.zeros(size, dtype=bool) for name, size in self.sizes.items()}
        for place, events in enumerate(self.parts):
            stays = mask(events)
            if not stays.all():
                self.parts[place] = self._put(events[stays], events)
            for (block,) in blocks(self.parts[place]):
                for name in (USER, ITEM):
                    seen[name][block[name]] = True
        self._record(step, self.rows, seen[USER], seen[ITEM], remedy)

    def _record(
        self, step: str, rows: int, users: NDArray[np.bool_], items: NDArray[np.bool_], remedy: str = ""
    ) -> None:
        """Notes what `step` left."""
        self.steps.append(Step(step, rows, int(np.count_nonzero(users)), int(np.count_nonzero(items))))
        if not rows:
            told = "; ".join(
                f"{one.step} left {one.interactions} interactions of {one.users} users and {one.items} items"
                for one in self.steps
            )
            raise HardGNNError(f"the log is empty after {step}: {told}{remedy}")

    @property
    def rows(self) -> int:
        """How many are kept."""
        return sum(map(len, self.parts))

    def pairs(self) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
        """The codes of user and item of each part."""
        return ((events["user"], events["item"]) for events in self.parts)

    def numbered(self, name: str) -> tuple[NDArray[np.int32], pl.Series]:
        """An index for each code, in order of first appearance in the log, and the raw ids by index."""
        absent = np.iinfo(np.int64).max
        first = np.full(self.sizes[name], absent, dtype=np.int64)
        for events in self.parts:
            for (block,) in blocks(events):
                np.minimum.at(first, block[name], block["row"])
        used = np.flatnonzero(first < absent)
        used = used[np.argsort(first[used])]
        index = np.full(len(first), -1, dtype=np.int32)
        index[used] = np.arange(len(used), dtype=np.int32)
        # through lists, so that the few ids do not hold on to the text of the whole log
        texts = [
            pl.Series("raw_id", decoded(used[start : start + BLOCK], self.ids[name]).to_list(), dtype=pl.String)
            for start in range(0, len(used), BLOCK)
        ]
        return index, pl.concat(texts)

    def ordered(
        self, user_index: NDArray[np.int32], item_index: NDArray[np.int32], n_users: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """User, item and time of the rows (N,), by user and, within one, in time order; the parts are used up."""
        lengths = np.zeros(n_users, dtype=np.int64)
        for user, _ in self.pairs():
            for (block,) in blocks(user):
                tally(lengths, user_index[block])
        ends = np.cumsum(lengths)
        of_user = np.minimum((ends - lengths) // self.part_rows, MOST_PARTS - 1).astype(np.uint8)  # whose columns
        columns = [self.shelf.column(PLACED) for _ in range(int(of_user[-1]) + 1)]
        while self.parts:
            for (block,) in blocks(self.parts.pop(0)):
                placed = np.empty(len(block), PLACED)
                placed["time"] = block["time"]
                placed["user"], placed["item"] = user_index[block["user"]], item_index[block["item"]]
                scatter(placed, of_user[placed["user"]], columns)
        found = self.shelf.column(np.int32), self.shelf.column(np.int32), self.shelf.column(np.float64)
        while columns:
            placed = columns.pop(0).done()
            order = np.argsort(placed["user"], kind="stable")
            for name, column in zip(("user", "item", "time"), found):
                column.add(placed[name][order])
            release(placed)
        return found[0].done(), found[1].done(), found[2].done()


def scatter(rows: NDArray[Any], to: NDArray[np.integer], columns: list[Column]) -> None:
    """Appends each row (n,) to one of the columns, and keeps their order in each."""
    if len(columns) == 1:
        columns[0].add(rows)
        return
    rows = rows[np.argsort(to.astype(np.uint8), kind="stable")]
    ends = np.cumsum(np.bincount(to, minlength=len(columns)))
    for column, start, end in zip(columns, np.append(0, ends), ends):
        if start < end:
            column.add(rows[start:end])


def codes(ids: pl.Series) -> NDArray[np.uint32]:
    """A number for each raw id (N,): equal for equal ids, otherwise arbitrary."""
    return ids.cast(pl.Categorical).to_physical().cast(pl.UInt32).to_numpy()
