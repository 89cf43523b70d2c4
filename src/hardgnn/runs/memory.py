"""Fits a model in memory, where a stopped fit goes on from what it left."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardgnn.config import Config
from hardgnn.data.dataset import Dataset, same_data
from hardgnn.errors import HardGNNError
from hardgnn.models.base import Model
from hardgnn.models.query import QueryModel
from hardgnn.processes.group import processes
from hardgnn.runs.fitting import Fitted, Fitting, checked
from hardgnn.runs.warm import WarmStart
from hardgnn.training.callbacks import Callback, MovingAverage, Snapshot, State


@dataclass(frozen=True)
class Paused:
    """Where a fit in memory stands that was stopped, and what it is of."""

    state: State | None
    best: Model | None
    config: Config
    manifest: dict[str, Any]
    warm_start: dict[str, Any] | None

    def check(self, data: Dataset, config: Config, warm_start: dict[str, Any] | None) -> None:
        """Makes sure that a fit may go on from here.

        Raises:
            HardGNNError: it is of another config, data set or older run.
        """
        if config != self.config:
            raise HardGNNError("resume: the fit was started with another config; go on with the same settings")
        if not same_data(self.manifest, data.manifest):
            raise HardGNNError(f"resume: the fit was started on another data set than {data.name}")
        if warm_start != self.warm_start:
            of = "no other run" if self.warm_start is None else self.warm_start["run"]
            raise HardGNNError(f"resume: the fit was started from {of}; go on with the same warm_start")


class Stopped(KeyboardInterrupt):
    """A fit in memory was interrupted; `paused` is where it stands."""

    def __init__(self, paused: Paused) -> None:
        super().__init__()
        self.paused = paused


class Memory:
    """A fit that is kept in memory.

    Args:
        name: what the model is called.
        earlier: where a fit stands that was stopped.
    """

    folder = None

    def __init__(self, name: str, earlier: Paused | None = None) -> None:
        self.name = name
        self.best: Model | None = None if earlier is None else earlier.best
        self.state: State | None = None if earlier is None else earlier.state
        self._snapshot: Snapshot | None = None

    def keep(self, model: Model, epoch: int) -> None:
        """Keeps it; what training goes on with is copied."""
        self.best = copy.deepcopy(model) if isinstance(model, QueryModel) else model

    def callbacks(self, average: MovingAverage | None) -> list[Callback]:
        """The state after each epoch."""
        self._snapshot = Snapshot(average, self.state)
        return [self._snapshot]

    def paused(self, config: Config, data: Dataset, warm_start: dict[str, Any] | None) -> Paused:
        """Where it stands."""
        state = self.state if self._snapshot is None else self._snapshot.state
        return Paused(state, self.best, config, data.manifest, warm_start)


def fit(
    data: Dataset,
    config: Config,
    *,
    allow_leaks: bool = False,
    callbacks: Sequence[Callback] = (),
    warm_start: Path | None = None,
    earlier: Paused | None = None,
    name: str = "",
) -> Fitted:
    """Fits one model in memory.

    Args:
        data, config, allow_leaks, callbacks, warm_start: as of `hardgnn.runs.train.train`.
        earlier: where a fit stands that was stopped (`Stopped`), to go on from.
        name: what tables call the model; its kind by default.

    Raises:
        HardGNNError: as `train`.
        Stopped: interrupted.
    """
    leaking = checked(config, allow_leaks)
    if config.train is not None and config.train.shard_tables and processes().world > 1:
        raise HardGNNError("train.shard_tables: no process has the whole model in memory; name a folder to train in")
    warm = None if warm_start is None else WarmStart.plan(warm_start, config, data)
    record = None if warm is None else warm.record
    if earlier is not None:
        earlier.check(data, config, record)
    place = Memory(name or config.model.kind, earlier)
    try:
        fitted = Fitting(data, config, leaking, place, warm, callbacks).fit()
    except KeyboardInterrupt:
        raise Stopped(place.paused(config, data, record)) from None
    if place.best is not None:
        place.best.name = place.name
    return Fitted(place.best, fitted.result, fitted.lines, record)
