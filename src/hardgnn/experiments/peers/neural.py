"""The peers that learn by gradient: RecBole's networks, initialisation and losses on our batches and early stopping.

Sequential ones learn from every position of a training sequence at once instead of one row per prefix: the same
targets after the same items, many times cheaper. Pairwise ones draw one negative per interaction uniformly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardgnn.data.dataset import Dataset
from hardgnn.data.negatives import UniformNegatives
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import rank_targets
from hardgnn.experiments.peers.batches import pair_batches, sequence_batches
from hardgnn.experiments.peers.light import Fitted, Fitting, Peer, Setting
from hardgnn.experiments.peers.networks import Network, Trained, require_recbole
from hardgnn.metrics import mean_of
from hardgnn.runtime import epoch_generators, keep_freed_memory
from hardgnn.storage.tensors import open_tensors, save_tensors
from hardgnn.training import checkpoint
from hardgnn.training.checkpoint import Progress

BEST = "model.pt"


def losses(
    network: Network,
    model: Any,
    dataset: Dataset,
    negatives: UniformNegatives | None,
    setting: Setting,
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
    of = f"{dataset.manifest.get('source_sha256')} {fitting.folder.name}"
    progress = checkpoint.load(fitting.folder, model, optimiser, of=of) or Progress()
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
        value = mean_of(ranks)
        progress.waited += 1
        if value > progress.best_metric:
            progress.best_epoch, progress.best_metric, progress.waited = progress.epoch, value, 0
            weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
            save_tensors(best, weights, of, make_parent=False)
        checkpoint.save(fitting.folder, progress, model, optimiser, of=of)
        fitting.validated(progress.epoch, value)
    checkpoint.save(fitting.folder, progress, model, optimiser, of=of)  # fitted again, it stops at once
    with open_tensors(best, "remove its folder, and it is fitted again") as (stored, whose):
        if whose != of:
            raise HardGNNError(f"{best}: of another fit than the rest of its folder; remove it, and it is fitted again")
        model.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118 - no mapping
    _forget_vectors(model)
    record: dict[str, int | float | str] = {
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
