"""Training timestamps to T sparse user-item matrices, stacked so that one product serves them all."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def cut(timestamps: NDArray[np.float64], count: int, how: Literal["width", "count"] = "width") -> NDArray[np.int32]:
    """The interval, 0 to count - 1, of each training timestamp (N,).

    `width` cuts [min, max] into equal widths; `count` gives every interval equally many interactions, ties in
    time going by row. All times equal means `count`, since no width can tell them apart. Source: SPEC section 1.
    """
    if len(timestamps) == 0:
        return np.empty(0, dtype=np.int32)
    first, last = timestamps.min(), timestamps.max()
    if how == "count" or first == last:
        place = np.empty(len(timestamps), dtype=np.int64)
        place[np.argsort(timestamps, kind="stable")] = np.arange(len(timestamps))
        return (place * count // len(timestamps)).astype(np.int32)
    share = (timestamps - first) / (last - first)
    return np.minimum((share * count).astype(np.int32), count - 1)


def stacked_graph(
    interval: NDArray[np.int32],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    shape: tuple[int, int, int],
) -> sp.csr_matrix:
    """The binary matrices A_1..A_T (each U x I) on the diagonal of one (T * U, T * I) CSR matrix of float32.

    `shape` is (T, U, I). A pair that occurs twice in an interval counts once. Source: SPEC section 1.
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
