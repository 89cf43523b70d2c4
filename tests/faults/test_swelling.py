"""Small files that swell, and texts that nest: one sentence, in bounded memory and time."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.fuzz import MEMORY_MB
from faults.scenarios import told
from faults.stage import Stage, settings

SECONDS = 30
SWOLLEN = 600 << 20


def one_line(path: Path) -> None:
    """A gzip of a header and one line of 600 MB."""
    with gzip.open(path, "wb", 1) as out:
        out.write(b"user,item,timestamp\n")
        for _ in range(SWOLLEN >> 20):
            out.write(b"a" * (1 << 20))


def zipped(path: Path, member: str, begin: bytes = b"", part: bytes = b"7" * (1 << 20)) -> None:
    """A zip whose member swells to 600 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed, packed.open(member, "w") as out:
        out.write(begin)
        for _ in range(SWOLLEN // len(part)):
            out.write(part)


def titles(path: Path) -> None:
    """A small log in a zip whose titles swell."""
    zipped(path, "ml-100k/u.item", b"1|Title|", b"a" * (1 << 20))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("ml-100k/u.data", "".join(f"{n % 9}\t{n % 7}\t3\t{9000 + n}\n" for n in range(200)))


def boastful_tar(path: Path) -> None:
    """A tar archive whose member says that it has 8 exabytes."""
    entry = tarfile.TarInfo("yelp_academic_dataset_review.json")
    entry.size = 2**62
    line = json.dumps({"user_id": "u", "business_id": "b", "date": "2014-01-01 00:00:00", "stars": 1.0})
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + line.encode())


def nested_gzip(path: Path) -> None:
    """Gzip in gzip, sixty times."""
    data = b"user,item,timestamp\nu,i,1\n"
    for _ in range(60):
        data = gzip.compress(data, 1)
    path.write_bytes(data)


def nested_json(path: Path) -> None:
    """A line of a million brackets."""
    path.write_bytes(b'{"user_id": ' + b"[" * 1_000_000 + b"\n")


def wide(path: Path) -> None:
    """A header of 300,000 columns."""
    path.write_text(",".join(["user", "item", "timestamp", *(f"c{n}" for n in range(300_000))]) + "\nu,i,1\n")


def quoted(path: Path) -> None:
    """A quote that is never closed, over 100 MB."""
    with path.open("wb") as out:
        out.write(b'user,item,timestamp\nu,"i,1\n')
        for n in range(100):
            out.write(b"u,i,%d\n" % n * 150_000)


FILES: dict[str, Callable[[Path], None]] = {
    "log.csv.gz": one_line,
    "log.inter.gz": one_line,
    "ml-100k.zip": lambda path: zipped(path, "ml-100k/u.data"),
    "ml-20m.zip": lambda path: zipped(path, "ml-20m/ratings.csv", b"userId,movieId,rating,timestamp\n"),
    "titles.zip": titles,
    "yelp_dataset.tar": boastful_tar,
    "nested.csv.gz": nested_gzip,
    "nested.json": nested_json,
    "wide.csv": wide,
    "quoted.csv": quoted,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_what_swells_is_told(name: str, stage: Stage, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    outcome = stage.commands.start(["prepare", name, "--out", "data"], tmp_path).wait(SECONDS)
    grown = outcome.peak_mb - stage.commands.baseline_mb
    print(
        f"{name}: {(tmp_path / name).stat().st_size >> 10} KB, {outcome.kind}, {grown:.0f} MB, {outcome.seconds:.1f} s"
    )
    assert outcome.kind == "sentence", told([outcome])
    assert grown < MEMORY_MB, f"{grown:.0f} MB beyond the program's own"
    assert not (tmp_path / "data").exists()


NESTED = "[" * 5000
WORDS = {
    "--set": ["train", "DATA", "--out", "run", "--preset", "hardgnn", *settings(), "--set", f"model.dim={NESTED}"],
    "--grid": ["sweep", "DATA", "--out", "study", "--grid", f"hard.k={NESTED}"],
    "--at": ["evaluate", "DATA", "--at", "9" * 5000],
    "--items": ["recommend", "RUN", "--items", "i1," * 50_000],
}


@pytest.mark.parametrize("name", WORDS)
def test_words_that_nest_are_told(name: str, stage: Stage, tmp_path: Path) -> None:
    places = {"DATA": str(stage / "data"), "RUN": str(stage / "data-hardgnn")}
    outcome = stage.commands.run([places.get(word, word) for word in WORDS[name]], tmp_path)
    assert outcome.kind in ("sentence", "fine"), told([outcome])
    assert len(outcome.said) < 2000
    assert not (tmp_path / "run").exists()
