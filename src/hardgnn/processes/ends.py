"""How processes end together: each hears at once that another has failed, was stopped or is gone, and why.

Process 0 holds a connection to each of the others, of which the system tells when a process dies, however that comes
and whatever the others are doing: waiting for a sum, or at work for minutes.
"""

from __future__ import annotations

import _thread
import json
import os
import secrets
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from hardgnn.errors import MachineError, outcome
from hardgnn.processes.launch import Cause, Ended, Launched, speak

GRACE_S = 1.0  # for a process to come upon its own error, before it is told another's
LEAVE_S = 4.0  # for a process that is told to end
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 4}  # seconds, seconds, times: a host that is gone


class Ends:
    """The connections of one process to the others.

    Args:
        launched: which process it is.
        share: tells all processes where process 0 listens; answers what it told.
        seconds: how long to wait for the connections.

    Raises:
        HardGNNError: a process does not come.
    """

    def __init__(self, launched: Launched, share: Callable[[str], str], seconds: float) -> None:
        self.launched, self.cause = launched, None
        self._known, self._left, self._first_left = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._peers: dict[int, socket.socket] = {}
        self._done: set[int] = set()
        try:
            self._connect(share, seconds)
        except (OSError, ValueError) as error:
            raise MachineError(f"the processes cannot connect to {launched.host} ({error})") from None
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        threading.Thread(target=self._listen, daemon=True, name="ends").start()

    cause: Cause | None

    def _connect(self, share: Callable[[str], str], seconds: float) -> None:
        if self.launched.rank:
            port, token = share("").split()
            peer = socket.create_connection((self.launched.host, int(port)), timeout=seconds)
            peer.sendall(f"{token} {self.launched.rank:8}".encode())
            self._peers[0] = _kept_alive(peer)
            return
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        token = secrets.token_hex(16)
        with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as server:
            server.settimeout(seconds)
            share(f"{server.getsockname()[1]} {token}")
            while len(self._peers) < self.launched.world - 1:
                peer, _ = server.accept()
                peer.settimeout(seconds)
                said = peer.recv(len(token) + 9, socket.MSG_WAITALL).decode("ascii", "replace")
                if said.startswith(f"{token} "):
                    self._peers[int(said[len(token) :])] = _kept_alive(peer)
                else:
                    peer.close()

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Within it Ctrl-C and SIGTERM end this process also where it waits in a call that hears nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def why(self, seconds: float) -> Cause | None:
        """Why the processes end, waited for so long."""
        self._known.wait(seconds)
        return self.cause

    def failed(self, error: BaseException) -> BaseException:
        """Tells the others that this process ends with `error`; answers what it should end with itself."""
        stopped = isinstance(error, KeyboardInterrupt)
        cause = self.why(GRACE_S) if stopped else self.cause
        self._left.set()
        if isinstance(error, Ended):
            self.leave()
            return error
        if stopped and cause is not None and cause.kind != "stopped":  # which is why it was
            self.leave()
            return self.ended(cause)
        status, sentence = (128 + signal.SIGTERM, " was stopped") if stopped else outcome(error)
        own = f"{self.launched}{sentence if stopped else f': {sentence}'}"
        self._tell(Cause(self.launched.rank, status, own, "stopped" if stopped else "failed"))
        if self.launched.rank and not stopped:
            self._first_left.wait(2 * GRACE_S)  # the launcher stops all as soon as one ends: process 0 speaks before
        self.leave()
        return error

    def ended(self, cause: Cause) -> Ended:
        """The error of a process that ends because of another; where the first one is gone, the second speaks."""
        if cause.rank == 0 and cause.kind == "gone" and self.launched.rank == 1:
            speak()
        return Ended(cause)

    def leave(self) -> None:
        """This process is at its end; whatever becomes of its connections, it has said all."""
        self._left.set()
        for peer in self._peers.values():
            with suppress(OSError):
                peer.sendall(b'{"done": true}\n')

    def _tell(self, cause: Cause) -> None:
        text = json.dumps({"cause": asdict(cause)}).encode() + b"\n"
        for rank, peer in list(self._peers.items()):
            if rank != cause.rank:
                with suppress(OSError):
                    peer.sendall(text)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as ready:
            heard: dict[int, bytes] = {}
            for rank, peer in self._peers.items():
                ready.register(peer, selectors.EVENT_READ, rank)
            ready.register(self._woken, selectors.EVENT_READ, None)
            while True:
                for key, _ in ready.select():
                    rank = key.data
                    if rank is None:
                        threading.Thread(target=self._signalled, args=(self._woken.recv(64),), daemon=True).start()
                        continue
                    try:
                        said = self._peers[rank].recv(2**16)
                    except OSError:
                        said = b""
                    *whole, heard[rank] = (heard.get(rank, b"") + said).split(b"\n")
                    for one in whole:
                        self._hear(rank, json.loads(one))
                    if not said:
                        ready.unregister(self._peers[rank])
                        self._gone(rank)

    def _hear(self, rank: int, said: dict[str, Any]) -> None:
        if "done" in said:
            self._done.add(rank)
            if rank == 0:
                self._first_left.set()
        else:
            self._begin_end(Cause(**said["cause"]))

    def _gone(self, rank: int) -> None:
        if rank == 0:
            self._first_left.set()
        if rank not in self._done:
            gone = f"process {rank} of {self.launched.world} was killed, or its host is gone"
            self._begin_end(Cause(rank, MachineError.status, gone, "gone"))

    def _begin_end(self, cause: Cause) -> None:
        with self._lock:
            if self.cause is not None:
                return
            self.cause = cause
        self._known.set()
        if self.launched.rank == 0:
            self._tell(cause)
        threading.Thread(target=self._end, args=(cause,), daemon=True, name="end").start()

    def _signalled(self, numbers: bytes) -> None:
        """What `_end` does after a signal that came from outside."""
        number = next((one for one in numbers if one in (signal.SIGINT, signal.SIGTERM)), None)
        if number is None or self.cause is not None or self._left.wait(LEAVE_S) or self.cause is not None:
            return
        self._tell(Cause(self.launched.rank, 128 + number, f"{self.launched} was stopped", "stopped"))
        self.leave()
        os.write(2, b"error: interrupted; the same command with --resume goes on\n")
        os._exit(128 + number)

    def _end(self, cause: Cause) -> None:
        """Stops what this process is doing, and ends it where it does not stop, as in a call that waits for ever."""
        if not self._left.wait(GRACE_S):
            _thread.interrupt_main()
            if not self._left.wait(LEAVE_S):
                os.write(2, f"error: {self.ended(cause)}\n".encode("utf-8", "backslashreplace"))
                os._exit(cause.status)


def _kept_alive(peer: socket.socket) -> socket.socket:
    """A connection that breaks some seconds after the host at its other end is gone."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return peer
