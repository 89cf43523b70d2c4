"""Floors that need no gradient: popularity, item neighbours, and item neighbours that know recency.

All learn from training interactions only; at test time the validation item is in the history they are asked with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hardgnn.data.dataset import VALID, Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import Ranker, rank_targets
from hardgnn.metrics import judged
from hardgnn.models.similarity import cosine_similarity, decayed_history, forward_similarity

RECENCY_NEIGHBOURS = 2000  # bounds the memory of large catalogues


class Popularity:
    """Scores an item by its number of training interactions, the same for every user."""

    name = "popularity"

    def __init__(self, dataset: Dataset) -> None:
        self.counts = dataset.train.item_counts(dataset.n_items).astype(np.float32)  # (I,)

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I)."""
        return np.tile(self.counts, (len(users), 1))


class ItemToItem:
    """Sums the similarity of an item to the user's last items: `s_uj = Σ_age decay^age · S[i_age, j]`.

    Args:
        similarity: (I, I), from a history's item (row) to the item scored (column).
        last: how many of the user's last items are asked; None = the whole history.
        decay: weight of an item relative to the one after it; 1 = all alike.

    Raises:
        HardGNNError: `last` is below 1 or `decay` outside (0, 1].
    """

    name = "itemtoitem"

    def __init__(self, similarity: sparse.csr_array, last: int | None, decay: float) -> None:
        if last is not None and last < 1:
            raise HardGNNError(f"the number of last items must be at least 1, got {last}")
        if not 0 < decay <= 1:
            raise HardGNNError(f"the decay must be above 0 and at most 1, got {decay}")
        self.similarity, self.last, self.decay = similarity, last, decay

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I)."""
        query = decayed_history(histories, self.decay, self.last, self.similarity.shape[0])
        return (query @ self.similarity).toarray()


class ItemKNN(ItemToItem):
    """Cosine item neighbours over the user's `last` items (None = all); see `cosine_similarity`."""

    name = "itemknn"

    def __init__(self, dataset: Dataset, last: int | None = None, neighbours: int | None = 100) -> None:
        super().__init__(cosine_similarity(dataset, neighbours), last, 1.0)
        self.settings = {"last": last, "neighbours": neighbours}


class RecencyKNN(ItemToItem):
    """Cosine similarity plus `forward` times `forward_similarity`, the last items weighted by age.

    `backward` is the weight, in the latter, of items that came before, relative to those that follow. Both are divided
    by the root of the scored item's training count; `popularity` is the power of the count that is multiplied in again:
    0 leaves the cosine, 0.5 takes the root back, as if only the history's items were normalised.
    """

    name = "recencyknn"

    def __init__(
        self,
        dataset: Dataset,
        last: int | None = 5,
        decay: float = 0.7,
        forward: float = 1.0,
        neighbours: int | None = RECENCY_NEIGHBOURS,
        popularity: float = 0.0,
        backward: float = 0.0,
    ) -> None:
        near = forward_similarity(dataset, backward=backward)
        similarity = cosine_similarity(dataset, neighbours) + forward * near
        super().__init__((similarity @ _popular(dataset, popularity)).tocsr(), last, decay)
        self.settings = {
            "last": last,
            "decay": decay,
            "forward": forward,
            "neighbours": neighbours,
            "popularity": popularity,
            "backward": backward,
        }


def fit_item_knn(
    dataset: Dataset,
    *,
    lasts: Sequence[int | None] = (1, 2, 3, 5, 10, 20, 50, None),
    neighbours: Sequence[int | None] = (20, 100, 500, RECENCY_NEIGHBOURS),
    sample: int = 2000,
    seed: int = 0,
) -> ItemKNN:
    """`ItemKNN` with the settings that have the best NDCG@10 (full) on validation; the test part is not read.

    Args:
        dataset: the prepared data set.
        lasts, neighbours: the grid of the settings; the first of equals is taken.
        sample, seed: as in `fit_recency_knn`.

    Raises:
        HardGNNError: nobody can be ranked on validation.
    """
    judge = _Judge(dataset, sample, seed)
    for cut in neighbours:
        similarity = cosine_similarity(dataset, cut)
        for last in lasts:
            judge.ask((last, cut), ItemToItem(similarity, last, 1.0))
    return ItemKNN(dataset, *judge.best)


def fit_recency_knn(
    dataset: Dataset,
    *,
    lasts: Sequence[int | None] = (1, 2, 3, 5, 10, 20, 50),
    decays: Sequence[float] = (0.7, 0.8, 0.9),
    forwards: Sequence[float] = (0.3, 1.0, 3.0),
    popularities: Sequence[float] = (0.0, 0.25),
    backwards: Sequence[float] = (0.0, 0.5),
    neighbours: int | None = RECENCY_NEIGHBOURS,
    sample: int = 2000,
    seed: int = 0,
) -> RecencyKNN:
    """`RecencyKNN` with the settings that have the best NDCG@10 (full) on validation; the test part is not read.

    Args:
        dataset: the prepared data set.
        lasts, decays, forwards, popularities, backwards: the grid of the settings; the first of equals is taken.
        neighbours: as in `cosine_similarity`.
        sample: at most so many validation users are asked, drawn with `seed`, so that large logs stay cheap.
        seed: of that draw.

    Raises:
        HardGNNError: nobody can be ranked on validation.
    """
    judge = _Judge(dataset, sample, seed)
    cosine = cosine_similarity(dataset, neighbours)
    near = {backward: forward_similarity(dataset, backward=backward) for backward in backwards}
    for forward, popularity, backward in itertools.product(forwards, popularities, backwards):
        similarity = ((cosine + forward * near[backward]) @ _popular(dataset, popularity)).tocsr()
        for last, decay in itertools.product(lasts, decays):
            if last == 1 and decay != decays[0]:
                continue  # one item's weight is a common factor
            judge.ask((last, decay, forward, neighbours, popularity, backward), ItemToItem(similarity, last, decay))
    return RecencyKNN(dataset, *judge.best)


def _popular(dataset: Dataset, power: float) -> sparse.dia_array:
    """Each item's training count to this power, on the diagonal: (I, I)."""
    counts = np.maximum(dataset.train.item_counts(dataset.n_items), 1)
    return sparse.diags_array((counts**power).astype(np.float32))


class _Judge:
    """Compares settings by NDCG@10 (full) on at most `sample` validation users."""

    def __init__(self, dataset: Dataset, sample: int, seed: int) -> None:
        users, _ = dataset.targets(VALID)
        self.dataset, self.users = dataset, np.random.default_rng(seed).permutation(users)[:sample]
        self.quality: dict[tuple[Any, ...], float] = {}

    def ask(self, settings: tuple[Any, ...], ranker: Ranker) -> None:
        frame = rank_targets(ranker, self.dataset, "valid", users=self.users)
        self.quality[settings] = judged(frame["rank"].to_numpy())

    @property
    def best(self) -> tuple[Any, ...]:
        return max(self.quality, key=lambda settings: self.quality[settings])


BASELINES: dict[str, Callable[..., Ranker]] = {
    "popularity": Popularity,
    "itemknn": fit_item_knn,
    "recencyknn": fit_recency_knn,
}


def baseline(name: str, dataset: Dataset, **settings: Any) -> Ranker:
    """The fitted baseline called "popularity", "itemknn" or "recencyknn".

    Raises:
        HardGNNError: there is none of that name.
    """
    if name not in BASELINES:
        raise HardGNNError(f"unknown baseline '{name}'; {nearest(name, BASELINES)}")
    return BASELINES[name](dataset, **settings)
