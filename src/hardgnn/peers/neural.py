"""The peers that learn by gradient: RecBole's networks, initialisation and losses on our batches and early stopping.

Sequential ones learn from every position of a training sequence at once instead of one row per prefix: the same
targets after the same items, many times cheaper. Pairwise ones draw one negative per interaction uniformly.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn import checkpoint
from hardgnn.baselines import training_matrix
from hardgnn.checkpoint import Progress
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluate import rank_targets
from hardgnn.files import atomic_path
from hardgnn.metrics import summarise
from hardgnn.negatives import UniformNegatives
from hardgnn.peers.peer import Fitted, Fitting, Peer
from hardgnn.runtime import epoch_generators, keep_freed_memory

BEST = "model.pt"
FIELDS = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "NEG_PREFIX": "neg_",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "device": torch.device("cpu"),
}


@dataclass(frozen=True)
class Network:
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
            return torch.sparse_coo_tensor(places, torch.from_numpy(values), matrix.shape).coalesce()

    return LightGCN


class Trained:
    """A trained network as a `Ranker`."""

    def __init__(self, network: Network, model: Any, length: int) -> None:
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


def windows(
    items: NDArray[np.integer], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Tensor, NDArray[np.int64]]:
    """The `sizes` items from each of `starts`, one higher, aligned to the left and padded with 0: (B, M), (B,)."""
    steps = np.arange(max(1, int(sizes.max(initial=0))))
    inside = steps < sizes[:, None]
    places = np.where(inside, starts[:, None] + steps, 0)
    return torch.from_numpy(np.where(inside, items[places] + 1, 0).astype(np.int64)), sizes


def sequence_batches(
    train: Histories, length: int, batch: int, rng: np.random.Generator
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Each training item but a user's first is a target once, after at most `length` items before it.

    A sequence longer than `length` is cut at other places in each epoch. Chunks of like size share a batch.

    Returns:
        Pairs of what the model is asked (item_list (B, M), length (B,), item (P,), the targets) and the mask (B, M)
        of the P positions that have one.
    """
    inputs = np.maximum(train.lengths - 1, 0)
    shift = np.where(inputs > length, rng.integers(0, length, len(inputs)), 0)
    chunks = np.where(inputs > 0, (inputs + shift + length - 1) // length, 0)
    owner = np.repeat(np.arange(len(inputs)), chunks)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    first = np.maximum(number * length - shift[owner], 0)
    sizes = np.minimum((number + 1) * length - shift[owner], inputs[owner]) - first
    starts = train.offsets[owner] + first
    order = np.lexsort((rng.random(len(owner)), sizes))
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes[order]) // batch)) + 1
    groups = np.split(order, cuts)
    for place in rng.permutation(len(groups)):
        chosen = groups[place]
        window, _ = windows(train.items, starts[chosen], sizes[chosen])
        after, _ = windows(train.items, starts[chosen] + 1, sizes[chosen])
        real = window > 0
        yield {"item_list": window, "length": torch.from_numpy(sizes[chosen]), "item": after[real]}, real


def pair_batches(
    train: Histories, negatives: UniformNegatives, batch: int, rng: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """Every training interaction once, with an item that its user has not in training: user, item, neg_item (B,)."""
    owners = np.repeat(np.arange(len(train.lengths)), train.lengths)
    order = rng.permutation(len(owners))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        drawn = negatives.sample(owners[chosen], rng)
        rows: dict[str, NDArray[np.integer]] = {
            "user": owners[chosen],
            "item": train.items[chosen],
            "neg_item": drawn,
        }
        yield {name: torch.from_numpy(values.astype(np.int64) + 1) for name, values in rows.items()}


def losses(
    network: Network,
    model: Any,
    dataset: Dataset,
    negatives: UniformNegatives | None,
    setting: dict[str, Any],
    rng: np.random.Generator,
) -> Iterator[Tensor]:
    """RecBole's loss of each batch of an epoch."""
    if negatives is not None:
        for asked in pair_batches(dataset.train, negatives, network.batch, rng):
            yield model.calculate_loss(asked)
        return
    for asked, real in sequence_batches(dataset.train, setting["length"], network.batch, rng):
        # The model takes the output at the last position; here it takes that at every position with a target.
        model.gather_indexes = lambda output, last, real=real: output[real]
        try:
            yield model.calculate_loss(asked)
        finally:
            del model.gather_indexes


def fit(network: Network, fitting: Fitting) -> Fitted:
    """Trains until validation is no longer better, and keeps the best epoch; goes on where it was killed.

    Raises:
        HardGNNError: RecBole is not installed, or there is nothing to learn from.
    """
    require_recbole()
    keep_freed_memory()
    dataset, setting, cap = fitting.dataset, fitting.setting, fitting.cap
    if network.sequential and dataset.train.lengths.max(initial=0) < 2:
        raise HardGNNError(f"{dataset.name}: no user has two training interactions, so there is nothing to learn")
    torch.manual_seed(fitting.seed)
    model = network.build(dataset, setting)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=setting["learning_rate"], weight_decay=setting.get("weight_decay", 0.0)
    )
    negatives = None if network.sequential else UniformNegatives(dataset.train, dataset.n_items)
    ranker = Trained(network, model, setting.get("length", 0))
    best = fitting.folder / BEST
    progress = checkpoint.load(fitting.folder, model, optimiser) or Progress()
    stopped = ""
    while not (stopped := _stopped(network, progress, fitting)):
        began = time.process_time()
        progress.epoch += 1
        rng, generator = epoch_generators(fitting.seed, progress.epoch)
        torch.manual_seed(generator.initial_seed())  # dropout draws from the global generator
        model.train()
        for loss in losses(network, model, dataset, negatives, setting, rng):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            fitting.report((progress.epoch - 1) / cap.epochs)  # also stops a process whose command is gone
        progress.seconds += time.process_time() - began
        _forget_vectors(model)
        if progress.epoch % network.eval_every and progress.epoch < cap.epochs:
            continue
        ranks = rank_targets(ranker, dataset, "valid")["rank"].to_numpy()
        value = summarise(ranks, (10,))["ndcg@10"]
        progress.waited += 1
        if value > progress.best_metric:
            progress.best_epoch, progress.best_metric, progress.waited = progress.epoch, value, 0
            with atomic_path(best) as temporary:
                torch.save(model.state_dict(), temporary)
        checkpoint.save(fitting.folder, progress, model, optimiser)
        fitting.validated(progress.epoch, value)
    model.load_state_dict(torch.load(best, weights_only=True))
    _forget_vectors(model)
    record = {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "stopped": stopped,
        "training_seconds": round(progress.seconds, 2),
    }
    return Fitted(ranker, sum(one.numel() for one in model.parameters()), record)


def _stopped(network: Network, progress: Progress, fitting: Fitting) -> str:
    """Why training ends here, or nothing."""
    if progress.epoch >= fitting.cap.epochs:
        return "epochs"
    if progress.waited >= network.patience:
        return "patience"
    minutes = fitting.cap.minutes
    if minutes is not None and progress.best_epoch and progress.seconds > 60 * minutes:
        return "minutes"
    return ""


def _forget_vectors(model: Any) -> None:
    """LightGCN keeps its propagated vectors for ranking; they are stale after a step."""
    if hasattr(model, "restore_user_e"):
        model.restore_user_e = model.restore_item_e = None


def require_recbole() -> None:
    """Raises HardGNNError where RecBole is not installed."""
    try:
        importlib.import_module("recbole.model.abstract_recommender")
    except ImportError as error:
        raise HardGNNError(
            f"this peer needs an extra: pip install 'hardgnn[peers]' ({str(error).splitlines()[0]})"
        ) from None


RATE = {"low": 3e-4, "high": 5e-3, "log": True}
DROPOUT = {"low": 0.1, "high": 0.6, "log": False}
LENGTH = {"choices": [50, 100, 200]}
SASREC = Network(
    "sasrec",
    "recbole.model.sequential_recommender.sasrec",
    "SASRec",
    True,
    {
        "n_heads": 2,
        "inner_size": 256,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "loss_type": "CE",
    },
    batch=2048,
    eval_every=2,
)
GRU4REC = Network(
    "gru4rec",
    "recbole.model.sequential_recommender.gru4rec",
    "GRU4Rec",
    True,
    {"loss_type": "CE"},
    batch=2048,
    eval_every=2,
    patience=10,
)
LIGHTGCN = Network(
    "lightgcn",
    "recbole.model.general_recommender.lightgcn",
    "LightGCN",
    False,
    {"require_pow": False},
    batch=4096,
    eval_every=5,
    patience=10,
)
BPR = Network("bpr", "recbole.model.general_recommender.bpr", "BPR", False, {}, batch=2048, eval_every=5, patience=10)

NEURAL = (
    Peer(
        "sasrec",
        "Kang and McAuley 2018, cross-entropy over all items",
        partial(fit, SASREC),
        {
            "learning_rate": RATE,
            "hidden_size": {"choices": [64, 128]},
            "n_layers": {"low": 1, "high": 2, "log": False},
            "dropout": DROPOUT,
            "length": LENGTH,
        },
        {"learning_rate": 1e-3, "hidden_size": 64, "n_layers": 2, "dropout": 0.5, "length": 50},
        needs=require_recbole,
    ),
    Peer(
        "gru4rec",
        "Hidasi et al. 2016 as improved by Tan et al. 2016, cross-entropy over all items",
        partial(fit, GRU4REC),
        {
            "learning_rate": RATE,
            "embedding_size": {"choices": [64, 128]},
            "hidden_size": {"choices": [64, 128, 256]},
            "num_layers": {"low": 1, "high": 2, "log": False},
            "dropout": DROPOUT,
            "length": LENGTH,
        },
        {
            "learning_rate": 1e-3,
            "embedding_size": 64,
            "hidden_size": 128,
            "num_layers": 1,
            "dropout": 0.3,
            "length": 50,
        },
        needs=require_recbole,
    ),
    Peer(
        "lightgcn",
        "He et al. 2020",
        partial(fit, LIGHTGCN),
        {
            "learning_rate": {"low": 5e-4, "high": 1e-2, "log": True},
            "embedding_size": {"choices": [64, 128]},
            "n_layers": {"low": 1, "high": 4, "log": False},
            "reg_weight": {"low": 1e-6, "high": 1e-2, "log": True},
        },
        {"learning_rate": 2e-3, "embedding_size": 64, "n_layers": 2, "reg_weight": 1e-4},
        needs=require_recbole,
    ),
    Peer(
        "bpr",
        "Rendle et al. 2009, matrix factorisation",
        partial(fit, BPR),
        {
            "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
            "embedding_size": {"choices": [32, 64, 128]},
            "weight_decay": {"low": 1e-7, "high": 1e-3, "log": True},
        },
        {"learning_rate": 1e-3, "embedding_size": 64, "weight_decay": 1e-6},
        needs=require_recbole,
    ),
)
