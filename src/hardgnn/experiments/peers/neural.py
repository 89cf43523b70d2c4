"""The peers that learn by gradient: trained on our batches with our early stopping, and ranked by our evaluation.

Sequential ones learn from every position of a training sequence at once instead of one row per prefix: the same
targets after the same items, many times cheaper. Pairwise ones draw one negative per interaction uniformly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.data.negatives import UniformNegatives
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import rank_targets
from hardgnn.experiments.peers.batches import pair_batches, sequence_batches, windows
from hardgnn.experiments.peers.light import FittedPeer, Peer, PeerFitting, Setting
from hardgnn.experiments.peers.networks import BPRMF, GRU4Rec, LightGCN, PeerNetwork, SASRec
from hardgnn.metrics import MAIN_AT, mean_of
from hardgnn.runtime import keep_freed_memory
from hardgnn.storage.tensors import open_tensors, save_tensors
from hardgnn.training.adam import Adam
from hardgnn.training.callbacks import Callback, Checkpoint, Validation
from hardgnn.training.trainer import Trainer

BEST = "model.pt"


@dataclass(frozen=True)
class Neural:
    """A network and how it is trained.

    `batch` counts targets; a validation comes after `eval_every` epochs, and training ends after `patience`
    validations without a better one.
    """

    name: str
    build: Callable[[Dataset, Setting], PeerNetwork]
    batch: int
    eval_every: int
    patience: int


class Trained:
    """A trained network as a `Ranker`."""

    def __init__(self, name: str, network: PeerNetwork, length: int) -> None:
        self.name, self.network, self.length = name, network, length

    @torch.no_grad()
    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I); a sequential model sees the end of the history as its window."""
        self.network.eval()
        if self.network.sequential:
            ends = histories.offsets[1:]
            starts = np.maximum(histories.offsets[:-1], ends - self.length)
            window, sizes = windows(histories.items, starts, ends - starts)
            asked = {"item_list": window, "length": torch.from_numpy(np.maximum(sizes, 1))}
        else:
            asked = {"user": torch.from_numpy(users.astype(np.int64) + 1)}
        return self.network.scores(asked)[:, 1:].contiguous().numpy()


class Losses:
    """The network's loss of each batch, as an objective of the trainer."""

    def __init__(self, batch: int, network: PeerNetwork, dataset: Dataset, length: int) -> None:
        self.batch, self.network, self.dataset, self.length = batch, network, dataset, length
        self.negatives = None if network.sequential else UniformNegatives(dataset.train, dataset.n_items)
        self._seeded = False

    def __len__(self) -> int:
        """Steps per epoch, about: where sequences are cut differs from epoch to epoch."""
        lengths = self.dataset.train.lengths
        targets = np.maximum(lengths - 1, 0) if self.network.sequential else lengths
        return max(1, int(targets.sum()) // self.batch)

    def new_epoch(self) -> None:
        """Dropout draws anew from the epoch's seed."""
        self._seeded = False

    def figures(self) -> dict[str, float]:
        """Nothing beside the loss."""
        return {}

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
        """What the network is asked, and, of a sequential one, the positions that have a target."""
        if self.negatives is not None:
            for asked in pair_batches(self.dataset.train, self.negatives, self.batch, rng):
                yield asked, None
            return
        yield from sequence_batches(self.dataset.train, self.length, self.batch, rng)

    def losses(
        self, batch: tuple[dict[str, Tensor], Tensor | None], generator: torch.Generator | None
    ) -> dict[str, tuple[float, Tensor]]:
        """The network's."""
        if generator is not None and not self._seeded:
            torch.manual_seed(generator.initial_seed())  # dropout draws from the global generator
            self._seeded = True
        return {"rec": (1.0, self.network.loss(*batch))}


class _Told(Callback):
    """Tells the search how far a fit is, and ends it where it may."""

    def __init__(self, fitting: PeerFitting) -> None:
        self.fitting = fitting

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Tells the share that is done; also stops a process whose command is gone."""
        self.fitting.report((epoch - 1) / self.trainer.epochs)

    def epoch(self, line: dict[str, Any]) -> None:
        """Tells the figure of a validation, once the state is kept."""
        if "valid" in line:
            self.fitting.validated(line["epoch"], line["valid"][MAIN_AT])

    def ends(self) -> str:
        """Whether its minutes of processor time are over."""
        minutes, progress = self.fitting.cap.minutes, self.trainer.progress
        over = minutes is not None and progress.best_epoch and progress.seconds > 60 * minutes
        return "minutes" if over else ""


def fit(kind: Neural, fitting: PeerFitting) -> FittedPeer:
    """Trains until validation is no longer better, and keeps the best epoch; goes on where it was killed.

    Raises:
        HardGNNError: there is nothing to learn from.
    """
    keep_freed_memory()
    dataset, setting, cap = fitting.dataset, fitting.setting, fitting.cap
    length = setting.get("length", 0)
    if length and dataset.train.lengths.max(initial=0) < 2:
        raise HardGNNError(f"{dataset.name}: no user has two training interactions, so there is nothing to learn")
    torch.manual_seed(fitting.seed)
    model = kind.build(dataset, setting)
    lr = setting["learning_rate"]
    optimiser = Adam(model.parameters(), lr=lr, weight_decay=setting.get("weight_decay", 0.0))
    ranker = Trained(kind.name, model, length)
    best = fitting.folder / BEST
    of = f"{dataset.manifest.get('source_sha256')} {fitting.folder.name}"

    def judge() -> tuple[dict[str, float], None]:
        return {MAIN_AT: mean_of(rank_targets(ranker, dataset, "valid")["rank"].to_numpy())}, None

    def keep(found: None, epoch: int) -> None:
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        save_tensors(best, weights, of, make_parent=False)

    validation = Validation(judge, keep, MAIN_AT, every=kind.eval_every, patience=kind.patience)
    trainer = Trainer(
        model,
        Losses(kind.batch, model, dataset, length),
        optimiser,
        epochs=cap.epochs,
        seed=fitting.seed,
        lr=lr,
        callbacks=[validation, Checkpoint(fitting.folder, of), _Told(fitting)],
        clock=time.process_time,
    )
    progress = trainer.run()
    with open_tensors(best, "remove its folder, and it is fitted again") as (stored, whose):
        if whose != of:
            raise HardGNNError(f"{best}: of another fit than the rest of its folder; remove it, and it is fitted again")
        model.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118 - no mapping
    model.train()  # nothing is kept of other weights
    record: dict[str, int | float | str] = {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "stopped": trainer.ended,
        "training_seconds": round(progress.seconds, 2),
    }
    return FittedPeer(ranker, sum(one.numel() for one in model.parameters()), record)


RATE = {"low": 3e-4, "high": 5e-3, "log": True}
DROPOUT = {"low": 0.1, "high": 0.6, "log": False}
LENGTH = {"choices": [50, 100, 200]}
SASREC = Neural("sasrec", SASRec, batch=2048, eval_every=2, patience=5)
GRU4REC = Neural("gru4rec", GRU4Rec, batch=2048, eval_every=2, patience=10)
LIGHTGCN = Neural("lightgcn", LightGCN, batch=4096, eval_every=5, patience=10)
BPR = Neural("bpr", BPRMF, batch=2048, eval_every=5, patience=10)

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
    ),
)
