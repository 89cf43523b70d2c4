"""What makes the figures of a prepared log doubtful: sentences for the manifest, the terminal and Python's warnings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.ids import MISSING, decoded
from hardgnn.data.intervals import cut
from hardgnn.data.readers.times import FIRST_YEAR, plausible_span
from hardgnn.storage.columns import blocks, least, most, tally
from hardgnn.wording import option, said

INTERVALS = 5  # as models have by default
UNEVEN = 0.9  # a share of the events in one interval
TIED = 0.1  # a share of the events
DOMINANT, ALONE, FEW = 0.25, 4, 10  # a share of the events, so many times the next id's, of so many ids at least
DAY = 86_400
ORDERLY = "times are only an order, so a split by global time compares what is not simultaneous"


def missing_words(ids: pl.Series, counts: NDArray[np.int64], name: str) -> Iterator[str]:
    """Tells of ids that are words for a missing value; `counts` has the events of each code of the column `ids`."""
    total = counts.sum()
    codes = np.flatnonzero(counts)
    words = decoded(codes, ids)
    missing = words.is_in(MISSING)
    for word, code in zip(words.filter(missing), codes[missing.to_numpy()]):
        yield (
            f"the {name} id '{word}' is a word for a missing value and has {counts[code]:,} of {total:,} events "
            f"({counts[code] / total:.1%}); {option('drop_missing', 'True')} drops them"
        )


def dominance(ids: pl.Series, counts: NDArray[np.int64], name: str) -> Iterator[str]:
    """Tells of an id that has many of the events and far more than the next; `counts` as of `missing_words`."""
    if np.count_nonzero(counts) < FEW:
        return
    second, first = np.argpartition(counts, -2)[-2:]
    total = counts.sum()
    if counts[first] > DOMINANT * total and counts[first] > ALONE * counts[second]:
        word, share = decoded(np.array([first]), ids)[0], counts[first] / total
        if word not in MISSING:
            yield (
                f"the {name} '{word}' has {counts[first]:,} of {total:,} events ({share:.1%}), the next has "
                f"{counts[second]:,}; if it stands for many or for nobody, drop its rows"
            )


def implausible(timestamp: NDArray[np.float64]) -> Iterator[str]:
    """Tells of times (n,) in seconds that a log can hardly have."""
    first, last = plausible_span()
    counts = [(np.count_nonzero(block < first), np.count_nonzero(block >= last)) for (block,) in blocks(timestamp)]
    early, late = (int(count) for count in np.sum(counts, axis=0))
    for where, count, end in (
        (f"before {FIRST_YEAR}", early, least),
        (f"after {day(last - DAY)[:4]}", late, most),
    ):
        if count:
            share = count / len(timestamp)
            yield (
                f"{count:,} of {len(timestamp):,} times ({share:.1%}) lie {where}, as {day(end(timestamp))} does; "
                f"if they are wrong, {option('since')} and {option('until')} drop them"
            )


def uneven(timestamp: NDArray[np.float64]) -> Iterator[str]:
    """Tells where nearly all times (n,) in seconds fall into one of the equal intervals that models cut."""
    span = float(least(timestamp)), float(most(timestamp))
    counts = np.zeros(INTERVALS, dtype=np.int64)
    starts, ends = np.full(INTERVALS, np.inf), np.full(INTERVALS, -np.inf)
    for (block,) in blocks(timestamp):
        places = cut(block, INTERVALS, span=span)
        tally(counts, places)
        np.minimum.at(starts, places, block)
        np.maximum.at(ends, places, block)
    fullest = int(np.argmax(counts))
    if counts[fullest] <= UNEVEN * len(timestamp):
        return
    remedies = []
    if fullest > 0:
        remedies.append(option("since", said(first := day(starts[fullest]), repr(first))))
    if fullest < INTERVALS - 1:
        remedies.append(option("until", said(last := day(ends[fullest] + DAY), repr(last))))
    shares = ", ".join(f"{share:.1%}" for share in counts / len(timestamp))
    yield (
        f"{counts[fullest]:,} of {len(timestamp):,} events fall into one of {INTERVALS} equal intervals of time "
        f"(shares {shares}), for times reach from {day(span[0])} to {day(span[1])}; drop what is far "
        f"from the rest with {said(' ', ', ').join(remedies)}, or train with "
        + said("--set model.interval_cut=count", "model={'interval_cut': 'count'}")
    )


def tied(user: NDArray[np.int32], timestamp: NDArray[np.float64]) -> Iterator[str]:
    """Tells where many events have the time of the one before or after; rows (n,) are sorted by user and time."""
    count = ends = users = 0
    held = np.empty(0, user.dtype), np.empty(0, timestamp.dtype)  # the row before a block, and whether it was tied
    tied_before = np.empty(0, dtype=bool)
    for block in chain(blocks(user, timestamp), [None]):
        owners, times = held if block is None else (np.append(held[0], block[0]), np.append(held[1], block[1]))
        same = (owners[1:] == owners[:-1]) & (times[1:] == times[:-1])
        before = np.append(tied_before, same) if len(tied_before) else np.append(False, same)
        complete = slice(None) if block is None else slice(-1)  # of the last row the next is not known yet
        after = np.append(same, False)
        last = np.append(owners[1:] != owners[:-1], True)
        count += int(np.count_nonzero((before | after)[complete]))
        ends += int(np.count_nonzero((before & last)[complete]))
        users += int(np.count_nonzero(last[complete]))
        held, tied_before = (owners[-1:], times[-1:]), before[-1:]
    if count >= TIED * len(user):
        yield (
            f"{count:,} of {len(user):,} events ({count / len(user):.1%}) have the time of the event before or after "
            f"in their user's order, the last event of {ends:,} of {users:,} users too: among them the order is "
            "the file's, and figures mislead where that was sorted by item"
        )


def few_candidates(candidates: NDArray[np.int32], items: int) -> Iterator[str]:
    """Tells where users have fewer sampled negatives than asked for; `candidates` (V, C) are padded with -1."""
    found = np.count_nonzero(candidates >= 0, axis=1)
    wanted = candidates.shape[1]
    if len(found) and (short := int(np.count_nonzero(found < wanted))):
        yield (
            f"{short:,} of {len(found):,} users have fewer than {wanted} sampled negatives, {found.min()} at least, "
            f"for the log has {items:,} items: figures of the protocol sampled-999 come out too high here; take full"
        )


def day(seconds: float) -> str:
    """A time as its date in UTC."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(seconds))).date().isoformat()
    except OverflowError:
        return f"{seconds:.3g} s since 1970"
