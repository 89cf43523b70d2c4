"""Which rows of a log are kept (specification, section 1): each filter, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.ids import MISSING
from hardgnn.data.log import InteractionLog
from hardgnn.errors import HardGNNError
from hardgnn.prepare import doubts
from hardgnn.prepare.kept import PART_ROWS, Kept, Steps
from hardgnn.prepare.settings import PrepareConfig
from hardgnn.storage.columns import Shelf, blocks, tally

Pair = tuple[NDArray[np.integer], NDArray[np.integer]]
IN_MEMORY = Shelf()
WORN = 0.75  # a share of rows below which the rest is copied


def distinct(events: NDArray[Any], which: Literal["first", "last"]) -> NDArray[np.bool_]:
    """Marks the first or last row of each (user, item) pair, (n,)."""
    pairs = pl.Series(events["user"].astype(np.int64) << 32 | events["item"])
    return (pairs.is_first_distinct() if which == "first" else pairs.is_last_distinct()).to_numpy()


def keep_rows(log: InteractionLog, config: PrepareConfig, part_rows: int = PART_ROWS) -> tuple[Kept, list[str]]:
    """The rows that the filters leave, and what makes their ids doubtful.

    Raises:
        HardGNNError: nothing is left after a step, or `min_rating` without ratings.
    """
    steps: Steps = []
    if config.drop_missing:
        words = pl.any_horizontal(pl.col(USER, ITEM).is_in(MISSING)).alias("missing")
        steps.append(("drop_missing", lambda rows: ~rows.select(words)["missing"].to_numpy()))
    if config.since is not None or config.until is not None:
        steps.append(("since, until", lambda rows: in_time(rows[TIMESTAMP].to_numpy(), config)))
    if (least := config.min_rating) is not None:
        check_ratings(log, least)
        steps.append(("min_rating", lambda rows: rated(rows[RATING], least)))
    kept = Kept(log, steps, part_rows)
    told = id_doubts(kept)
    if (which := config.repeats) != "all":
        kept.keep("repeats", lambda events: distinct(events, which))
    if config.thresholds == "selfgnn":
        apply_passes(kept, config.passes, config.item_passes)
    elif (k := config.k_core) > 1:
        enough = core(kept.pairs(), k, list(kept.sizes.values()), kept.shelf)
        kept.keep("k_core", partial(both, enough), "" if enough[0].any() else lower_core(kept, k))
    return kept, told


def in_time(time: NDArray[np.float64], config: PrepareConfig) -> NDArray[np.bool_]:
    """Marks the times (n,), in seconds since 1970, from `since` on and before `until`."""
    first = -np.inf if config.since is None else config.since.timestamp()
    end = np.inf if config.until is None else config.until.timestamp()
    return (time >= first) & (time < end)


def check_ratings(log: InteractionLog, least: float) -> None:
    """Checks that a log has ratings.

    Raises:
        HardGNNError: it has none, or some that are no numbers.
    """
    if RATING not in log.table.columns:
        raise HardGNNError(f"min_rating={least:g} needs ratings, but {log.name} has no rating column")
    if log.reading.bad_rating is not None:
        raise HardGNNError(f"min_rating={least:g} needs ratings that are numbers: {log.reading.bad_rating}")


def rated(ratings: pl.Series, least: float) -> NDArray[np.bool_]:
    """Marks the ratings (n,) of at least so much; NaN is none."""
    return (ratings.is_finite() & ratings.ge(least)).fill_null(False).to_numpy()


def id_doubts(kept: Kept) -> list[str]:
    """What makes the ids of the rows still kept doubtful."""
    told: list[str] = []
    for name, ids in kept.ids.items():
        told += [*doubts.missing_words(ids, kept.counts[name], name), *doubts.dominance(ids, kept.counts[name], name)]
    return told


def lower_core(kept: Kept, k: int) -> str:
    """Says which lower k leaves something, where `k` leaves nothing."""
    sizes = list(kept.sizes.values())
    low, high = 1, k  # every log has a core of 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if core(kept.pairs(), middle, sizes)[0].any() else (low, middle)
    users, items = core(kept.pairs(), low, sizes)
    rows = sum(int((users[user] & items[item]).sum()) for user, item in kept.pairs())
    kept_then = f"{rows:,} interactions of {users.sum():,} users and {items.sum():,} items"
    return f"; the highest k_core that leaves any is {low}, with {kept_then}"


def core(
    pairs: Iterable[Pair], k: int, sizes: Sequence[int], shelf: Shelf = IN_MEMORY
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Marks the users and the items of the largest set of rows in which each of them has `k` rows at least.

    Args:
        pairs: codes of the user and the item of each row, in parts.
        k: the fewest rows, 1 at least.
        sizes: how many codes of users and of items there are.
        shelf: where copies of what is left of the rows go.
    """
    parts, worn = list(pairs), False
    stay = tuple(np.ones(size, dtype=bool) for size in sizes)
    while True:
        counts = tuple(np.zeros(size, dtype=np.int64) for size in sizes)
        for place, part in enumerate(parts):
            left = tuple(shelf.column(np.uint32) for _ in part)
            for user, item in blocks(*part):
                rows = stay[0][user] & stay[1][item]
                for coded, count, copy in zip((user, item), counts, left):
                    tally(count, kept := coded[rows])
                    if worn:
                        copy.add(kept)
            if worn:
                parts[place] = left[0].done(), left[1].done()
        before, stay = counts[0].sum(), tuple(count >= k for count in counts)
        if all((one == (count > 0)).all() for one, count in zip(stay, counts)):
            return stay[0], stay[1]
        worn = min(count[one].sum() for one, count in zip(stay, counts)) < WORN * before


def k_core(user: NDArray[np.integer], item: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Marks the largest set of rows in which every user and every item has `k` rows at least: (N,).

    `user` and `item` (N,) are small whole numbers.
    """
    users, items = core([(user, item)], k, [int(one.max(initial=-1)) + 1 for one in (user, item)])
    return users[user] & items[item]


def apply_passes(kept: Kept, passes: tuple[int, ...], item_passes: int) -> None:
    """SelfGNN's thresholds: each pass counts once, users by different items and items by different users.

    Source: specification, section 1; that only the first pass drops items is read in the released preprocessing.
    """
    for number_of_pass, fewest in enumerate(passes):
        users, items = (np.zeros(size, dtype=np.int64) for size in kept.sizes.values())
        for events in kept.parts:
            once = events[distinct(events, "first")]
            tally(users, once["user"])
            tally(items, once["item"])
        enough = users >= fewest, (items >= fewest) | (number_of_pass >= item_passes)
        kept.keep(f"pass {number_of_pass + 1}: at least {fewest}", partial(both, enough))


def both(enough: tuple[NDArray[np.bool_], NDArray[np.bool_]], events: NDArray[Any]) -> NDArray[np.bool_]:
    """Marks the events (n,) whose user and whose item have enough."""
    return enough[0][events["user"]] & enough[1][events["item"]]
