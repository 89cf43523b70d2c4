"""Confidence intervals, paired tests and the correction for many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardgnn.errors import HardGNNError
from hardgnn.storage.documents import Document

CHUNK_CELLS = 4_000_000  # random numbers held at once


@dataclass(frozen=True)
class OverSeeds(Document):
    """A figure's mean, standard deviation and Student's t interval of the mean over `n` seeds, with each one's value.

    The spread is None for a single seed.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    values: tuple[float, ...]

    @property
    def band(self) -> tuple[float, float]:
        """One standard deviation to each side of the mean; of a single seed the mean alone."""
        sd = self.sd or 0.0
        return self.mean - sd, self.mean + sd

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> OverSeeds:
        """Back from JSON."""
        return cls(**document | {"values": tuple(document["values"])})


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


def over_seeds(values: ArrayLike, confidence: float = 0.95) -> OverSeeds:
    """Mean, standard deviation and Student's t interval of the mean over seeds.

    Args:
        values: (S,) one figure per seed.
        confidence: coverage of the interval.
    """
    figures = np.asarray(values, dtype=np.float64)
    mean, n, each = float(figures.mean()), len(figures), tuple(figures.tolist())
    if n < 2:
        return OverSeeds(mean, None, None, None, n, each)
    sd = float(figures.std(ddof=1))
    from scipy.stats import t as student

    half = float(student.ppf((1 + confidence) / 2, n - 1)) * sd / np.sqrt(n)
    return OverSeeds(mean, sd, mean - half, mean + half, n, each)


def paired_over_seeds(a: ArrayLike, b: ArrayLike) -> tuple[float | None, float | None]:
    """Two models whose runs are paired by seed: the paired t-test and the effect size d_z.

    Args:
        a, b: (S,) one figure per seed, in the same order.

    Returns:
        p (two-sided; 1 when no pair differs) and effect size. Both are None for a single seed, and where all
        differences are the same and not zero: without spread between seeds nothing can be tested.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(differences) < 2:
        return None, None
    if np.ptp(differences) <= 1e-12:  # metrics are of order 1, so this is rounding
        zero = abs(float(differences.mean())) <= 1e-12
        return (1.0, 0.0) if zero else (None, None)
    effect = effect_size(differences)
    from scipy.stats import t as student

    return 2 * float(student.sf(abs(effect) * np.sqrt(len(differences)), len(differences) - 1)), effect


def _chunks(total: int, width: int) -> Iterator[int]:
    """Sizes that sum to `total`, each with at most `CHUNK_CELLS` random numbers of `width` a piece."""
    step = max(1, CHUNK_CELLS // max(1, width))
    yield from (min(step, total - start) for start in range(0, total, step))


def effect_size(differences: NDArray[np.float64]) -> float:
    """Cohen's d_z of paired differences; infinite when they are all the same and not zero."""
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if spread == 0:
        return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
    return mean / spread
