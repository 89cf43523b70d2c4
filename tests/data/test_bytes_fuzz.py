"""Damaged logs by the hundred: each is read or told in one sentence, and read as Python's csv module reads it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from hardgnn.data.log import read_log
from hardgnn.data.raw import file, quoted
from hardgnn.data.readers.titles import find_titles
from hardgnn.errors import HardGNNError
from hardgnn.prepare.released.selfgnn import read_selfgnn

PIECES = (
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b",",
    b"\t",
    b'"\n',
    b"PK\3\4",
    b"\x1f\x8b",
    b"{",
    b"[",
    b"9" * 30,
    b"\xff" * 8,
)
COUNT = 150


def tampered(rng: random.Random, data: bytes) -> bytes:
    """Data with some bits flipped, bytes cut out, put in or moved, or the end gone."""
    wrong = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place, other = rng.randrange(len(wrong) + 1), rng.randrange(len(wrong) + 1)
        match rng.randrange(6):
            case 0 if place < len(wrong):
                wrong[place] ^= 1 << rng.randrange(8)
            case 1:
                del wrong[place:]
            case 2:
                wrong[place:place] = rng.choice(PIECES) * rng.choice((1, 3, 1000))
            case 3:
                del wrong[place : place + rng.choice((1, 8, 100))]
            case 4:
                wrong[place:place] = wrong[other : other + 200]
            case _:
                wrong[place : place + 16] = rng.randbytes(16)
    return bytes(wrong)


def logs() -> dict[str, bytes]:
    """A small log in each format and each wrapping."""
    events = [(k % 37 + 1, k * 7 % 91 + 1, 1_000_000_000 + 50 * k) for k in range(120)]
    table = "user,item,time,title\n" + "".join(f'{u},{i},{t},"T, ""{u}"" x"\n' for u, i, t in events)
    reviews = [
        {"user_id": f"u{u}", "business_id": f"b{i}", "date": "2018-07-07 23:09:17", "stars": 3} for u, i, _ in events
    ]
    texts = {
        "log.csv": table,
        "log.inter": "user_id:token\titem_id:token\ttime:float\n" + "".join(f"{u}\t{i}\t{t}\n" for u, i, t in events),
        "ratings.dat": "".join(f"{u}::{i}::3::{t}\n" for u, i, t in events),
        "amazon.csv": "".join(f"A{u:013d},B{i:09d},3.0,{t}\n" for u, i, t in events),
        "gowalla.txt": "".join(f"{u}\t2010-10-11T12:17:43Z\t30.2\t-97.7\t{i}\n" for u, i, _ in events),
        "yelp.json": "".join(json.dumps(one) + "\n" for one in reviews),
    }
    made = {name: text.encode() for name, text in texts.items()}
    for compression in ("zstd", "snappy", "uncompressed"):
        buffer = io.BytesIO()
        frame = pl.DataFrame(events, schema=["user", "item", "time"], orient="row")
        frame.write_parquet(buffer, compression=compression, row_group_size=50)
        made[f"{compression}.parquet"] = buffer.getvalue()
    for ending, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        made[f"log.csv{ending}"] = compress(made["log.csv"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("ml/ratings.dat", texts["ratings.dat"])
        packed.writestr("ml/movies.dat", "1::One::x\n2::Two::y\n")
    made["ml.zip"] = buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("log.csv")
        entry.size = len(table)
        archive.addfile(entry, io.BytesIO(made["log.csv"]))
    made["log.tar"] = buffer.getvalue()
    return made


def settled(read: Callable[[], object]) -> bool:
    """Whether something was read; a refusal must be one line."""
    told = ""
    try:
        read()
    except HardGNNError as error:
        told = str(error)
    assert "\n" not in told
    return not told


@pytest.mark.parametrize("name", logs())
def test_damaged_logs(tmp_path: Path, name: str) -> None:
    whole, path, rng = logs()[name], tmp_path / name, random.Random(name)
    path.write_bytes(whole)
    assert read_log(path).table.height == 120
    read = 0
    for _ in range(COUNT // 5):
        path.write_bytes(tampered(rng, whole))
        read += settled(lambda: read_log(path))
    assert read < COUNT // 5


def test_damaged_titles(tmp_path: Path) -> None:
    texts = {
        "x.item": "item_id:token\ttitle:token_seq\n" + "".join(f"{n}\tTitle é {n}\n" for n in range(99)),
        "movies.csv": "movieId,title\n" + "".join(f'{n},"Title, ""{n}"""\n' for n in range(99)),
        "movies.dat": "".join(f"{n}::Title {n}::x\n" for n in range(99)),
    }
    rng = random.Random(1)
    for name, text in texts.items():
        for data in (text.encode(), gzip.compress(text.encode())):
            for _ in range(COUNT // 5):
                path = tmp_path / name
                path.write_bytes(tampered(rng, data))
                settled(lambda path=path: find_titles(tmp_path / "log", path, False))


def test_damaged_pickles(tmp_path: Path) -> None:
    rng, draw = random.Random(2), np.random.default_rng(2)
    users, items = 12, 40
    parts = [
        sp.csr_matrix(
            (draw.integers(1, 9, 30).astype(float), (draw.integers(0, users, 30), draw.integers(0, items, 30))),
            (users, items),
        )
        for _ in range(3)
    ]
    objects: dict[str, Any] = {
        "sequence": [draw.integers(0, items, 6).tolist() for _ in range(users)],
        "tst_int": [None if user % 4 == 0 else user for user in range(users)],
        "test_dict": {user + 1: draw.integers(1, items + 1, 20).tolist() for user in range(users)},
        "trn_mat_time": [sum(parts), parts, parts[0]],
    }
    for number in range(COUNT):
        wrong = list(objects)[number % 4]
        for name, content in objects.items():
            data = pickle.dumps(content, (0, 2, 4, 5)[number // 4 % 4])
            (tmp_path / name).write_bytes(tampered(rng, data) if name == wrong else data)
        settled(lambda: read_selfgnn(tmp_path))


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_quotes_are_read_as_the_csv_module_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    for module in (file, quoted):
        monkeypatch.setattr(module, "BLOCK_BYTES", block)
    rng, path, read = random.Random(block), tmp_path / "log.csv", 0
    fine = ["a", "bb", '"q"', '"x,y"', '"l\nm"', '"d""e"', "é"]
    odd = ["", '""', '"\r\n"', " ", '"""', 'a"b', '"op', 'cl"', '"a"b', '""x', '"a""']
    for _ in range(COUNT):
        fields = fine if rng.random() < 0.7 else fine + odd
        lines = [
            f"{rng.choice(fields)},{rng.choice(fields)},{rng.randrange(99)},{rng.choice(fields)}" for _ in range(8)
        ]
        text = rng.choice(("\n", "\r\n")).join(["user,item,time,x", *lines, ""][: rng.choice((9, 10))])
        path.write_bytes(text.encode())
        found: list[tuple[Any, ...]] = []
        if settled(lambda found=found: found.extend(read_log(path, format="csv").table.rows())):
            parsed = [row for row in csv.reader(io.StringIO(text, newline="\n"), strict=True) if row]
            assert found == [(user, item, float(time)) for user, item, time, *_ in parsed[1:]]
            read += 1
    assert read > COUNT // 3
