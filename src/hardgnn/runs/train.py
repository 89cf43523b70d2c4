"""Fits a model in a run folder, which a stopped fit goes on in; writes a fit that is in memory into one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from hardgnn.config import Config
from hardgnn.data.dataset import Dataset, same_data
from hardgnn.errors import HardGNNError, reason, shown
from hardgnn.models.base import Model
from hardgnn.processes.group import code, processes
from hardgnn.runs import folder as run
from hardgnn.runs.fitting import Fitted, Fitting, Refused, checked
from hardgnn.runs.models import save_model
from hardgnn.runs.results import TrainingResult
from hardgnn.runs.tables import RunTables, tables_of
from hardgnn.runs.warm import WarmStart
from hardgnn.runtime import use_threads
from hardgnn.storage.files import atomic_folder, atomic_path, sweep, writing
from hardgnn.storage.locks import Held, locked
from hardgnn.storage.records import digest, recorded, write_json
from hardgnn.storage.tensors import follow_tensors, open_tensors, read_seal
from hardgnn.training import checkpoint
from hardgnn.training.callbacks import Callback, Checkpoint, MovingAverage
from hardgnn.training.shared_tables import FollowedCheckpoint
from hardgnn.wording import option


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
) -> TrainingResult:
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
        Best epoch, its validation metrics, seconds, peak memory, as `result.json` keeps them.

    Raises:
        HardGNNError: the folder holds another run, another process trains in it, or it was removed meanwhile; the
            config leaks, the older run does not fit, or the loss is no longer a number.
        KeyboardInterrupt: stopped; the state after the last epoch is on disk.
    """
    leaking = checked(config, allow_leaks)
    warm = None if warm_start is None else WarmStart.plan(warm_start, config, data)
    if processes().world > 1:
        _agreed(data, config, warm)
    if not processes().first:
        return _follow(data, config, run.run_name(folder), leaking, warm)
    new = not folder.exists()
    with _entered(folder, patience_s) as held:
        begins = not run.is_started(folder)
        _open_folder(folder, config, data, data_path, preset, resume, None if warm is None else warm.record)
        try:
            earlier = run.read_result(folder)
            if earlier.get("finished"):  # what was evaluated since stays in it
                with open_tensors(folder / run.MODEL, run.AGAIN):
                    return processes().told((TrainingResult.from_dict(earlier), 0))[0]
            processes().told((None, torch.get_num_threads()))
            fitting = Fitting(data, config, leaking, _InFolder(folder, held), warm, callbacks)
            fitted = fitting.fit()
            _ended(folder, held, fitted)
            return fitted.result
        except (HardGNNError, MemoryError, OSError, RuntimeError) as error:
            if begins and isinstance(error, Refused):
                _undo(folder, new)
                raise
            with suppress(HardGNNError):  # where even this cannot be written, the error itself says why
                held.check()
                write_json(folder / run.FAILURE, {"error": reason(error)}, make_parent=False)
            raise


def _agreed(data: Dataset, config: Config, warm: WarmStart | None) -> None:
    """Makes sure that several processes are of one mind.

    Raises:
        HardGNNError: one has another version, config or data, or the step cannot be shared out.
    """
    record = digest(None if warm is None else warm.record)
    agreed = {"version of the code": code(), "config": config.to_toml(), "data set": digest(data.manifest)}
    processes().agree(agreed | {"older run to start from": record})
    if config.train is not None:
        processes().shards(config.train.shards)


def _follow(data: Dataset, config: Config, name: str, leaking: list[str], warm: WarmStart | None) -> TrainingResult:
    """What a process does while the first one trains in the folder: its part of each step, and no file."""
    finished, threads = processes().told((None, 0))
    if finished is not None:
        return finished
    torch.set_num_threads(threads)
    return Fitting(data, config, leaking, _Elsewhere(name), warm).fit().result


class _Elsewhere:
    """A fit that another process keeps."""

    folder = None

    def __init__(self, name: str) -> None:
        self.name = name

    def keep(self, model: Model, epoch: int) -> None:
        """Keeps nothing; gives its rows of what processes share out."""
        follow_tensors(model.tensors())

    def callbacks(self, average: MovingAverage | None) -> list[Callback]:
        """What gives and takes such rows."""
        return [FollowedCheckpoint(average)]


def _undo(folder: Path, new: bool) -> None:
    """Takes away what was begun in a folder for a fit that could not begin; the folder too, if it is `new`."""
    with suppress(OSError):
        for name in (run.ENVIRONMENT, *run.BEGUN):
            (folder / name).unlink(missing_ok=True)
        if new:
            shutil.rmtree(folder)


class _InFolder:
    """A fit that is kept in its run folder, whose lock it holds."""

    def __init__(self, folder: Path, held: Held) -> None:
        self.name, self.folder, self.held = run.run_name(folder), folder, held

    def keep(self, model: Model, epoch: int) -> None:
        """Writes the model, whole."""
        self.held.check()
        save_model(self.folder, model, epoch)

    def callbacks(self, average: MovingAverage | None) -> list[Callback]:
        """The log and the state after each epoch."""
        state = Checkpoint(self.folder, run.identity(self.folder), average, self.held.check)
        return [_WrittenLines(self.folder, self.held.check), state]


class _WrittenLines(Callback):
    """Writes metrics.jsonl anew after each epoch."""

    def __init__(self, folder: Path, before: Any) -> None:
        self.folder, self.before = folder, before

    def epoch(self, line: dict[str, Any]) -> None:
        """Writes all lines."""
        self.before()
        write_lines(self.folder, self.trainer.progress.lines)


def _ended(folder: Path, held: Held | None, fitted: Fitted) -> None:
    """Writes the result of a fit that is at its end."""
    if held is not None:
        held.check()
    write_lines(folder, fitted.lines)
    result = fitted.result.to_dict() | {"files": recorded(folder, [run.METRICS, run.MODEL])}
    weights = read_seal(folder / run.MODEL)

    def ended(earlier: dict[str, Any]) -> dict[str, Any]:
        # What was evaluated while training was stopped counts only where no better epoch came since.
        return (earlier if earlier.get("weights", weights) == weights else {}) | result | {"weights": weights}

    run.write_result(folder, ended)


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


def check_place(folder: Path, resume: bool) -> None:
    """Makes sure that a run may begin in a folder, or with `resume` go on there.

    Raises:
        HardGNNError: it holds a run that is not to be resumed, or something else.
    """
    if not run.is_started(folder):
        run.check_free(folder)
    elif not resume:
        how = f"go on with {option('resume', 'True')} or choose another {option('out')}"
        raise HardGNNError(f"{shown(folder)}: holds a run already; {how}")


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
    check_place(folder, resume)
    if not run.is_started(folder):
        told: dict[str, Any] = {"data_path": data_path, "preset": preset, "warm_start": warm_start}
        run.start(folder, config, tables_of(config, data), data.manifest, **told)
        return
    record = run.check_version(folder)
    if run.load_config(folder) != config:
        raise HardGNNError(f"{shown(folder)}: was started with another config; resume it with the same settings")
    if not same_data(record["data"]["manifest"], data.manifest):
        raise HardGNNError(f"{shown(folder)}: was started on another data set")
    if record.get("warm_start") != warm_start:
        from_where = record["warm_start"]["run"] if record.get("warm_start") else "no other run"
        raise HardGNNError(
            f"{shown(folder)}: was started from {from_where}; resume it with the same {option('warm_start')}"
        )
    if record["format_version"] < run.FORMAT_VERSION and not run.read_result(folder).get("finished"):
        raise HardGNNError(
            f"{shown(folder)}: stopped under an earlier version, whose training this one cannot go on with; what it "
            "has can be evaluated and served, or begin another run"
        )
    use_threads(config.run.threads, int(record.get("threads", 0)))
    (folder / run.FAILURE).unlink(missing_ok=True)


def write_run(
    folder: Path,
    config: Config,
    fitted: Fitted,
    tables: RunTables,
    manifest: dict[str, Any],
    preset: str | None,
    data_path: Path | None = None,
) -> None:
    """Writes a fit that is in memory as a run folder; `data_path` is the prepared folder, where there is one.

    Raises:
        HardGNNError: the folder holds something else.
    """
    assert fitted.model is not None
    check_new(folder)
    with writing(folder), atomic_folder(folder, run.ENVIRONMENT) as made:
        told: dict[str, Any] = {"preset": preset, "data_path": data_path, "warm_start": fitted.warm_start}
        run.start(made, config, tables, manifest, **told)
        save_model(made, fitted.model, fitted.result.best_epoch)
        _ended(made, None, fitted)


def check_new(folder: Path) -> None:
    """Raises HardGNNError where the folder holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HardGNNError(f"{shown(folder)}: holds something already; choose another folder")


def copy_run(source: Path, target: Path) -> None:
    """Copies a run folder whole, without the state that only its training needs.

    Raises:
        HardGNNError: the target holds something.
    """
    run.check_version(source)
    check_new(target)
    with writing(target), atomic_folder(target, run.ENVIRONMENT) as folder:
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                shutil.copyfile(path, folder / path.name)


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Writes metrics.jsonl whole."""
    with atomic_path(folder / run.METRICS, make_parent=False) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
