"""Trials that any number of processes and machines pull from one Optuna study (TPE), kept in a journal or a database.

A worker signs in the study's folder by a lock; trials of those that are gone are taken up by the others.
"""

from __future__ import annotations

import os
import platform
import re
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardgnn.errors import HardGNNError, MachineError, reason
from hardgnn.experiments.workers import LOCK_PATIENCE_S
from hardgnn.storage.locks import is_locked, locked

if TYPE_CHECKING:
    import optuna

JOURNAL, JOURNAL_LOCK = "trials.journal", ".trials.lock"
LONGEST_LINE = 1 << 20  # bytes of the journal
SIGNED_WITHIN_S = 30
QUEUED = "fixed_params"  # where Optuna keeps the settings of a queued trial
SIGN = re.compile(r"\.worker-[0-9a-f]+\.lock")
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


def pull_trials(folder: Path, name: str, search: Asked, figure: Callable[[optuna.Trial], float]) -> None:
    """Asks for settings and tells their figures until there are enough or the time is over; killed ones go on first.

    Args:
        folder: keeps the journal and the worker's sign of life.
        name: of the Optuna study.
        figure: the figure of one trial, the higher the better; it may raise TrialPruned.
    """
    optuna = require_optuna()
    began = time.monotonic()
    me = uuid.uuid4().hex
    with locked(folder, name=_sign(me)):
        while search.timeout_s is None or time.monotonic() - began < search.timeout_s:
            trials = optuna_trials(search, folder, name)
            states = optuna.trial.TrialState
            _take_up_killed(trials, folder, search, me)
            counted = [t for t in trials.trials if t.state != states.FAIL or "error" in t.user_attrs]
            waiting = sum(t.state == states.WAITING for t in counted)
            if search.trials is not None and len(counted) - waiting >= search.trials:
                break
            # The proposal depends on the trials so far alone, so that a stopped search with one worker repeats itself.
            trials.sampler = _sampler(search.seeds[0] + len(counted))
            trial = trials.ask({key: _distribution(range_) for key, range_ in search.space.items()})
            trial.set_user_attr("worker", me)
            trial.set_user_attr("host", platform.node())
            try:
                trials.tell(trial, figure(trial))
            except optuna.TrialPruned:
                trials.tell(trial, state=states.PRUNED)
            except MachineError:  # nothing is wrong with the trial: it is taken up again as a killed one
                raise
            except HardGNNError as error:
                trial.set_user_attr("error", str(error))
                trials.tell(trial, state=states.FAIL)
    (folder / _sign(me)).unlink(missing_ok=True)


def _take_up_killed(trials: optuna.Study, folder: Path, search: Asked, me: str) -> None:
    """Puts trials whose worker on this machine is gone back into the queue; their run folders go on."""
    states = require_optuna().trial.TrialState
    for trial in trials.trials:
        if trial.state == states.RUNNING and not _alive(trial, folder, search.storage is None, me):
            # What was queued is queued again; a proposal that was cut short is made again by the sampler.
            whole = set(trial.params) == set(search.space)
            params = trial.params if whole else trial.system_attrs.get(QUEUED)
            waiting = [one.system_attrs.get(QUEUED) for one in trials.trials if one.state == states.WAITING]
            if params is not None and params not in waiting:
                trials.enqueue_trial(params)
            trials.tell(trial.number, state=states.FAIL)  # last: a kill before it does this again


def _alive(trial: optuna.trial.FrozenTrial, folder: Path, here: bool, me: str) -> bool:
    """Whether somebody is at work on a running trial; of other machines that is believed.

    Args:
        trial: a running trial.
        folder: of the study.
        here: whether all workers sign in this folder.
        me: the worker who asks.
    """
    worker, host = trial.user_attrs.get("worker"), trial.user_attrs.get("host")
    if worker is None:  # asked for, and about to be signed
        began = trial.datetime_start
        recent = began is not None and (datetime.now() - began).total_seconds() < SIGNED_WITHIN_S
        signs = [path.name for path in folder.iterdir() if SIGN.fullmatch(path.name) and path.name != _sign(me)]
        return recent and (not here or any(is_locked(folder, sign) for sign in signs))
    return host != platform.node() or is_locked(folder, _sign(worker))


def _sign(worker: str) -> str:
    """The name of the lock that a worker holds on the study as long as it lives."""
    return f".worker-{worker}.lock"


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
    return require_optuna().samplers.TPESampler(
        seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True
    )


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
