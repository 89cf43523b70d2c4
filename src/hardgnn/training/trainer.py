"""The loop: batches, losses, steps, epochs. What happens around it is told to callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hardgnn.errors import HardGNNError
from hardgnn.processes.group import processes
from hardgnn.runtime import epoch_generators, seeded
from hardgnn.training.callbacks import Callback
from hardgnn.training.checkpoint import Progress
from hardgnn.training.objectives.base import Objective


class Trainer:
    """Trains any module whose losses an `Objective` tells: ours, and the neural peers.

    Args:
        network: what learns.
        objective: its batches and losses.
        optimiser: of its parameters; a group's `rate` multiplies the learning rate.
        epochs: at most.
        seed: each epoch's random numbers come from it and the epoch's number, so that a resumed run draws the same.
        lr, lr_decay: the learning rate of the first epoch, and the factor on it per epoch.
        callbacks: told of each step and epoch, in this order; they begin in the reverse one.
        settle: brings up what the steps of an epoch have left for later (`hardgnn.training.rows`), before weights are
            read.
        device: where the network is, and its dropout draws.
        autocast: makes the context that losses are computed in.
        step: leaves the gradients of a batch, of which epoch and step it is told, and answers the loss and its terms
            (`hardgnn.training.shards`); in one go by default.
        clock: tells the seconds that the log and the progress count.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        *,
        epochs: int,
        seed: int,
        lr: float,
        lr_decay: float = 1.0,
        callbacks: Sequence[Callback] = (),
        settle: Callable[[], None] = lambda: None,
        device: torch.device | str = "cpu",
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        step: Callable[[Any, int, int, torch.Generator], tuple[float, dict[str, float]]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.network, self.objective, self.optimiser = network, objective, optimiser
        self.epochs, self.seed, self.lr, self.lr_decay = epochs, seed, lr, lr_decay
        self.callbacks, self.settle, self.device = tuple(callbacks), settle, device
        self.autocast, self.clock = autocast, clock
        self.step = step or self._whole
        self.progress = Progress()

    @property
    def ended(self) -> str:
        """Why training is at its end: `epochs`, or what a callback says; nothing where it goes on."""
        if self.progress.epoch >= self.epochs:
            return "epochs"
        return processes().told(next((why for callback in self.callbacks if (why := callback.ends())), ""))

    def run(self) -> Progress:
        """Trains to the last epoch, or until a callback stops it.

        Raises:
            HardGNNError: the loss is no longer a number.
        """
        for callback in self.callbacks:
            callback.restore(self)
        for callback in self.callbacks:
            callback.begin(self)
        while not self.ended:
            epoch = self.progress.epoch + 1
            lr = self.lr * self.lr_decay ** (epoch - 1)
            for group in self.optimiser.param_groups:
                group["lr"] = group.get("rate", 1.0) * lr
            began = self.clock()
            means = self._epoch(epoch)
            self.settle()
            seconds = self.clock() - began
            self.progress.epoch, self.progress.seconds = epoch, self.progress.seconds + seconds
            line = {"epoch": epoch, "lr": lr} | {f"loss_{name}": value for name, value in means.items()}
            line |= self.objective.figures() | {"seconds": round(seconds, 4)}
            for callback in self.callbacks:
                callback.epoch(line)
        for callback in self.callbacks:
            callback.end()
        return self.progress

    def _epoch(self, epoch: int) -> dict[str, float]:
        """The mean of each loss term over the steps of an epoch, without its coefficient."""
        rng, generator = epoch_generators(self.seed, epoch, self.device)
        self.network.train()
        with seeded(generator):  # as a layer's own dropout is drawn
            return self._steps(epoch, rng, generator)

    def _steps(self, epoch: int, rng: np.random.Generator, generator: torch.Generator) -> dict[str, float]:
        sums: dict[str, float] = {}
        steps, done = len(self.objective), 0
        self.objective.new_epoch()
        for number, batch in enumerate(self.objective.batches(rng), 1):
            value, terms = self.step(batch, epoch, number, generator)
            if not np.isfinite(value):
                raise HardGNNError(f"epoch {epoch}: the loss is {value}; try a smaller train.lr")
            self.optimiser.step()
            for callback in self.callbacks:
                callback.updated()
            self.optimiser.zero_grad()  # here, so that no gradient takes room while the next step goes forward
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term
            done = number
            for callback in self.callbacks:
                callback.step(epoch, number, steps, value)
        return {name: value / done for name, value in sums.items()}

    def _whole(self, batch: Any, epoch: int, step: int, generator: torch.Generator) -> tuple[float, dict[str, float]]:
        with self.autocast():
            terms = self.objective.losses(batch, generator)
        loss = total(terms)
        loss.backward()
        return loss.item(), {name: term.item() for name, (_, term) in terms.items()}


def total(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
    """The sum of the terms times their coefficients; the L2 term is the optimiser's weight decay, the same gradient."""
    (first, *rest) = terms.values()
    found = first[1] if first[0] == 1 else first[0] * first[1]
    for weight, term in rest:
        found = found + weight * term
    return found
