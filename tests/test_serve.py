"""The service: what it answers, what it refuses, how it takes up a new run; and the page in a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx
from fastapi.testclient import TestClient

from browser import CHROMIUM, Browser
from hardgnn.config import resolve
from hardgnn.data.dataset import Dataset
from hardgnn.data.simulate import write_simulated
from hardgnn.errors import HardGNNError
from hardgnn.export import export
from hardgnn.recommender import Recommender
from hardgnn.serve.app import create_app
from hardgnn.serve.pack import pack
from hardgnn.serve.sockets import listen
from hardgnn.serve.state import Settings, State, announce, read_token
from hardgnn.serve.strings import Strings
from hardgnn.train import train

TOKEN = "a-token-of-some-length"
LONG = "A Title <b>with &amp; signs</b> that is much longer than a phone is wide, and then somewhat longer"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a market with titles."""
    folder = tmp_path_factory.mktemp("serve")
    write_simulated(folder / "market.inter", users=120, items=60, events=2500, seed=2)
    titles = "".join(f"i{item}\t{LONG if item == 7 else f'Title {item} of Ünï'}\n" for item in range(60))
    (folder / "market.item").write_text("item_id:token\ttitle:token_seq\n" + titles, "utf-8")
    small = ["model.dim=16", "model.heads=2", "model.intervals=4", "train.epochs=2", "train.eval_every=1"]
    data = Dataset.read(folder / "market.inter").prepare(k_core=3, candidates=10)
    train(data, resolve("selfgnn", settings=[*small, "model.window=12"]), folder / "run")
    return folder / "run"


def packed(run: Path, root: Path, index: Path | None = None) -> State:
    pack(run, root / "1", index)
    announce(root, 1)
    return State(root)


@contextmanager
def client(state: State, settings: Settings | None = None) -> Iterator[TestClient]:
    app = create_app(state, settings or Settings())
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def state(run: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    return packed(run, tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def service(state: State) -> Iterator[TestClient]:
    with client(state) as found:
        yield found


def pairs(answer: Any) -> list[tuple[str, float]]:
    return [(one["item"], one["score"]) for one in answer.json()["items"]]


def expected(table: Any) -> list[tuple[str, Any]]:
    return [(item, pytest.approx(score, rel=1e-4)) for item, score in zip(table["item"], table["score"])]


def test_it_answers_as_the_library_does(run: Path, service: TestClient) -> None:
    recommender = Recommender(run)
    user, items = recommender.tables.user_ids[5], recommender.tables.item_ids.to_list()
    known = service.get(f"/v1/users/{user}/recommendations?n=7")
    assert pairs(known) == expected(recommender.for_users([user], n=7))
    assert known.json()["source"] == "user+sequence"
    assert known.json()["items"][0]["title"]
    seen = service.get(f"/v1/users/{user}/recommendations?n=7&exclude_seen=false")
    assert pairs(seen) == expected(recommender.for_users([user], n=7, exclude_seen=False))

    body = {"items": [items[3], "no such item", items[9]], "n": 4, "block": [items[0]]}
    anonymous = service.post("/v1/recommendations", json=body)
    assert pairs(anonymous) == expected(recommender.for_items([items[3], items[9]], n=4, block=[items[0]]))
    assert (anonymous.json()["source"], anonymous.json()["skipped_items"]) == ("sequence", ["no such item"])
    only = service.post("/v1/recommendations", json={"user": user, "allow": items[:5], "exclude_seen": False})
    assert {item for item, _ in pairs(only)} == set(items[:5])
    popular = service.post("/v1/recommendations", json={"user": "stranger"})
    assert (popular.json()["source"], popular.json()["known_user"]) == ("popularity", False)
    assert pairs(popular)[0][1] == recommender.tables.popularity.max()


def test_newer_items_move_the_recommendation_at_once_and_reasons_are_told(run: Path, service: TestClient) -> None:
    recommender = Recommender(run)
    tables, vectors = recommender.tables, recommender.model.item_vectors.numpy()
    user, item = tables.user_ids[5], tables.item_ids[3]
    asked = {"user": user, "items": [item], "explain": True, "n": 3}
    answer = service.post("/v1/recommendations", json=asked).json()
    history = [*tables.histories.of(5), 3]
    scores = recommender.model.scores(np.array([5]), type(tables.histories).from_lists([history]))[0]
    scores[history] = -np.inf
    assert [one["item"] for one in answer["items"]] == tables.item_ids.gather(np.argsort(-scores)[:3]).to_list()
    window = history[-12:]
    assert [one["item"] for one in answer["attention"]] == tables.item_ids.gather(window).to_list()
    assert sum(one["weight"] for one in answer["attention"]) == pytest.approx(1, abs=1e-4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for one in answer["items"]:
        cosines = unit[window] @ unit[tables.item_ids.index_of(one["item"])]
        assert one["because"][0]["similarity"] == pytest.approx(cosines.max(), abs=1e-4)
        assert len({near["item"] for near in one["because"]}) == 3
    similar = service.get(f"/v1/items/{item}/similar?n=4").json()["similar"]
    cosines = unit @ unit[3]
    assert [one["item"] for one in similar] == tables.item_ids.gather(np.argsort(-cosines)[1:5]).to_list()


def test_users_items_and_histories_are_looked_up(run: Path, service: TestClient) -> None:
    tables = Recommender(run).tables
    assert set(service.get("/v1/users?q=u1&n=50").json()["users"]) >= {
        user for user in tables.user_ids.head(100) if user.startswith("u1")
    }
    assert service.get("/v1/items?q=TITLE 12 of ü").json()["items"] == [{"item": "i12", "title": "Title 12 of Ünï"}]
    assert service.get("/v1/items?q=i7").json()["items"][0] == {"item": "i7", "title": LONG}
    assert service.get("/v1/items?q=none").json()["items"] == []
    user = tables.user_ids[5]
    past = service.get(f"/v1/users/{user}/history").json()
    first, last = tables.histories.offsets[5:7]
    assert [one["item"] for one in past["history"]] == tables.item_ids.gather(tables.histories.of(5)).to_list()
    assert [one["interval"] for one in past["history"]] == (tables.intervals[first:last] + 1).tolist()
    assert [one["time"] for one in past["history"]] == sorted(one["time"] for one in past["history"])
    assert (past["intervals"], past["interactions"]) == (4, last - first)


def test_odd_strings_are_found(tmp_path: Path) -> None:
    values = ["b", "a/b", "a", "", "é\nx", "Ab", "aa", "ß", "日本"]
    Strings.write(tmp_path, "odd", values)
    strings = Strings(tmp_path, "odd")
    assert [strings[strings.find(value)] for value in values] == values
    assert strings.find("c") == strings.find("\ud800") == -1
    assert [strings[one] for one in strings.starting("a")] == ["a", "a/b", "aa"]
    assert [strings[one] for one in strings.containing("A")] == ["a/b", "a", "Ab", "aa"]
    assert [strings[one] for one in strings.containing("SS")] == ["ß"]
    assert list(strings.containing("")) == []
    Strings.write(tmp_path, "none", [])
    assert Strings(tmp_path, "none").find("a") == -1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/v1/users/nobody/recommendations", None, 404, "unknown user 'nobody'"),
        ("GET", "/v1/users/..%2f..%2fetc%2fpasswd/recommendations", None, 404, "unknown user"),
        ("GET", "/v1/items/nothing/similar", None, 404, "unknown item"),
        ("GET", "/v1/users/u1/recommendations?n=0", None, 422, "query.n"),
        ("GET", "/v1/users/u1/recommendations?n=1001", None, 422, "query.n"),
        ("POST", "/v1/recommendations", {"items": ["a"] * 1001}, 422, "body.items"),
        ("POST", "/v1/recommendations", {"items": [""]}, 422, "body.items.0"),
        ("POST", "/v1/recommendations", {"itemz": []}, 422, "body.itemz"),
        ("POST", "/v1/recommendations", {"allow": ["nothing"]}, 422, "none of the items to allow"),
        ("POST", "/v1/recommendations", {"block": ["a" * 500] * 9000}, 413, "larger than"),
        ("POST", "/v1/reload", None, 403, "SIGHUP"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("PUT", "/v1/recommendations", None, 405, "Method Not Allowed"),
    ],
)
def test_bad_requests_get_one_sentence(
    service: TestClient, method: str, path: str, body: Any, status: int, words: str
) -> None:
    answer = service.request(method, path, json=body, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine-1"


def test_one_wrong_request_does_not_spoil_those_it_is_scored_with(state: State) -> None:
    from hardgnn.serve.batcher import Batcher
    from hardgnn.serve.engine import Ask

    sizes: list[int] = []

    def answer(asks: Any) -> Any:
        sizes.append(len(asks))
        time.sleep(0.05)
        return state.engine.answer(asks)

    import asyncio

    async def together() -> list[Any]:
        batcher = Batcher(answer)
        asks = [Ask(user=state.engine.users[one], n=one + 1) for one in range(6)]
        asks.insert(3, Ask(allow=["nothing"]))
        return await asyncio.gather(*(batcher.ask(ask) for ask in asks), return_exceptions=True)

    found = asyncio.run(together())
    assert isinstance(found.pop(3), HardGNNError)
    assert [len(one["items"]) for one in found] == [1, 2, 3, 4, 5, 6]
    assert [one["user"] for one in found] == [state.engine.users[one] for one in range(6)]
    assert max(sizes) > 1


def test_everything_but_health_and_the_empty_page_asks_for_the_token(state: State, tmp_path: Path) -> None:
    with client(state, Settings(token=TOKEN)) as service:
        assert service.get("/healthz").status_code == 200
        assert "i12" not in service.get("/").text
        document = service.get("/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).json()
        for path in ("/openapi.json", "/nowhere", *document["paths"]):
            if path == "/healthz":
                continue
            for header in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}):
                refused = service.get(path.format(user="u1", item="i1"), headers=header)
                assert refused.status_code == 401, path
                assert refused.headers["www-authenticate"] == "Bearer"
        allowed = service.get("/v1/users", headers={"authorization": f"Bearer {TOKEN}"})
        assert allowed.status_code == 200
    (tmp_path / "token").write_text("short")
    with pytest.raises(HardGNNError, match="16 or more"):
        read_token(tmp_path / "token")
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "token") == TOKEN


def test_slow_work_is_given_up_and_unexpected_errors_tell_nothing(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def answer(self, asks: Any) -> Any:
            time.sleep(0.5)
            raise RuntimeError("a secret")

    engine = state.engine
    monkeypatch.setattr(state, "engine", Slow())
    with client(state, Settings(timeout=0.1)) as service:
        answer = service.post("/v1/recommendations", json={})
        assert (answer.status_code, answer.json()["error"]) == (503, "no answer within 0.1 s")
    with client(state) as service:
        answer = service.post("/v1/recommendations", json={})
        assert (answer.status_code, answer.json()["error"]) == (500, "unexpected error")


def test_requests_are_counted_by_route_and_the_page_may_ask_only_this_service(service: TestClient) -> None:
    service.get("/v1/items/i3/similar")
    text = service.get("/metrics").text
    assert 'hardgnn_requests_total{method="GET",route="/v1/items/{item:any}/similar",status="200"}' in text
    assert "hardgnn_request_seconds_bucket" in text
    policy = service.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in service.get("/").text.replace("http-equiv", "")
    assert service.get("/docs").status_code == 404


def test_the_index_finds_what_exact_search_finds(run: Path, state: State, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    export(run, tmp_path / "export")
    near = packed(run, tmp_path / "packs", tmp_path / "export")
    with client(state) as exact, client(near) as approximate:
        for body in ({"user": "u3"}, {"items": ["i3", "i5"], "n": 5}, {"user": "u3", "items": ["i4"]}):
            a, b = (one.post("/v1/recommendations", json=body) for one in (exact, approximate))
            assert [item for item, _ in pairs(a)] == [item for item, _ in pairs(b)]
            assert [score for _, score in pairs(a)] == pytest.approx([score for _, score in pairs(b)], rel=1e-3)
            assert (a.json()["approximate"], b.json()["approximate"]) == (False, True)
        filtered = approximate.post("/v1/recommendations", json={"user": "u3", "block": ["i1"]}).json()
        assert not filtered["approximate"]
        assert not approximate.post("/v1/recommendations", json={}).json()["approximate"]


def start(run: Path, logs: Path, *words: str) -> tuple[subprocess.Popen[bytes], str]:
    """`hardgnn serve` as a process that logs to a file, and the address it listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", "serve", str(run), "--port", str(port)]
    with logs.open("wb") as log:
        process = subprocess.Popen([*command, *words], stderr=log)
    address = f"http://127.0.0.1:{port}"
    wait(lambda: process.poll() is not None or _answers(address))
    return process, address


def _answers(address: str) -> bool:
    try:
        return bool(httpx.get(f"{address}/healthz", timeout=1).status_code == 200)
    except httpx.HTTPError:
        return False


def wait(happened: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def test_a_new_run_is_taken_up_under_load_without_dropping_a_request(run: Path, tmp_path: Path) -> None:
    served = tmp_path / "run"
    shutil.copytree(run, served)
    (tmp_path / "token").write_text(TOKEN)
    process, address = start(served, tmp_path / "log", "--workers", "2", "--token-file", str(tmp_path / "token"))
    headers = {"authorization": f"Bearer {TOKEN}"}
    versions: list[str] = []
    failures: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(headers=headers, timeout=30) as one:
            while not done.is_set():
                try:
                    answer = one.get(f"{address}/v1/users/u3/recommendations")
                    versions.append(
                        answer.json()["version"] if answer.status_code == 200 else failures.append(answer.text)
                    )
                except httpx.HTTPError as error:
                    failures.append(error)
                time.sleep(0.02)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for asker in askers:
            asker.start()
        wait(lambda: len(versions) > 10)
        first = versions[0]
        data = Dataset.read(run.parent / "market.inter").prepare(k_core=3, candidates=10)
        small = ["model.dim=8", "model.heads=2", "model.intervals=4", "train.epochs=1", "train.eval_every=1"]
        train(data, resolve("selfgnn", settings=small), tmp_path / "new")
        for name in ("config.toml", "users.parquet", "items.parquet", "model.safetensors"):
            os.replace(tmp_path / "new" / name, served / name)
        assert httpx.post(f"{address}/v1/reload", headers=headers).status_code == 202
        wait(lambda: versions[-1] != first and set(versions[-20:]) == {versions[-1]})
        (served / "model.safetensors").write_bytes(b"damaged")
        process.send_signal(signal.SIGHUP)
        wait(lambda: httpx.get(f"{address}/healthz").json()["reload_error"] is not None)
        assert "damaged" in httpx.get(f"{address}/healthz").json()["reload_error"]
        assert "hardgnn_requests_total" in httpx.get(f"{address}/metrics", headers=headers).text
    finally:
        done.set()
        for asker in askers:
            asker.join()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert failures == []
    assert process.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    assert {"time", "level", "request_id", "path", "status", "ms"} <= next(
        line for line in lines if line["message"] == "request"
    ).keys()


def test_what_cannot_be_served_is_told_in_one_sentence(run: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        command = [sys.executable, "-c", "from hardgnn.cli import main; main()", "serve", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        return done.stderr.splitlines()[-1]

    assert "no such run folder" in refused(str(tmp_path / "nothing"), "--port", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen" in refused(str(run), "--port", str(taken.getsockname()[1]))


PROBE = """(() => {
  const box = element => element.getBoundingClientRect();
  const shown = [...document.querySelectorAll("main *, header *")].filter(one => box(one).width > 0);
  return {
    page: document.documentElement.scrollWidth,
    outside: shown.filter(one => !one.closest(".strip") && (box(one).right > innerWidth + 1 || box(one).left < -1))
      .map(one => one.outerHTML.slice(0, 80)),
    small: [...document.querySelectorAll("main button, main input")].filter(one => box(one).height < 32)
      .map(one => one.outerHTML.slice(0, 80)),
    unnamed: [...document.querySelectorAll("button, input")]
      .filter(one => !(one.ariaLabel || one.labels?.length || one.textContent.trim())).length,
    dark: getComputedStyle(document.body).backgroundColor,
  };
})()"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_the_page_in_a_browser(run: Path, width: int, dark: bool, tmp_path: Path) -> None:
    process, address = start(run, tmp_path / "log")
    best, added = "document.querySelectorAll('#best li')", "document.querySelectorAll('#added button')"
    source = "document.querySelector('#source').textContent"
    names = "[...document.querySelectorAll('#best .name')].map(one => one.firstChild.textContent).join('|')"
    try:
        with Browser(width, dark=dark) as page:
            page.open(f"{address}/")
            page.wait(f"{best}.length == 20 && {source} == 'popularity'")
            page.click("#user")
            page.type("u3")
            page.wait("document.querySelector('#users li')?.textContent == 'u3'")
            page.press("ArrowDown")
            page.press("Enter")
            page.wait(f"{source} == 'user+sequence' && document.querySelectorAll('#seen li').length > 0")
            assert page.value("document.querySelectorAll('#strip button').length") == 4
            assert page.value("location.hash") == "#user=u3"
            before = page.value(names)
            page.click("#item")
            page.type("longer than")
            page.wait(f"document.querySelector('#items li')?.textContent.startsWith({json.dumps(LONG)})")
            page.press("ArrowDown")
            page.press("Enter")
            page.wait(f"{added}.length == 1 && {names} != {json.dumps(before)}")
            page.click("#best .add")
            page.wait(f"{added}.length == 2")
            page.click(".why button")
            page.wait("document.activeElement.classList.contains('near')")
            probe = page.value(PROBE)
            assert (probe["outside"], probe["small"], probe["unnamed"]) == ([], [], 0)
            assert probe["page"] <= width
            assert (int(probe["dark"].split("(")[1].split(",")[0]) < 128) == dark
            page.picture(tmp_path / "page.png")
            page.click("#added button")
            page.click("#added button")
            page.wait(f"{added}.length == 0 && {names} == {json.dumps(before)}")
            page.click("#user")
            page.value("document.querySelector('#user').select()")
            page.type("nobody")
            page.press("Enter")
            page.wait(f"{source} == 'popularity'")
            assert "nobody is unknown" in page.value("document.querySelector('#note').textContent")
            assert page.problems == []
            assert all(one.startswith((address, "data:")) for one in page.asked)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            page.click("#best .add")
            page.wait("document.querySelector('#error').textContent.includes('does not answer')")
    finally:
        process.kill()
        process.wait()


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY a request took 48 ms instead of 2."""
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
