"""One log in every raw format that is read, small and written by hand, so that none comes from the code under test."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy.sparse as sp

BEGIN = 1_300_000_000
USERS, ITEMS, EVENTS = 20, 25, 300


def events(seed: int) -> list[tuple[int, int, int, int]]:
    """User, item, rating and time, oldest first."""
    rng = random.Random(seed)
    drawn = [(rng.randrange(1, USERS), rng.randrange(1, ITEMS), rng.randrange(1, 6)) for _ in range(EVENTS)]
    return [(*one, BEGIN + 9_000 * n) for n, one in enumerate(drawn)]


def write(root: Path, seed: int) -> None:
    """All readers' files of `faults.fuzz.READERS`, but those that the stage has already."""
    log = events(seed)

    def text(name: str, lines: list[str]) -> bytes:
        data = "".join(f"{line}\n" for line in lines).encode()
        (root / name).write_bytes(data)
        return data

    plain = text("log.csv", ["user,item,rating,timestamp", *(f"u{u},i{i},{r},{t}" for u, i, r, t in log)])
    (root / "log.csv.gz").write_bytes(gzip.compress(plain, mtime=0))
    quoted = [f'"u{u}","item, number ""{i}""","a note\nof two lines",{t}' for u, i, r, t in log]
    text("quoted.csv", ["user,item,note,timestamp", *quoted])
    text("log.tsv", ["timestamp\titem_id\tuser_id", *(f"{t}000\ti{i}\tu{u}" for u, i, r, t in log)])
    data = text("u.data", [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in log])
    text("ratings.dat", [f"{u}::{i}::{r}::{t}" for u, i, r, t in log])
    text("ratings_Books.csv", [f"A{u:09},B{i:09},{r}.0,{t}" for u, i, r, t in log])
    with zipfile.ZipFile(root / "ml-100k.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("ml-100k/u.data", data)
        titles = "".join(f"{i}|Title {i}|01-Jan-1995||http://x|0|0|0\n" for i in range(1, ITEMS))
        packed.writestr("ml-100k/u.item", titles)
    moments = [datetime.fromtimestamp(t, UTC) for _, _, _, t in log]
    lines = [f"{u}\t{m:%Y-%m-%dT%H:%M:%SZ}\t30.2\t-97.7\t{i}" for (u, i, _, _), m in zip(log, moments)]
    data = text("loc-gowalla_totalCheckins.txt", lines)
    (root / "loc-gowalla_totalCheckins.txt.gz").write_bytes(gzip.compress(data, mtime=0))
    reviews = [
        json.dumps({"review_id": str(n), "user_id": f"u{u}", "business_id": f"b{i}", "stars": float(r), "useful": 0,
                    "text": 'Good, "very" good\n', "date": f"{m:%Y-%m-%d %H:%M:%S}"})
        for n, ((u, i, r, _), m) in enumerate(zip(log, moments))
    ]  # fmt: skip
    data = text("yelp_academic_dataset_review.json", reviews)
    with tarfile.open(root / "yelp_dataset.tar", "w:gz") as tar:
        for kind, content in (("user", b"{}\n"), ("review", data)):
            entry = tarfile.TarInfo(f"yelp_academic_dataset_{kind}.json")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    text("reviews.json", [json.dumps(dict(zip(names, (f"A{u}", f"B{i}", float(r), t)))) for u, i, r, t in log])
    text("sasrec.txt", [f"{u} {i}" for u, i, _, _ in log])
    text("log.item", ["item_id:token\tmovie_title:token_seq", *(f"i{i}\tTitle {i}" for i in range(ITEMS))])
    text("events.csv", ["user,item", *(f"u{u},i{i}" for u, i, _, _ in log[:50])])
    pickles(root / "pickles", seed)
    pickles(root / "pickles-else", seed + 1)


def pickles(folder: Path, seed: int) -> None:
    """SelfGNN's four files."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    sequences = [rng.permutation(ITEMS)[: 6 + user % 4].tolist() for user in range(USERS)]
    test = [sequence.pop() if user % 4 else None for user, sequence in enumerate(sequences)]
    drawn = {
        user + 1: [int(one) + 1 for one in rng.choice(np.setdiff1d(np.arange(ITEMS), [*sequences[user], item]), 9)]
        for user, item in enumerate(test)
        if item is not None
    }
    times = [{}, {}, {}]  # type: list[dict[tuple[int, int], int]]
    for user, sequence in enumerate(sequences):
        for place, item in enumerate(sequence[:-1]):
            times[place % 3][user, item] = BEGIN + (place % 3) * 10_000_000 + place * 1000 + user
    shape = (USERS, ITEMS)

    def matrix(cells: dict[tuple[int, int], int]) -> sp.csr_matrix:
        rows, columns = zip(*cells)
        return sp.csr_matrix((np.array(list(cells.values())), (rows, columns)), shape)

    every = {cell: number for number, cells in enumerate(times) for cell in cells}
    joined = matrix({cell: 1 for cells in times for cell in cells})
    objects = {
        "sequence": sequences,
        "tst_int": test,
        "test_dict": drawn,
        "trn_mat_time": (joined, [matrix(cells) for cells in times], matrix(every)),
    }
    for name, value in objects.items():
        (folder / name).write_bytes(pickle.dumps(value))
