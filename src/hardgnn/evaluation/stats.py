"""Confidence intervals, paired tests and the correction for many comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from hardgnn.errors import HardGNNError
from hardgnn.metrics import DEFAULT, per_user

CHUNK_CELLS = 4_000_000  # random numbers held at once
P_VALUES = ("wilcoxon_p", "permutation_p", "seed_p")


def bootstrap_intervals(
    values: NDArray[np.float64], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap intervals of the means over users.

    Drawing V users with replacement is drawing how often each distinct row of `values` occurs, a multinomial;
    ranks give few distinct rows, so this costs the same for any number of users and is not an approximation.
    All columns share their resamples.

    Args:
        values: (V, m) one row per user, one column per metric.
        confidence: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        (m, 2) lower and upper bounds.
    """
    rows, counts = np.unique(values, axis=0, return_counts=True)  # (K, m), (K,)
    rng = np.random.default_rng(seed)
    users = len(values)
    means = [
        rng.multinomial(users, counts / users, size=size) @ rows / users  # (size, m)
        for size in _chunks(resamples, len(rows))
    ]
    tail = (1.0 - confidence) / 2
    return np.quantile(np.concatenate(means), [tail, 1.0 - tail], axis=0).T


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test over users (V,), zeros left out; 1 when all are zero."""
    moved = differences[differences != 0]
    from scipy.stats import wilcoxon  # slow to import, and needed for tests alone

    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0


def permutation_p(differences: NDArray[np.float64], resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of the paired permutation test: the sign of each user's difference is flipped at random.

    Users whose differences have one size are flipped together as a binomial, so the cost does not grow with their
    number. When there are at most `resamples` sign patterns all of them are counted and the p-value is exact;
    otherwise it is `(1 + as extreme) / (1 + resamples)`, never 0.

    Args:
        differences: (V,) per user, a minus b.
        resamples: number of random sign patterns.
        seed: of the sign patterns.
    """
    moved = differences[differences != 0]
    observed = abs(float(moved.sum())) * (1 - 1e-12)  # equal sums may differ in their last bits
    if len(moved) < 63 and 2 ** len(moved) <= resamples:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1  # (2^V, V)
        sums = (2 * patterns - 1) @ moved
        return float((np.abs(sums) >= observed).mean())
    sizes, counts = np.unique(np.abs(moved), return_counts=True)  # (K,)
    rng = np.random.default_rng(seed)
    extreme = 0
    for size in _chunks(resamples, len(sizes)):
        positive = rng.binomial(counts, 0.5, size=(size, len(sizes)))
        extreme += int((np.abs((2 * positive - counts) @ sizes) >= observed).sum())
    return (1 + extreme) / (1 + resamples)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction, which keeps the family-wise error at the level asked for.

    Args:
        p_values: (n,) of all the comparisons made, also those that disappointed.

    Returns:
        (n,) corrected p-values, at most 1, in the same order.

    Raises:
        HardGNNError: a p-value is NaN or outside [0, 1].

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise HardGNNError("p-values must be a list of numbers between 0 and 1")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected


def correct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all comparisons made, with `comparisons`, their number, and `*_p_holm` set over all of them.

    Call it again on the rows of several `compare_ranks` put together. A test that was not made (None) gets no
    corrected p-value, and counts all the same.
    """
    corrected: list[dict[str, Any]] = [{} for _ in rows]
    for name in P_VALUES:
        if not any(name in row for row in rows):
            continue
        values = holm([1.0 if row.get(name) is None else row[name] for row in rows])
        for row, result, value in zip(rows, corrected, values):
            result[f"{name}_holm"] = None if row.get(name) is None else float(value)
    return [{**row, "comparisons": len(rows), **result} for row, result in zip(rows, corrected)]


def over_seeds(values: ArrayLike, confidence: float = 0.95) -> dict[str, float | int | None]:
    """Mean, standard deviation and Student's t interval of the mean over seeds.

    Args:
        values: (S,) one figure per seed.
        confidence: coverage of the interval.

    Returns:
        mean, sd, low, high, n; sd, low and high are None for a single seed.
    """
    figures = np.asarray(values, dtype=np.float64)
    mean, n = float(figures.mean()), len(figures)
    if n < 2:
        return {"mean": mean, "sd": None, "low": None, "high": None, "n": n}
    sd = float(figures.std(ddof=1))
    from scipy.stats import t as student

    half = float(student.ppf((1 + confidence) / 2, n - 1)) * sd / np.sqrt(n)
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "n": n}


def paired_over_seeds(a: ArrayLike, b: ArrayLike) -> dict[str, float | None]:
    """Two models whose runs are paired by seed: the paired t-test and the effect size d_z.

    Args:
        a, b: (S,) one figure per seed, in the same order.

    Returns:
        seed_p (two-sided; 1 when no pair differs) and seed_effect_size. Both are None for a single seed, and where
        all differences are the same and not zero: without spread between seeds nothing can be tested.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(differences) < 2:
        return {"seed_p": None, "seed_effect_size": None}
    if np.ptp(differences) <= 1e-12:  # metrics are of order 1, so this is rounding
        zero = abs(float(differences.mean())) <= 1e-12
        return {"seed_p": 1.0, "seed_effect_size": 0.0} if zero else {"seed_p": None, "seed_effect_size": None}
    effect = _effect_size(differences)
    from scipy.stats import t as student

    p = 2 * float(student.sf(abs(effect) * np.sqrt(len(differences)), len(differences) - 1))
    return {"seed_p": p, "seed_effect_size": effect}


def compare_ranks(
    a: pl.DataFrame | Sequence[pl.DataFrame],
    b: pl.DataFrame | Sequence[pl.DataFrame],
    at: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compares two models on the same users and targets, paired over users.

    Args:
        a, b: frames of `protocols.rank_targets`; or one per seed, whose metrics are averaged per user.
        at: cut-offs.
        metrics: names of metrics per user.
        confidence: of the bootstrap interval of the difference.
        resamples: of the bootstrap and of the permutation test.
        seed: of both.

    Returns:
        One row per metric: metric, users, mean_a, mean_b, difference (a minus b), low, high, wilcoxon_p,
        permutation_p, effect_size (mean over standard deviation of the differences, Cohen's d_z; 0 when all are
        zero), comparisons (the number of rows), wilcoxon_p_holm, permutation_p_holm.

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
            {
                "metric": name,
                "users": reference.height,
                "mean_a": float(values_a[name].mean()),
                "mean_b": float(values_b[name].mean()),
                "difference": float(difference.mean()),
                "low": float(low),
                "high": float(high),
                "wilcoxon_p": wilcoxon_p(difference),
                "permutation_p": permutation_p(difference, resamples, seed),
                "effect_size": _effect_size(difference),
            }
            for (name, difference), (low, high) in zip(differences.items(), intervals)
        ]
    )


def _chunks(total: int, width: int) -> Iterator[int]:
    """Sizes that sum to `total`, each with at most `CHUNK_CELLS` random numbers of `width` a piece."""
    step = max(1, CHUNK_CELLS // max(1, width))
    yield from (min(step, total - start) for start in range(0, total, step))


def _effect_size(differences: NDArray[np.float64]) -> float:
    """Cohen's d_z of paired differences; infinite when they are all the same and not zero."""
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if spread == 0:
        return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
    return mean / spread


def _frames(frames: pl.DataFrame | Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """The frames as a list, each sorted by user and checked."""
    listed = [frames] if isinstance(frames, pl.DataFrame) else list(frames)
    if not listed:
        raise HardGNNError("there are no ranks to compare")
    for frame in listed:
        missing = [name for name in ("user", "target", "rank", "candidates") if name not in frame.columns]
        if missing:
            raise HardGNNError(f"ranks lack the column {missing[0]}; found: {', '.join(frame.columns)}")
        if frame["user"].is_duplicated().any():
            raise HardGNNError("a user has more than one rank, so users cannot be paired")
    return [frame.sort("user") for frame in listed]


def _check_same_task(a: pl.DataFrame, b: pl.DataFrame) -> None:
    """Refuses frames, sorted by user, that were not ranked on the same users, targets and candidates."""
    users = a.height + b.height - 2 * a.join(b, on="user", how="semi").height
    if users:
        raise HardGNNError(f"the runs cannot be compared: {users} users are ranked in only one of them")
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
    each = [per_user(frame["rank"].to_numpy(), at, metrics) for frame in frames]
    return {name: np.mean([values[name] for values in each], axis=0) for name in each[0]}
