"""RecBole's models, built on our data set and asked by our evaluation."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.experiments.peers.batches import windows
from hardgnn.models.similarity import training_matrix

FIELDS = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "NEG_PREFIX": "neg_",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "device": torch.device("cpu"),
}


@dataclass(frozen=True)
class PeerNetwork:
    """One of RecBole's models and how it is trained.

    `fixed` are the settings that are not searched; `batch` counts targets; a validation comes after `eval_every`
    epochs, and training ends after `patience` validations without a better one.
    """

    name: str
    module: str
    model: str
    sequential: bool
    fixed: dict[str, Any]
    batch: int
    eval_every: int
    patience: int = 5

    def build(self, dataset: Dataset, setting: dict[str, Any]) -> Any:
        """The model, untrained. RecBole keeps index 0 for padding, so that all indices are one higher than ours."""
        anomalies = torch.is_anomaly_enabled()
        found = getattr(importlib.import_module(self.module), self.model)
        torch.autograd.set_detect_anomaly(anomalies)  # importing RecBole's models turns these costly checks on
        config = FIELDS | self.fixed | setting | {"MAX_ITEM_LIST_LENGTH": setting.get("length", 0)}
        if "dropout" in setting:
            keys = ("hidden_dropout_prob", "attn_dropout_prob", "dropout_prob")
            config |= dict.fromkeys(keys, setting["dropout"])
        if self.model == "LightGCN":
            found = _with_own_adjacency(found)
        return found(config, _Sizes(dataset))


class _Sizes:
    """What RecBole's models ask of a data set."""

    def __init__(self, dataset: Dataset) -> None:
        self.sizes = {"user": dataset.n_users + 1, "item": dataset.n_items + 1}
        self.dataset = dataset

    def num(self, field: str) -> int:
        """How many indices a field has, padding included."""
        return self.sizes[field]

    def inter_matrix(self, form: str) -> Any:
        """Who interacted with what in training, (U + 1, I + 1)."""
        found = training_matrix(self.dataset).tocoo()
        return sparse.coo_matrix((found.data, (found.row + 1, found.col + 1)), (self.sizes["user"], self.sizes["item"]))


def _with_own_adjacency(model: Any) -> Any:
    """LightGCN with the same `D^-1/2 A D^-1/2`, made without a private method that SciPy no longer has."""

    class LightGCN(model):
        def get_norm_adj_mat(self) -> Tensor:
            edges = self.interaction_matrix
            matrix = sparse.block_array([[None, edges], [edges.T, None]], format="coo")
            scale = (np.asarray(matrix.sum(axis=1)).ravel() + 1e-7) ** -0.5
            values = (scale[matrix.row] * scale[matrix.col]).astype(np.float32)
            places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
            shape = torch.Size(matrix.shape)
            return torch.sparse_coo_tensor(places, torch.from_numpy(values), shape, check_invariants=True).coalesce()

    return LightGCN


class Trained:
    """A trained network as a `Ranker`."""

    def __init__(self, network: PeerNetwork, model: Any, length: int) -> None:
        self.name, self.network, self.model, self.length = network.name, network, model, length

    @torch.no_grad()
    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I); a sequential model sees the end of the history as its window."""
        self.model.eval()
        if self.network.sequential:
            ends = histories.offsets[1:]
            starts = np.maximum(histories.offsets[:-1], ends - self.length)
            window, sizes = windows(histories.items, starts, ends - starts)
            asked = {"item_list": window, "length": torch.from_numpy(np.maximum(sizes, 1))}
        else:
            asked = {"user": torch.from_numpy(users.astype(np.int64) + 1)}
        return self.model.full_sort_predict(asked).view(len(users), -1)[:, 1:].contiguous().numpy()


def require_recbole() -> None:
    """Raises HardGNNError where RecBole is not installed."""
    try:
        importlib.import_module("recbole.model.abstract_recommender")
    except ImportError as error:
        raise HardGNNError(
            f"this peer needs an extra: pip install 'hardgnn[peers]' ({str(error).splitlines()[0]})"
        ) from None
