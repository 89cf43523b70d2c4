"""Fits a model of a config to a data set: a network by the trainer, any other in one go; where it is kept is told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from hardgnn.config import Config, TrainSettings, flat, leaks
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import means_of, targets_of
from hardgnn.evaluation.quality import quality_on
from hardgnn.forks import enter
from hardgnn.metrics import DEFAULT, MAIN_AT, check_choice, split
from hardgnn.models.base import ClosedForm, Model
from hardgnn.models.network import Network
from hardgnn.models.shared_query import SharedQuery
from hardgnn.ops import precision
from hardgnn.ops.form import wanted
from hardgnn.ops.native.library import native
from hardgnn.parts import CALLBACKS, MODELS, OBJECTIVES, blamed, home_of
from hardgnn.processes.group import processes
from hardgnn.runs.precision import computing
from hardgnn.runs.ranking import ranked
from hardgnn.runs.results import TrainingResult
from hardgnn.runs.tables import learnt
from hardgnn.runs.warm import WarmStart
from hardgnn.runtime import device_of, keep_freed_memory, peak_memory_mb, seeded, torch_on_one, use_threads
from hardgnn.training.callbacks import (
    Callback,
    KeepLast,
    Lines,
    MovingAverage,
    Penalty,
    Validation,
    closing,
)
from hardgnn.training.checkpoint import Progress
from hardgnn.training.optimiser import by_rows, optimiser_of
from hardgnn.training.shards import Alike, Shards
from hardgnn.training.trainer import Trainer
from hardgnn.wording import option, said


@dataclass
class Fitted:
    """What a fit gives: the best model, and what `result.json` says of it."""

    model: Model | None
    """None where it is kept in a run folder."""
    result: TrainingResult
    lines: list[dict[str, Any]]
    warm_start: dict[str, Any] | None = None
    """Of the older run that it started from."""


class Refused(HardGNNError):
    """A fit that cannot begin: nothing to learn from, or nothing to choose settings by."""


class Place(Protocol):
    """Where a fit is kept."""

    name: str

    @property
    def folder(self) -> Path | None:
        """The run folder, if there is one."""

    def keep(self, model: Model, epoch: int) -> None:
        """Keeps the best model so far."""

    def callbacks(self, average: MovingAverage | None) -> list[Callback]:
        """What keeps the state of the training, last of all after an epoch."""


def checked(config: Config, allow_leaks: bool) -> list[str]:
    """How the config leaks, where that is allowed; prepares the process.

    Raises:
        HardGNNError: it leaks and may not, or asks for what this machine has not.
    """
    enter()
    wanted()  # a form of operations that is none is told before anything is written
    leaking = leaks(config)
    if leaking and not allow_leaks:
        raise HardGNNError(
            f"{' and '.join(leaking)}: such figures are not honest; ask for them with "
            f"{option('allow_leaks', 'True')}, or set "
            "sampler.avoid=train and train.choose_on=valid"
        )
    if config.train is not None:
        check_choice(config.train.metric)
        for name in filter(None, config.train.callbacks.split(",")):
            CALLBACKS.find(name).check()
    computing(config)  # what this machine does not have is told at once
    use_threads(config.run.threads)
    keep_freed_memory()
    return leaking


@dataclass
class Fitting:
    """One fit; `place` keeps its best model. `data` is what it learns from, with nothing to choose by if `final`."""

    data: Dataset
    config: Config
    leaking: list[str]
    place: Place
    warm: WarmStart | None = None
    callbacks: Sequence[Callback] = ()

    def __post_init__(self) -> None:
        self.final = self.config.run.final
        self.data = learnt(self.config, self.data)

    def fit(self) -> Fitted:
        """Fits the model that the config names.

        Raises:
            HardGNNError: there is nothing to learn from, or the loss is no longer a number.
        """
        kind = MODELS.find(self.config.model.kind)
        with closing(self.callbacks):
            self._check_choice()
            if self.config.train is not None:
                return self._by_steps(kind, self.config.train)
            return self._in_one_go(kind)

    def _check_choice(self) -> None:
        if self.final:
            return
        part = "valid" if self.config.train is None else self.config.train.choose_on
        try:
            targets_of(self.data, part, self.config.run.protocol)
        except HardGNNError as error:
            raise Refused(str(error)) from None

    def _in_one_go(self, kind: type[ClosedForm]) -> Fitted:
        kind_of = f"model.kind={self.config.model.kind}"
        if self.warm is not None:
            raise Refused(f"{kind_of} has no weights to start from")
        if processes().world > 1:
            raise Refused(f"{kind_of} is fitted in one go by one process: start it without torchrun")
        began = time.perf_counter()
        protocol = self.config.run.protocol
        quality = _nothing_to_choose_by if self.final else quality_on(self.data, protocol=protocol)
        model = kind.fit(self.data, self.config.model, quality)
        progress = Progress(1, 1, seconds=time.perf_counter() - began)
        line: dict[str, Any] = {"epoch": 1, "seconds": round(progress.seconds, 4)}
        if not self.final:
            line["valid"] = self._figures(model, "valid", protocol, MAIN_AT)
        progress.lines.append(line)
        self.place.keep(model, 1)
        return self._fitted(progress, ("valid", protocol, MAIN_AT), model.parameters, model.chosen or None)

    def _by_steps(self, kind: type[Network], settings: TrainSettings) -> Fitted:
        shared = self._shared(kind, settings)
        generator = torch.Generator().manual_seed(self.config.run.seed)
        with seeded(generator):  # weights that a part draws by itself
            build = kind.build_share if shared else kind.build
            network = build(self.config.model, self.data, generator)
        if shared and (whole := {*network.by_rows} - {*network.shares}):
            raise Refused(
                f"train.shard_tables: model.kind={self.config.model.kind} makes {', '.join(sorted(whole))} without "
                "self.table(name, rows), so that each process would have all of it; set train.shard_tables=false"
            )
        if self.warm is not None:
            self.warm.apply(network)
        network.to(device_of(self.config.run.device))
        asked = self.config.objective
        assert asked is not None
        objective = OBJECTIVES.find(asked.kind)(asked, network, self.data)
        if len(objective) == 0:
            raise Refused(f"{self.data.name}: {_nothing_to_learn(self.data)}")
        average = None
        if settings.average_epochs > 0:
            apart = by_rows(network, settings)
            average = MovingAverage(network, settings.average_epochs, len(objective), apart)
        seed = self.config.run.seed
        context = partial(precision.computing, network.device, self.config.run.precision, network.halves)
        step = None
        if settings.shards > 1 or processes().world > 1:
            step = Shards(network, objective, settings.shards, seed, network.device, context)
        names = settings.callbacks.split(",") if processes().first else []
        named = [_made(name, self.place.folder) for name in names if name]
        told = {f"{section}.{key}": value for section, of in flat(self.config).items() for key, value in of.items()}
        for one in [*named, *self.callbacks]:
            one.fits(self.place.name, told | {"data": self.data.name})
        # Those that are named come before the log, so that it has what they add.
        ours = [*self._judging(network, average, settings), *named, Lines(), *self.place.callbacks(average)]
        if processes().world > 1:
            ours.append(Alike(average))
        trainer = Trainer(
            network,
            objective,
            optimiser_of(network, settings, average),
            epochs=settings.epochs,
            seed=seed,
            lr=settings.lr,
            lr_decay=settings.lr_decay,
            device=network.device,
            autocast=context,
            step=step,
            callbacks=[*ours, *self.callbacks],
            settle=network.catch_up,
        )
        with context():
            alone = network.torch_on_one and native(*network.parameters()) is not None
        with closing(named), torch_on_one() if alone else nullcontext():
            progress = trainer.run()
        how = settings.choose_on, self.config.run.protocol, settings.metric
        return self._fitted(progress, how, network.numbers)

    def _shared(self, kind: type[Network], settings: TrainSettings) -> bool:
        """Whether processes share out the rows of tables.

        Raises:
            Refused: that has no meaning for the model.
        """
        if not settings.shard_tables:
            return False
        if not kind.by_rows:
            raise Refused(
                f"train.shard_tables: model.kind={self.config.model.kind} has no table of which a step asks for some "
                "rows alone; set train.shard_tables=false"
            )
        return processes().world > 1

    def _judging(self, network: Network, average: MovingAverage | None, settings: TrainSettings) -> list[Callback]:
        """What averages and judges the epochs, in this order."""
        kept = network if average is None else average.network
        assert isinstance(kept, Network)

        def made() -> Any:
            now = kept.fitted(self.place.name)
            return SharedQuery(now, kept.shares) if kept.shares else now

        def judge() -> tuple[dict[str, float], Any]:
            now = made()
            return self._figures(now, settings.choose_on, self.config.run.protocol, settings.metric), now

        keep = self.place.keep
        every, patience = settings.eval_every, settings.patience
        validation: Callback = Validation(
            judge, keep, settings.metric, name=settings.choose_on, every=every, patience=patience
        )
        if self.final:
            validation = KeepLast(made, keep)
        over = getattr(settings.optimiser, "l2_over", "embeddings")
        penalty = Penalty(network.decayed(over), getattr(settings.optimiser, "l2", 0.0))
        return [*([] if average is None else [average]), penalty, validation]

    def _figures(self, model: Any, part: str, protocol: str, metric: str) -> dict[str, float]:
        name, n = split(metric)
        at, names = sorted({10, 20, n}), list(dict.fromkeys([*DEFAULT, name]))
        shards = 1 if self.config.train is None else self.config.train.shards
        return means_of(ranked(model, self.data, part, protocol, shards), at, names)

    def _fitted(
        self, progress: Progress, how: tuple[str, str, str], parameters: int, chosen: Mapping[str, Any] | None = None
    ) -> Fitted:
        """What `result.json` says of a fit that is at its end; `how` it was judged: part, protocol and metric."""
        part, protocol, metric = how
        if self.final:
            part, metric = self.config.run.learn_from, "the last epoch"
        best = next((line for line in progress.lines if line["epoch"] == progress.best_epoch), {})
        result = TrainingResult(
            dataset=self.data.name,
            best_epoch=progress.best_epoch,
            epochs=progress.epoch,
            chosen_by=f"{metric} on {part}, {protocol}",
            split=part,
            protocol=protocol,
            metrics=best.get(part, {}),
            leaks=(*self.leaking, *self.data.provenance.leaks),
            parameters=parameters,
            training_seconds=round(progress.seconds, 2),
            seconds_per_epoch=round(progress.seconds / max(1, progress.epoch), 4),
            peak_memory_mb=round(peak_memory_mb(), 1),
            seed=self.config.run.seed,
            chosen=chosen,
        )
        return Fitted(None, result, progress.lines)


def _made(name: str, folder: Path | None) -> Callback:
    """A callback by its name."""
    kind = CALLBACKS.find(name)
    with blamed(f"callback '{name}' ({home_of(kind)})"):
        found: Callback = kind(folder)
    return found


def _nothing_to_choose_by(model: Any) -> float:
    raise Refused(
        "run.learn_from=train+valid leaves no validation to choose settings by: give every setting of the model, or "
        "take them from a run that chose them "
        + said("(hardgnn train --refit RUN)", "(refit(data) of a model that chose them)")
    )


def _nothing_to_learn(data: Dataset) -> str:
    """Why no user can be learnt from."""
    if (data.train.lengths < 2).all():
        return "no user has two training interactions, so there is nothing to learn"
    return (
        f"whoever has two training interactions has met all {data.n_items:,} items, so none is left to tell what they "
        "like from what they do not; such a log has too few items"
    )
