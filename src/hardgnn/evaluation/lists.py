"""What a ranker recommends to the users it is evaluated on, and the metrics of these lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.dataset import Dataset
from hardgnn.evaluation.protocols import BLOCK_BYTES, Progress, Ranker, checked_split, informed
from hardgnn.evaluation.results import Result
from hardgnn.evaluation.topn import top_n
from hardgnn.metrics import parted, summarise_lists


def top_lists(
    ranker: Ranker,
    dataset: Dataset,
    split: str,
    users: NDArray[np.integer],
    n: int,
    *,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """The `n` best items for `users` (V,) at their histories before a split, (V, n), -1 where there are fewer.

    As `hardgnn recommend` answers, whatever the protocol of the ranks: among all items but those of the history and
    those without training interactions.

    Raises:
        HardGNNError: an unknown split, `n` below 1, or NaN or misshapen scores.
    """
    users = np.array(users)  # of a table they are read-only, which torch warns of
    known = dataset.before(checked_split(split))
    ranker, histories = informed(ranker, known), known.take(users)
    untrained = np.flatnonzero(dataset.train.item_counts(dataset.n_items) == 0)
    best = top_n(
        ranker, users, histories, n, dataset.n_items, blocked=untrained, block_bytes=block_bytes, progress=progress
    )
    return best[0]


def with_lists(
    result: Result,
    ranker: Ranker,
    dataset: Dataset,
    users: NDArray[np.integer],
    at: Sequence[int],
    metrics: Sequence[str],
    progress: Progress | None = None,
) -> Result:
    """A result of `evaluate`, with the metrics of whole lists among `metrics` in it, in order.

    Args:
        result: what the ranks gave.
        ranker: what was ranked.
        dataset: what it was ranked on.
        users: (V,) whom it was ranked for; one list each.
        at: cut-offs.
        metrics: names of metrics; those per user are in the result.
        progress: as in `top_lists`.

    Raises:
        HardGNNError: as `top_lists` and `hardgnn.metrics.summarise_lists`.
    """
    of_lists = parted(metrics)[1]
    if not of_lists:
        return result
    lists = top_lists(ranker, dataset, result.split, np.unique(users), max(at), progress=progress)
    figures = result.metrics | summarise_lists(lists, dataset.train.item_counts(dataset.n_items), at, of_lists)
    return replace(result, metrics={f"{name}@{n}": figures[f"{name}@{n}"] for n in at for name in metrics})
