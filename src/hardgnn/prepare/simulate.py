"""A seeded synthetic market of any size whose right answer is known: every item has one successor."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.errors import HardGNNError
from hardgnn.storage.files import atomic_path

CLUSTER = 25  # items that follow one another in a ring
START_S = 1_577_836_800  # 2020-01-01 UTC
SPAN_S = 3 * 365 * 86_400
DRIFTS = 12  # how often the ranks of popularity move on by one cluster over the span
SUFFIXES = (".inter", ".csv", ".tsv", ".parquet")


def successor(items: int, seed: int = 0) -> NDArray[np.int64]:
    """The known answer: item `i<successor[k]>` follows item `i<k>`, (I,)."""
    order, starts, sizes = _rings(items, seed)
    place = np.arange(items)
    ring = np.searchsorted(starts, place, side="right") - 1
    following = np.empty(items, dtype=np.int64)
    following[order] = order[starts[ring] + (place - starts[ring] + 1) % sizes[ring]]
    return following


def simulate(
    users: int, items: int, events: int, seed: int = 0, noise: float = 0.2
) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """A log of exactly `events` rows, and the successor of each item (I,).

    A user's next item is the successor of the last one, or with probability `noise` a random one: a cluster by
    Zipf's law, whose ranks drift with time, and any item in it. Users' activity is log-normal; each has
    one event at least. Times are whole seconds over three years from 2020, in order.
    Columns: user (`u0`...), item (`i0`...), timestamp (Float64).

    Raises:
        HardGNNError: a number is too small, or `noise` is not a probability.
    """
    if users < 1 or items < 2 or events < users:
        raise HardGNNError(
            f"a market needs 1 user, 2 items and an event per user at least, got {users}, {items} and {events}"
        )
    if not 0 <= noise <= 1:
        raise HardGNNError(f"noise must lie between 0 and 1, got {noise}")
    order, starts, sizes = _rings(items, seed)
    rng = np.random.default_rng([seed, 1])

    least = min(5, events // users)
    weights = rng.lognormal(0.0, 1.0, users)
    counts = least + rng.multinomial(events - least * users, weights / weights.sum())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    user = np.repeat(np.arange(users, dtype=np.int32), counts)  # (E,)
    time = _times(offsets, counts, rng)

    jumps = rng.random(events) < noise
    jumps[offsets[:-1]] = True  # a user's first item has no predecessor
    jumped = np.flatnonzero(jumps)
    share = 1 / np.arange(1, len(starts) + 1)
    rank = rng.choice(len(starts), size=len(jumped), p=share / share.sum())
    ring = (rank + ((time[jumped] - START_S) * DRIFTS // SPAN_S)) % len(starts)
    inside = rng.integers(sizes[ring])
    since = np.arange(events) - np.repeat(jumped, np.diff(jumped, append=events))  # steps after the last jump
    last = np.cumsum(jumps) - 1
    item = order[starts[ring[last]] + (inside[last] + since) % sizes[ring[last]]]

    by_time = np.argsort(time, kind="stable")
    log = pl.DataFrame({USER: user[by_time], ITEM: item[by_time], TIMESTAMP: time[by_time].astype(np.float64)})
    named = log.with_columns(pl.format("u{}", USER).alias(USER), pl.format("i{}", ITEM).alias(ITEM))
    return named, successor(items, seed)


def write_simulated(out: str | Path, users: int, items: int, events: int, seed: int = 0, noise: float = 0.2) -> Path:
    """Writes a simulated log as .inter, .csv, .tsv or .parquet, the text formats also with .gz.

    Raises:
        HardGNNError: another suffix, or numbers that make no market.
    """
    out = Path(out)
    zipped = out.suffix == ".gz"
    suffix = Path(out.stem).suffix if zipped else out.suffix
    if suffix not in SUFFIXES or (zipped and suffix == ".parquet"):
        raise HardGNNError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}, or a text format with .gz")
    log, _ = simulate(users, items, events, seed, noise)
    with atomic_path(out) as temporary:
        if suffix == ".parquet":
            log.write_parquet(temporary)
            return out
        table = log.with_columns(pl.col(TIMESTAMP).cast(pl.Int64))
        if suffix == ".inter":
            table = table.rename({USER: "user_id:token", ITEM: "item_id:token", TIMESTAMP: "timestamp:float"})
        separator = "," if suffix == ".csv" else "\t"
        if not zipped:
            table.write_csv(temporary, separator=separator)
            return out
        # no name and no clock in the gzip header: the same market gives the same bytes
        with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            table.write_csv(cast(IO[bytes], packed), separator=separator)
    return out


def _rings(items: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The items in ring order (I,), and each ring's start and size; the last ring takes the remainder."""
    order = np.random.default_rng([seed, 0]).permutation(items)
    starts = np.arange(max(1, items // CLUSTER)) * CLUSTER
    return order, starts, np.diff(starts, append=items)


def _times(offsets: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Each user's times (E,), in order, from a start of the user's own to the end of the span; newcomers arrive."""
    starts = START_S + SPAN_S * 0.9 * rng.beta(1.5, 1.5, len(counts))
    gaps = np.cumsum(rng.lognormal(0.0, 1.5, offsets[-1]))
    before = np.concatenate([[0.0], gaps])[offsets]
    done = gaps - np.repeat(before[:-1], counts)
    share = done / np.repeat(before[1:] - before[:-1], counts)
    begin = np.repeat(starts, counts)
    return (begin + (START_S + SPAN_S - 1 - begin) * share).astype(np.int64)
