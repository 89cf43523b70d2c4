"""Who of those that pull trials is gone: told by a lock on this machine, of other machines by silence.

A worker holds a lock in the study's folder, which the system releases however the worker ends. Other machines may not
see it, so that each worker also counts up in its trial while it is at it. Clocks need not agree: whoever looks measures
with its own how long the count has stood still. Optuna's own heartbeat is for `optimize` and databases alone.
"""

from __future__ import annotations

import os
import platform
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hardgnn.storage.locks import is_locked

if TYPE_CHECKING:
    import optuna

BEAT_S = 10.0
GRACE_S = 120.0  # of silence, after which another machine's worker is gone; NFS 4 keeps its locks for 90
SIGNED_WITHIN_S = 30.0  # a trial is asked for, and then signed
SIGNS, COUNT = "signs", "beat"  # attributes of a trial
SIGN = re.compile(r"\.worker-[0-9a-f]+\.lock")


class TakenUp(Exception):
    """A trial that another worker took up, for this one had been silent for too long."""


def sign(worker: str) -> str:
    """The name of the lock that a worker holds on the study as long as it lives."""
    return f".worker-{worker}.lock"


def signs_of(folder: Path) -> str:
    """Where locks can be seen: this machine since it was started, and the folder as it names it."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()} {boot} {os.path.realpath(folder)}"


class Beat:
    """Shows that a worker is at a trial, in a thread; `check` tells whether it still has it.

    Args:
        trials: the Optuna study.
        trial: the one that the worker is at.
    """

    def __init__(self, trials: optuna.Study, trial: optuna.Trial) -> None:
        self._trials, self._trial = trials, trial
        self._over, self._lost = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Asked between the steps of the work.

        Raises:
            TakenUp: another worker has the trial now.
        """
        if self._lost:
            raise TakenUp

    def _run(self) -> None:
        count = 0
        while not self._over.wait(BEAT_S):
            with suppress(Exception):  # a storage that is away for a while
                if self._trials.get_trials(deepcopy=False)[self._trial.number].state.is_finished():
                    self._lost = True
                    return
                count += 1
                self._trial.set_user_attr(COUNT, count)


class Watch:
    """Looks after the workers of running trials.

    Args:
        folder: of the study.
        together: whether all workers sign in this folder.
        me: the worker that looks.
    """

    def __init__(self, folder: Path, together: bool, me: str) -> None:
        self._folder, self._together, self._me = folder, together, me
        self._here = signs_of(folder)
        self._seen: dict[int, tuple[object, float]] = {}  # by the trial's number: its count, and since when

    def alive(self, trial: optuna.trial.FrozenTrial) -> bool | None:
        """Whether somebody is at work on a running trial; None where that will be known later."""
        worker = trial.user_attrs.get("worker")
        if worker is None:  # asked for, and about to be signed
            others = self._together and not any(is_locked(self._folder, one) for one in self._others())
            return False if others else self._moved(trial, SIGNED_WITHIN_S)
        if trial.user_attrs.get(SIGNS) == self._here:
            return is_locked(self._folder, sign(worker))
        return self._moved(trial, GRACE_S)

    def _others(self) -> list[str]:
        names = [path.name for path in self._folder.iterdir() if SIGN.fullmatch(path.name)]
        return [name for name in names if name != sign(self._me)]

    def _moved(self, trial: optuna.trial.FrozenTrial, within_s: float) -> bool | None:
        """Whether a trial's count goes on: None before it is known, False once it has stood still for too long."""
        count, now = trial.user_attrs.get(COUNT), time.monotonic()
        before, since = self._seen.setdefault(trial.number, (count, now))
        if before != count:
            self._seen[trial.number] = (count, now)
            return True
        return False if now - since > within_s else None
