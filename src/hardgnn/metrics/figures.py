"""Figures: a metric at a cut-off, under names such as `ndcg@10`. No other place takes such a name apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardgnn.arguments import cutoffs, text
from hardgnn.errors import HardGNNError, shown
from hardgnn.metrics.base import METRICS, checked_ranks

DEFAULT = ("hr", "ndcg")
"""The metrics that are told where none are asked for."""
MAIN = "ndcg"
"""The metric by which models are chosen and compared where nothing else is said."""
MAIN_AT = f"{MAIN}@10"
FIGURE = r"[a-z][a-z0-9_-]*@[1-9][0-9]{0,6}"


def named(value: object, name: str = "metrics") -> list[str]:
    """Names of metrics that there are: one or several, or text such as "hr,ndcg"; each once, in their order.

    Raises:
        HardGNNError: there are none, or one is unknown, naming the nearest, or its package's part is broken.
    """
    every = value.split(",") if isinstance(value, str) else value
    if not isinstance(every, Iterable) or isinstance(every, (bytes, Mapping)):
        raise HardGNNError(f"{name}: expected names of metrics such as hr,ndcg, got {shown(repr(value))[:80]}")
    found = list(dict.fromkeys(text(one, name).strip() for one in every))
    if not found:
        raise HardGNNError(f"{name}: expected one metric or more, as in hr,ndcg")
    for one in found:
        METRICS.find(one)
    return found


def parted(metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those per user, and those of whole lists.

    Raises:
        HardGNNError: as `named`.
    """
    of_lists = [name for name in metrics if METRICS.find(name).of_lists]
    return [name for name in metrics if name not in of_lists], of_lists


def split(figure: str) -> tuple[str, int]:
    """Metric and cut-off of a figure: `ndcg@10` is ("ndcg", 10).

    Raises:
        HardGNNError: it is no such name.
    """
    if not re.fullmatch(FIGURE, text(figure, "figure")):
        raise HardGNNError(f"'{shown(figure)}': expected a metric and a cut-off, as in {MAIN_AT}")
    name, _, n = figure.partition("@")
    return name, int(n)


def in_order(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures as tables have them: cut-off by cut-off, the usual metrics first.

    Raises:
        HardGNNError: one has no such name.
    """

    def place(figure: str) -> tuple[int, int, str]:
        name, n = split(figure)
        return n, DEFAULT.index(name) if name in DEFAULT else len(DEFAULT), name

    return {figure: figures[figure] for figure in sorted(figures, key=place)}


def per_user(
    ranks: ArrayLike, at: Sequence[int] = (10, 20), metrics: Sequence[str] = DEFAULT
) -> dict[str, NDArray[np.float64]]:
    """Metrics per user, (V,) each, under names such as `hr@10`, cut-off by cut-off.

    Args:
        ranks: (V,) ranks of the targets, 0 is best.
        at: cut-offs.
        metrics: names of metrics per user.

    Raises:
        HardGNNError: there are no ranks or cut-offs, a rank is NaN or negative, a cut-off is below 1, or a metric is
            unknown, broken, or one of whole lists.
    """
    checked, at = checked_ranks(ranks), cutoffs(at)
    functions = {name: _of_ranks(name) for name in metrics}
    return {f"{name}@{n}": function(checked, n) for n in at for name, function in functions.items()}


def summarise(ranks: ArrayLike, at: Sequence[int] = (10, 20), metrics: Sequence[str] = DEFAULT) -> dict[str, float]:
    """Means over users, e.g. `{"hr@10": 0.21, "ndcg@10": 0.12, "hr@20": ..., "ndcg@20": ...}`.

    Raises:
        HardGNNError: as `per_user`.
    """
    return {name: float(values.mean()) for name, values in per_user(ranks, at, metrics).items()}


def summarise_lists(
    lists: NDArray[np.integer], counts: NDArray[np.integer], at: Sequence[int], metrics: Sequence[str]
) -> dict[str, float]:
    """Metrics of whole lists (V, n), under names such as `coverage@10`, cut-off by cut-off.

    Args:
        lists: item indices, best first, at least as many as the largest cut-off, -1 for none.
        counts: (I,) the items' training interactions.
        at: cut-offs.
        metrics: names of metrics of whole lists.

    Raises:
        HardGNNError: a metric is unknown or broken, or nothing is recommended to anybody.
    """
    functions = {name: METRICS.find(name).function for name in metrics}
    return {f"{name}@{n}": function(lists[:, :n], counts) for n in at for name, function in functions.items()}


def mean_of(ranks: ArrayLike, figure: str = MAIN_AT) -> float:
    """One figure's mean over users.

    Raises:
        HardGNNError: as `per_user`.
    """
    name, n = split(figure)
    return summarise(ranks, (n,), (name,))[figure]


def check_choice(figure: str) -> None:
    """Checks that a figure can choose between models: one of a metric per user.

    Raises:
        HardGNNError: it is unknown, naming the nearest, or one of whole lists.
    """
    _of_ranks(split(figure)[0])


def _of_ranks(name: str) -> Callable[[ArrayLike, int], NDArray[np.float64]]:
    found = METRICS.find(name)
    if found.of_lists:
        raise HardGNNError(f"metric '{name}' is of whole lists; expected one per user, such as {MAIN}")
    return found.function
