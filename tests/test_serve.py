"""The service: what it answers, what it refuses, how it takes up a new run; and the page in a browser."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx
from fastapi.testclient import TestClient

from browser import CHROMIUM, Browser
from hardgnn.errors import HardGNNError
from hardgnn.recommend.export import export
from hardgnn.recommend.recommender import Recommender
from hardgnn.serve.app import create_app
from hardgnn.serve.pack import DESCRIPTION, pack
from hardgnn.serve.sockets import listen
from hardgnn.serve.state import Settings, State, allowed_hosts, announce, read_token
from hardgnn.serve.strings import Strings
from hardgnn.storage.records import read_json, recorded, write_json
from service import COMMAND, LONG, packed, serving, start, train_run, wait

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def run(served_run: Path) -> Path:
    return served_run


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
    first = service.get("/v1/users/examples").json()["users"]
    assert len({one["user"] for one in first}) == 5
    assert [one["interactions"] for one in first] == sorted(one["interactions"] for one in first)
    assert all(len(service.get(f"/v1/users/{one['user']}/history").json()["history"]) for one in first)
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
        ("POST", "/v1/recommendations", {"allow": ["nothing"]}, 404, "none of the items to allow"),
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


ODD = [
    "line\nbreak", "\r\n", "a/b", "a%2Fb", "%", "..", ".", "a/../b", "x/history", "/", " ", "+", "?q=1#top", "\0", "ü",
    "👩‍👩‍👧", "\u202eleft", '"\'<b>', "\\", "u" * 600, "日" * 3000,
]  # fmt: skip


def test_odd_ids_are_the_same_everywhere(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "packs"
    users, items = Recommender(run).tables.user_ids.to_list(), Recommender(run).tables.item_ids.to_list()
    pack(run, root / "1")
    Strings.write(root / "1", "users", [*ODD, *users[len(ODD) :]])
    Strings.write(root / "1", "items", [*ODD, *items[len(ODD) :]])
    described = read_json(root / "1" / DESCRIPTION)
    described["files"] = recorded(root / "1", list(described["files"]))
    write_json(root / "1" / DESCRIPTION, described, sealed=True)
    announce(root, 1)
    # Not the test client, which decodes addresses twice.
    with serving(State(root)) as port, httpx.Client(base_url=f"http://localhost:{port}") as service:
        for row, odd in enumerate(ODD):
            assert odd in service.get("/v1/users", params={"q": odd, "n": 50}).json()["users"]
            assert service.get("/v1/items", params={"q": odd}).json()["items"][0]["item"] == odd
            found = service.post("/v1/recommendations", json={"user": odd, "items": [odd], "block": [odd]}).json()
            assert (found["user"], found["known_user"], found["skipped_items"]) == (odd, True, [])
            quoted, paths = quote(odd, safe=""), ("recommendations", "history")
            wanted = [(f"/v1/users/{path}?user={quoted}", "user") for path in paths] + [
                (f"/v1/items/similar?item={quoted}", "item")
            ]
            if odd not in (".", ".."):  # browsers and clients take these out of an address
                wanted += [(f"/v1/users/{quoted}/{path}", "user") for path in paths]
                wanted += [(f"/v1/items/{quoted}/similar", "item")]
            for path, kind in wanted:
                answer = service.get(path)
                assert answer.status_code == 200, (odd, path)
                named = answer.json()[kind]
                assert (named["item"] if kind == "item" else named) == odd
            past = service.get("/v1/users/history", params={"user": odd}).json()
            assert past["interactions"] == len(Recommender(run).tables.histories.of(row))


def test_half_a_character_is_told_and_not_an_error_of_the_service(service: TestClient) -> None:
    for body in ('{"user": "\\ud800"}', '{"items": ["\\udfff"]}', '{"\\ud800": 1}', '{"n": "\\ud800"}'):
        answer = service.post("/v1/recommendations", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, body
        assert answer.json()["error"]
    assert service.get("/v1/users/%ed%a0%80/history").status_code == 404


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("localhost.", True),
        ("127.0.0.1:80", True),
        ("10.1.2.3", True),
        ("[::1]:8000", True),
        ("recs.example.org", True),
        ("xn--bcher-kva.de", True),
        ("served.lan:8000", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[evil.example]", False),
    ],
)
def test_names_that_are_not_this_service_are_refused(state: State, host: str, allowed: bool) -> None:
    hosts = allowed_hosts("served.lan", ["recs.example.org", "Bücher.de"])
    with client(state, Settings(hosts=hosts)) as service:
        for path in ("/healthz", "/", "/v1/users"):
            answer = service.get(path, headers={"host": host})
            assert answer.status_code == (200 if allowed else 421)
            if not allowed:
                assert "--allowed-host" in answer.json()["error"]
    with client(state, Settings(hosts=allowed_hosts("::1", ["*"]))) as service:
        assert service.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("name", ["", "a b", "http://a", "a:80", "a/b", "a\0", "\udcff", "*.a"])
def test_what_is_no_name_of_a_host_is_told(name: str) -> None:
    with pytest.raises(HardGNNError, match="expected the name of a host"):
        allowed_hosts("127.0.0.1", [name])


@pytest.mark.parametrize("host", ["256.1.1.1.1", "a" * 300, "a..b", "\0", "ü" * 90, "192.0.2.1"])
def test_a_host_that_is_not_here_is_told(host: str) -> None:
    with pytest.raises(HardGNNError, match="cannot listen on"):
        listen(host, 0)


def _environment_is_a_list(run: Path) -> None:
    (run / "environment.json").write_text("[]")


def _users_are_empty(run: Path) -> None:
    (run / "users.parquet").write_bytes(b"")


def _ids_are_numbers(run: Path) -> None:
    pl.read_parquet(run / "users.parquet").with_columns(raw_id=pl.lit(1)).write_parquet(run / "users.parquet")


def _no_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def _weights_are_a_folder(run: Path) -> None:
    (run / "model.safetensors").unlink()
    (run / "model.safetensors").mkdir()


def _fewer_items(run: Path) -> None:
    pl.read_parquet(run / "items.parquet").head(9).write_parquet(run / "items.parquet")


@pytest.mark.parametrize(
    "damage",
    [
        _environment_is_a_list,
        _users_are_empty,
        _ids_are_numbers,
        _no_weights,
        _weights_are_a_folder,
        _fewer_items,
    ],
)
def test_a_run_that_cannot_be_packed_is_one_sentence_with_its_name(run: Path, tmp_path: Path, damage: Any) -> None:
    copy = tmp_path / "copied-run"
    shutil.copytree(run, copy)
    damage(copy)
    with pytest.raises(HardGNNError, match="copied-run") as told:
        pack(copy, tmp_path / "1")
    assert "\n" not in str(told.value)


def test_a_worker_that_cannot_open_a_new_run_keeps_the_old_one_and_says_why(run: Path, tmp_path: Path) -> None:
    state = packed(run, tmp_path)
    old = state.engine
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    (tmp_path / "2" / "offsets.npy").write_bytes(b"damaged")
    announce(tmp_path, 2)

    async def watched() -> None:
        task = asyncio.create_task(state.watch())
        while state.error is None:
            await asyncio.sleep(0.05)
        announce(tmp_path, 1, "the new run is damaged")
        while state.error != "the new run is damaged":
            await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(asyncio.wait_for(watched(), 30))
    assert state.engine is old


def test_tokens_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    odd = "ünïcödé-and-long-enough".encode()
    for content in (b"", b"short", b"two words of a token", odd, b"\xff" * 20, b"a" * 5000):
        (tmp_path / "token").write_bytes(content)
        with pytest.raises(HardGNNError, match="expected one token"):
            read_token(tmp_path / "token")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(HardGNNError, match="not an ordinary file"):
            read_token(path)
    with pytest.raises(HardGNNError, match="no such file"):
        read_token(tmp_path / "nothing")


def test_one_wrong_request_does_not_spoil_those_it_is_scored_with(state: State) -> None:
    from hardgnn.serve.batcher import Batcher
    from hardgnn.serve.engine import Ask

    sizes: list[int] = []

    def answer(asks: Any) -> Any:
        sizes.append(len(asks))
        time.sleep(0.05)
        return state.engine.answer(asks)

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
            if path in ("/healthz", "/readyz"):  # who asks for those has no token
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
        train_run(run.parent, tmp_path / "new", "model.dim=8", "train.epochs=1")
        for name in ("config.toml", "users.parquet", "items.parquet", "model.safetensors", "environment.json"):
            os.replace(tmp_path / "new" / name, served / name)
        assert httpx.post(f"{address}/v1/reload", headers=headers).status_code == 202
        wait(lambda: versions[-1] != first and set(versions[-20:]) == {versions[-1]})
        (served / "model.safetensors").write_bytes(b"damaged")
        process.send_signal(signal.SIGHUP)
        # one worker may answer before the other has tried
        wait(lambda: "damaged" in (httpx.get(f"{address}/healthz").json()["reload_error"] or ""))
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
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120)
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
    small: shown.filter(one => one.matches("button, select, input:not([type=checkbox]), .check"))
      .filter(one => box(one).height < 32).map(one => one.outerHTML.slice(0, 80)),
    broken: [...document.querySelectorAll(".why button")].filter(one => box(one).height > 40).length,
    unnamed: [...document.querySelectorAll("button, input, select")]
      .filter(one => !(one.ariaLabel || one.labels?.length || one.textContent.trim())).length,
    dark: getComputedStyle(document.body).backgroundColor,
  };
})()"""
RING = """(style => style.outlineStyle == "solid" && parseFloat(style.outlineWidth) >= 2)
  (getComputedStyle(document.activeElement))"""
SEEN = "(box => box.height > 0 && box.top >= 0 && box.bottom <= innerHeight)"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_in_a_browser(run: Path, width: int, tmp_path: Path) -> None:
    process, address = start(run, tmp_path / "log")
    best, added = "document.querySelectorAll('#best li')", "document.querySelectorAll('#added button')"
    source = "document.querySelector('#source').textContent"
    names = "[...document.querySelectorAll('#best .name')].map(one => one.firstChild.textContent).join('|')"
    try:
        with Browser(width) as page:

            def tab(which: str) -> None:
                if width == 390:
                    page.click(f"#tab-{which}")

            page.open(f"{address}/")
            page.wait(f"{best}.length == 20 && {source} == 'popularity'")
            page.wait("document.querySelectorAll('#example-users button').length == 5")
            page.picture(tmp_path / f"start-{width}.png")
            page.press("Tab")
            assert page.value(RING)
            page.click("#example-users button:nth-child(2)")
            page.wait(f"{source} == 'user+sequence' && document.querySelector('#examples').hidden")
            page.click("#user")
            page.value("document.querySelector('#user').select()")
            page.type("u3")
            page.wait("document.querySelector('#users li')?.textContent == 'u3'")
            page.press("ArrowDown")
            page.press("Enter")
            page.wait("location.hash == '#user=u3' && !document.querySelector('#best').ariaBusy")
            assert page.value("document.querySelectorAll('#seen li').length > 0")
            assert page.value("document.querySelectorAll('#strip button').length") == 4
            before = page.value(names)
            if width == 390:  # the history is a tap away, before any card
                top = "document.querySelector('#tab-past').getBoundingClientRect().top"
                assert page.value(f"{top} < document.querySelector('#best li').getBoundingClientRect().top")
            page.click("#item")
            page.type("longer than")
            page.wait(f"document.querySelector('#items li')?.textContent.startsWith({json.dumps(LONG)})")
            page.press("ArrowDown")
            page.press("Enter")
            page.wait(f"{added}.length == 1 && {names} != {json.dumps(before)}")
            page.click("#best .add")
            page.wait(f"{added}.length == 2")
            chips = (
                "[...document.querySelectorAll('.why button')].map(one => [one.offsetWidth, one.lastChild.textContent])"
            )
            shown = page.value(chips)
            assert shown
            assert all(size <= 230 and not text.startswith("-") for size, text in shown)  # near, and room for others
            page.click(".why button")
            page.wait("document.activeElement.classList.contains('near')")
            assert page.value(RING)
            tab("found")
            for dark in (False, True):
                page.look(width, dark)
                page.value("document.querySelector('#filters').open = true")
                probe = page.value(PROBE)
                assert (probe["outside"], probe["small"], probe["unnamed"], probe["broken"]) == ([], [], 0, 0)
                assert probe["page"] <= width
                assert (int(probe["dark"].split("(")[1].split(",")[0]) < 128) == dark
                page.picture(tmp_path / f"page-{width}-{'dark' if dark else 'light'}.png")
            page.click("#added button")
            page.click("#added button")
            page.wait(f"{added}.length == 0 && {names} == {json.dumps(before)}")
            _filters(page, before, names)
            page.click("#best li:nth-child(3) .acts button:nth-child(2)")
            page.wait("document.querySelectorAll('#alikes li').length == 10")
            assert "Similar to" in page.value("document.querySelector('#alike').innerText")
            page.press("Escape")
            page.wait("!document.querySelector('#alike').open")
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
            page.click("#best li:last-child .add")  # far down, and the error is there
            page.wait("document.querySelector('#error').textContent.includes('does not answer')")
            assert page.value(f"{SEEN}(document.querySelector('#error').getBoundingClientRect())")
    finally:
        process.kill()
        process.wait()


def _filters(page: Browser, before: str, names: str) -> None:
    """How many, what was seen, nothing but, and never: each changes the list, and the address keeps them."""
    choose = "(one => {{ {}; one.dispatchEvent(new Event('change')); }})(document.querySelector('{}'))"
    page.value(choose.format("one.value = '5'", "#n"))
    page.wait("document.querySelectorAll('#best li').length == 5")
    page.value(choose.format("one.checked = true", "#seen-too"))
    page.wait("location.hash.includes('seen=1')")
    page.value(choose.format("one.checked = false", "#seen-too"))
    page.wait(f"{names} == {json.dumps('|'.join(before.split('|')[:5]))}")
    page.click("#best .acts button:nth-child(3)")
    page.wait(f"{names}.startsWith({json.dumps('|'.join(before.split('|')[1:5]))})")
    page.click("#never-chips button")
    page.wait(f"{names} == {json.dumps('|'.join(before.split('|')[:5]))}")
    other = before.split("|")[7]
    page.click("#only")
    page.type(other)
    page.wait(f"document.querySelector('#onlies li')?.textContent.startsWith({json.dumps(other)})")
    page.press("ArrowDown")
    page.press("Enter")
    page.wait(f"{names} == {json.dumps(other)}")
    page.click("#only-chips button")
    page.wait(f"{names} == {json.dumps('|'.join(before.split('|')[:5]))}")
    page.value(choose.format("one.value = '20'", "#n"))
    page.wait(f"{names} == {json.dumps(before)}")


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY a request took 48 ms instead of 2."""
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
