"""Which rows of a log are kept (specification, section 1): each filter, and what it left."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.ids import MISSING
from hardgnn.data.log import InteractionLog
from hardgnn.data.provenance import Step
from hardgnn.errors import HardGNNError
from hardgnn.prepare import doubts
from hardgnn.prepare.settings import PrepareConfig


class Kept:
    """The rows still kept, in time order, with a record of what each step left.

    Shapes: `rows` (n,) int64 places in the log, `user` and `item` (n,) uint32 codes.
    """

    def __init__(self, log: InteractionLog) -> None:
        table = log.table
        # ties in time keep the order of the file
        self.rows: NDArray[np.int64] = np.argsort(table[TIMESTAMP].to_numpy(), kind="stable")
        self.user, self.item = (codes(table[column])[self.rows] for column in (USER, ITEM))
        self.steps: list[Step] = []
        self.record("read")

    def keep(self, step: str, mask: NDArray[np.bool_], remedy: str = "") -> None:
        """Drops the rows outside `mask` (n,); `remedy` says what to do if none is left.

        Raises:
            HardGNNError: nothing is left; says what each step left.
        """
        if not mask.all():
            self.rows, self.user, self.item = self.rows[mask], self.user[mask], self.item[mask]
        self.record(step, remedy)

    def record(self, step: str, remedy: str = "") -> None:
        """Notes what `step` left."""
        users, items = (int(np.count_nonzero(np.bincount(coded))) for coded in (self.user, self.item))
        self.steps.append(Step(step, len(self.rows), users, items))
        if not len(self.rows):
            told = "; ".join(
                f"{one.step} left {one.interactions} interactions of {one.users} users and {one.items} items"
                for one in self.steps
            )
            raise HardGNNError(f"the log is empty after {step}: {told}{remedy}")

    def distinct(self, which: Literal["first", "last"]) -> NDArray[np.bool_]:
        """Marks the first or last row of each (user, item) pair, (n,)."""
        pairs = pl.Series(self.user.astype(np.int64) * (int(self.item.max()) + 1) + self.item)
        return (pairs.is_first_distinct() if which == "first" else pairs.is_last_distinct()).to_numpy()


def keep_rows(log: InteractionLog, config: PrepareConfig) -> tuple[Kept, list[str]]:
    """The rows that the filters leave, and what makes their ids doubtful.

    Raises:
        HardGNNError: nothing is left after a step, or `min_rating` without ratings.
    """
    kept = Kept(log)
    if config.drop_missing:
        words = pl.any_horizontal(pl.col(USER, ITEM).is_in(MISSING))
        kept.keep("drop_missing", ~log.table.select(words.alias("missing"))["missing"].to_numpy()[kept.rows])
    if config.since is not None or config.until is not None:
        kept.keep("since, until", in_time(log.table[TIMESTAMP].to_numpy()[kept.rows], config))
    if config.min_rating is not None:
        kept.keep("min_rating", rated(log, config.min_rating)[kept.rows])
    told = id_doubts(log, kept)
    if config.repeats != "all":
        kept.keep("repeats", kept.distinct(config.repeats))
    if config.thresholds == "selfgnn":
        apply_passes(kept, config.passes, config.item_passes)
    elif config.k_core > 1:
        mask = k_core(kept.user, kept.item, config.k_core)
        kept.keep("k_core", mask, "" if mask.any() else lower_core(kept, config.k_core))
    return kept, told


def in_time(time: NDArray[np.float64], config: PrepareConfig) -> NDArray[np.bool_]:
    """Marks the times (n,), in seconds since 1970, from `since` on and before `until`."""
    first = -np.inf if config.since is None else config.since.timestamp()
    end = np.inf if config.until is None else config.until.timestamp()
    return (time >= first) & (time < end)


def rated(log: InteractionLog, least: float) -> NDArray[np.bool_]:
    """Marks the rows of a log (N,) with a rating of at least so much.

    Raises:
        HardGNNError: it has no ratings, or some that are no numbers.
    """
    if RATING not in log.table.columns:
        raise HardGNNError(f"min_rating={least:g} needs ratings, but {log.name} has no rating column")
    if log.reading.bad_rating is not None:
        raise HardGNNError(f"min_rating={least:g} needs ratings that are numbers: {log.reading.bad_rating}")
    return log.table[RATING].ge(least).fill_null(False).to_numpy()


def id_doubts(log: InteractionLog, kept: Kept) -> list[str]:
    """What makes the ids of the rows still kept doubtful."""
    told: list[str] = []
    for name, coded in ((USER, kept.user), (ITEM, kept.item)):
        ids = log.table[name]
        told += [*doubts.missing_words(ids, coded, name), *doubts.dominance(ids, kept.rows, coded, name)]
    return told


def lower_core(kept: Kept, k: int) -> str:
    """Says which lower k leaves something, where `k` leaves nothing."""
    low, high = 1, k  # every log has a core of 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if k_core(kept.user, kept.item, middle).any() else (low, middle)
    mask = k_core(kept.user, kept.item, low)
    users, items = (len(np.unique(coded[mask])) for coded in (kept.user, kept.item))
    kept_then = f"{mask.sum():,} interactions of {users:,} users and {items:,} items"
    return f"; the highest k_core that leaves any is {low}, with {kept_then}"


def k_core(user: NDArray[np.integer], item: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Marks the largest set of rows in which every user and every item has `k` rows at least: (N,).

    `user` and `item` (N,) are small whole numbers.
    """
    rows = np.arange(len(user))
    while True:
        users, items = user[rows], item[rows]
        stays = (np.bincount(users) >= k)[users] & (np.bincount(items) >= k)[items]
        if stays.all():
            mask = np.zeros(len(user), dtype=bool)
            mask[rows] = True
            return mask
        rows = rows[stays]


def apply_passes(kept: Kept, passes: tuple[int, ...], item_passes: int) -> None:
    """SelfGNN's thresholds: each pass counts once, users by different items and items by different users.

    Source: specification, section 1; that only the first pass drops items is read in the released preprocessing.
    """
    for number_of_pass, fewest in enumerate(passes):
        once = kept.distinct("first")
        stays = (np.bincount(kept.user[once]) >= fewest)[kept.user]
        if number_of_pass < item_passes:
            stays &= (np.bincount(kept.item[once]) >= fewest)[kept.item]
        kept.keep(f"pass {number_of_pass + 1}: at least {fewest}", stays)


def codes(ids: pl.Series) -> NDArray[np.uint32]:
    """A number for each raw id (N,): equal for equal ids, otherwise arbitrary."""
    return ids.cast(pl.Categorical).to_physical().cast(pl.UInt32).to_numpy()


def number(coded: NDArray[np.uint32], rows: NDArray[np.int64], ids: pl.Series) -> tuple[NDArray[np.int32], pl.Series]:
    """Dense indices (n,) in order of first appearance in the file, and the raw ids by index."""
    absent = len(ids)
    first = np.full(int(coded.max()) + 1, absent, dtype=np.int64)
    np.minimum.at(first, coded, rows)
    used = np.flatnonzero(first < absent)
    used = used[np.argsort(first[used])]
    index = np.empty(len(first), dtype=np.int32)
    index[used] = np.arange(len(used), dtype=np.int32)
    # through a list, so that the few ids do not hold on to the text of the whole log
    return index[coded], pl.Series("raw_id", ids.gather(first[used]).to_list(), dtype=pl.String)
