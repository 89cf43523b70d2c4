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
from hardgnn.evaluate import Ranker, rank_targets
from hardgnn.metrics import summarise

FORWARD_STEPS = 5
RECENCY_NEIGHBOURS = 2000  # bounds the memory of large catalogues
BLOCK_ITEMS = 1024


class Popularity:
    """Scores an item by its number of training interactions, the same for every user."""

    name = "popularity"

    def __init__(self, dataset: Dataset) -> None:
        self.counts = np.bincount(dataset.train.items, minlength=dataset.n_items).astype(np.float32)  # (I,)

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
        return (self._query(histories) @ self.similarity).toarray()

    def _query(self, histories: Histories) -> sparse.csr_array:
        """Weight of each of the last items, (B, I)."""
        lengths = histories.lengths
        age = np.repeat(histories.offsets[1:], lengths) - 1 - np.arange(len(histories.items))
        kept = slice(None) if self.last is None else age < self.last
        rows = np.repeat(np.arange(len(lengths)), lengths)[kept]
        weights = (self.decay ** age[kept]).astype(np.float32)
        shape = (len(lengths), self.similarity.shape[0])
        return sparse.csr_array((weights, (rows, histories.items[kept])), shape=shape)


class ItemKNN(ItemToItem):
    """Cosine item neighbours over the user's `last` items (None = all); see `cosine_similarity`."""

    name = "itemknn"

    def __init__(self, dataset: Dataset, last: int | None = None, neighbours: int | None = 100) -> None:
        super().__init__(cosine_similarity(dataset, neighbours), last, 1.0)
        self.settings = {"last": last, "neighbours": neighbours}


class RecencyKNN(ItemToItem):
    """Cosine similarity plus `forward` times `forward_similarity`, the last items weighted by age."""

    name = "recencyknn"

    def __init__(
        self,
        dataset: Dataset,
        last: int | None = 5,
        decay: float = 0.7,
        forward: float = 1.0,
        neighbours: int | None = RECENCY_NEIGHBOURS,
    ) -> None:
        similarity = cosine_similarity(dataset, neighbours) + forward * forward_similarity(dataset)
        super().__init__(similarity.tocsr(), last, decay)
        self.settings = {"last": last, "decay": decay, "forward": forward, "neighbours": neighbours}


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
    neighbours: int | None = RECENCY_NEIGHBOURS,
    sample: int = 2000,
    seed: int = 0,
) -> RecencyKNN:
    """`RecencyKNN` with the settings that have the best NDCG@10 (full) on validation; the test part is not read.

    Args:
        dataset: the prepared data set.
        lasts, decays, forwards: the grid of the settings; the first of equals is taken.
        neighbours: as in `cosine_similarity`.
        sample: at most so many validation users are asked, drawn with `seed`, so that large logs stay cheap.
        seed: of that draw.

    Raises:
        HardGNNError: nobody can be ranked on validation.
    """
    judge = _Judge(dataset, sample, seed)
    cosine, ahead = cosine_similarity(dataset, neighbours), forward_similarity(dataset)
    for forward in forwards:
        similarity = (cosine + forward * ahead).tocsr()
        for last, decay in itertools.product(lasts, decays):
            if last == 1 and decay != decays[0]:
                continue  # one item's weight is a common factor
            judge.ask((last, decay, forward), ItemToItem(similarity, last, decay))
    last, decay, forward = judge.best
    return RecencyKNN(dataset, last, decay, forward, neighbours)


class _Judge:
    """Compares settings by NDCG@10 (full) on at most `sample` validation users."""

    def __init__(self, dataset: Dataset, sample: int, seed: int) -> None:
        users, _ = dataset.targets(VALID)
        self.dataset, self.users = dataset, np.random.default_rng(seed).permutation(users)[:sample]
        self.quality: dict[tuple[Any, ...], float] = {}

    def ask(self, settings: tuple[Any, ...], ranker: Ranker) -> None:
        frame = rank_targets(ranker, self.dataset, "valid", users=self.users)
        self.quality[settings] = summarise(frame["rank"].to_numpy(), (10,))["ndcg@10"]

    @property
    def best(self) -> tuple[Any, ...]:
        return max(self.quality, key=lambda settings: self.quality[settings])


def cosine_similarity(dataset: Dataset, neighbours: int | None) -> sparse.csr_array:
    """`S[i, j] = |U_i ∩ U_j| / sqrt(|U_i| |U_j|)` over training users, zero on the diagonal: (I, I) float32.

    Args:
        dataset: the prepared data set.
        neighbours: each item j to be scored keeps its so many most similar items i, its column; None = all.

    Source: Sarwar et al., Item-based collaborative filtering recommendation algorithms, 2001.
    """
    if neighbours is not None and neighbours < 1:
        raise HardGNNError(f"the number of neighbours must be at least 1, got {neighbours}")
    users = training_matrix(dataset)  # (U, I)
    norms = np.sqrt(np.maximum(users.sum(axis=0), 1)).astype(np.float32)  # (I,)
    unit = users @ sparse.diags_array(1 / norms, format="csr")
    transposed = unit.T.tocsr()  # (I, U)
    columns = []  # of S; before the cut S is symmetric, so its rows do
    for start in range(0, dataset.n_items, BLOCK_ITEMS):
        block = (transposed[start : start + BLOCK_ITEMS] @ unit).tocoo()
        off = block.row + start != block.col
        values = sparse.csr_array((block.data[off], (block.row[off], block.col[off])), shape=block.shape)
        columns.append(values if neighbours is None else _largest_per_row(values, neighbours))
    return sparse.vstack(columns, format="csr").T.tocsr()


def forward_similarity(dataset: Dataset, steps: int = FORWARD_STEPS) -> sparse.csr_array:
    """How often j came at most `steps` after i in a training sequence, weighted 1 / distance: (I, I) float32.

    Divided by `sqrt(n_i n_j)`, the items' training counts, so that it has the scale of the cosine.
    """
    train, n_items = dataset.train, dataset.n_items
    total = sparse.csr_array((n_items, n_items), dtype=np.float32)
    owners = np.repeat(np.arange(len(train.lengths)), train.lengths)
    for distance in range(1, steps + 1):
        together = np.flatnonzero(owners[:-distance] == owners[distance:])
        pairs = (train.items[together], train.items[together + distance])
        weights = np.full(len(together), 1 / distance, dtype=np.float32)
        total = total + sparse.csr_array((weights, pairs), shape=total.shape)
    counts = np.bincount(train.items, minlength=n_items)
    scale = sparse.diags_array((1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32), format="csr")
    total = (scale @ total @ scale).tocsr()
    total.setdiag(0)
    total.eliminate_zeros()
    return total


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


def training_matrix(dataset: Dataset) -> sparse.csr_array:
    """Who interacted with what in training, (U, I) float32 of ones."""
    users, items = np.divmod(dataset.train.keys(dataset.n_items), dataset.n_items)
    ones = np.ones(len(users), dtype=np.float32)
    return sparse.csr_array((ones, (users, items)), shape=(dataset.n_users, dataset.n_items))


def _largest_per_row(matrix: sparse.csr_array, n: int) -> sparse.csr_array:
    """The `n` largest values of each row, ties by lower column."""
    entries = matrix.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))  # rank within the row
    kept = order[place < n]
    return sparse.csr_array((entries.data[kept], (entries.row[kept], entries.col[kept])), shape=matrix.shape)
