"""Training timestamps to T sparse user-item matrices, stacked so that one product serves them all."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def cut(
    timestamps: NDArray[np.float64],
    count: int,
    how: Literal["width", "count"] = "width",
    span: tuple[float, float] | None = None,
) -> NDArray[np.int32]:
    """The interval, 0 to count - 1, of each training timestamp (N,).

    `width` cuts [min, max], or `span`, into equal widths; `count` gives every interval equally many interactions,
    ties in time going by row. Where all times are equal, no width can tell them apart and the caller passes positions
    instead (`times_or_positions`). Source: specification, section 1.
    """
    if len(timestamps) == 0:
        return np.empty(0, dtype=np.int32)
    first, last = (timestamps.min(), timestamps.max()) if span is None else span
    if how == "count" or first == last:
        place = np.empty(len(timestamps), dtype=np.int64)
        place[np.argsort(timestamps, kind="stable")] = np.arange(len(timestamps))
        return (place * count // len(timestamps)).astype(np.int32)
    share = (timestamps - first) / (last - first)
    return np.clip(np.floor(share * count), 0, count - 1).astype(np.int32)


def cut_all(
    timestamps: NDArray[np.float64],
    user: NDArray[np.int32],
    training: NDArray[np.bool_],
    count: int,
    how: Literal["width", "count"] = "width",
    span: tuple[float, float] | None = None,
) -> NDArray[np.int32]:
    """The interval (N,) of each interaction: of those in `training` (N,) as training cuts them, of later ones the
    interval whose training times reach as far, or the last."""
    times, are_positions = times_or_positions(timestamps[training], user[training])
    found = np.full(len(timestamps), count - 1, dtype=np.int32)
    found[training] = cut(times, count, "count" if are_positions else how, span)
    if len(times) and not are_positions:
        ends = np.full(count, -np.inf)
        np.maximum.at(ends, found[training], times)
        later = np.searchsorted(np.maximum.accumulate(ends), timestamps[~training])
        found[~training] = np.minimum(later, count - 1)
    return found


def times_or_positions(timestamps: NDArray[np.float64], user: NDArray[np.int32]) -> tuple[NDArray[np.float64], bool]:
    """The timestamps (N,), or, where all are equal, each interaction's position in its user's sequence.

    Rows are sorted by user and, within one, by time. Positions are shares of the user's length and want a cut by
    equal counts; the second value says that they were taken. Source: specification, section 1, logs without real times.
    """
    if len(timestamps) == 0 or timestamps.min() < timestamps.max():
        return timestamps, False
    counts = np.bincount(user)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return (np.arange(len(user)) - starts) / counts[user], True


def stacked_graph(
    interval: NDArray[np.int32],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    shape: tuple[int, int, int],
) -> sp.csr_matrix:
    """The binary matrices A_1..A_T (each U x I) on the diagonal of one (T * U, T * I) CSR matrix of float32.

    `shape` is (T, U, I). A pair that occurs twice in an interval counts once. Source: specification, section 1.
    """
    intervals, users, items = shape
    rows = interval.astype(np.int64) * users + user
    columns = interval.astype(np.int64) * items + item
    matrix = sp.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, columns)),
        shape=(intervals * users, intervals * items),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
