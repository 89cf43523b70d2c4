"""The parent of the workers: it packs the run, forks them, restarts one that dies, and packs again when asked."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from hardgnn.errors import HardGNNError
from hardgnn.serve.state import Settings, State, announce

TICK_S = 0.1
GRACE_S = 15
RESTART_S = 0.5
BACKLOG = 2048
METRICS = "metrics"
log = logging.getLogger("hardgnn.serve")


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
    """

    def __init__(
        self, run: Path, host: str, port: int, workers: int, settings: Settings, export: Path | None = None
    ) -> None:
        self.run, self.settings, self.export, self.count = run, settings, export, workers
        self.socket = _listen(host, port)
        self.root = Path(tempfile.mkdtemp(prefix="hardgnn-serve-"))
        self.workers: set[int] = set()
        self.serial, self.packed = 0, -1  # of the newest pack that was begun, of the one that is served
        self.packing: subprocess.Popen[str] | None = None
        self.again = self.ending = False

    @property
    def address(self) -> str:
        """The address of the page."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def serve(self) -> None:
        """Packs, forks and waits.

        Raises:
            HardGNNError: the run or its export cannot be used.
        """
        (self.root / METRICS).mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.root / METRICS)
        from hardgnn.serve import app  # noqa: F401 - loaded once, before the forks, which then share it

        # Handlers and not a mask: a signal that a thread of some library got, which has no mask, would kill us.
        before = {one: signal.signal(one, self._heard) for one in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
        try:
            self._begin_pack()
            while self.packing is not None and not self.ending:
                time.sleep(TICK_S)
                if self.packing.poll() is not None and not self._end_pack():
                    raise HardGNNError(self.reason)
            log.info("serving", extra={"address": self.address, "run": str(self.run), "workers": self.count})
            while not self.ending:
                while len(self.workers) < self.count:
                    self._fork()
                time.sleep(TICK_S)
                self._reap()
                if self.packing is not None and self.packing.poll() is not None:
                    self._end_pack()
                if self.packing is None and self.again:
                    self._begin_pack()
        finally:
            self._stop()
            for one, handler in before.items():
                signal.signal(one, handler)

    def _heard(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            self.again = True
        else:
            self.ending = True

    def _begin_pack(self) -> None:
        self.again, self.serial = False, self.serial + 1
        # In a process of its own: its memory is given back, and the parent stays fit for forking.
        command = [sys.executable, "-m", "hardgnn.serve.pack", str(self.run), str(self._folder(self.serial))]
        if self.export is not None:
            command.append(str(self.export))
        self.packing = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def _end_pack(self) -> bool:
        assert self.packing is not None
        _, said = self.packing.communicate()
        status, self.packing = self.packing.returncode, None
        self.reason = (said.strip().splitlines() or ["packing the run failed"])[-1]
        if status != 0:
            shutil.rmtree(self.root / str(self.serial), ignore_errors=True)
            log.error("the run cannot be served", extra={"reason": self.reason})
            if self.packed >= 0:
                announce(self.root, self.packed, self.run.resolve().name, self.reason)
            return False
        announce(self.root, self.serial, self.run.resolve().name)
        for old in range(self.serial - 1):  # the one before may be about to be opened
            shutil.rmtree(self.root / str(old), ignore_errors=True)
        self.packed = self.serial
        return True

    def _folder(self, serial: int) -> Path:
        return self.root / str(serial) / self.run.resolve().name

    def _fork(self) -> None:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _work(self.root, self.socket, self.settings, self.count, parent)
        self.workers.add(child)

    def _reap(self) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        for child in list(self.workers):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                self.workers.remove(child)
                mark_process_dead(child)
                time.sleep(RESTART_S)  # a worker that cannot even start must not keep a processor busy
                log.error("a worker ended", extra={"worker": child, "status": os.waitstatus_to_exitcode(status)})

    def _stop(self) -> None:
        """Lets the workers finish what they answer."""
        for child in self.workers:
            os.kill(child, signal.SIGTERM)
        end = time.monotonic() + GRACE_S + 5
        for child in self.workers:
            while os.waitpid(child, os.WNOHANG)[0] == 0:
                time.sleep(TICK_S)
                if time.monotonic() > end:
                    os.kill(child, signal.SIGKILL)
        if self.packing is not None:
            self.packing.kill()
            self.packing.communicate()
        self.socket.close()
        shutil.rmtree(self.root, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        # Accepted sockets inherit it; asyncio sets it only where it knows the protocol, and an answer's second part
        # would wait 40 ms for the first one's acknowledgement.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise HardGNNError(f"cannot listen on {host}:{port} ({error.strerror or error})") from None
    found.set_inheritable(True)
    return found


def _work(root: Path, listening: socket.socket, settings: Settings, workers: int, supervisor: int) -> NoReturn:
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

        keep_freed_memory()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, usable_processors() // workers))
        app = create_app(State(root, supervisor), settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
            backlog=BACKLOG,
        )
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
        status = 0
    except BaseException:
        log.exception("a worker failed")
    finally:
        os._exit(status)
