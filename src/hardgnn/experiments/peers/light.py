"""What a peer is, and the peers that need no gradient: popularity, item neighbours, EASE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import Ranker
from hardgnn.models.neighbours import ItemKNN, ItemToItem, Popularity, RecencyKNN
from hardgnn.models.similarity import training_matrix

EASE_ITEMS = 40_000  # its item-to-item matrix is dense: 6.4 GB, and as much again while it is inverted


Setting = dict[str, Any]
"""A peer's hyperparameters by name: numbers, texts or None, as its search space has them."""


@dataclass(frozen=True)
class Cap:
    """Where the training of one neural peer ends at the latest.

    `minutes` are processor time of training, without validation, so that a busy machine cuts nothing short.
    """

    epochs: int = 300
    minutes: float | None = None


@dataclass(frozen=True)
class Fitted:
    """A fitted peer and what its result.json tells of its training."""

    ranker: Ranker
    parameters: int
    record: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitting:
    """What a peer is fitted with. `folder` keeps its state, so that a killed training goes on where it was.

    `validated` is told the epoch and the NDCG@10 of each validation, and may raise to end a hopeless trial; `report`
    is told the share of the epochs that is done.
    """

    dataset: Dataset
    setting: Setting
    seed: int
    cap: Cap
    folder: Path
    validated: Callable[[int, float], None] = lambda epoch, value: None
    report: Callable[[float], None] = lambda share: None


@dataclass(frozen=True)
class Peer:
    """A model to compare with.

    `space` holds the ranges that its search tries, in the form of `hardgnn.config.search_space`, and `ordinary` the
    setting that the search tries first. A deterministic peer is fitted once, whatever the seeds.
    """

    name: str
    source: str
    fit: Callable[[Fitting], Fitted]
    space: dict[str, dict[str, Any]]
    ordinary: Setting
    deterministic: bool = False
    needs: Callable[[], None] = lambda: None
    """Raises HardGNNError where its library is not installed."""


class EASE:
    """Linear item-to-item model in closed form: `B = I − P diag(P)⁻¹` with `P = (XᵀX + λI)⁻¹`, zero on the diagonal.

    `X` (U, I) are the training interactions, zeros and ones; a user's scores are the profile, also of zeros and ones,
    times `B` (I, I), which is dense.

    Raises:
        HardGNNError: more than `EASE_ITEMS` items.

    Source: Steck, Embarrassingly shallow autoencoders for sparse data, 2019, algorithm 1.
    """

    name = "ease"

    def __init__(self, dataset: Dataset, weight: float) -> None:
        if dataset.n_items > EASE_ITEMS:
            raise HardGNNError(
                f"{dataset.name}: ease keeps a dense matrix of items by items, {dataset.n_items:,} are too many for "
                f"it; leave it out of --peers above {EASE_ITEMS:,}"
            )
        users = training_matrix(dataset)
        gram = torch.from_numpy((users.T @ users).toarray())
        gram.diagonal().add_(weight)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weights = inverse / -inverse.diagonal()
        weights.fill_diagonal_(0)
        self.weights = weights.numpy()  # (I, I)

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I)."""
        n_items = len(self.weights)
        rows, items = np.divmod(histories.keys(n_items), n_items)  # each item of a profile once
        profile = np.zeros((len(users), n_items), dtype=np.float32)
        profile[rows, items] = 1
        return (torch.from_numpy(profile) @ torch.from_numpy(self.weights)).numpy()


def fit_popularity(fitting: Fitting) -> Fitted:
    """`hardgnn.models.neighbours.Popularity`."""
    return Fitted(Popularity(fitting.dataset), fitting.dataset.n_items)


def fit_item_knn(fitting: Fitting) -> Fitted:
    """`hardgnn.models.neighbours.ItemKNN`."""
    return _neighbours(ItemKNN(fitting.dataset, **fitting.setting))


def fit_recency_knn(fitting: Fitting) -> Fitted:
    """`hardgnn.models.neighbours.RecencyKNN`."""
    return _neighbours(RecencyKNN(fitting.dataset, **fitting.setting))


def fit_ease(fitting: Fitting) -> Fitted:
    """`EASE`."""
    ranker = EASE(fitting.dataset, **fitting.setting)
    return Fitted(ranker, ranker.weights.size)


def _neighbours(ranker: ItemToItem) -> Fitted:
    return Fitted(ranker, ranker.similarity.nnz)


LAST = [1, 2, 3, 5, 10, 20, 50, None]

LIGHT = (
    Peer("pop", "number of training interactions", fit_popularity, {}, {}, deterministic=True),
    Peer(
        "itemknn",
        "Sarwar et al. 2001, cosine",
        fit_item_knn,
        {"last": {"choices": LAST}, "neighbours": {"choices": [20, 100, 500, 2000]}},
        {"last": None, "neighbours": 100},
        deterministic=True,
    ),
    Peer(
        "recencyknn",
        "cosine and transitions, the last items weighted by age, times a power of popularity",
        fit_recency_knn,
        {
            "last": {"choices": LAST[:-1]},
            "decay": {"low": 0.5, "high": 1.0, "log": False},
            "forward": {"low": 0.1, "high": 10.0, "log": True},
            "popularity": {"low": 0.0, "high": 0.5, "log": False},
            "backward": {"low": 0.0, "high": 1.0, "log": False},
        },
        {"last": 5, "decay": 0.7, "forward": 1.0, "popularity": 0.0, "backward": 0.0},
        deterministic=True,
    ),
    Peer(
        "ease",
        "Steck 2019, closed form",
        fit_ease,
        {"weight": {"low": 1.0, "high": 5000.0, "log": True}},
        {"weight": 250.0},
        deterministic=True,
    ),
)
