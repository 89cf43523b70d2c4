"""Times reading and preparing a simulated log of 20 million rows: a CSV, Parquet, or in the form of Amazon or Yelp.

python benchmarks/prepare.py [--form csv|parquet|amazon|yelp] [--events N] [--users N] [--items N] [--memory 2GB]
                             [--file LOG] [--json]

`--memory` prepares as `hardgnn prepare --memory` does: the columns of a log that needs more are files. Users and items
are as many as in a data set of that form: MovieLens-20M, Amazon's books, Yelp. The file is written by a process of its
own, so that the peak memory told is that of reading and preparing. Yelp's takes 14 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hardgnn.data.log import read_log
from hardgnn.prepare.kept import PART_ROWS
from hardgnn.prepare.memory import Budget
from hardgnn.prepare.pipeline import prepare
from hardgnn.prepare.settings import PrepareConfig
from hardgnn.prepare.simulate import simulate, write_simulated
from hardgnn.storage.columns import shelf_of

# users and items of MovieLens-20M, Amazon books and Yelp, rounded; the simulated users are more alike than real ones
SIZES = {
    "csv": (140_000, 27_000),
    "parquet": (500_000, 100_000),
    "amazon": (7_000_000, 2_000_000),
    "yelp": (2_000_000, 150_000),
}
NAMES = {
    "csv": "market.csv",
    "parquet": "market",
    "amazon": "ratings_Books.csv",
    "yelp": "yelp_academic_dataset_review.json",
}
CHUNK = 500_000  # rows written at once
FILE_ROWS = 5_000_000  # of a file of Parquet
WORDS = 'The place was great, the service "friendly" and the coffee not bad at all.\nWe will come again! Café ünïque. '


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--form", choices=SIZES, default="csv")
    parser.add_argument("--users", type=int)
    parser.add_argument("--items", type=int)
    parser.add_argument("--memory", help="what preparing may take, as 2GB; without it all is in memory")
    parser.add_argument("--file", type=Path, help="a log of your own instead of a simulated one")
    parser.add_argument("--to", type=Path, help="folder for the simulated log, which then stays there")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    users, items = options.users or SIZES[options.form][0], options.items or SIZES[options.form][1]
    if options.write is not None:
        write(options.form, options.write, users, items, options.events)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = options.file or (options.to or Path(folder)) / NAMES[options.form]
        seconds: dict[str, float] = {}
        if options.file is None:
            start = time.perf_counter()
            subprocess.run([sys.executable, *sys.argv, "--write", str(source)], check=True)
            seconds["simulate and write"] = time.perf_counter() - start
        report = measure(source, (options.to or Path(folder)) / "data", seconds, options.memory)
        files = source.iterdir() if source.is_dir() else [source]
        report["file_mib"] = sum(one.stat().st_size for one in files) / 2**20
    if options.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    machine = report["machine"]
    print(
        f"{report['rows']:,} rows, {report['file_mib']:,.0f} MiB, {machine['threads']} threads, {machine['platform']}"
    )
    for name, value in report["seconds"].items():
        of_processor = f"{report['processor_seconds'].get(name, 0):8.1f} s of a processor"
        print(f"  {name:<20}{value:8.1f} s {of_processor}   peak so far {report['peak_mib'].get(name, 0):7,.0f} MiB")
    print(f"  prepared {report['where']}")
    print(f"  kept {report['counts']}")
    print("  " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))


def write(form: str, out: Path, users: int, items: int, events: int) -> None:
    """Writes the simulated log in the form of a data set, a chunk of rows at a time."""
    if form == "csv":
        write_simulated(out, users, items, events)
        return
    if form == "parquet":
        out.mkdir()
        for number, start in enumerate(range(0, events, FILE_ROWS)):
            rows = min(FILE_ROWS, events - start)
            write_simulated(out / f"{number:04}.parquet", min(users, rows), items, rows, seed=number)
        return
    log, _ = simulate(users, items, events)
    long = pl.lit(WORDS * 12).str.slice(0, 200 + pl.int_range(pl.len()).cast(pl.UInt32) * 7919 % 700)
    with out.open("wb") as file:
        for start in range(0, log.height, CHUNK):
            rows = log.slice(start, CHUNK)
            user, item = (pl.col(name).str.slice(1) for name in ("user", "item"))
            if form == "amazon":
                user, item = pl.lit("A") + user.str.zfill(13), item.str.zfill(10)
                table = rows.select(user, item=item, rating=pl.lit(5.0), time=pl.col("timestamp").cast(pl.Int64))
                table.write_csv(file, include_header=False)
                continue
            when = pl.from_epoch(pl.col("timestamp").cast(pl.Int64)).dt.strftime("%Y-%m-%d %H:%M:%S")
            counts = {name: pl.lit(0) for name in ("useful", "funny", "cool")}
            ids = {"user_id": user.str.zfill(22), "business_id": item.str.zfill(22), "stars": pl.lit(4.0)}
            row = pl.int_range(start, start + pl.len()).cast(pl.String).str.zfill(22)
            rows.select(review_id=row, **ids, **counts, text=long, date=when).write_ndjson(file)


def measure(source: Path, out: Path, seconds: dict[str, float], memory: str | None = None) -> dict[str, Any]:
    """Reads, prepares and saves, with the time of each and the peak memory after it."""
    peaks: dict[str, float] = {}
    used: dict[str, float] = {}

    def lap(name: str, start: float) -> float:
        now = time.perf_counter()
        seconds[name], peaks[name] = now - start, peak_mib()
        used[name] = time.process_time() - sum(used.values())
        return now

    budget = None if memory is None else Budget.of(memory, out.parent)
    peaks["before"], used["before"] = peak_mib(), time.process_time()
    start = time.perf_counter()
    log = read_log(source, None if budget is None else budget.room)
    rows = log.table.height
    start = lap("read", start)
    dataset = prepare(log, PrepareConfig(), PART_ROWS if budget is None else budget.part_rows(log))
    start = lap("prepare", start)
    dataset.save(out)
    lap("save", start)
    return {
        "rows": rows,
        "seconds": seconds,
        "processor_seconds": used,
        "where": "in memory" if shelf_of(dataset.user).folder is None else f"on disk, for {memory}",
        "peak_mib": peaks,
        "counts": dataset.manifest["counts"],
        "steps": dataset.manifest["steps"],
        "machine": {
            "cpus": os.cpu_count(),
            "threads": pl.thread_pool_size(),
            "platform": platform.platform(),
        },
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "polars": pl.__version__},
    }


def peak_mib() -> float:
    """The largest resident size of this process so far, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
