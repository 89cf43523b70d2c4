"""The parent of the workers: it packs the run, forks them, replaces what dies or hangs, and packs again when asked."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import NoReturn

from hardgnn.errors import HardGNNError, MachineError, reason, shown
from hardgnn.runs.folder import CONFIG, ENVIRONMENT, MODEL
from hardgnn.runs.tables import ITEMS, USERS
from hardgnn.serve.board import DRAINING, READY, RELOADING, STARTING, Board, Place
from hardgnn.serve.sockets import listen, raise_handles, stop_new
from hardgnn.serve.state import Settings, State, announce
from hardgnn.storage.files import scratch_folder, sweep, writing

TICK_S = 0.1
HUNG_S = 5.0  # without a sign of life, beyond the time that a request may take
START_S = 120.0  # until a worker's first sign of life
RESTART_S, LONGEST_RESTART_S = 0.5, 30.0
END_S = 4.5  # more than a worker takes to end by itself
FAILURES = 5  # workers that end before they began, of a service that never had one
METRICS = "metrics"
PACKED = (ENVIRONMENT, CONFIG, USERS, ITEMS, MODEL)
FOLDER = "hardgnn-serve"
log = logging.getLogger("hardgnn.serve")


@dataclass
class Worker:
    """A process that answers."""

    process: int
    slot: int
    """Its place in the memory where workers show that they live, by a number that changes."""
    seen: int = 0
    silent: int = 0
    """The parent's ticks since the number changed: they stand still when the parent does."""


class Supervisor:
    """Serves one run folder until it is told to end (SIGTERM or SIGINT).

    SIGHUP packs the run folder anew; workers take the new run up between two requests. A run that cannot be used is
    told, and the old one goes on.

    Args:
        run: the run folder.
        host, port: where to listen; port 0 takes a free one.
        workers: processes that answer.
        settings: of the service.
        export: the folder of an export whose index to search.
        ready: told the address once the first worker answers.
        watch_s: look so often whether `run`, as a link to the newest version, holds another run; 0 never looks.
        drain_s: answer for so long after SIGTERM, and tell that the end has begun.
    """

    def __init__(
        self,
        run: Path,
        host: str,
        port: int,
        workers: int,
        settings: Settings,
        export: Path | None = None,
        ready: Callable[[str], None] = lambda address: None,
        *,
        watch_s: float = 0.0,
        drain_s: float = 0.0,
    ) -> None:
        self.run, self.settings, self.export, self.count, self.ready = run, settings, export, workers, ready
        raise_handles()
        self.socket = listen(host, port)
        self.root: Path
        self.workers: list[Worker] = []
        self.board = Board(workers)
        self.board.phase = STARTING
        self.watch_s, self.drain_s = watch_s, drain_s
        self.failures, self.began, self.next_start = 0, False, 0.0
        self.serial, self.packed = 0, -1  # of the newest pack that was begun, of the one that is served
        self.packing: subprocess.Popen[str] | None = None
        self.again = self.ending = False
        self.seen: object = None  # of the run folder when it was packed last
        self.next_look = 0.0

    @property
    def address(self) -> str:
        """The address of the page."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def serve(self) -> None:
        """Packs, forks and waits.

        Raises:
            MachineError: there is no room for the packed run, or no worker can start.
            HardGNNError: the run or its export cannot be used.
        """
        held = ExitStack()
        with writing(Path("the folder for temporary files")):
            base = Path(tempfile.gettempdir())
            sweep(base, FOLDER)  # of services that were killed with all their workers
            # Held by this process and, as they are forked, by the workers: what nobody holds is swept.
            self.root = held.enter_context(scratch_folder(base / FOLDER, 0o700))
            (self.root / METRICS).mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.root / METRICS)
        from hardgnn.serve import app, server  # noqa: F401 - loaded once, before the forks, which then share them

        gc.freeze()  # what stays is not gone through again, which would copy it in each worker and delay the end

        # Handlers and not a mask: a signal that a thread of some library got, which has no mask, would kill us.
        before = {one: signal.signal(one, self._heard) for one in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
        try:
            self._begin_pack()
            while self.packing is not None and not self.ending:
                time.sleep(TICK_S)
                self._look_at_pack()
            log.info("serving", extra={"address": self.address, "run": str(self.run), "workers": self.count})
            while not self.ending:
                self._turn()
            self._drain()
        finally:
            self._stop()
            held.close()
            for one, handler in before.items():
                signal.signal(one, handler)

    def _turn(self) -> None:
        """One tick of keeping workers and the run."""
        self._fill()
        time.sleep(TICK_S)
        self._look_at_workers()
        self._look_at_pack()
        self._look_at_run()
        if self.packing is None and self.again:
            self._begin_pack()
        taken = all(self.board.has(worker.slot, self.packed) for worker in self.workers)
        if self.packing is None and not self.again and taken:
            self.board.phase = READY
        else:
            self._unsettled()

    def _unsettled(self) -> None:
        """Not every worker has the newest run: for the first time, or again."""
        if self.board.phase == READY:
            self.board.phase = RELOADING

    def _drain(self) -> None:
        """Answers on, for whoever sends requests to find out that the end has begun; another signal cuts it short."""
        if self.drain_s <= 0 or not self.began:
            return
        self.board.phase, self.ending = DRAINING, False
        log.info("draining", extra={"seconds": self.drain_s})
        end = time.monotonic() + self.drain_s
        while not self.ending and time.monotonic() < end:
            self._fill()
            time.sleep(TICK_S)
            self._look_at_workers()

    def _look_at_run(self) -> None:
        """Asks for a reload where the run folder is another than the one that was packed last."""
        if self.watch_s <= 0 or time.monotonic() < self.next_look or self.packing is not None:
            return
        self.next_look = time.monotonic() + self.watch_s
        if version_of(self.run) != self.seen:
            self.again = True

    def _heard(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            self.again = True
            self._unsettled()
        else:
            # A terminal's Ctrl-C reaches the workers too.
            self.ending, self.drain_s = True, 0.0 if number == signal.SIGINT else self.drain_s

    def _begin_pack(self) -> None:
        self.again, self.serial = False, self.serial + 1
        self.seen = version_of(self.run)
        self.next_look = time.monotonic() + self.watch_s
        # In a process of its own: its memory is given back, and the parent stays fit for forking.
        run = os.path.realpath(self.run)  # all of one version, though a link may change meanwhile
        run = str(self.run) if run == os.path.abspath(self.run) else run
        command = [sys.executable, "-m", "hardgnn.serve.packing", run, str(self.root / str(self.serial))]
        if self.export is not None:
            command.append(str(self.export))
        try:
            self.packing = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # not for Ctrl-C
            )
        except OSError as error:
            self._keep_old(MachineError(f"{shown(self.run)}: no process to pack it can be started ({reason(error)})"))

    def _look_at_pack(self) -> None:
        """Announces the new run once it is packed, or why it cannot be."""
        if self.packing is None or self.packing.poll() is None:
            return
        said, _ = self.packing.communicate()
        status, self.packing = self.packing.returncode, None
        if status != 0:
            cut = f"{shown(self.run)}: packing it ended with status {status}, perhaps for want of memory"
            kind = HardGNNError if status == HardGNNError.status else MachineError
            self._keep_old(kind((said.strip().splitlines() or [cut])[-1]))
            return
        try:
            announce(self.root, self.serial)
        except HardGNNError as error:
            self._keep_old(error)
            return
        for old in range(self.serial - 1):  # the one before may be about to be opened
            shutil.rmtree(self.root / str(old), ignore_errors=True)
        self.packed = self.serial

    def _keep_old(self, error: HardGNNError) -> None:
        """Tells why the new run is not served; without an older one it is the end."""
        shutil.rmtree(self.root / str(self.serial), ignore_errors=True)
        if self.packed < 0:
            raise error
        log.error("the run cannot be served", extra={"reason": str(error)})
        with suppress(HardGNNError):  # the log has it
            announce(self.root, self.packed, str(error))

    def _fill(self) -> None:
        """Forks the workers that are missing."""
        while len(self.workers) < self.count and time.monotonic() >= self.next_start:
            slot = min(set(range(self.count)) - {worker.slot for worker in self.workers})
            self.board.clear(slot)
            parent = os.getpid()
            try:
                child = os.fork()
            except OSError as error:
                self._failed(f"no process can be started: {reason(error)}")
                return
            if child == 0:
                _work(self.root, self.socket, self.settings, self.count, parent, self.board, slot)
            self.workers.append(Worker(child, slot))

    def _look_at_workers(self) -> None:
        """Takes leave of the workers that ended, and ends those that show no sign of life."""
        for worker in list(self.workers):
            sign = self.board.sign(worker.slot)
            if sign != worker.seen:
                if worker.seen == 0:
                    if not self.began:
                        self.ready(self.address)
                    self.failures, self.began = 0, True
                worker.seen, worker.silent = sign, 0
            worker.silent += 1
            patience = START_S if worker.seen == 0 else self.settings.timeout + HUNG_S
            if worker.silent == round(patience / TICK_S):
                log.error("a worker hangs", extra={"worker": worker.process})
                os.kill(worker.process, signal.SIGKILL)
            done, status = os.waitpid(worker.process, os.WNOHANG)
            if not done:
                continue
            self.workers.remove(worker)
            how = os.waitstatus_to_exitcode(status)
            log.error("a worker ended", extra={"worker": worker.process, "status": how})
            if worker.seen:
                self.next_start = time.monotonic() + RESTART_S
            else:
                self._failed("no worker can start; the lines before this one say why")

    def _failed(self, sentence: str) -> None:
        """What cannot start is tried again later and later, and at last not at all if it never could."""
        self.failures += 1
        self.next_start = time.monotonic() + min(RESTART_S * 2**self.failures, LONGEST_RESTART_S)
        if self.failures >= FAILURES and not self.began:
            raise MachineError(sentence)

    def _stop(self) -> None:
        """Lets the workers finish what they answer, and what waits in the queue."""
        stop_new(self.socket)
        for worker in self.workers:
            os.kill(worker.process, signal.SIGTERM)
        end = time.monotonic() + END_S
        while self.workers:
            if time.monotonic() > end:
                for worker in self.workers:
                    os.kill(worker.process, signal.SIGKILL)
            self.workers = [one for one in self.workers if os.waitpid(one.process, os.WNOHANG)[0] == 0]
            time.sleep(TICK_S / 2)
        if self.packing is not None:
            self.packing.kill()
            self.packing.communicate()
        self.socket.close()


def version_of(run: Path) -> tuple[object, ...]:
    """What changes when a run folder, or what a link to one points to, is another; missing files count too."""

    def looked(path: Path) -> object:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    return os.path.realpath(run), *(looked(run / name) for name in PACKED)


def _work(
    root: Path,
    listening: socket,
    settings: Settings,
    workers: int,
    supervisor: int,
    board: Board,
    slot: int,
) -> NoReturn:
    """A worker's life; it never returns into the parent's code."""
    status = 1
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for one in (signal.SIGTERM, signal.SIGINT):  # until uvicorn has its own
        signal.signal(one, signal.SIG_DFL)

    try:
        import torch
        import uvicorn

        from hardgnn.runtime import keep_freed_memory, usable_processors
        from hardgnn.serve.app import create_app
        from hardgnn.serve.server import KEEP_ALIVE_S, Server

        keep_freed_memory()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, usable_processors() // workers))
        app = create_app(State(root, supervisor, Place(board, slot)), settings)
        config = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        Server(config, app, listening, settings.timeout).run()
        status = 0
    except HardGNNError as error:
        log.error("a worker failed", extra={"reason": str(error)})
    except BaseException:
        log.exception("a worker failed")
    finally:
        if os.getppid() != supervisor:  # it was killed, and nobody else clears up
            shutil.rmtree(root, ignore_errors=True)
        os._exit(status)
