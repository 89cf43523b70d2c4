"""What listens to training: validation, averages, checkpoints, your own (docs/extending.md)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hardgnn.errors import shown
from hardgnn.parts import CALLBACKS
from hardgnn.training import checkpoint
from hardgnn.wording import warn

if TYPE_CHECKING:
    from hardgnn.training.trainer import Trainer


class Callback:
    """Told how training goes; what it raises ends training. All methods do nothing by default.

    A model that is fitted in one go tells them nothing. One of your own is registered by `@callback("name")`, named in
    `train.callbacks`, and made with the run folder, or None where there is none.
    """

    trainer: Trainer

    def __init__(self, folder: Path | None = None) -> None:
        """One that is named is made so; nothing is kept of it here."""

    @classmethod
    def check(cls) -> None:
        """Before anything is written: raises HardGNNError where the callback cannot be used, as without its library."""

    def fits(self, name: str, settings: Mapping[str, Any]) -> None:
        """First of all: what the model is called, and all settings by name, as in `model.dim`."""

    def restore(self, trainer: Trainer) -> None:
        """Before any callback begins: what has kept a training that was stopped brings back where it stood."""

    def begin(self, trainer: Trainer) -> None:
        """Before the first step; a resumed training is at its epoch (`trainer.progress`)."""
        self.trainer = trainer

    def updated(self) -> None:
        """After the weights of a step have changed; `trainer.settle()` brings up rows that it did not ask for."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """After each step, counted from 1, of so many steps."""

    def epoch(self, line: dict[str, Any]) -> None:
        """After each epoch, with its line of metrics.jsonl, to which earlier callbacks have added."""

    def validated(self, metric: str, value: float) -> None:
        """After a validation, with the figure that is compared."""

    def ends(self) -> str:
        """Why training is at its end, asked before each epoch; nothing where it may go on."""
        return ""

    def end(self) -> None:
        """After the last epoch."""

    def close(self) -> None:
        """When training has ended in whatever way."""


def callback(name: str) -> Callable[[type[Callback]], type[Callback]]:
    """Registers a class as the callback of that name.

    Raises:
        HardGNNError: the name cannot be, or is taken; or the class lacks a method that every callback has.
    """
    return CALLBACKS.register(name)


class MovingAverage(Callback):
    """Keeps an average of the weights: per step the past weighs 1 − 1 / (epochs · steps of an epoch).

    `network` is the average, which validation ranks and the run keeps. It begins with the weights after the first step.

    Args:
        network: whose weights.
        epochs: how far it looks back.
        steps: of an epoch.
        apart: parameters, by name, whose average somebody else keeps up (`hardgnn.training.rows`).
    """

    def __init__(self, network: nn.Module, epochs: float, steps: int, apart: Iterable[str] = ()) -> None:
        self.past = max(0.0, 1 - 1 / (epochs * steps))
        self.network = copy.deepcopy(network)
        self._steps = torch.tensor(0)
        self._apart = frozenset(apart)
        self._mix = get_ema_multi_avg_fn(self.past)

    @torch.no_grad()
    def updated(self) -> None:
        """Takes a step's weights in."""
        ours, theirs = (
            [parameter.detach() for name, parameter in one.named_parameters() if name not in self._apart]
            for one in (self.network, self.trainer.network)
        )
        if self._steps == 0:
            for mean, now in zip(ours, theirs, strict=True):
                mean.copy_(now)
        else:
            self._mix(ours, theirs, self._steps)
        for mean, now in zip(self.network.buffers(), self.trainer.network.buffers(), strict=True):
            mean.copy_(now)
        self._steps += 1

    def state(self) -> dict[str, Tensor]:
        """The average's weights, and the number of steps in it, by name."""
        found = {f"module.{name}": value.detach() for name, value in self.network.named_parameters()}
        found |= {f"module.{name}": value for name, value in self.network.named_buffers()}
        return found | {"n_averaged": self._steps}


class Penalty(Callback):
    """Tells `l2 · Σ‖θ‖²` of some parameters in the log."""

    def __init__(self, parameters: list[Tensor], l2: float) -> None:
        self.parameters, self.l2 = parameters, l2

    @torch.no_grad()
    def epoch(self, line: dict[str, Any]) -> None:
        """Adds it."""
        of = self.parameters if self.l2 else []  # a table may be as large as half of the memory
        line["loss_l2"] = float(self.l2 * sum(float(parameter.square().sum()) for parameter in of))


class Validation(Callback):
    """Judges every few epochs, keeps the best one, and stops where there was no better one for long.

    Args:
        judge: the figures of the network as it is now, and what may be kept of it.
        keep: told the epoch of the best network so far, which is the one just evaluated.
        metric: the figure that is compared, the higher the better.
        name: what the figures are called in the log.
        every: epochs between two looks; the last epoch has one, too.
        patience: looks without improvement before training stops; 0 never stops.
    """

    def __init__(
        self,
        judge: Callable[[], tuple[dict[str, float], Any]],
        keep: Callable[[Any, int], None],
        metric: str,
        *,
        name: str = "valid",
        every: int = 1,
        patience: int = 0,
    ) -> None:
        self.judge, self.keep, self.metric, self.name = judge, keep, metric, name
        self.every, self.patience = every, patience

    def epoch(self, line: dict[str, Any]) -> None:
        """Adds the figures."""
        progress = self.trainer.progress
        if progress.epoch % self.every and progress.epoch != self.trainer.epochs:
            return
        line[self.name], found = self.judge()
        value = line[self.name][self.metric]
        if value > progress.best_metric:
            progress.best_metric, progress.best_epoch, progress.waited = value, progress.epoch, 0
            self.keep(found, progress.epoch)
        else:
            progress.waited += 1
        for listener in self.trainer.callbacks:
            listener.validated(self.metric, value)

    def ends(self) -> str:
        """Whether it has waited long enough."""
        return "patience" if 0 < self.patience <= self.trainer.progress.waited else ""

    def last_epoch(self) -> int:
        """The epoch that training ends after if no look is better any more."""
        progress = self.trainer.progress
        if self.patience == 0:
            return self.trainer.epochs
        looks = max(0, self.patience - progress.waited)
        return min(self.trainer.epochs, (progress.epoch // self.every + looks) * self.every)


class KeepLast(Callback):
    """Keeps the last epoch, where there is nothing to judge one by.

    Args:
        made: what may be kept of the network as it is now.
        keep: told it, and the epoch.
    """

    def __init__(self, made: Callable[[], Any], keep: Callable[[Any, int], None]) -> None:
        self.made, self.keep = made, keep

    def epoch(self, line: dict[str, Any]) -> None:
        """After the last one."""
        progress = self.trainer.progress
        if progress.epoch == self.trainer.epochs:
            progress.best_epoch = progress.epoch
            self.keep(self.made(), progress.epoch)


class Checkpoint(Callback):
    """Keeps all that a stopped training needs to go on to the same result, in a folder, replaced as one.

    Args:
        folder: where.
        of: tells whose training it is; the state of another is refused.
        average: the moving average, if there is one.
        before: called before anything is written, for instance to make sure that the folder is still ours.
    """

    def __init__(
        self, folder: Path, of: str, average: MovingAverage | None = None, before: Callable[[], None] = lambda: None
    ) -> None:
        self.folder, self.of, self.average, self.before = folder, of, average, before

    def restore(self, trainer: Trainer) -> None:
        """Goes on where an earlier training was stopped.

        Raises:
            HardGNNError: the state is damaged or of another training.
        """
        found = checkpoint.load(self.folder, trainer.network, trainer.optimiser, self._average(), of=self.of)
        trainer.progress = found or trainer.progress

    def epoch(self, line: dict[str, Any]) -> None:
        """Writes the state."""
        self.before()
        self.save()

    def save(self) -> None:
        """Writes the state now."""
        trainer = self.trainer
        checkpoint.save(self.folder, trainer.progress, trainer.network, trainer.optimiser, self._average(), of=self.of)

    def _average(self) -> dict[str, Tensor]:
        return {} if self.average is None else self.average.state()


State = tuple[dict[str, Any], dict[str, Tensor]]
"""Where a training stands: its progress, and the tensors of `checkpoint.tensors_of` on the processor."""


class Snapshot(Callback):
    """As `Checkpoint`, in memory: of a training without a folder, so that it can go on after an interrupt."""

    def __init__(self, average: MovingAverage | None = None, earlier: State | None = None) -> None:
        self.average, self.state = average, earlier

    def restore(self, trainer: Trainer) -> None:
        """Goes on where an earlier training was stopped."""
        if self.state is not None:
            progress, tensors = self.state
            trainer.progress = checkpoint.Progress(**copy.deepcopy(progress))
            checkpoint.put(tensors, trainer.network, trainer.optimiser, self._average())

    def epoch(self, line: dict[str, Any]) -> None:
        """Copies the state."""
        trainer = self.trainer
        tensors = checkpoint.tensors_of(trainer.network, trainer.optimiser, self._average())
        copied = {name: value.to("cpu", copy=True) for name, value in tensors.items()}
        self.state = asdict(trainer.progress), copied

    def _average(self) -> dict[str, Tensor]:
        return {} if self.average is None else self.average.state()


class Lines(Callback):
    """Gathers the line of each epoch in the progress, for the log and for a resumed training."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Adds it."""
        self.trainer.progress.lines.append(line)


@contextmanager
def closing(callbacks: Iterable[Callback]) -> Iterator[None]:
    """Closes all of them in the end, whatever one says; where something else went wrong, that is what is told."""
    failed: Exception | None = None
    ended = False
    try:
        yield
        ended = True
    finally:
        for one in callbacks:
            try:
                one.close()
            except Exception as error:
                failed = failed or error
                warn(f"{type(one).__name__} could not be closed: {shown(str(error))}")
    if ended and failed is not None:
        raise failed
