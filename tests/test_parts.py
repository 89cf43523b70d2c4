"""What holds for every part of a kind, by its name alone; parts from outside."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import hardgnn.parts
from hardgnn import Dataset, HardGNNError
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.readers import READERS, Fit, RawFile, formats, guess_format, reader
from hardgnn.metrics import METRICS
from hardgnn.parts import Parts

SEQUENCES = "sequences"  # the one format that no content tells


KINDS: list[Parts[Any]] = [METRICS, READERS]
"""A kind more is a line here, and tests of its own below."""
every_kind = pytest.mark.parametrize("parts", KINDS, ids=lambda parts: parts.kind)


@pytest.fixture
def outside() -> Iterator[None]:
    """Parts registered in a test are gone after it."""
    before = [dict(parts._known) for parts in KINDS]
    yield
    for parts, known in zip(KINDS, before, strict=True):
        parts._known = known


def announce(monkeypatch: pytest.MonkeyPatch, parts: Parts[Any], **points: str) -> None:
    """Makes an installed package of entry points."""
    installed = EntryPoints(EntryPoint(name, value, parts.group) for name, value in points.items())
    monkeypatch.setattr(hardgnn.parts, "entry_points", lambda group: installed.select(group=group))


@every_kind
def test_a_part_is_found_by_its_name_and_a_name_that_is_none_is_told_the_nearest(parts: Parts[Any]) -> None:
    for name in parts.names():
        assert parts.find(name).name == name
    near = parts.names()[0]
    with pytest.raises(HardGNNError, match=f"unknown {parts.kind} '{near}x'; did you mean '{near}'"):
        parts.find(f"{near}x")


@every_kind
def test_a_part_of_an_installed_package_that_is_not_there_is_told_with_its_kind(
    parts: Parts[Any], outside: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"broken_{parts.kind}.py").write_text("import no_such_module\n")
    (tmp_path / f"empty_{parts.kind}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, parts, broken=f"broken_{parts.kind}", empty=f"empty_{parts.kind}")
    assert {"broken", "empty"} <= set(parts.names())
    with pytest.raises(HardGNNError, match=f"{parts.kind} 'broken' .* cannot be loaded: ModuleNotFoundError"):
        parts.find("broken")
    with pytest.raises(HardGNNError, match=f"{parts.kind} 'empty' .* registers no {parts.kind} of that name"):
        parts.find("empty")


@pytest.fixture(params=READERS.names())
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The name of a reader, and a log in its format under a name that tells nothing."""
    made = READERS.find(request.param).sample
    assert made is not None, f"the reader '{request.param}' gives no sample; see `hardgnn.data.readers.base.reader`"
    path = tmp_path / "log.txt"
    path.write_bytes(made())
    return request.param, path


def test_a_reader_reads_its_sample_the_same_every_time(sample: tuple[str, Path]) -> None:
    name, path = sample
    one, two = (Dataset.read(path, format=name) for _ in range(2))
    assert one.table.equals(two.table)
    assert one.sha256 == two.sha256
    assert one.table.columns[:3] == [USER, ITEM, TIMESTAMP]
    assert one.table.height >= 2
    assert one.table.null_count().select(USER, ITEM, TIMESTAMP).row(0) == (0, 0, 0)
    assert one.reading.format == name
    assert set(one.reading.told()) == {"format", "user", "item", "time", "rating", "time_unit"}


def test_a_reader_finds_its_sample_by_the_content(sample: tuple[str, Path]) -> None:
    name, path = sample
    assert guess_format(RawFile.find(path)) == ("csv" if name == SEQUENCES else name)


def test_a_reader_reads_a_packed_log(sample: tuple[str, Path]) -> None:
    name, path = sample
    packed = path.with_name("packed.txt.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    if name == "parquet":
        with pytest.raises(HardGNNError, match="not a Parquet file; unpack it"):
            Dataset.read(packed, format=name)
    else:
        assert Dataset.read(packed, format=name).table.equals(Dataset.read(path, format=name).table)


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\xff\xfe" * 40, b"\xc3\x28 is not UTF-8\n\xff\n", b"a\n" * 3])
@pytest.mark.parametrize("name", READERS.names())
def test_a_reader_refuses_what_is_no_log_in_one_sentence(name: str, garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.log"
    path.write_bytes(garbage)
    with pytest.raises(HardGNNError) as told:
        Dataset.read(path, format=name)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", READERS.names())
def test_a_reader_takes_names_of_columns_or_says_that_it_does_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    made = READERS.find(name).sample
    assert made is not None
    path.write_bytes(made())
    with pytest.raises(HardGNNError, match=r"'nobody'"):
        Dataset.read(path, format=name, user_col="nobody")


def read_plays(raw: RawFile) -> pl.DataFrame:
    with raw.open() as stream:
        rows = [line.decode().rstrip("\n").split("|") for line in stream]
    return pl.DataFrame(rows, [USER, ITEM, TIMESTAMP], orient="row")


PLAYS = b"ann|x|1400000000\nann|y|1500000000\n"


def test_a_reader_from_outside_reads_packed_logs_and_is_checked_as_ours(outside: None, tmp_path: Path) -> None:
    reader("plays")(read_plays)
    (tmp_path / "plays.log.gz").write_bytes(gzip.compress(PLAYS))
    log = Dataset.read(tmp_path / "plays.log.gz", format="plays")
    assert log.table[TIMESTAMP].to_list() == [1.4e9, 1.5e9]
    assert log.reading.format == "plays"
    (tmp_path / "plays.log").write_bytes(PLAYS + b"bob||1500000000\n")
    with pytest.raises(HardGNNError, match=r"plays.log: row 3: the item id is empty"):
        Dataset.read(tmp_path / "plays.log", format="plays")


def fails(raw: RawFile) -> pl.DataFrame:
    raise ValueError("a strange file")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails, r"reader 'odd' \(.*fails\) fails: ValueError: a strange file"),
        (lambda raw: {"user": []}, r"reader 'odd' .*expected a polars DataFrame or LazyFrame, got a builtins dict"),
        (lambda raw: pl.DataFrame({"user": ["a"], "thing": ["b"]}), r"reader 'odd' .*no column 'item'; .*user, thing"),
        (lambda raw: pl.DataFrame({"user": ["a"], "item": ["b"], "timestamp": [True]}), "column 'timestamp' cannot be"),
        (lambda raw: pl.LazyFrame({"user": ["a"]}).select(item="none"), "cannot be read as odd"),
    ],
)
def test_a_reader_that_is_wrong_is_named(
    outside: None, tmp_path: Path, function: Callable[[RawFile], Any], message: str
) -> None:
    reader("odd")(function)
    (tmp_path / "log.odd").write_bytes(PLAYS)
    with pytest.raises(HardGNNError, match=message) as told:
        Dataset.read(tmp_path / "log.odd", format="odd")
    assert "log.odd" in str(told.value)


def test_a_reader_may_recognise_its_files(outside: None, tmp_path: Path) -> None:
    reader("plays", fits=lambda raw: Fit.CONTENT if raw.start().count("|") == 2 else Fit.NO)(read_plays)
    (tmp_path / "log.txt").write_bytes(PLAYS)
    assert Dataset.read(tmp_path / "log.txt").reading.format == "plays"


def test_names_of_readers(outside: None, tmp_path: Path) -> None:
    for taken, message in (
        ("auto", "means something else"),
        ("selfgnn", "means something else"),
        ("csv", "rename one"),
    ):
        with pytest.raises(HardGNNError, match=message):
            reader(taken)(read_plays)
    reader("plays")(read_plays)
    with pytest.raises(HardGNNError, match="unknown format 'play': did you mean 'plays'"):
        Dataset.read(tmp_path / "log.txt", format="play")
    with pytest.raises(HardGNNError, match="unknown option 'fromat' of reading: did you mean 'format'"):
        Dataset.read(tmp_path / "log.txt", fromat="play")  # type: ignore[call-arg]


def test_a_reader_of_an_installed_package_is_found_by_its_entry_point(
    outside: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "far_readers.py").write_text(
        "import polars as pl\nfrom hardgnn.data.readers import reader\n@reader('far')\n"
        "def far(raw):\n    return pl.DataFrame({'user': ['a'], 'item': ['b'], 'timestamp': [1.4e9]})\n"
    )
    (tmp_path / "log.txt").write_bytes(PLAYS)
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, READERS, far="far_readers")
    assert "far" in formats()
    assert "far" not in READERS._known  # not loaded before it is asked for
    assert Dataset.read(tmp_path / "log.txt", format="far").table.height == 1
