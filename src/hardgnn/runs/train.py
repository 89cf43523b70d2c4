"""Fits a model of a config to a data set: in a run folder that can be gone on with, or in memory."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hardgnn.config import Config, TrainSettings, leaks
from hardgnn.data.dataset import Dataset, same_data
from hardgnn.errors import HardGNNError, reason, shown
from hardgnn.evaluation.protocols import evaluate
from hardgnn.evaluation.quality import quality_on
from hardgnn.forks import enter
from hardgnn.metrics import DEFAULT, JUDGED_AT, check_choice, split
from hardgnn.models.base import Model
from hardgnn.models.network import Network
from hardgnn.parts import CALLBACKS, MODELS, OBJECTIVES, blamed, home_of
from hardgnn.runs import folder as run
from hardgnn.runs.models import save_model
from hardgnn.runs.tables import RunTables, tables_of
from hardgnn.runs.warm import WarmStart
from hardgnn.runtime import autocast, device_of, keep_freed_memory, peak_memory_mb, seeded, use_threads
from hardgnn.storage.files import atomic_folder, atomic_path, sweep, writing
from hardgnn.storage.locks import Held, locked
from hardgnn.storage.records import recorded, write_json
from hardgnn.storage.tensors import open_tensors, read_seal
from hardgnn.training import checkpoint
from hardgnn.training.callbacks import Callback, Checkpoint, Lines, MovingAverage, Penalty, Snapshot, Validation
from hardgnn.training.checkpoint import Progress
from hardgnn.training.optimiser import optimiser_of
from hardgnn.training.trainer import Trainer


@dataclass
class Fitted:
    """What a fit gives: the best model, and what `result.json` says of it."""

    model: Model | None
    """None where it is kept in a run folder."""
    result: dict[str, Any]
    lines: list[dict[str, Any]]


class Stopped(KeyboardInterrupt):
    """A fit in memory was interrupted; `snapshot` is where it stands."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


def train(
    data: Dataset,
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    allow_leaks: bool = False,
    preset: str | None = None,
    data_path: Path | None = None,
    callbacks: Sequence[Callback] = (),
    warm_start: Path | None = None,
    patience_s: float = 0.0,
) -> dict[str, Any]:
    """Fits one model and keeps its best epoch by validation in the run folder.

    Args:
        data: the prepared data set; its test part is never read, but by a config that `leaks`.
        config: every setting.
        folder: the run folder, new, or with `resume` one that training stopped in.
        allow_leaks: accept a config that lets the test part steer training (`hardgnn.config.leaks`); the result says
            so.
        callbacks: told how training goes, beside those of the config.
        warm_start: an older run whose weights, matched by raw id, this one starts from (`hardgnn.runs.warm`).
        patience_s: how long to wait for another process that is at work in the folder.

    Returns:
        The result that `result.json` holds: best epoch, its validation metrics, seconds, peak memory.

    Raises:
        HardGNNError: the folder holds another run, another process trains in it, or it was removed meanwhile; the
            config leaks, the older run does not fit, or the loss is no longer a number.
        KeyboardInterrupt: stopped; the state after the last epoch is on disk.
    """
    leaking = _checked(config, allow_leaks)
    warm = None if warm_start is None else WarmStart.plan(warm_start, config, data)
    with _entered(folder, patience_s) as held:
        _open_folder(folder, config, data, data_path, preset, resume, None if warm is None else warm.record)
        try:
            earlier = run.read_result(folder)
            if earlier.get("finished"):  # what was evaluated since stays in it
                with open_tensors(folder / run.MODEL, run.AGAIN):
                    return earlier
            fitting = _Fitting(data, config, leaking, warm, callbacks, folder, held)
            return _ended(folder, held, fitting.fit())
        except (HardGNNError, MemoryError, OSError, RuntimeError) as error:
            with suppress(HardGNNError):  # where even this cannot be written, the error itself says why
                held.check()
                write_json(folder / run.FAILURE, {"error": reason(error)}, make_parent=False)
            raise


def fit(
    data: Dataset,
    config: Config,
    *,
    allow_leaks: bool = False,
    callbacks: Sequence[Callback] = (),
    warm_start: Path | None = None,
    earlier: Snapshot | None = None,
) -> Fitted:
    """Fits one model in memory; arguments as of `train`, and `earlier`, where a stopped fit stood.

    Raises:
        HardGNNError: as `train`.
        Stopped: interrupted.
    """
    leaking = _checked(config, allow_leaks)
    warm = None if warm_start is None else WarmStart.plan(warm_start, config, data)
    return _Fitting(data, config, leaking, warm, callbacks, earlier=earlier).fit()


def _checked(config: Config, allow_leaks: bool) -> list[str]:
    """How the config leaks, where that is allowed; prepares the process."""
    enter()
    leaking = leaks(config)
    if leaking and not allow_leaks:
        raise HardGNNError(
            f"{' and '.join(leaking)}: such figures are not honest; ask for them with --allow-leaks, or set "
            "sampler.avoid=train and train.choose_on=valid"
        )
    if config.train is not None:
        check_choice(config.train.metric)
    autocast(device_of(config.run.device), config.run.precision)  # what this machine does not have is told at once
    use_threads(config.run.threads)
    keep_freed_memory()
    return leaking


@dataclass
class _Fitting:
    """One fit: of a network by the trainer, of other models in one go."""

    data: Dataset
    config: Config
    leaking: list[str]
    warm: WarmStart | None
    callbacks: Sequence[Callback]
    folder: Path | None = None
    held: Held | None = None
    earlier: Snapshot | None = None
    _now: Model | None = field(default=None, init=False)
    _best: Model | None = field(default=None, init=False)

    def fit(self) -> Fitted:
        kind = MODELS.find(self.config.model.kind)
        try:
            if self.config.train is not None:
                return self._by_steps(kind, self.config.train)
            return self._in_one_go(kind)
        finally:
            for one in self.callbacks:
                one.close()

    def _in_one_go(self, kind: Any) -> Fitted:
        if self.warm is not None:
            raise HardGNNError(f"model.kind={self.config.model.kind} has no weights to start from")
        began = time.perf_counter()
        model = kind.fit(self.data, self.config.model, quality_on(self.data))
        progress = Progress(1, 1, seconds=time.perf_counter() - began)
        line: dict[str, Any] = {"epoch": 1, "seconds": round(progress.seconds, 4)}
        line["valid"] = self._figures(model, "valid", "full", JUDGED_AT)
        progress.lines.append(line)
        self._now = model
        self._keep(1)
        for callback in self.callbacks:
            callback.epoch(line)
        result = self._result(progress, f"{JUDGED_AT} on valid, full", "valid", "full")
        result["parameters"] = model.parameters
        if model.chosen:
            result["chosen"] = dict(model.chosen)
        return Fitted(self._best, result, progress.lines)

    def _by_steps(self, kind: type[Network], settings: TrainSettings) -> Fitted:
        config = self.config
        generator = torch.Generator().manual_seed(config.run.seed)
        with seeded(generator):  # weights that a part draws by itself
            network = kind.build(config.model, self.data, generator)
        if self.warm is not None:
            self.warm.apply(network)
        device = device_of(config.run.device)
        network.to(device)
        objective = OBJECTIVES.find(config.objective.kind)(config.objective, network, self.data)  # type: ignore[union-attr]
        if len(objective) == 0:
            raise HardGNNError(f"{self.data.name}: {_nothing_to_learn(self.data)}")
        optimiser = optimiser_of(network, settings)
        average = None
        if settings.average_epochs > 0:
            average = MovingAverage(network, settings.average_epochs, len(objective))
        kept = network if average is None else average.network
        assert isinstance(kept, Network)
        part = settings.choose_on

        def judge() -> dict[str, float]:
            self._now = now = kept.fitted(self._name)
            return self._figures(now, part, settings.protocol, settings.metric)

        validation = Validation(
            judge,
            self._keep,
            settings.metric,
            name=part,
            every=settings.eval_every,
            patience=settings.patience,
        )
        state = self._state(average)
        if self.earlier is not None:
            self._best = self.earlier.best
        l2 = getattr(settings.optimiser, "l2", 0.0)
        penalty = Penalty(network.decayed(getattr(settings.optimiser, "l2_over", "embeddings")), l2)
        named = [_made(name, self.folder) for name in settings.callbacks.split(",") if name]
        # those that are named come before the log, so that it has what they add
        all_of_them = [average, penalty, validation, *named, Lines(), self._log(), state, *self.callbacks]
        trainer = Trainer(
            network,
            objective,
            optimiser,
            epochs=settings.epochs,
            seed=config.run.seed,
            lr=settings.lr,
            lr_decay=settings.lr_decay,
            device=device,
            autocast=partial(autocast, device, config.run.precision),
            callbacks=[one for one in all_of_them if one is not None],
        )
        try:
            progress = trainer.run()
        except KeyboardInterrupt:
            if isinstance(state, Snapshot):
                state.best = self._best
                raise Stopped(state) from None
            raise
        finally:
            for one in named:
                one.close()
        result = self._result(progress, f"{settings.metric} on {part}, {settings.protocol}", part, settings.protocol)
        result["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        return Fitted(self._best, result, progress.lines)

    @property
    def _name(self) -> str:
        return self.config.model.kind if self.folder is None else self.folder.name

    def _state(self, average: MovingAverage | None) -> Checkpoint | Snapshot:
        if self.folder is None:
            return Snapshot(average, self.earlier)
        return Checkpoint(self.folder, run.identity(self.folder), average, self._ours)

    def _ours(self) -> None:
        if self.held is not None:
            self.held.check()

    def _log(self) -> Callback | None:
        return None if self.folder is None else _WrittenLines(self.folder, self._ours)

    def _figures(self, model: Model, part: str, protocol: str, metric: str) -> dict[str, float]:
        name, n = split(metric)
        at, names = sorted({10, 20, n}), list(dict.fromkeys([*DEFAULT, name]))
        result, _ = evaluate(model, self.data, part, protocol, at, names, resamples=1)
        return dict(result.metrics)

    def _keep(self, epoch: int) -> None:
        """Keeps the model just judged as the best so far."""
        assert self._now is not None
        if self.folder is None:
            self._best = copy.deepcopy(self._now)
            return
        self._ours()
        save_model(self.folder, self._now, epoch)

    def _result(self, progress: Progress, chosen_by: str, part: str, protocol: str) -> dict[str, Any]:
        """What `result.json` says of a training that is at its end."""
        best = next((line for line in progress.lines if line["epoch"] == progress.best_epoch), {})
        return {
            "dataset": self.data.name,
            "best_epoch": progress.best_epoch,
            "epochs": progress.epoch,
            "chosen_by": chosen_by,
            part: {protocol: best.get(part, {})},
            "leaks": [*self.leaking, *self.data.provenance.leaks],
            "parameters": 0,
            "training_seconds": round(progress.seconds, 2),
            "seconds_per_epoch": round(progress.seconds / max(1, progress.epoch), 4),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "seed": self.config.run.seed,
            "finished": True,
        }


def _made(name: str, folder: Path | None) -> Callback:
    """A callback by its name."""
    kind = CALLBACKS.find(name)
    with blamed(f"callback '{name}' ({home_of(kind)})"):
        found: Callback = kind(folder)
    return found


class _WrittenLines(Callback):
    """Writes metrics.jsonl anew after each epoch, and lets a log of an earlier version in."""

    def __init__(self, folder: Path, before: Any) -> None:
        self.folder, self.before = folder, before

    def epoch(self, line: dict[str, Any]) -> None:
        """Writes all lines."""
        self.before()
        write_lines(self.folder, self.trainer.progress.lines)


def _ended(folder: Path, held: Held, fitted: Fitted) -> dict[str, Any]:
    """Writes the result of a fit that is at its end."""
    held.check()
    write_lines(folder, fitted.lines)
    result = fitted.result | {"files": recorded(folder, [run.METRICS, run.MODEL])}
    weights = read_seal(folder / run.MODEL)

    def ended(earlier: dict[str, Any]) -> dict[str, Any]:
        # What was evaluated while training was stopped counts only where no better epoch came since.
        return (earlier if earlier.get("weights", weights) == weights else {}) | result | {"weights": weights}

    return run.write_result(folder, ended)


def _nothing_to_learn(data: Dataset) -> str:
    """Why no user can be learnt from."""
    if (data.train.lengths < 2).all():
        return "no user has two training interactions, so there is nothing to learn"
    return (
        f"whoever has two training interactions has met all {data.n_items:,} items, so none is left to tell what they "
        "like from what they do not; such a log has too few items"
    )


@contextmanager
def _entered(folder: Path, patience_s: float) -> Iterator[Held]:
    """Holds the lock of a run folder, swept of what kills left."""
    if not run.is_started(folder):
        run.check_free(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, patience_s) as held:
        for place in (folder, folder / checkpoint.FOLDER):
            sweep(place)
        yield held


def _open_folder(
    folder: Path,
    config: Config,
    data: Dataset,
    data_path: Path | None,
    preset: str | None,
    resume: bool,
    warm_start: dict[str, Any] | None,
) -> None:
    """A new run folder, or with `resume` the one that is there, if config and data are the same."""
    if not run.is_started(folder):
        run.check_free(folder)
        told: dict[str, Any] = {"data_path": data_path, "preset": preset, "warm_start": warm_start}
        run.start(folder, config, tables_of(config, data), data.manifest, **told)
        return
    if not resume:
        raise HardGNNError(f"{shown(folder)}: holds a run already; go on with --resume or choose another --out")
    record = run.check_version(folder)
    if run.load_config(folder) != config:
        raise HardGNNError(f"{shown(folder)}: was started with another config; resume it with the same settings")
    if not same_data(record["data"]["manifest"], data.manifest):
        raise HardGNNError(f"{shown(folder)}: was started on another data set")
    if record.get("warm_start") != warm_start:
        from_where = record["warm_start"]["run"] if record.get("warm_start") else "no other run"
        raise HardGNNError(f"{shown(folder)}: was started from {from_where}; resume it with the same --warm-start")
    if record["format_version"] < run.FORMAT_VERSION and not run.read_result(folder).get("finished"):
        raise HardGNNError(
            f"{shown(folder)}: stopped under an earlier version, whose training this one cannot go on with; what it "
            "has can be evaluated and served, or begin another run"
        )
    (folder / run.FAILURE).unlink(missing_ok=True)


def write_run(
    folder: Path, config: Config, fitted: Fitted, tables: RunTables, manifest: dict[str, Any], preset: str | None
) -> None:
    """Writes a fit that is in memory as a run folder.

    Raises:
        HardGNNError: the folder holds something else.
    """
    assert fitted.model is not None
    with _entered(folder, 0.0) as held:
        if run.is_started(folder):
            raise HardGNNError(f"{shown(folder)}: holds a run already; choose another folder")
        run.start(folder, config, tables, manifest, preset=preset)
        save_model(folder, fitted.model, int(fitted.result["best_epoch"]))
        _ended(folder, held, fitted)


def copy_run(source: Path, target: Path) -> None:
    """Copies a run folder whole, without the state that only its training needs.

    Raises:
        HardGNNError: the target holds something.
    """
    run.check_version(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise HardGNNError(f"{shown(target)}: holds something already; choose another folder")
    with writing(target), atomic_folder(target, run.ENVIRONMENT) as folder:
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                shutil.copyfile(path, folder / path.name)


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Writes metrics.jsonl whole."""
    with atomic_path(folder / run.METRICS, make_parent=False) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
