"""uvicorn with bounds: on the time to a whole head, on the connections of a worker; it ends without resetting one."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import uuid
from contextlib import suppress
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from hardgnn.serve.gate import LINGER_BYTES, LINGER_S, Gate

MOST_CONNECTIONS = 1000  # of one worker
FEWEST_CONNECTIONS = 4
SPARE_HANDLES = 20  # of the event loop, the metrics, and a new run beside the old one
AT_ONCE = 2  # connections taken in one turn of the loop: handles are given back in the turns between
KEEP_ALIVE_S = 75
SETTLE_S = 0.25  # for handshakes that had begun, and for the parent to stop new ones
QUIET_S = 1.0  # an idle connection may still bring a request for so long after the end was asked for
GRACE_S = 3.0  # for all of it


class Room(ServerState):
    """The connections of a worker.

    Args:
        most: connections at once.
        patience_s: for a whole head.
    """

    def __init__(self, most: int, patience_s: float) -> None:
        super().__init__()
        self.most, self.patience_s = most, patience_s
        self.waiting: dict[Connection, None] = {}  # those without a request under way, the one that waits longest first

    def make(self) -> Connection | None:
        """Ends the connection that has waited longest, and returns it."""
        longest = next(iter(self.waiting), None)
        if longest is not None:
            del self.waiting[longest]
            self.connections.discard(longest)
            longest.transport.abort()
        return longest


class Connection(H11Protocol):
    """A connection whose heads must be whole in time, and which makes room when there are too many."""

    server_state: Room

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self._late: asyncio.TimerHandle | None = None
        self._left: int | None = None  # bytes that are still read, and thrown away, of a connection that was refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a place; in a full room the one that has waited longest loses its own."""
        super().connection_made(transport)
        room = self.server_state
        if len(self.connections) > room.most and room.make() is None:
            self._refuse(503, "too many requests are under way")
        else:
            self._settle()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if self._left is None:
            super().data_received(data)
            self._settle()
            return
        self._left -= len(data)
        if self._left < 0:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """A request is answered; the next one may have come with it."""
        super().on_response_complete()
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        super().connection_lost(exc)
        self._settle()

    def shutdown(self) -> None:
        """The worker ends: a request under way is answered, an idle client has a moment to bring one."""
        if self._idle:
            self.loop.call_later(QUIET_S, self._end)
        else:
            self.cycle.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long."""
        self._end()

    def send_400_response(self, msg: str) -> None:
        """No HTTP, or a head that is too large."""
        self._refuse(400, "not a request in HTTP/1.1, or its head is too large")

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _settle(self) -> None:
        """Notes whether the connection waits for a head, and for how long it may."""
        waiting = self._idle and self in self.connections
        if waiting:
            self.server_state.waiting.setdefault(self)
            if self._late is None and (self.timeout_keep_alive_task is None or self.conn.trailing_data[0]):
                self._late = self.loop.call_later(self.server_state.patience_s, self._too_late)
        else:
            self.server_state.waiting.pop(self, None)
        if self._late is not None and not waiting:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(408, f"the request's head was not whole within {self.server_state.patience_s:g} s")
        else:
            self._end()

    def _end(self) -> None:
        if self._left is not None or not self._idle:
            return
        if not self.transport.is_closing():
            super().shutdown()
        if self.transport.get_write_buffer_size():  # a client that does not read
            self.transport.abort()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers without the application; what the client still sends is thrown away for a moment."""
        if self._left is not None or self.transport.is_closing():
            return
        self._left = LINGER_BYTES
        body = json.dumps({"error": sentence, "request_id": uuid.uuid4().hex}).encode()
        head = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        answer = h11.Response(status_code=status, headers=head, reason=STATUS_PHRASES[status])
        with suppress(h11.LocalProtocolError):  # in the middle of an answer
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        with suppress(OSError):
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)


class Server(uvicorn.Server):
    """Takes connections off a listening socket that others may take them off too.

    Args:
        config: of uvicorn.
        gate: the application.
        listening: the socket; this process' own copy is closed in the end.
        patience_s: for the whole head of a request.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, listening: socket.socket, patience_s: float) -> None:
        super().__init__(config)
        self.gate, self.listening = gate, listening
        self.server_state: Room = Room(_room(), patience_s)
        self._opening: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, and then to take connections."""
        await super().startup(sockets=[])
        self.listening.setblocking(False)
        self._take_on()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what is under way, in the queue, or comes within a moment on a connection that stands."""
        self.gate.closing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + GRACE_S
        await asyncio.sleep(SETTLE_S)
        loop.remove_reader(self.listening)
        while self._take() and loop.time() < end - QUIET_S:
            await asyncio.sleep(0)
        self.listening.close()
        if self._opening:
            await asyncio.wait(self._opening)
        self.config.timeout_graceful_shutdown = max(1, int(end - loop.time()))
        await super().shutdown(sockets=[])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends the loop; the signal is not raised again afterwards, for there is something to do then."""
        self.should_exit = True

    def _take_on(self) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(self.listening, self._take)

    def _take(self) -> bool:
        """Takes some of the connections that wait; False where none does."""
        loop = asyncio.get_running_loop()
        for _ in range(AT_ONCE):
            try:
                connection, _address = self.listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return False
            except OSError:  # no handle is left
                self.server_state.make()
                loop.remove_reader(self.listening)
                loop.call_later(0.05, self._take_on)
                return True
            connection.setblocking(False)
            opening = loop.create_task(loop.connect_accepted_socket(self._connection, connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        return True

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)


def _room() -> int:
    """How many connections there are handles for, beside those of a new run."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:  # a system that does not tell
        used = SPARE_HANDLES
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, soft - used - SPARE_HANDLES))
