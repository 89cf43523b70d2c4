"""Times the service on loopback: requests per second, latency, memory per worker, and a soak with reloads.

It makes a run of random vectors, serves it with `hardgnn serve`, and loads it with connections that ask one request
after the other, each for a random known user:

    python benchmarks/serve.py --items 50000 --connections 1,8,64 --seconds 5
    python benchmarks/serve.py --items 50000 --approximate
    python benchmarks/serve.py --items 50000 --workers 2 --soak 600
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from hardgnn.config import resolve
from hardgnn.data.histories import Histories
from hardgnn.models.attention import reset
from hardgnn.models.query import PARAMETERS, QueryModel
from hardgnn.parts import ENCODERS
from hardgnn.recommend.export import export
from hardgnn.runs.folder import is_started, start
from hardgnn.runs.models import save_model
from hardgnn.runs.tables import RunTables

HISTORY = 40
COMMAND = [sys.executable, "-c", "from hardgnn.cli import main; main()"]


def random_run(folder: Path, users: int, items: int, seed: int) -> Path:
    """A run folder of random vectors, whose histories have `HISTORY` random items each; where one is, new weights."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    config = resolve("selfgnn")
    scoring = config.model.scoring()
    encoder = ENCODERS.find(config.model.encoder.kind)(config.model.encoder, scoring.frame)
    reset(encoder, generator)
    encoder.start(generator)
    if not is_started(folder):
        tables = RunTables(
            pl.Series([f"u{user}" for user in range(users)]),
            Histories(
                np.arange(users + 1, dtype=np.int64) * HISTORY,
                rng.integers(items, size=users * HISTORY, dtype=np.int32),
            ),
            np.full(users, HISTORY, np.int32),
            None,
            None,
            pl.Series([f"i{item}" for item in range(items)]),
            None,
            rng.integers(1, 1000, items, dtype=np.int32),
        )
        folder.mkdir(parents=True)
        start(folder, config, tables, {"name": "random"})
    dim = config.model.dim
    vectors = (torch.randn(size, dim, generator=generator) for size in (users, items))
    weights = {f"{PARAMETERS}sequence_encoder.{name}": value for name, value in encoder.state_dict().items()}
    save_model(folder, QueryModel("random", scoring, *vectors, encoder, weights=weights), epoch=seed)
    return folder


class Load:
    """Connections that ask until the time is over; `seconds` are the times of the answers, `errors` all others."""

    def __init__(self, port: int, users: int) -> None:
        self.port, self.users = port, users
        self.seconds: list[float] = []
        self.errors: list[str] = []

    async def run(self, connections: int, seconds: float) -> None:
        """Keeps so many connections busy."""
        end = time.perf_counter() + seconds
        await asyncio.gather(*(self._ask(number, end) for number in range(connections)))

    async def _ask(self, number: int, end: float) -> None:
        rng = np.random.default_rng(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.perf_counter() < end:
            path = f"/v1/users/u{rng.integers(self.users)}/recommendations?n=10"
            began = time.perf_counter()
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if b" 200 " not in head[:16]:
                    self.errors.append(body.decode()[:200])
            except (OSError, asyncio.IncompleteReadError) as error:
                self.errors.append(repr(error))
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                continue
            self.seconds.append(time.perf_counter() - began)
        writer.close()


class Service:
    """`hardgnn serve` as a process."""

    def __init__(self, run: Path, workers: int, index: Path | None, timeout: float) -> None:
        words = ["serve", str(run), "--port", "0", "--workers", str(workers), "--no-access-log"]
        words += ["--timeout", str(timeout)] + (["--approximate", str(index)] if index else [])
        self.process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            told = json.loads(line) if line.startswith("{") else {"message": line}
            if told["message"] == "serving":
                self.port = int(told["address"].rpartition(":")[2])
            elif told["message"] == "Application startup complete.":
                workers -= 1
                if workers == 0:
                    break
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr or []), daemon=True).start()

    def cpu_seconds(self) -> float:
        """Processor time of all workers so far, which a busy machine changes little."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ticks = 0
        for child in children:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> list[dict[str, int]]:
        """MB of each worker: resident, its share of what is shared (PSS), its own."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = []
        for child in children:
            text = Path(f"/proc/{child}/smaps_rollup").read_text()
            kb = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
            own = kb["Private_Dirty"] + kb["Private_Clean"]
            if "python" in Path(f"/proc/{child}/comm").read_text() and kb["Rss"]:
                found.append({"resident": kb["Rss"] // 1024, "share": kb["Pss"] // 1024, "own": own // 1024})
        return found

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def soak(service: Service, run: Path, users: int, items: int, seconds: float, every: float) -> None:
    """Loads the service with 8 connections while new runs are put in its folder; prints errors and memory."""
    load = Load(service.port, users)

    async def both() -> None:
        work = asyncio.create_task(load.run(8, seconds))
        seed, end = 1, time.perf_counter() + seconds
        while time.perf_counter() + every < end:
            await asyncio.sleep(every)
            seed += 1
            await asyncio.to_thread(random_run, run, users, items, seed)
            service.process.send_signal(signal.SIGHUP)
            print(f"{len(load.seconds):9,} answers  {len(load.errors)} errors  MB {service.memory()}", flush=True)
        await work

    asyncio.run(both())
    reloads = sum("serving a new run" in line for line in service.lines)
    print(f"soak: {len(load.seconds):,} answers, {len(load.errors)} errors, {reloads} reloads, MB {service.memory()}")
    print(*set(load.errors), sep="\n")


def main() -> None:
    """Prints one line per number of connections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--connections", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--approximate", action="store_true")
    parser.add_argument("--soak", type=float, default=0.0, help="Seconds of load with reloads instead.")
    parser.add_argument("--reload-every", type=float, default=30.0)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        run = random_run(Path(base) / "run", words.users, words.items, 0)
        index = None
        if words.approximate:
            index, began = Path(base) / "export", time.perf_counter()
            document = export(run, index)
            took = time.perf_counter() - began
            print(f"export with index: {took:.0f} s, recall@10 {document['index']['recall']:.4f}", flush=True)
        service = Service(run, words.workers, index, words.timeout)
        try:
            if words.soak:
                soak(service, run, words.users, words.items, words.soak, words.reload_every)
                return
            for connections in map(int, words.connections.split(",")):
                asyncio.run(Load(service.port, words.users).run(connections, 1))  # warm
                load = Load(service.port, words.users)
                began, cpu = time.perf_counter(), service.cpu_seconds()
                asyncio.run(load.run(connections, words.seconds))
                rate = len(load.seconds) / (time.perf_counter() - began)
                cpu = (service.cpu_seconds() - cpu) / max(1, len(load.seconds)) * 1000
                p50, p99 = np.percentile(np.array(load.seconds) * 1000, [50, 99])
                kind = "approximate" if index else "exact"
                print(
                    f"{words.items:,} items, {kind}, {words.workers} workers, {connections:3} connections: "
                    f"{rate:7.1f} requests/s, p50 {p50:6.1f} ms, p99 {p99:6.1f} ms, "
                    f"{cpu:5.1f} ms of processor each, {len(load.errors)} errors",
                    flush=True,
                )
            print(f"MB per worker: {service.memory()}")
        finally:
            service.stop()


if __name__ == "__main__":
    main()
