"""Serving behind several hosts: what a load balancer asks, versions behind a link, the end, and what the docs show."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx
from fastapi.testclient import TestClient

from hardgnn.serve.app import create_app
from hardgnn.serve.board import DRAINING, READY, RELOADING, STARTING
from hardgnn.serve.state import Settings
from service import children, packed, start, wait

FILES = ("config.toml", "users.parquet", "items.parquet", "model.safetensors", "environment.json")


def ready(address: str, query: str = "") -> tuple[int, str]:
    answer = httpx.get(f"{address}/readyz{query}", timeout=5)
    return answer.status_code, answer.json()["status"]


def link(to: Path, path: Path) -> None:
    """`ln -sfn`, in one step."""
    path.with_name("next").symlink_to(to, target_is_directory=True)
    os.replace(path.with_name("next"), path)


@contextmanager
def service(run: Path, log: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    process, address = start(run, log, *words)
    try:
        yield process, address
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_a_load_balancer_is_told_when_to_send_requests(served_run: Path, tmp_path: Path) -> None:
    state = packed(served_run, tmp_path)
    board = state.place.board
    with TestClient(create_app(state, Settings(token="a-token-of-some-length")), "http://localhost") as asked:
        told = {STARTING: (200, 503), READY: (200, 200), RELOADING: (200, 503), DRAINING: (503, 503)}
        for phase, (plain, settled) in told.items():
            board.phase = phase
            assert asked.get("/readyz").status_code == plain
            assert asked.get("/readyz?settled=true").status_code == settled
            assert asked.get("/healthz").status_code == 200  # it lives, whatever it is about
        assert asked.get("/readyz").headers["connection"] == "close"
        assert asked.get("/readyz").json() == {
            "ready": False,
            "status": "draining",
            **{name: asked.get("/healthz").json()[name] for name in ("run", "version")},
        }


def test_a_version_behind_a_link_is_taken_up_and_the_end_begins_with_a_drain(served_run: Path, tmp_path: Path) -> None:
    shutil.copytree(served_run, tmp_path / "v1")
    shutil.copytree(served_run, tmp_path / "v2")
    link(tmp_path / "v1", tmp_path / "current")
    words = ["--workers", "2", "--watch", "0.2", "--drain", "2"]
    with service(tmp_path / "current", tmp_path / "log", *words) as (process, address):

        def run() -> str:
            return str(httpx.get(f"{address}/healthz").json()["run"])

        said: list[tuple[int, str]] = []
        wait(lambda: said.append(ready(address, "?settled=true")) or said[-1] == (200, "ready"))
        assert set(said) <= {(503, "starting"), (200, "ready")}
        assert run() == "v1"
        link(tmp_path / "v2", tmp_path / "current")
        wait(lambda: run() == "v2")
        wait(lambda: ready(address, "?settled=true") == (200, "ready"))
        assert {run() for _ in range(8)} == {"v2"}
        process.send_signal(signal.SIGTERM)
        wait(lambda: ready(address)[0] == 503, 5)
        answer = httpx.get(f"{address}/v1/users/u3/recommendations")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert process.wait(20) == 0


@pytest.mark.slow
def test_a_version_whose_copy_has_only_begun_is_served_when_it_is_whole(served_run: Path, tmp_path: Path) -> None:
    link(served_run, tmp_path / "current")
    with service(tmp_path / "current", tmp_path / "log", "--watch", "0.2") as (_, address):
        (tmp_path / "v3").mkdir()  # as a copy that has just begun
        link(tmp_path / "v3", tmp_path / "current")
        wait(lambda: "v3" in (httpx.get(f"{address}/healthz").json()["reload_error"] or ""))
        assert ready(address) == (200, "ready")
        for name in FILES:
            shutil.copyfile(served_run / name, tmp_path / "v3" / name)
        wait(lambda: httpx.get(f"{address}/healthz").json()["run"] == "v3")


class Proxy:
    """A round-robin proxy as small as can be: it asks /readyz, and connects to the hosts that are ready in turn."""

    def __init__(self, ports: list[int]) -> None:
        self.ports, self.ready, self.turn = ports, set[int](), 0

    async def check(self) -> None:
        while True:
            for port in self.ports:
                found = b""
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(1):
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                        found = await reader.read(100)
                        writer.close()
                (self.ready.add if b" 200 " in found[:16] else self.ready.discard)(port)
            await asyncio.sleep(0.2)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError):
            upstream = await asyncio.wait_for(self.connect(), 5)
            await asyncio.gather(pipe(reader, upstream[1]), pipe(upstream[0], writer))
        writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = sorted(self.ready) or self.ports
        self.turn += 1
        return await asyncio.open_connection("127.0.0.1", ports[self.turn % len(ports)])


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Client:
    """Asks one request after the other, each a second time and a third after a moment if it fails."""

    def __init__(self, port: int) -> None:
        self.port, self.over = port, False
        self.runs, self.seen = Counter[str](), Counter[str]()

    async def ask(self, number: int) -> None:
        async with httpx.AsyncClient(timeout=10) as one:
            while not self.over:
                for attempt in range(5):
                    try:
                        path = f"/v1/users/u{number}/recommendations"
                        answer = await one.get(f"http://127.0.0.1:{self.port}{path}")
                        if answer.status_code == 200:
                            self.runs[answer.json()["run"]] += 1
                            self.seen["answered at once" if attempt == 0 else "answered when asked again"] += 1
                            break
                    except httpx.HTTPError:
                        pass
                    await asyncio.sleep(0.2)
                else:
                    self.seen["failed"] += 1


@pytest.mark.slow
def test_of_two_hosts_one_is_killed_one_reloaded_and_one_ended_and_no_request_fails(
    served_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(served_run, tmp_path / "v1")
    shutil.copytree(served_run, tmp_path / "v2")
    link(tmp_path / "v1", tmp_path / "current")
    words = ["--no-access-log", "--watch", "0.5", "--drain", "2"]

    async def scenario(processes: list[subprocess.Popen[bytes]], ports: list[int]) -> Client:
        proxy = Proxy(ports)
        check = asyncio.create_task(proxy.check())
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1])
        asking = [asyncio.create_task(client.ask(number)) for number in range(8)]
        await asyncio.sleep(2)
        for process in (*children(processes[0].pid), processes[0].pid):
            os.kill(process, signal.SIGKILL)
        await asyncio.sleep(3)
        assert proxy.ready == {ports[1]}
        link(tmp_path / "v2", tmp_path / "current")
        while client.runs["v2"] < 20:
            await asyncio.sleep(0.1)
        again, address = await asyncio.to_thread(start, tmp_path / "current", tmp_path / "log-again", *words)
        processes.append(again)
        proxy.ports = [int(address.rpartition(":")[2]), ports[1]]
        while proxy.ready != set(proxy.ports):
            await asyncio.sleep(0.1)
        processes[1].send_signal(signal.SIGTERM)
        await asyncio.to_thread(processes[1].wait, 30)
        await asyncio.sleep(1)
        client.over = True
        await asyncio.gather(*asking)
        check.cancel()
        server.close()
        return client

    started = [start(tmp_path / "current", tmp_path / f"log-{host}", *words) for host in "ab"]
    processes = [process for process, _ in started]
    try:
        client = asyncio.run(scenario(processes, [int(address.rpartition(":")[2]) for _, address in started]))
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert client.seen["failed"] == 0, client.seen
    assert client.seen["answered at once"] > 100
    assert client.seen["answered when asked again"] > 0  # those that the killed host had
    assert client.runs["v1"] > 20
    assert processes[1].returncode == 0
