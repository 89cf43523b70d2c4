"""Peak memory and processor time of one shard of `hardgnn recommend --shard` beside the whole, on many users.

It trains a run on a small simulated log, gives it many random users, and asks for the recommendations of all of them at
once, and for one shard of them:

    OMP_NUM_THREADS=1 python benchmarks/shards.py --users 200000 --items 20000 --shards 8
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from hardgnn.config import resolve
from hardgnn.data.histories import Histories
from hardgnn.prepare.simulate import write_simulated
from hardgnn.runs.folder import load_tables, start
from hardgnn.runs.models import load_model, save_model
from hardgnn.runs.tables import RunTables

COMMAND = [sys.executable, "-c", "from hardgnn.cli import main; main()"]
DAY = 86_400.0
BETWEEN = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss / 1024, used.ru_utime + used.ru_stime)
"""  # a small process, for a child counts the memory that its parent has as its own


def run_of_many(folder: Path, preset: str, users: int, items: int, history: int) -> Path:
    """A run of this preset, trained for an epoch on few users, that knows `users` with about `history` items each."""
    write_simulated(folder / "log.inter", users=2000, items=items, events=20 * max(items, 2000), seed=0)
    config = resolve(preset)
    brief = ["--set", "train.epochs=1"] if config.train is not None else []
    for words in (
        ["prepare", str(folder / "log.inter"), "--out", str(folder / "data"), "--k-core", "3"],
        ["train", str(folder / "data"), "--out", str(folder / "few"), "--preset", preset, *brief],
    ):  # in processes of their own, where benchmarks/profile.py is not taken for Python's
        subprocess.run([*COMMAND, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tables = load_tables(folder / "few")
    rng = np.random.default_rng(0)
    lengths = rng.integers(history // 2, 2 * history - history // 2, users)
    total, known = int(lengths.sum()), len(tables.item_ids)
    taken = (known * rng.random(total) ** 2).astype(np.int32)  # some are taken more than others
    times = np.floor(rng.random(total) * 1000 * DAY) + 1.7e9
    many = RunTables(
        pl.Series([f"user-{user}" for user in range(users)]),
        Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), taken, times),
        lengths.astype(np.int32),
        times,
        None,
        tables.item_ids,
        None,
        tables.popularity,
    )
    (folder / "many").mkdir()
    start(folder / "many", config, many, {"name": "simulated"})
    save_model(folder / "many", load_model(folder / "few", whole=True), epoch=1)
    return folder / "many"


def measured(words: list[str]) -> tuple[float, float]:
    """Peak memory in MiB and processor seconds of a command."""
    command = [sys.executable, "-c", BETWEEN, *COMMAND, "recommend", *words]
    memory, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(memory), float(seconds)


def main() -> None:
    """Prints a line for the whole and one for a shard, and whether the shard is a part of the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="best")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--history", type=int, default=40)
    parser.add_argument("--shards", type=int, default=8)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = run_of_many(folder, words.preset, words.users, words.items, words.history)
        size = (run / "users.parquet").stat().st_size / 2**20
        print(f"{words.users:,} users, {words.items:,} items, users.parquet {size:,.0f} MiB", flush=True)
        middle = f"{(words.shards + 1) // 2}/{words.shards}"
        for what, more in (
            ("one user", ["--user", "user-0", "--out", str(folder / "one.parquet")]),
            (f"shard {middle}", ["--all-users", "--shard", middle, "--out", str(folder / "recs")]),
            ("whole", ["--all-users", "--out", str(folder / "whole.parquet")]),
        ):
            memory, seconds = measured([str(run), *more])
            print(f"{what:12} {memory:8,.0f} MiB {seconds:8,.1f} s of processor", flush=True)
        part = pl.read_parquet(str(folder / "recs" / "*.parquet"))
        whole = pl.read_parquet(folder / "whole.parquet")
        theirs = whole.filter(pl.col("user").is_in(part["user"].unique().implode()))
        same = (theirs["item"] == part["item"]).mean()
        off = (theirs["score"] - part["score"]).abs().max()
        print(f"of the shard's {part.height:,} rows {same:.6f} name the item of the whole; scores differ by {off:.1e}")


if __name__ == "__main__":
    main()
