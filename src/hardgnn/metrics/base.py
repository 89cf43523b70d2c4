"""What a metric is, and how one is registered and found (docs/extending.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardgnn.arguments import whole
from hardgnn.errors import HardGNNError
from hardgnn.parts import Parts, blamed, home_of

OfRanks = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
OfLists = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


@dataclass(frozen=True)
class Metric:
    """A registered metric: a function of ranks and a cut-off, or one of whole lists."""

    name: str
    function: Callable[..., Any]
    of_lists: bool


METRICS: Parts[Metric] = Parts("metric", "hardgnn.metrics")


def metric(name: str) -> Callable[[OfRanks], Callable[[ArrayLike, int], NDArray[np.float64]]]:
    """Registers a metric per user: a function of the targets' ranks (V,), 0 is best, and the cut-off n.

    It answers (V,) finite values, the higher the better. What comes in and goes out is checked around it.

    Raises:
        HardGNNError: the name cannot be, or is taken.
    """

    def register(function: OfRanks) -> Callable[[ArrayLike, int], NDArray[np.float64]]:
        @wraps(function)
        def checked(ranks: ArrayLike, n: int) -> NDArray[np.float64]:
            given = checked_ranks(ranks)
            return _answer(name, function, given.shape, given, whole(n, "a cut-off"))

        METRICS.add(name, Metric(name, checked, of_lists=False), function)
        return checked

    return register


def list_metric(name: str) -> Callable[[OfLists], Callable[[ArrayLike, ArrayLike], float]]:
    """Registers a metric of whole lists: a function of what is recommended and of the items' training counts.

    The lists are (V, n) item indices, best first, -1 where a list is shorter; the counts (I,) are the items' training
    interactions, so that I is their length. It answers one finite number. An item that is listed has been trained on.

    Raises:
        HardGNNError: the name cannot be, or is taken.
    """

    def register(function: OfLists) -> Callable[[ArrayLike, ArrayLike], float]:
        @wraps(function)
        def checked(lists: ArrayLike, counts: ArrayLike) -> float:
            return float(_answer(name, function, (), *checked_lists(lists, counts)))

        METRICS.add(name, Metric(name, checked, of_lists=True), function)
        return checked

    return register


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


def checked_lists(lists: ArrayLike, counts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lists (V, n) and the counts (I,) as int64, refused where an item is none or was never trained on."""
    items, trained = np.asarray(lists, dtype=np.int64), np.asarray(counts, dtype=np.int64)
    if items.ndim != 2 or trained.ndim != 1 or not (items >= 0).any():
        raise HardGNNError("lists must be a row of items per user, with an item in one of them at least")
    if items.min() < -1 or items.max() >= len(trained):
        raise HardGNNError(f"an item of a list is none of the {len(trained)} items")
    if (trained[items[items >= 0]] <= 0).any():
        raise HardGNNError("an item of a list has no training interactions")
    return items, trained


def _answer(name: str, function: Callable[..., Any], shape: tuple[int, ...], *given: Any) -> NDArray[np.float64]:
    """What the function of a metric answers.

    Raises:
        HardGNNError: it fails, or answers what is not finite or of another shape.
    """
    whose = f"metric '{name}' ({home_of(function)})"
    with blamed(whose):
        values = np.asarray(function(*given), dtype=np.float64)
    if values.shape != shape:
        raise HardGNNError(f"{whose}: expected an answer of shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise HardGNNError(f"{whose}: {np.count_nonzero(~np.isfinite(values))} of {values.size} values are not finite")
    return values
