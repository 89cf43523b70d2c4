"""Models compared on the same users and targets: paired differences, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import metrics_of
from hardgnn.evaluation.stats import bootstrap_intervals, effect_size, holm, permutation_p, wilcoxon_p
from hardgnn.metrics import DEFAULT
from hardgnn.storage.documents import Document

NAMES = ("data", "protocol", "a", "b", "seeds")  # of what was compared; documents begin with them


@dataclass(frozen=True, kw_only=True)
class Difference(Document):
    """Two models' difference in one metric, paired over users.

    `difference` is `mean_a` minus `mean_b`, `low` and `high` its bootstrap bounds; `effect_size` the mean over the
    standard deviation of the users' differences (Cohen's d_z; 0 when all are zero); `comparisons` how many were made,
    over all of which `correct` sets the p-values `*_holm`.
    """

    TESTS: ClassVar[tuple[str, ...]] = ("wilcoxon_p", "permutation_p")

    metric: str
    users: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    wilcoxon_p: float
    permutation_p: float
    effect_size: float
    comparisons: int = 1
    wilcoxon_p_holm: float
    permutation_p_holm: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: what was compared, and the figures."""
        found = super().to_dict()
        return {name: found[name] for name in NAMES if name in found} | found


@dataclass(frozen=True, kw_only=True)
class Comparison(Difference):
    """The difference of two named models."""

    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class SeedComparison(Comparison):
    """The difference of two named models on a data set under a protocol, with `paired_over_seeds`."""

    TESTS = (*Difference.TESTS, "seed_p")

    data: str
    protocol: str
    seeds: int
    seed_p: float | None
    seed_effect_size: float | None
    seed_p_holm: float | None = None


Row = TypeVar("Row", bound=Difference)


def compare_ranks(
    a: pl.DataFrame | Sequence[pl.DataFrame],
    b: pl.DataFrame | Sequence[pl.DataFrame],
    at: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> list[Difference]:
    """Compares two models on the same users and targets, paired over users.

    Args:
        a, b: frames of `protocols.rank_targets`; or one per seed, whose metrics are averaged per user.
        at: cut-offs.
        metrics: names of metrics per user.
        confidence: of the bootstrap interval of the difference.
        resamples: of the bootstrap and of the permutation test.
        seed: of both.

    Returns:
        One row per metric, p-values corrected over these.

    Raises:
        HardGNNError: the frames differ in users, targets or numbers of candidates, or a column is missing.
    """
    first, second = _frames(a), _frames(b)
    reference = first[0]
    for other in (*first[1:], *second):
        _check_same_task(reference, other)
    values_a, values_b = (_mean_metrics(frames, at, metrics) for frames in (first, second))
    differences = {name: values_a[name] - values_b[name] for name in values_a}
    intervals = bootstrap_intervals(np.stack([*differences.values()], axis=1), confidence, resamples, seed)
    return correct(
        [
            _difference(name, values_a[name], values_b[name], bounds, resamples, seed)
            for name, bounds in zip(differences, intervals)
        ]
    )


def _difference(
    metric: str,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    bounds: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> Difference:
    """The row of one metric, whose values per user are `a` and `b` (V,)."""
    paired = a - b
    wilcoxon, permutation = wilcoxon_p(paired), permutation_p(paired, resamples, seed)
    return Difference(
        metric=metric,
        users=len(paired),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(paired.mean()),
        low=float(bounds[0]),
        high=float(bounds[1]),
        wilcoxon_p=wilcoxon,
        permutation_p=permutation,
        effect_size=effect_size(paired),
        wilcoxon_p_holm=wilcoxon,
        permutation_p_holm=permutation,
    )


def correct(rows: Sequence[Row]) -> list[Row]:
    """The rows of all comparisons made, with `comparisons`, their number, and `*_p_holm` set over all of them.

    Call it again on the rows of several `compare_ranks` put together. A test that was not made (None) gets no
    corrected p-value, and counts all the same.
    """
    if not rows:
        return []
    corrected: list[dict[str, Any]] = [{"comparisons": len(rows)} for _ in rows]
    for test in rows[0].TESTS:
        made = [getattr(row, test) for row in rows]
        for changes, p, value in zip(corrected, made, holm([1.0 if p is None else p for p in made])):
            changes[f"{test}_holm"] = None if p is None else float(value)
    return [replace(row, **changes) for row, changes in zip(rows, corrected)]


def _frames(frames: pl.DataFrame | Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """The frames as a list, each sorted by user and checked."""
    listed = [frames] if isinstance(frames, pl.DataFrame) else list(frames)
    if not listed:
        raise HardGNNError("there are no ranks to compare")
    for frame in listed:
        missing = [name for name in ("user", "target", "rank", "candidates") if name not in frame.columns]
        if missing:
            raise HardGNNError(f"ranks lack the column {missing[0]}; found: {', '.join(frame.columns)}")
    return [frame.sort("user", maintain_order=True) for frame in listed]


def _check_same_task(a: pl.DataFrame, b: pl.DataFrame) -> None:
    """Refuses frames, sorted by user, that were not ranked on the same users, targets and candidates."""
    ours, theirs = set(a["user"].to_list()), set(b["user"].to_list())
    if users := len(ours ^ theirs):
        raise HardGNNError(f"the runs cannot be compared: {users} users are ranked in only one of them")
    if not a["user"].equals(b["user"]):
        raise HardGNNError("the runs cannot be compared: how many targets a user has differs")
    for column, what in (("target", "targets"), ("candidates", "numbers of candidates")):
        differing = int((a[column].to_numpy() != b[column].to_numpy()).sum())
        if differing:
            raise HardGNNError(
                f"the runs cannot be compared: their {what} differ for {differing} of {a.height} users, "
                "so they were ranked on other data or under another protocol"
            )


def _mean_metrics(
    frames: list[pl.DataFrame], at: Sequence[int], metrics: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Each metric per user, averaged over the frames, (V,) each."""
    each = [metrics_of(frame, at, metrics) for frame in frames]
    return {name: np.mean([values[name] for values in each], axis=0) for name in each[0]}
