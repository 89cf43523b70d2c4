"""Trials that any number of processes and machines pull from one Optuna study (TPE), kept in a journal or a database.

Trials of workers that are gone are taken up by the others: `heartbeat.py` tells who is.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardgnn.errors import HardGNNError, MachineError, reason
from hardgnn.experiments.heartbeat import SIGNS, Beat, TakenUp, Watch, sign, signs_of
from hardgnn.experiments.workers import LOCK_PATIENCE_S
from hardgnn.storage.locks import locked

if TYPE_CHECKING:
    import optuna

JOURNAL, JOURNAL_LOCK = "trials.journal", ".trials.lock"
LONGEST_LINE = 1 << 20  # bytes of the journal
LOOK_S = 1.0  # between two looks, where nothing is left but to wait
QUEUED = "fixed_params"  # where Optuna keeps the settings of a queued trial
STARTUP = 10  # trials drawn at random before TPE models them; pruning starts after half as many


@dataclass(frozen=True)
class Asked:
    """What is asked of an Optuna study.

    `space` maps keys to declared ranges; `trials` and `timeout_s` end it, whichever comes first; `storage` is a
    database address, or None for the journal in the study folder.
    """

    space: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    trials: int | None = None
    timeout_s: float | None = None
    storage: str | None = None


def pull_trials(folder: Path, name: str, search: Asked, figure: Callable[[optuna.Trial, Beat], float]) -> None:
    """Asks for settings and tells their figures until there are enough or the time is over; killed ones go on first.

    A trial of another machine is taken up once that has been silent for `hardgnn.experiments.heartbeat.GRACE_S`.

    Args:
        folder: keeps the journal and the worker's sign of life.
        name: of the Optuna study.
        figure: the figure of one trial, the higher the better; it may raise TrialPruned, and checks the beat between
            its steps.
    """
    optuna = require_optuna()
    began = time.monotonic()
    me = uuid.uuid4().hex
    with locked(folder, name=sign(me)):
        watch = Watch(folder, search.storage is None, me)
        while search.timeout_s is None or time.monotonic() - began < search.timeout_s:
            trials = optuna_trials(search, folder, name)
            states = optuna.trial.TrialState
            waits = _take_up_killed(trials, search, watch)
            counted = _counted(trials.trials)
            waiting = sum(t.state == states.WAITING for t in counted)
            if search.trials is not None and len(counted) - waiting >= search.trials:
                if not waits:
                    break
                time.sleep(LOOK_S)  # whoever is at the last ones may be gone
                continue
            trials.sampler = _sampler(search.seeds[0])
            trial = trials.ask({key: _distribution(range_) for key, range_ in search.space.items()})
            trial.set_user_attr("worker", me)
            trial.set_user_attr("host", platform.node())
            trial.set_user_attr(SIGNS, signs_of(folder))
            if not _is_needed(trials, trial, search):
                continue
            try:
                with Beat(trials, trial) as beat:
                    value = figure(trial, beat)
                trials.tell(trial, value, skip_if_finished=True)  # somebody may have taken it for gone
            except TakenUp:
                continue
            except optuna.TrialPruned:
                trials.tell(trial, state=states.PRUNED, skip_if_finished=True)
            except MachineError:  # nothing is wrong with the trial: it is taken up again as a killed one
                raise
            except HardGNNError as error:
                trial.set_user_attr("error", str(error))
                trials.tell(trial, state=states.FAIL, skip_if_finished=True)
    (folder / sign(me)).unlink(missing_ok=True)


def _counted(trials: list[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """All but those whose worker is gone."""
    failed = require_optuna().trial.TrialState.FAIL
    return [trial for trial in trials if trial.state != failed or "error" in trial.user_attrs]


def _take_up_killed(trials: optuna.Study, search: Asked, watch: Watch) -> bool:
    """Puts trials whose worker is gone back into the queue; their run folders go on.

    Returns:
        Whether there are some of whose workers it is not known yet.
    """
    states = require_optuna().trial.TrialState
    waits = False
    for trial in trials.trials:
        if trial.state != states.RUNNING:
            continue
        alive = watch.alive(trial)
        waits |= alive is None
        if alive is False:
            # What was queued is queued again; a proposal that was cut short is made again by the sampler.
            whole = set(trial.params) == set(search.space)
            params = trial.params if whole else trial.system_attrs.get(QUEUED)
            waiting = [one.system_attrs.get(QUEUED) for one in trials.trials if one.state == states.WAITING]
            if params is not None and params not in waiting:
                trials.enqueue_trial(params)
            trials.tell(
                trial.number, state=states.FAIL, skip_if_finished=True
            )  # last: a kill before it does this again
    return waits


def _is_needed(trials: optuna.Study, trial: optuna.Trial, search: Asked) -> bool:
    """Whether a trial that was just asked for is to be carried out; workers that ask at once may get one too many.

    What was queued twice is dropped. Settings that somebody had or is at are no work, but count: with the same figure,
    or with none.
    """
    states = require_optuna().trial.TrialState
    every = trials.get_trials(deepcopy=False)
    before = [one for one in _counted(every) if one.number < trial.number]
    twins = [one for one in before if one.params == trial.params]
    begun = [one for one in before if one.state != states.WAITING]
    if search.trials is not None and len(begun) >= search.trials:
        trials.tell(trial, state=states.FAIL)
        return False
    if twins and QUEUED in every[trial.number].system_attrs:
        trials.tell(trial, state=states.FAIL)
        return False
    for one in twins:
        if one.state == states.COMPLETE:
            trials.tell(trial, one.value)
            return False
    if any(one.state == states.RUNNING for one in twins):
        trial.set_user_attr("error", f"the same settings as of trial {twins[0].number}, which is under way")
        trials.tell(trial, state=states.FAIL)
        return False
    return True


def optuna_trials(search: Asked, folder: Path, name: str) -> optuna.Study:
    """The Optuna study of one data set.

    Raises:
        HardGNNError: the storage cannot be reached.
    """
    optuna = require_optuna()
    from optuna.storages.journal import JournalFileBackend

    journal = folder / JOURNAL
    try:
        lock: Any = JournalLock(folder)
        storage: Any = search.storage or optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP // 2),
        )
    except Exception as error:  # each database driver has its own
        raise HardGNNError(f"{search.storage or journal}: cannot keep trials there ({reason(error)})") from None


class JournalLock:
    """The lock of the journal, released by the system where its holder is killed; Optuna's own then waits for long."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._held = folder, ExitStack()

    def acquire(self) -> bool:
        """Waits for it."""
        self._held.enter_context(locked(self.folder, LOCK_PATIENCE_S, JOURNAL_LOCK))
        _without_torn_line(self.folder / JOURNAL)
        return True

    def release(self) -> None:
        """Gives it back."""
        self._held.close()


def _without_torn_line(journal: Path) -> None:
    """Takes off what a kill left of a line, to which the next one would be joined; who calls holds the lock."""
    if not journal.exists():
        return
    with journal.open("r+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - LONGEST_LINE))
        tail = handle.read()
        if tail and not tail.endswith(b"\n"):
            handle.truncate(size - len(tail) + tail.rfind(b"\n") + 1)


def _sampler(seed: int) -> Any:
    """Proposals that depend on the trials before alone: a stopped search with one worker repeats itself, and workers
    who ask at once get different ones."""
    samplers = require_optuna().samplers

    class Numbered(samplers.BaseSampler):  # type: ignore[name-defined]
        """TPE, whose seed is told by how many trials there are before the one that is asked for."""

        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            before = sum(one.number < trial.number for one in _counted(study.get_trials(deepcopy=False)))
            more = {"n_startup_trials": STARTUP, "multivariate": True, "constant_liar": True}
            self.inner = samplers.TPESampler(seed=seed + before, **more)

        def infer_relative_search_space(self, *words: Any) -> Any:
            return self.inner.infer_relative_search_space(*words)

        def sample_relative(self, *words: Any) -> Any:
            return self.inner.sample_relative(*words)

        def sample_independent(self, *words: Any) -> Any:
            return self.inner.sample_independent(*words)

    return Numbered()


def _distribution(range_: dict[str, Any]) -> Any:
    """Optuna's form of a declared range."""
    distributions = require_optuna().distributions
    if "choices" in range_:
        return distributions.CategoricalDistribution(range_["choices"])
    if isinstance(range_["low"], int) and isinstance(range_["high"], int):
        return distributions.IntDistribution(range_["low"], range_["high"], log=range_["log"])
    return distributions.FloatDistribution(range_["low"], range_["high"], log=range_["log"])


def require_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        HardGNNError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise HardGNNError("a search for settings needs an extra: pip install 'hardgnn[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
