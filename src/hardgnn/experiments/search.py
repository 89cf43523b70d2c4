"""Search beyond the grid: settings that Optuna proposes, hopeless trials stopped by their validation curve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardgnn import config as settings
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError, nearest
from hardgnn.experiments.choices import SWEEP
from hardgnn.experiments.folder import Study, opened
from hardgnn.experiments.heartbeat import Beat, TakenUp
from hardgnn.experiments.plan import Plan, Point, Run, Trials, Variant
from hardgnn.experiments.results import Figures, by_metric
from hardgnn.experiments.sweep import (
    RETRAINED,
    Retraining,
    Watched,
    check_retraining,
    refuse_second_choice,
    retrain,
)
from hardgnn.experiments.trials import JOURNAL, Asked, optuna_trials, pull_trials, require_optuna
from hardgnn.experiments.work import Reporting
from hardgnn.experiments.workers import LOCK_PATIENCE_S, Report, Task, carry_out
from hardgnn.runs.folder import METRICS, RESULT, read_metrics, read_result
from hardgnn.runs.train import train

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True)
class Search(Asked):
    """What a search asks for: trials of a preset with some `shared` settings."""

    preset: str
    shared: tuple[str, ...]

    def variant(self, params: dict[str, Any]) -> Variant:
        """The variant of some parameters, named by a digest, so that the same ones are never trained twice."""
        words = tuple(f"{key}={_short(params[key])}" for key in self.space)
        name = hashlib.sha256(json.dumps([self.preset, self.shared, words]).encode()).hexdigest()[:10]
        return Variant(f"trial-{name}", self.preset, (*self.shared, *words))


def _short(value: Any) -> str:
    """A value as a setting has it; four digits of a real number are enough to find it again."""
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def chosen_space(keys: Sequence[str], preset: str) -> dict[str, dict[str, Any]]:
    """The declared ranges of these keys, or of all that declare one and that the preset uses.

    Raises:
        HardGNNError: a key without a range; names the nearest.
    """
    config = settings.resolve(preset)
    if config.train is None:
        raise HardGNNError(f"--preset {preset}: its model is fitted in one go and chooses its settings itself")
    declared = settings.search_space(config)
    for key in keys:
        if key not in declared:
            raise HardGNNError(f"--search {key}: no search range is declared for it, {nearest(key, declared)}")
    return {key: declared[key] for key in keys or declared}


def run_search(
    data: Sequence[Path],
    out: Path,
    search: Search,
    *,
    retraining: Retraining | None = None,
    workers: int = 1,
    command: str = "",
    watched: Watched | None = None,
) -> Study:
    """Searches on every data set, then, if asked, trains the best again for longer beside a baseline.

    A trial trains all seeds, one after the other; its figure is their mean on validation. It is pruned while the
    first seed trains. The preset's own settings are the first trial. Run again it goes on: trials whose process was
    killed are taken up where they were.

    Raises:
        HardGNNError: Optuna is not installed, bad settings or data, a storage that cannot be reached, or the folder's
            best was retrained before.
    """
    require_optuna()
    watched = watched or Watched()
    if search.trials is None and search.timeout_s is None:
        raise HardGNNError("a search ends after --trials or --timeout; give one or both")
    with opened(out, shared=True) as study:
        names = study.add_data(data)
        if RETRAINED in study.plans:  # its test part has been read: the choice is final
            refuse_second_choice(study, Plan(SWEEP, names, (), search.seeds, test=False))
            if retraining is not None:
                retrain(study, study.plans[SWEEP], retraining, search.shared, workers, watched)
            return study
        before = study.plans[SWEEP].more if SWEEP in study.plans else None
        earlier = before.trials if isinstance(before, Trials) else {}
        more = Trials(search.preset, search.space, search.storage or JOURNAL, search.shared, earlier)
        plan = Plan(SWEEP, names, (), search.seeds, test=False, command=command, more=more)
        config = settings.resolve(search.preset, settings=search.shared)
        if config.run.final:
            raise HardGNNError("run.learn_from=train+valid leaves no validation for a search to choose by")
        if settings.leaks(config):
            raise HardGNNError(f"{' and '.join(settings.leaks(config))}: a search never chooses by the test part")
        check_retraining(retraining, search.shared)
        study.save(SWEEP, plan)
        for name in names:
            # A storage that cannot be reached is told before any work.
            trials = optuna_trials(search, study.folder, name)
            if not trials.trials:
                trials.enqueue_trial(_own_settings(config, search.space))
        tasks = [
            Task(f"{name} {number}", work, (study.folder, name, study.paths[name], search))
            for number in range(max(1, workers))
            for name in names
        ]
        total = len(names) * (search.trials or 0)
        watched.begins("search", total)
        errors = carry_out(tasks, workers, partial(_tell, study, search, watched))
        ended = {name: trials_of(optuna_trials(search, study.folder, name), study, name, search) for name in names}
        plan = replace(plan, more=replace(more, trials=earlier | ended))
        study.save(SWEEP, plan)
        if errors:
            error = next(iter(errors.values()))
            raise type(error)(f"the search failed: {error}")
        if retraining is not None:
            retrain(study, plan, retraining, search.shared, workers, watched)
        return study


def _own_settings(config: settings.Config, space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What `config` itself has of the settings searched, where that lies in the range."""
    document = settings.flat(config)
    own = {key: document[section][field] for key in space for section, field in [key.split(".")]}
    return {key: value for key, value in own.items() if _within(value, space[key])}


def _within(value: Any, range_: dict[str, Any]) -> bool:
    return value in range_["choices"] if "choices" in range_ else range_["low"] <= value <= range_["high"]


def _tell(study: Study, search: Search, watched: Watched, done: float, failed: int, names: str) -> None:
    """Counts finished trials by the run folders' results, without asking the storage."""
    count = sum(1 for name in study.paths for _ in (study.folder / "runs" / name).glob(f"trial-*-{search.seeds[0]}"))
    watched.told(count, failed, names)


def work(folder: Path, name: str, data_path: Path, search: Search, report: Report) -> None:
    """One worker: it pulls trials of one data set until there are enough or the time is over."""
    data = Dataset.load(data_path)

    def figure(trial: optuna.Trial, beat: Beat) -> float:
        def checked(share: float) -> None:
            beat.check()
            report(share)

        return _figure(trial, data, data_path, folder, name, search, checked)

    pull_trials(folder, name, search, figure)


def _figure(
    trial: optuna.Trial, data: Dataset, data_path: Path, folder: Path, name: str, search: Search, report: Report
) -> float:
    """The trial's mean validation figure over seeds."""
    variant = search.variant(trial.params)
    figures = []
    for seed in search.seeds:
        run = Run(name, variant, seed)
        path = folder / "runs" / run.name
        config = run.config
        choosing = config.train
        assert choosing is not None
        first = seed == search.seeds[0]
        if first:
            _report_earlier(trial, path, choosing.metric)
        watcher = _Pruning(report, trial if first else None, choosing.metric)
        shared: dict[str, Any] = {"preset": search.preset, "data_path": data_path, "patience_s": LOCK_PATIENCE_S}
        result = train(data, config, path, resume=True, callbacks=[watcher], **shared)
        figures.append(result.metrics[choosing.metric])
    return float(sum(figures) / len(figures))


class _Pruning(Reporting):
    """Reports the validation curve to the trial and stops it where the pruner says so."""

    def __init__(self, report: Report, trial: optuna.Trial | None, metric: str) -> None:
        super().__init__(report)
        self.trial, self.metric = trial, metric

    def epoch(self, line: dict[str, Any]) -> None:
        """After each epoch."""
        if self.trial is None or "valid" not in line:
            return
        try:
            self.trial.report(line["valid"][self.metric], line["epoch"])
        except RuntimeError:  # it has ended meanwhile, by another worker's hand
            raise TakenUp from None
        if self.trial.should_prune():
            raise require_optuna().TrialPruned


def _report_earlier(trial: optuna.Trial, path: Path, metric: str) -> None:
    """The validation curve of the part that was trained before a kill, or in an equal trial."""
    if (path / METRICS).exists():
        for line in read_metrics(path):
            if "valid" in line:
                trial.report(line["valid"][metric], line["epoch"])


def trials_of(trials: optuna.Study, study: Study, name: str, search: Search) -> tuple[Point, ...]:
    """The trials that ended, with validation figures where they are complete."""
    states = require_optuna().trial.TrialState
    found = []
    for trial in trials.trials:
        if set(trial.params) != set(search.space) or trial.state not in (states.COMPLETE, states.PRUNED):
            continue
        variant = search.variant(trial.params)
        complete = trial.state == states.COMPLETE
        found.append(
            Point(
                number=trial.number,
                state=trial.state.name.lower(),
                variant=variant.name,
                settings=variant.settings[len(search.shared) :],
                seeds=search.seeds if complete else None,
                valid=_figures_of(trial, study, name, variant, search) if complete else None,
            )
        )
    return tuple(found)


def _figures_of(trial: optuna.trial.FrozenTrial, study: Study, name: str, variant: Variant, search: Search) -> Figures:
    """The validation figures of a complete trial; where another machine has its run folders, the one it told."""
    choosing = variant.validation
    folders = [study.folder / "runs" / Run(name, variant, seed).name for seed in search.seeds]
    if all((folder / RESULT).exists() for folder in folders):
        return by_metric([read_result(folder)["valid"][variant.protocol] for folder in folders])
    return by_metric([{choosing.metric: float(trial.value or 0)}])
