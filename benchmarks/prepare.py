"""Times reading and preparing a simulated CSV: 20 million rows, 140,000 users, 27,000 items by default.

python benchmarks/prepare.py [--events N] [--users N] [--items N] [--file LOG] [--json]

The file is written by a process of its own, so that the peak memory told is that of reading and preparing.
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

from hardgnn.data.readers import read_log

WRITE = "import sys; from hardgnn.data.simulate import write_simulated as w; w(sys.argv[1], *map(int, sys.argv[2:]))"


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=140_000)
    parser.add_argument("--items", type=int, default=27_000)
    parser.add_argument("--file", type=Path, help="a log of your own instead of a simulated one")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.file or Path(folder) / "market.csv"
        seconds: dict[str, float] = {}
        if options.file is None:
            numbers = [str(number) for number in (options.users, options.items, options.events, 0)]
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", WRITE, str(source), *numbers], check=True)
            seconds["simulate and write"] = time.perf_counter() - start
        report = {**measure(source, Path(folder) / "data", seconds), "file_mib": source.stat().st_size / 2**20}
    if options.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    machine = report["machine"]
    print(
        f"{report['rows']:,} rows, {report['file_mib']:,.0f} MiB, {machine['threads']} threads, {machine['platform']}"
    )
    for name, value in report["seconds"].items():
        print(f"  {name:<20}{value:8.1f} s   peak so far {report['peak_mib'].get(name, 0):7,.0f} MiB")
    print(f"  kept {report['counts']}")
    print("  " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))


def measure(source: Path, out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """Reads, prepares and saves, with the time of each and the peak memory after it."""
    peaks: dict[str, float] = {}

    def lap(name: str, start: float) -> float:
        now = time.perf_counter()
        seconds[name], peaks[name] = now - start, peak_mib()
        return now

    peaks["before"] = peak_mib()
    start = time.perf_counter()
    log = read_log(source)
    rows = log.table.height
    start = lap("read", start)
    dataset = log.prepare()
    start = lap("prepare", start)
    dataset.save(out)
    lap("save", start)
    return {
        "rows": rows,
        "seconds": seconds,
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
