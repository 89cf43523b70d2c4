"""Times ranking and recommending: 10,000 users, 52,621 items, 64 numbers each, by default.

python benchmarks/evaluate.py [--users N] [--items N] [--dim N] [--layers N] [--threads N] [--repeat N] [--json]

`vectors` ranks by stored vectors alone; `model` also encodes each user's window, as `hardgnn evaluate` does.
With `--run RUN` the test part of a run is ranked instead; `PYTHONPATH=OLD/src` before it times another version.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hardgnn  # noqa: F401 - before torch, which then waits as it does in a run

# isort: split
import numpy as np
import polars as pl
import scipy
import torch
from numpy.typing import NDArray

from hardgnn.config import resolve
from hardgnn.data.dataset import TEST, TRAIN, VALID, Candidates, Dataset
from hardgnn.data.histories import Histories
from hardgnn.evaluation.protocols import PROTOCOLS, Ranker, blocks, rank_targets, summarise_frame
from hardgnn.evaluation.topn import top_n
from hardgnn.models.attention import reset
from hardgnn.models.query import QueryModel
from hardgnn.parts import ENCODERS
from hardgnn.runs.folder import load_data
from hardgnn.runs.models import load_model
from hardgnn.runtime import keep_freed_memory

EVENTS_PER_USER = 20


class VectorRanker:
    """Scores by the inner product of user vectors (U, d) and item vectors (I, d)."""

    name = "vectors"

    def __init__(self, users: torch.Tensor, items: torch.Tensor) -> None:
        self.users, self.items = users, items

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I)."""
        return (self.users[torch.from_numpy(users)] @ self.items.T).numpy()


def fitted(users: torch.Tensor, items: torch.Tensor, heads: int, layers: int, encoder: str) -> QueryModel:
    """A model with these vectors (U, d), (I, d) and an encoder of random weights."""
    settings = [f"model.heads={heads}", f"encoder.layers={layers}", f"encoder.kind={encoder}"]
    model = resolve(settings=[*settings, f"model.dim={users.shape[1]}"]).model
    scoring = model.scoring()
    made = ENCODERS.find(encoder)(model.encoder, scoring.frame)
    generator = torch.Generator().manual_seed(0)
    reset(made, generator)
    made.start(generator)
    return QueryModel("random", scoring, users, items, made)


def random_market(n_users: int, n_items: int, rng: np.random.Generator) -> Dataset:
    """Uniformly random interactions, `EVENTS_PER_USER` each, with 999 sampled candidates for everyone."""
    shape = (n_users, EVENTS_PER_USER)
    part = np.broadcast_to(np.array([TRAIN] * (EVENTS_PER_USER - 2) + [VALID, TEST], np.uint8), shape)
    users = np.arange(n_users, dtype=np.int32)
    return Dataset(
        user=np.repeat(users, EVENTS_PER_USER),
        item=rng.integers(n_items, size=shape, dtype=np.int32).ravel(),
        timestamp=np.arange(n_users * EVENTS_PER_USER, dtype=np.float64),
        part=part.ravel(),
        user_ids=pl.Series(users).cast(pl.String),
        item_ids=pl.Series(np.arange(n_items)).cast(pl.String),
        item_titles=None,
        candidates=Candidates(users, rng.integers(n_items, size=(n_users, 999), dtype=np.int32)),
        manifest={"name": "random"},
    )


def best_seconds(work: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """The shortest wall-clock and the shortest processor time of `repeat` calls, in seconds."""
    times = []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*times, strict=True)
    return min(walls), min(cpus)


def rank_run(folder: Path, repeat: int) -> None:
    """Prints processor and wall seconds of ranking the test part of a run, `repeat` times after once."""
    model, data = load_model(folder), load_data(folder)
    rank_targets(model, data, "test")
    for _ in range(repeat):
        wall, processor = time.perf_counter(), time.process_time()
        frame = rank_targets(model, data, "test")
        spent = time.process_time() - processor, time.perf_counter() - wall
        print(f"{frame.height:,} users: {spent[0]:.2f} s of processor time, {spent[1]:.2f} s")


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=52_621)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--layers", type=int, default=1, help="attention layers over the window")
    parser.add_argument("--encoder", choices=["attention", "pooled"], default="attention")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--run", type=Path, help="a run folder, whose test part is ranked")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.run is not None:
        rank_run(options.run, options.repeat)
        return

    rng = np.random.default_rng(0)
    dataset = random_market(options.users, options.items, rng)
    vectors = [
        torch.from_numpy(rng.standard_normal((size, options.dim), dtype=np.float32))
        for size in (options.users, options.items)
    ]
    ranker = VectorRanker(*vectors)
    model = fitted(*vectors, options.heads, options.layers, options.encoder)
    everyone, known = np.arange(options.users), dataset.before(TEST)
    idle_mib = peak_mib()

    def rank(ranker: Ranker, protocol: str) -> Callable[[], Any]:
        return lambda: rank_targets(ranker, dataset, "test", protocol)

    def score_all() -> None:
        for block in blocks(options.users, options.items):
            ranker.scores(everyone[block], known)

    frame = rank_targets(ranker, dataset, "test")
    jobs: dict[str, Callable[[], Any]] = {
        **{f"vectors, {protocol}": rank(ranker, protocol) for protocol in PROTOCOLS},
        **{f"model, {protocol}": rank(model, protocol) for protocol in PROTOCOLS},
        "metrics and intervals": lambda: summarise_frame(frame, "random", "vectors", "test", "full"),
        "recommend, n=10": lambda: top_n(ranker, everyone, known, 10, options.items),
        "scores alone": score_all,
    }
    seconds, cpu_seconds = {}, {}
    for name, work in jobs.items():
        seconds[name], cpu_seconds[name] = best_seconds(work, options.repeat)
    report = {
        "users": options.users,
        "items": options.items,
        "dim": options.dim,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mib": peak_mib(),
        "peak_before_mib": idle_mib,
        "machine": {"cpus": os.cpu_count(), "threads": options.threads, "platform": platform.platform()},
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (np, scipy, torch, pl)},
        },
    }
    if options.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    print(f"{options.users:,} users x {options.items:,} items, d={options.dim}, {options.threads} threads")
    for name, value in seconds.items():
        print(f"  {name:<24}{value:8.3f} s {cpu_seconds[name]:8.3f} processor s")
    print(f"  peak memory {report['peak_mib']:.0f} MiB, {idle_mib:.0f} MiB before ranking")


def peak_mib() -> float:
    """The best_of_rows resident size of this process so far, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
