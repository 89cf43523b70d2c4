"""Independent tasks over processes: threads shared out, stopped together, each reporting how far it is."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from typing import Any

from hardgnn.errors import HardGNNError, MachineError, machine_fault
from hardgnn.runtime import usable_processors

Report = Callable[[float], None]  # told the share of a task that is done; raises KeyboardInterrupt to stop it
PARENT_DEATH_SIGNAL = 1  # of prctl
LOCK_PATIENCE_S = 20.0  # a killed command's last process may need a moment to notice


@dataclass(frozen=True)
class Task:
    """One piece of work: `work(*arguments, report)`, a function that a fresh process can import."""

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...] = field(default=())


def carry_out(tasks: Sequence[Task], workers: int, told: Callable[[float, int, str], None]) -> dict[str, HardGNNError]:
    """Carries out all tasks, each in a process of its own, `workers` at a time; one that fails stops no other.

    A process of its own makes each run's peak memory its own. Threads are shared out, cores / workers
    each, unless OMP_NUM_THREADS says otherwise; PyTorch reads that when a process loads it.

    Args:
        workers: processes at a time; 0 works in this process, one task after the other.
        told: how many tasks are done (with fractions), how many failed, and the names of those at work.

    Returns:
        The errors by the task's name.

    Raises:
        KeyboardInterrupt: stopped, after the processes have ended.
    """
    return _in_turn(tasks, told) if workers == 0 else _Pool(tasks, workers, told).run()


def _in_turn(tasks: Sequence[Task], told: Callable[[float, int, str], None]) -> dict[str, HardGNNError]:
    errors: dict[str, HardGNNError] = {}
    for number, task in enumerate(tasks):
        try:
            task.work(*task.arguments, lambda share, n=number, t=task: told(n + share, len(errors), t.name))
        except HardGNNError as error:
            errors[task.name] = error
    return errors


class _Pool:
    """So many processes at a time, each with one task and a pipe that it reports through."""

    def __init__(self, tasks: Sequence[Task], workers: int, told: Callable[[float, int, str], None]) -> None:
        self.waiting, self.workers, self.told = deque(tasks), workers, told
        self.running: dict[Any, tuple[Task, Any]] = {}  # by the pipe
        self.shares: dict[str, float] = {}
        self.errors: dict[str, HardGNNError] = {}

    def run(self) -> dict[str, HardGNNError]:
        """Carries out all tasks."""
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.workers:
                    self._start(self.waiting.popleft())
                for pipe in connection.wait(list(self.running)):
                    self._hear(pipe)
                names = ", ".join(task.name for task, _ in self.running.values())
                self.told(sum(self.shares.values()), len(self.errors), names)
        finally:
            for _, process in self.running.values():
                process.terminate()
            for _, process in self.running.values():
                process.join()
        return self.errors

    def _start(self, task: Task) -> None:
        context, threads = get_context("spawn"), str(max(1, usable_processors() // self.workers))
        ours, theirs = context.Pipe()
        process = context.Process(target=_process, args=(theirs, task), name=task.name)
        with _environment(POLARS_MAX_THREADS=threads, OMP_NUM_THREADS=threads):
            process.start()
        theirs.close()
        self.running[ours] = (task, process)

    def _hear(self, pipe: Any) -> None:
        """What a process says: how far it is, why it failed, or nothing more."""
        task, process = self.running[pipe]
        try:
            message = pipe.recv()
        except EOFError:
            process.join()
            del self.running[pipe]
            self.shares[task.name] = 1.0
            if process.exitcode and task.name not in self.errors:
                self.errors[task.name] = _ended(process.exitcode)
            return
        if isinstance(message, HardGNNError):
            self.errors[task.name] = message
        else:
            self.shares[task.name] = message


def raise_failed(what: str, errors: dict[str, HardGNNError]) -> None:
    """Tells of the tasks that failed, each a `what` by its name, if any did.

    Raises:
        HardGNNError: one did; the first one's error, of its own kind.
    """
    if errors:
        first, error = next(iter(errors.items()))
        others = f", as did {len(errors) - 1} more" if len(errors) > 1 else ""
        raise type(error)(f"{what} {first} failed{others}, all others are done: {error}")


def _process(pipe: connection.Connection, task: Task) -> None:
    """A worker process: it stops when it is told to, and by itself when the command that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
    parent = os.getppid()
    last = 0.0

    def report(share: float) -> None:
        nonlocal last
        if os.getppid() != parent:
            raise KeyboardInterrupt
        if time.monotonic() - last > 0.2:
            last = time.monotonic()
            pipe.send(float(share))

    try:
        task.work(*task.arguments, report)
    except KeyboardInterrupt:
        os._exit(130)
    except BrokenPipeError:  # the command is gone
        os._exit(130)
    except HardGNNError as error:
        pipe.send(error)
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:  # a fault of ours: the sentence for the table, the traceback for whoever mends it
            traceback.print_exc()
        pipe.send(HardGNNError(f"{type(error).__name__}: {error}") if fault is None else MachineError(fault))


def _ended(status: int) -> HardGNNError:
    """Why a process is gone that said nothing: a signal is the system's, as where memory runs out."""
    if status < 0:
        return MachineError(f"its process was ended by signal {-status} ({signal.strsignal(-status)})")
    return HardGNNError(f"its process ended with status {status}")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for the processes started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if before[name] is None})
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
