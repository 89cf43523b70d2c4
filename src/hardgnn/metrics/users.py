"""The metrics per user, from the 0-based rank of each user's one target (specification, section 5; docs/metrics.md).

Where there is one relevant item, recall is the hit rate, precision a share of it and average precision the reciprocal
rank: they are here under the names that other papers and libraries print.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardgnn.metrics.base import metric


@metric("hr")
def hit_rate(ranks: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """`[rank < n]`: whether the target is among the first n.

    Source: He et al., Neural collaborative filtering, WWW 2017.
    """
    return (ranks < n).astype(np.float64)


@metric("ndcg")
def ndcg(ranks: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """`[rank < n] / log2(rank + 2)`: the ideal gain of one relevant item is 1.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    return np.where(ranks < n, 1.0 / np.log2(ranks + 2.0), 0.0)


@metric("mrr")
def reciprocal_rank(ranks: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """`[rank < n] / (rank + 1)`.

    Source: Voorhees, The TREC-8 question answering track report, 1999.
    """
    return np.where(ranks < n, 1.0 / (ranks + 1.0), 0.0)


@metric("recall")
def recall(ranks: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The share of the relevant items among the first n; of one relevant item the hit rate.

    Source: Manning, Raghavan and Schütze, Introduction to information retrieval, 2008, chapter 8.
    """
    return hit_rate(ranks, n)


@metric("precision")
def precision(ranks: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The share of the first n that is relevant; of one relevant item the hit rate divided by n.

    Source: Manning, Raghavan and Schütze, Introduction to information retrieval, 2008, chapter 8.
    """
    return hit_rate(ranks, n) / n


@metric("map")
def average_precision(ranks: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The mean of the precision at each relevant item, 0 beyond n; of one relevant item the reciprocal rank.

    Source: Manning, Raghavan and Schütze, Introduction to information retrieval, 2008, chapter 8.
    """
    return reciprocal_rank(ranks, n)
