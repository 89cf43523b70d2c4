"""The service among bad clients, signals and a machine that gives way: it goes on, bounded, and loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx
from fastapi.testclient import TestClient
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from hardgnn.errors import MachineError
from hardgnn.serve import metrics, supervisor
from hardgnn.serve.app import create_app
from hardgnn.serve.sockets import raise_handles
from hardgnn.serve.state import Settings, State
from service import Clients, answers, children, packed, serving, start, wait

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def state(served_run: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    return packed(served_run, tmp_path_factory.mktemp("packs"))


def told(connection: socket.socket, seconds: float = 10) -> tuple[int, str]:
    """Status and sentence of an answer after which the connection is closed."""
    connection.settimeout(seconds)
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head[9:12]), json.loads(body)["error"]


def slow_heads(port: int, count: int, until: Callable[[], bool]) -> int:
    """So many clients that send their heads byte by byte; those of them that were refused or cut off."""
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        cut = set()
        for at in range(10_000):
            if until():
                break
            for one in slow:
                try:
                    one.send(HEAD[at % len(HEAD) :][:1])
                except OSError:
                    cut.add(one)
            time.sleep(0.05)
        return len(cut)


def test_a_good_client_is_answered_while_many_send_their_heads_slowly(state: State) -> None:
    done = threading.Event()
    with serving(state, most=100, patience_s=60) as port, ThreadPoolExecutor(1) as pool:
        cut = pool.submit(slow_heads, port, 200, done.is_set)
        try:
            time.sleep(1)
            for _ in range(5):
                began = time.monotonic()
                assert answers(f"http://127.0.0.1:{port}", 5)
                assert time.monotonic() - began < 3
        finally:
            done.set()
        assert cut.result() >= 100  # they made room


def test_heads_and_bodies_must_be_whole_in_time(state: State) -> None:
    with serving(state, Settings(timeout=1), patience_s=1) as port, ExitStack() as stack:

        def client(sent: bytes) -> socket.socket:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.sendall(sent)
            return one

        later = client(HEAD + b"\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += later.recv(2**16)
        assert b" 200 " in answer
        later.sendall(HEAD[:20])  # the second request of a connection too
        head, both, silent, began = client(HEAD[:20]), client(HEAD + b"\r\n" + HEAD), client(b""), time.monotonic()
        body = client(POST + b"Content-Length: 9\r\n\r\n{")
        chunk = client(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\n")
        assert told(head) == told(later) == (408, "the request's head was not whole within 1 s")
        assert told(body) == told(chunk) == (408, "the body was not whole within 1 s")
        both.settimeout(5)
        assert b" 408 " in b"".join(iter(lambda: both.recv(2**16), b""))
        silent.settimeout(5)
        assert silent.recv(1) == b""
        assert time.monotonic() - began < 6


def test_where_all_connections_are_at_work_others_are_refused(state: State) -> None:
    with serving(state, most=2) as port, ExitStack() as stack:
        clients = []
        for place in range(4):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            if place < 2:
                one.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
                assert one.recv(2**16).startswith(b"HTTP/1.1 100")  # it is at work
            clients.append(one)
        for one in clients[2:]:
            assert told(one) == (503, "too many requests are under way")
        clients[0].sendall(b"{}")
        assert clients[0].recv(2**16).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\0\r\n\r\n", b"GET /\r\n\r\n", HEAD + b"X: " + b"x" * 2**20])
def test_what_is_no_request_gets_a_sentence(state: State, sent: bytes) -> None:
    with serving(state) as port, socket.create_connection(("127.0.0.1", port)) as client:
        with suppress(OSError):  # it is not read to its end
            client.sendall(sent)
        status, sentence = told(client)
        assert status == 400
        assert "HTTP" in sentence


@pytest.mark.parametrize("coding", [b"Transfer-Encoding: chunked", b"Content-Length: 187000000", b"Content-Length: 2"])
def test_a_body_without_end_is_not_swallowed(state: State, coding: bytes) -> None:
    part, sent = b"x" * 2**16, 0
    with serving(state) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(POST + coding + b"\r\n\r\n")
        with suppress(OSError):
            while sent < 187e6:
                client.sendall(b"10000\r\n" + part + b"\r\n" if b"chunked" in coding else part)
                sent += len(part)
        assert sent < 20e6  # what the system holds between the two, and no more
        if not coding.endswith(b" 2"):
            assert told(client) == (413, "the body is larger than 1,048,576 bytes")


def test_a_refused_client_can_read_why_before_the_connection_ends(state: State) -> None:
    with serving(state, Settings(token="a-token-of-some-length")) as port:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
                assert told(client)[0] == 401


def put(folder: Path, process: int, value: float) -> Path:
    """The numbers of one process, as prometheus_client leaves them."""
    file = folder / f"counter_{process}.db"
    numbers = MmapedDict(str(file))
    numbers.write_value(mmap_key("hardgnn_requests", "hardgnn_requests_total", [], [], "Requests."), value, 0.0)
    numbers.close()
    return file


def test_metrics_survive_files_that_a_killed_worker_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "m[1]"
    folder.mkdir()
    monkeypatch.setenv(metrics.FOLDER, str(folder))
    gone = subprocess.Popen(["true"])
    gone.wait()
    put(folder, gone.pid, 3)
    put(folder, os.getpid(), 4)
    whole = (folder / f"counter_{gone.pid}.db").read_bytes()
    (folder / f"histogram_{gone.pid}.db").write_bytes(b"")
    (folder / f"summary_{gone.pid}.db").write_bytes(whole[:40])
    (folder / "counter_odd.db").write_bytes(whole[:8] + b"\xff" * 64)
    (folder / f"histogram_{os.getpid()}.db").write_bytes(b"")
    for _ in range(2):
        assert b"hardgnn_requests_total 7.0" in metrics.exposition()[0]
    assert sorted(one.name for one in folder.iterdir()) == sorted(
        [f"counter_{gone.pid}.db", f"counter_{os.getpid()}.db", f"histogram_{os.getpid()}.db"]
    )


def test_a_worker_whose_scores_are_stuck_shows_no_life(state: State) -> None:
    beats, free = [], threading.Event()
    watched = State(state.root)
    watched.beat = lambda: beats.append(time.monotonic())  # type: ignore[method-assign]
    app: Any = create_app(watched, Settings(timeout=0.2))
    with TestClient(app, "http://localhost") as service:
        wait(lambda: len(beats) > 1)
        slow = watched.engine.answer

        def stuck(asks: Any) -> Any:
            free.wait(20)
            return slow(asks)

        watched.engine.answer = stuck  # type: ignore[method-assign]
        assert service.post("/v1/recommendations", json={}).status_code == 503
        time.sleep(0.6)
        before = len(beats)
        time.sleep(1.2)
        assert len(beats) == before
        assert service.get("/healthz").status_code == 200
        free.set()
        wait(lambda: len(beats) > before)


def test_a_worker_that_cannot_start_is_tried_a_few_times_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_work", lambda *_: os._exit(1))
    monkeypatch.setattr(supervisor, "RESTART_S", 0.01)
    one = supervisor.Supervisor(Path("run"), "127.0.0.1", 0, 1, Settings())
    one.root = Path("nowhere")
    starts, delays = 0, []

    def live() -> None:
        nonlocal starts
        while True:
            missing = len(one.workers) == 0
            one._fill()
            if missing and one.workers:
                starts += 1
            one._look_at_workers()
            delays.append(one.next_start)

    with pytest.raises(MachineError, match="no worker can start"):
        live()
    one.socket.close()
    assert starts == supervisor.FAILURES
    times = sorted(set(delays))
    assert times[-1] - times[-2] > 0.05  # each wait is longer than the one before


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of services."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_a_killed_service_leaves_nothing_and_a_hung_worker_is_replaced(
    served_run: Path, tmp_path: Path, temporary: Path
) -> None:
    process, _ = start(served_run, tmp_path / "log")
    (left,) = temporary.iterdir()
    assert left.stat().st_mode & 0o777 == 0o700
    process.kill()
    for child in children(process.pid):  # before they can clear up
        os.kill(child, signal.SIGKILL)
    process.wait()
    assert left.exists()

    process, address = start(served_run, tmp_path / "log", "--timeout", "0.5")
    try:
        assert not left.exists()  # swept by the next service
        assert len(list(temporary.iterdir())) == 1
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGSTOP)
        wait(lambda: worker not in children(process.pid) and answers(address), 60)
        assert "a worker hangs" in (tmp_path / "log").read_text()
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGKILL)
        wait(lambda: worker not in children(process.pid) and answers(address), 60)
        assert "hardgnn_requests_total" in httpx.get(f"{address}/metrics").text
    finally:
        process.kill()
        process.wait()
    wait(lambda: not list(temporary.iterdir()), 20)  # cleared by the orphan
    wait(lambda: not answers(address), 20)


def asked_to_end(process: Any, clients: Clients, kinds: list[tuple[bool, float]], after_s: float) -> float:
    """Loads a service, ends it, and tells in how many seconds it was gone."""

    async def run() -> float:
        tasks = [asyncio.create_task(clients.ask(keep, pause_s)) for keep, pause_s in kinds]
        await asyncio.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while process.poll() is None:
            await asyncio.sleep(0.02)
        took = time.monotonic() - began
        await asyncio.gather(*tasks)
        return took

    return asyncio.run(run())


def test_no_request_is_lost_at_the_end(served_run: Path, tmp_path: Path) -> None:
    process, address = start(served_run, tmp_path / "log", "--workers", "2", "--no-access-log")
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as slow:
        slow.send(HEAD[:9])
        clients = Clients(int(address.rpartition(":")[2]))
        took = asked_to_end(process, clients, [(False, 0.0), (True, 0.0), (True, 0.05)] * 8, 1)
    assert clients.seen["200"] > 24
    assert clients.lost == 0, clients.seen
    assert process.returncode == 0
    assert took < 10  # 1.6 s on a quiet machine


def test_what_cannot_be_answered_before_the_end_is_told_so(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, free, answer = threading.Event(), threading.Event(), state.engine.answer

    def stuck(asks: Any) -> Any:
        at_work.set()
        free.wait(30)
        return answer(asks)

    monkeypatch.setattr(state.engine, "answer", stuck)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        with serving(state, Settings(timeout=30)) as port:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(POST + b"Content-Length: 2\r\n\r\n{}")
            found = pool.submit(told, client, 20)
            assert at_work.wait(10)
            began = time.monotonic()
        assert found.result() == (503, "the service ends")
        assert time.monotonic() - began < 8
        free.set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_request_is_lost_at_the_end_of_a_flood(served_run: Path, tmp_path: Path) -> None:
    for workers in ("1", "3", "2"):
        process, address = start(served_run, tmp_path / "log", "--workers", workers, "--no-access-log")
        clients = Clients(int(address.rpartition(":")[2]))
        took = asked_to_end(process, clients, [(False, 0.0), (True, 0.0), (True, 0.05)] * 50, 3)
        assert clients.lost == 0, clients.seen
        assert (process.returncode, took < 10) == (0, True), took


def test_few_handles_are_enough(served_run: Path, tmp_path: Path) -> None:
    process, address = start(served_run, tmp_path / "log", "--no-access-log", handles=60)
    port, done = int(address.rpartition(":")[2]), threading.Event()
    try:
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(slow_heads, port, 200, done.is_set)
            try:
                time.sleep(1)
                process.send_signal(signal.SIGHUP)
                for _ in range(10):
                    began = time.monotonic()
                    assert answers(address, 8)
                    assert time.monotonic() - began < 5
                    time.sleep(0.2)
                wait(lambda: "serving a new run" in (tmp_path / "log").read_text(), 60)
            finally:
                done.set()
            assert slow.result() > 100
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert process.returncode == 0


def test_a_process_takes_as_many_handles_as_it_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        raise_handles()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 2**16)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("token", [None, "a-token-of-some-length"])
def test_all_that_the_interface_allows_is_answered_as_it_says(
    served_run: Path, tmp_path: Path, token: str | None
) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install schemathesis")
    words = ["run", "--max-examples", "40", "--phases", "coverage,fuzzing", "--seed", "1", "--no-color"]
    serve: list[str] = []
    if token is not None:
        (tmp_path / "token").write_text(token)
        words += ["-H", f"Authorization: Bearer {token}"]
        serve = ["--token-file", str(tmp_path / "token")]
    process, address = start(served_run, tmp_path / "log", "--no-access-log", *serve)
    try:
        command = [sys.executable, "-m", "schemathesis.cli", *words, f"{address}/openapi.json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stdout
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert "traceback" not in (tmp_path / "log").read_text()
