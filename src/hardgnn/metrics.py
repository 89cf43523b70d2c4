"""HR and NDCG from the rank of each user's target (specification, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardgnn.arguments import cutoffs, whole
from hardgnn.errors import HardGNNError


def hit_rate(ranks: ArrayLike, n: int) -> NDArray[np.float64]:
    """`[rank < n]` per user.

    Args:
        ranks: (V,) ranks of the targets, 0 is best.
        n: the cut-off, at least 1.

    Returns:
        (V,) zeros and ones.

    Raises:
        HardGNNError: a rank is NaN or negative, or `n` is below 1.
    """
    return (checked_ranks(ranks) < whole(n, "a cut-off")).astype(np.float64)


def ndcg(ranks: ArrayLike, n: int) -> NDArray[np.float64]:
    """`[rank < n] / log2(rank + 2)` per user: the ideal gain of one relevant item is 1.

    Args:
        ranks: (V,) ranks of the targets, 0 is best.
        n: the cut-off, at least 1.

    Returns:
        (V,) values in [0, 1].

    Raises:
        HardGNNError: a rank is NaN or negative, or `n` is below 1.
    """
    checked = checked_ranks(ranks)
    return np.where(checked < whole(n, "a cut-off"), 1.0 / np.log2(checked + 2.0), 0.0)


def per_user(ranks: ArrayLike, at: Sequence[int] = (10, 20)) -> dict[str, NDArray[np.float64]]:
    """Every metric per user, (V,) each, under the names `hr@N` and `ndcg@N`, in the order of `at`.

    Raises:
        HardGNNError: as `hit_rate`, or there are no cut-offs.
    """
    checked = checked_ranks(ranks)
    functions = {"hr": hit_rate, "ndcg": ndcg}
    return {f"{name}@{n}": metric(checked, n) for n in cutoffs(at) for name, metric in functions.items()}


def summarise(ranks: ArrayLike, at: Sequence[int] = (10, 20)) -> dict[str, float]:
    """Means over users, e.g. `{"hr@10": 0.21, "ndcg@10": 0.12, "hr@20": ..., "ndcg@20": ...}`.

    Raises:
        HardGNNError: there are no ranks, one is NaN or negative, or a cut-off is below 1.
    """
    return {name: float(values.mean()) for name, values in per_user(ranks, at).items()}


def checked_ranks(ranks: ArrayLike) -> NDArray[np.float64]:
    """The ranks as float64 (V,), refused when empty, NaN or negative."""
    array = np.asarray(ranks, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise HardGNNError(f"ranks must be one number per user, got an array of shape {array.shape}")
    if np.isnan(array).any():
        raise HardGNNError(f"{int(np.isnan(array).sum())} of {array.size} ranks are NaN")
    if (array < 0).any():
        raise HardGNNError(f"ranks start at 0, the smallest given is {array.min():g}")
    return array
