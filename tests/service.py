"""A service for tests: its run, its process, a server in a thread, and clients that count what is lost."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from hardgnn.config import resolve
from hardgnn.data.dataset import Dataset
from hardgnn.prepare.simulate import write_simulated
from hardgnn.runs.train import train
from hardgnn.serve.app import create_app
from hardgnn.serve.pack import pack
from hardgnn.serve.server import Server
from hardgnn.serve.sockets import listen
from hardgnn.serve.state import Settings, State, announce

COMMAND = [sys.executable, "-c", "from hardgnn.cli import main; main()", "serve"]
LONG = "A Title <b>with &amp; signs</b> that is much longer than a phone is wide, and then somewhat longer"
SMALL = ["model.heads=2", "model.intervals=4", "train.eval_every=1"]


def make_run(folder: Path) -> Path:
    """A run of a market with titles; the log lies beside it."""
    write_simulated(folder / "market.inter", users=120, items=60, events=2500, seed=2)
    titles = "".join(f"i{item}\t{LONG if item == 7 else f'Title {item} of Ünï'}\n" for item in range(60))
    (folder / "market.item").write_text("item_id:token\ttitle:token_seq\n" + titles, "utf-8")
    return train_run(folder, folder / "run", "model.dim=16", "train.epochs=2", "model.window=12")


def train_run(folder: Path, out: Path, *settings: str) -> Path:
    """Trains on the log in `folder`."""
    data = Dataset.read(folder / "market.inter").prepare(k_core=3, candidates=10)
    train(data, resolve("selfgnn", settings=[*SMALL, *settings]), out)
    return out


def packed(run: Path, root: Path, index: Path | None = None) -> State:
    """The run as a worker has it."""
    pack(run, root / "1", index)
    announce(root, 1)
    return State(root)


@contextmanager
def serving(state: State, settings: Settings | None = None, most: int = 100, patience_s: float = 10) -> Iterator[int]:
    """The service in a thread of this process; yields its port."""
    listening = listen("127.0.0.1", 0)
    app = create_app(state, settings or Settings())
    config = uvicorn.Config(app, ws="none", log_config=None)
    server = Server(config, app, listening, patience_s)
    server.server_state.most = most
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait(lambda: server.started)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def start(run: Path, logs: Path, *words: str, handles: int | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """`hardgnn serve` as a process that logs to a file, and the address it listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def limit() -> None:
        if handles is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (handles, handles))

    with logs.open("wb") as log:
        command = [*COMMAND, str(run), "--port", str(port), *words]
        process = subprocess.Popen(command, stderr=log, preexec_fn=limit)
    address = f"http://127.0.0.1:{port}"
    wait(lambda: process.poll() is not None or answers(address))
    return process, address


def answers(address: str, seconds: float = 1) -> bool:
    """Whether the service says that it is well."""
    try:
        return bool(httpx.get(f"{address}/healthz", timeout=seconds).status_code == 200)
    except httpx.HTTPError:
        return False


def wait(happened: Any, seconds: float = 120) -> None:
    """Waits until `happened()` is true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def children(process: int) -> list[int]:
    """The processes that a process started and that live."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(one) for one in text.split() if Path(f"/proc/{one}/cmdline").read_bytes()]


class Clients:
    """Clients that ask one request after the other; `seen` counts answers by status, and what was lost.

    `lost` is a request on an established connection that was not answered; where no connection comes about, nothing is.
    """

    def __init__(self, port: int, path: str = "/v1/users/u3/recommendations") -> None:
        self.port, self.seen, self.over = port, Counter[str](), False
        self.head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"

    async def ask(self, keep: bool, pause_s: float = 0.0) -> None:
        """One client, with a connection for each request or (`keep`) for as many as the service allows."""
        head = (self.head + ("" if keep else "Connection: close\r\n") + "\r\n").encode()
        writer = None
        while not self.over:
            try:
                if writer is None:
                    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), 5)
            except (OSError, TimeoutError):
                self.seen["no connection"] += 1
                return
            try:
                writer.write(head)
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
                await asyncio.wait_for(reader.readexactly(int(fields[b"content-length"])), 20)
                self.seen[answer[9:12].decode()] += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.seen[f"lost: {type(error).__name__}"] += 1
                fields = {b"connection": b"close"}
            if fields.get(b"connection") == b"close":
                writer.close()
                writer = None
            if pause_s:
                await asyncio.sleep(pause_s)

    @property
    def lost(self) -> int:
        """Requests that were not answered."""
        return sum(count for what, count in self.seen.items() if what.startswith("lost"))
