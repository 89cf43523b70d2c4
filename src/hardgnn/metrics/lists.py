"""The metrics of whole lists: what all users together are recommended (docs/metrics.md).

`lists` (V, n) holds item indices, -1 where a list is shorter; `counts` (I,) the items' training interactions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardgnn.metrics.base import list_metric


@list_metric("coverage")
def coverage(lists: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """The share of all items that is recommended to anybody, in (0, 1].

    Source: Ge, Delgado-Battenfeld and Jannach, Beyond accuracy, RecSys 2010 (catalogue coverage).
    """
    return np.count_nonzero(_exposure(lists, counts)) / len(counts)


@list_metric("gini")
def gini(lists: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """How unequally recommendations fall on all items: 0 where each is shown as often, (I - 1) / I where one alone is.

    With e the exposures in ascending order it is `Σ_i (2i - I - 1) e_i / (I Σ_i e_i)`, i from 1 to I.

    Source: Fleder and Hosanagar, Blockbuster culture's next rise or fall, Management Science 2009.
    """
    shown, n_items = np.sort(_exposure(lists, counts)), len(counts)
    return float((2 * np.arange(1, n_items + 1) - n_items - 1) @ shown / (n_items * shown.sum()))


@list_metric("popularity")
def popularity(lists: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Training interactions of a recommended item, the mean over all places of all lists.

    Source: Yin et al., Challenging the long tail recommendation, VLDB 2012 (as the average over users).
    """
    return float(counts[lists[lists >= 0]].mean())


@list_metric("popularity_ratio")
def popularity_ratio(lists: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """`popularity` by the log's own, which is the same mean over its training events: 1 where neither is more popular.

    Source: after Abdollahpouri et al., The unfairness of popularity bias in recommendation, RMSE 2019.
    """
    return popularity(lists, counts) * float(counts.sum()) / float(np.square(counts, dtype=np.float64).sum())


@list_metric("novelty")
def novelty(lists: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """`-log2(count / Σ counts)` in bits, the mean over all places of all lists: what a random event would tell.

    Source: Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems, PNAS 2010.
    """
    return float(-np.log2(counts[lists[lists >= 0]] / counts.sum()).mean())


def _exposure(lists: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each item is recommended, (I,)."""
    return np.bincount(lists[lists >= 0], minlength=len(counts))
