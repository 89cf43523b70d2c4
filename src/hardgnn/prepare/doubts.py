"""What makes the figures of a prepared log doubtful: sentences for the manifest, the terminal and Python's warnings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.ids import MISSING
from hardgnn.data.intervals import cut
from hardgnn.data.readers.times import FIRST_YEAR, plausible_span
from hardgnn.wording import option, said

INTERVALS = 5  # as models have by default
UNEVEN = 0.9  # a share of the events in one interval
TIED = 0.1  # a share of the events
DOMINANT, ALONE, FEW = 0.25, 4, 10  # a share of the events, so many times the next id's, of so many ids at least
DAY = 86_400
ORDERLY = "times are only an order, so a split by global time compares what is not simultaneous"


def missing_words(ids: pl.Series, coded: NDArray[np.uint32], name: str) -> Iterator[str]:
    """Tells of ids (N,) that are words for a missing value; `coded` (n,) are the codes of the events."""
    found = ids.filter(ids.is_in(MISSING)).unique()
    physical, total = found.to_physical().to_numpy(), len(coded)
    counts = np.bincount(coded, minlength=int(physical.max(initial=0)) + 1)
    for word, code in zip(found.cast(pl.String), physical):
        if events := int(counts[code]):
            yield (
                f"the {name} id '{word}' is a word for a missing value and has {events:,} of {total:,} events "
                f"({events / total:.1%}); {option('drop_missing', 'True')} drops them"
            )


def dominance(ids: pl.Series, rows: NDArray[np.int64], coded: NDArray[np.uint32], name: str) -> Iterator[str]:
    """Tells of an id that has many of the events (n,) and far more than the next; `ids` are the log's (N,)."""
    counts = np.bincount(coded)
    if np.count_nonzero(counts) < FEW:
        return
    second, first = np.argpartition(counts, -2)[-2:]
    if counts[first] > DOMINANT * len(coded) and counts[first] > ALONE * counts[second]:
        word, share = ids[int(rows[np.argmax(coded == first)])], counts[first] / len(coded)
        if word not in MISSING:
            yield (
                f"the {name} '{word}' has {counts[first]:,} of {len(coded):,} events ({share:.1%}), the next has "
                f"{counts[second]:,}; if it stands for many or for nobody, drop its rows"
            )


def implausible(timestamp: NDArray[np.float64]) -> Iterator[str]:
    """Tells of times (n,) in seconds that a log can hardly have."""
    first, last = plausible_span()
    for where, odd, end in (
        (f"before {FIRST_YEAR}", timestamp < first, np.min),
        (f"after {day(last - DAY)[:4]}", timestamp >= last, np.max),
    ):
        if count := int(np.count_nonzero(odd)):
            yield (
                f"{count:,} of {len(odd):,} times ({count / len(odd):.1%}) lie {where}, as {day(end(timestamp))} does; "
                f"if they are wrong, {option('since')} and {option('until')} drop them"
            )


def uneven(timestamp: NDArray[np.float64]) -> Iterator[str]:
    """Tells where nearly all times (n,) in seconds fall into one of the equal intervals that models cut."""
    places = cut(timestamp, INTERVALS)
    counts = np.bincount(places, minlength=INTERVALS)
    fullest = int(np.argmax(counts))
    if counts[fullest] <= UNEVEN * len(timestamp):
        return
    inside = timestamp[places == fullest]
    remedies = []
    if fullest > 0:
        remedies.append(option("since", said(day(inside.min()), repr(day(inside.min())))))
    if fullest < INTERVALS - 1:
        remedies.append(option("until", said(last := day(inside.max() + DAY), repr(last))))
    shares = ", ".join(f"{share:.1%}" for share in counts / len(timestamp))
    yield (
        f"{counts[fullest]:,} of {len(timestamp):,} events fall into one of {INTERVALS} equal intervals of time "
        f"(shares {shares}), for times reach from {day(timestamp.min())} to {day(timestamp.max())}; drop what is far "
        f"from the rest with {said(' ', ', ').join(remedies)}, or train with "
        + said("--set model.interval_cut=count", "model={'interval_cut': 'count'}")
    )


def tied(user: NDArray[np.int32], timestamp: NDArray[np.float64]) -> Iterator[str]:
    """Tells where many events have the time of the one before or after; rows (n,) are sorted by user and time."""
    same = (user[1:] == user[:-1]) & (timestamp[1:] == timestamp[:-1])
    either = np.zeros(len(user), dtype=bool)
    either[1:] |= same
    either[:-1] |= same
    last = np.append(np.flatnonzero(user[1:] != user[:-1]), len(user) - 1)  # of each user
    ends = np.count_nonzero(same[last[last > 0] - 1])
    count = int(np.count_nonzero(either))
    if count >= TIED * len(user):
        yield (
            f"{count:,} of {len(user):,} events ({count / len(user):.1%}) have the time of the event before or after "
            f"in their user's order, the last event of {ends:,} of {len(last):,} users too: among them the order is "
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
