"""A user's first hour with the service: a model of their own log is served, asked, asked wrongly, and stopped."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx

from hardgnn.cli.app import run
from hardgnn.prepare.simulate import write_simulated
from service import start

USERS, ITEMS = 80, 40
PAGE = {"accept": "text/html"}


def title(item: int) -> str:
    return f"Book {item} / Bücher & more"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop's own log as CSV, a table of titles, and the model that was trained on them from the command line."""
    folder = tmp_path_factory.mktemp("shop")
    write_simulated(folder / "events.csv", users=USERS, items=ITEMS, events=1600, seed=5)
    with (folder / "books.csv").open("w", encoding="utf-8", newline="") as books:
        csv.writer(books).writerows([("item", "title"), *((f"i{item}", title(item)) for item in range(ITEMS))])
    prepare = ["prepare", folder / "events.csv", "--items-file", folder / "books.csv", "--out", folder / "data"]
    assert run([str(word) for word in prepare]) == 0
    train = ["train", folder / "data", "--preset", "best", "--out", folder / "run"]
    small = ["--set", "train.epochs=2", "--set", "model.dim=16", "--set", "model.window=10"]
    assert run([*map(str, train), *small]) == 0
    return folder


@pytest.fixture(scope="module")
def served(shop: Path) -> Iterator[tuple[Any, subprocess.Popen[bytes], str]]:
    """A client of `hardgnn serve RUN`, its process and its address."""
    process, address = start(shop / "run", shop / "log")
    with httpx.Client(base_url=address, timeout=20) as client:
        try:
            yield client, process, address
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def test_the_address_answers_with_a_page_and_says_what_it_serves(served: Any) -> None:
    client, *_ = served
    page = client.get("/", headers=PAGE)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>" in page.text
    assert client.get("/healthz").json()["run"] == "run"
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/recommendations", "/v1/users", "/v1/items"} <= set(paths)


def test_a_user_is_found_their_history_read_and_items_recommended_as_the_command_does(
    shop: Path, served: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    client, *_ = served
    (user, *_) = client.get("/v1/users", params={"q": "u1"}).json()["users"]
    seen = [one["item"] for one in client.get(f"/v1/users/{user}/history", params={"n": 100}).json()["history"]]
    answer = client.get(f"/v1/users/{user}/recommendations", params={"n": 5, "explain": True}).json()
    found = [one["item"] for one in answer["items"]]
    assert [one["rank"] for one in answer["items"]] == [1, 2, 3, 4, 5]
    assert not set(found) & set(seen)
    assert all(one["title"] == title(int(one["item"][1:])) for one in answer["items"])
    assert {near["item"] for one in answer["items"] for near in one["because"]} <= set(seen)
    capfd.readouterr()
    assert run(["recommend", str(shop / "run"), "--user", user, "--n", "5", "--json"]) == 0
    assert [one["item"] for one in json.loads(capfd.readouterr().out)] == found


def test_what_a_visitor_looks_at_now_counts_at_once_and_filters_hold(served: Any) -> None:
    client, *_ = served

    def ask(**body: Any) -> list[str]:
        answer = client.post("/v1/recommendations", json={"n": 8, **body})
        assert answer.status_code == 200, answer.text
        return [one["item"] for one in answer.json()["items"]]

    one, other = ask(items=["i3"]), ask(items=["i30"])
    assert one != other
    assert "i3" not in one
    assert one[0] not in ask(items=["i3"], block=[one[0]])
    assert set(ask(items=["i3"], allow=["i5", "i6"])) <= {"i5", "i6"}
    assert ask()  # of nobody: what is popular
    known = client.post("/v1/recommendations", json={"user": "u1", "items": ["i3", "gone"], "n": 3}).json()
    assert known["skipped_items"] == ["gone"]


def test_similar_items_are_other_ones_nearest_first(served: Any) -> None:
    client, *_ = served
    (book, *_) = client.get("/v1/items", params={"q": title(7)}).json()["items"]
    assert book["item"] == "i7"
    near = client.get("/v1/items/i7/similar", params={"n": 4}).json()["similar"]
    assert len(near) == 4
    assert "i7" not in {one["item"] for one in near}
    assert [one["similarity"] for one in near] == sorted((one["similarity"] for one in near), reverse=True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/v1/users/u9999/recommendations", None, 404, "u9999"),
        ("GET", f"/v1/users/{quote('nobody / at all', safe='')}/history", None, 404, "nobody / at all"),
        ("GET", "/v1/items/i9999/similar", None, 404, "i9999"),
        ("GET", "/v1/users/u1/recommendations?n=0", None, 422, "n"),
        ("GET", "/v1/users/u1/recommendations?n=many", None, 422, "n"),
        ("POST", "/v1/recommendations", {"user": "u1", "itmes": ["i3"]}, 422, "itmes"),
        ("POST", "/v1/recommendations", {"items": ["i3"], "allow": ["i9999"]}, 404, "allow"),
        ("GET", "/v1/recommend", None, 404, ""),
        ("DELETE", "/v1/recommendations", None, 405, ""),
        ("POST", "/v1/reload", None, 403, "token"),
    ],
)
def test_a_mistake_gets_a_status_and_a_sentence_and_is_no_error_of_the_service(
    served: Any, method: str, path: str, body: Any, status: int, told: str
) -> None:
    client, process, _ = served
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert told in problem["error"]
    assert "\n" not in problem["error"]
    assert "Traceback" not in answer.text
    assert problem["request_id"]
    assert process.poll() is None


def test_it_counts_what_it_answered_and_ends_without_a_word_too_many(shop: Path, served: Any) -> None:
    client, process, _ = served
    client.get("/v1/users/u1/recommendations")
    assert "hardgnn_requests_total" in client.get("/metrics").text
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert "Traceback" not in (shop / "log").read_text("utf-8")
    with pytest.raises(httpx.TransportError):
        client.get("/healthz")
