"""Markets of the size of the published data sets, their published settings, and the record of the machine.

Import it before torch: it puts this folder behind the standard library, whose `profile` is not the one here. It also
runs on an older source tree, which `epoch.py --compare` puts first on the path: there settings have other names.
"""

# ruff: noqa: E402
from __future__ import annotations

import os
import platform
import runpy
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)
sys.path = [entry for entry in sys.path if entry != HERE] + [HERE]

import numpy as np
import torch

from hardgnn.config import Config, resolve
from hardgnn.data.dataset import TRAIN, Dataset

try:
    from hardgnn.training.callbacks import Callback
except ImportError:  # an older tree, which asks for no class
    Callback = object

EARLIER = Path(HERE).parent / "src" / "hardgnn" / "config" / "earlier.py"


@dataclass(frozen=True)
class Shape:
    """Sizes (users, items, training events) and the published settings that bear on time and memory."""

    users: int
    items: int
    events: int
    settings: tuple[str, ...]


PUBLISHED = (
    "model.dim=64",
    "model.heads=16",
    "model.window=200",
    "objective.batch_users=512",
    "objective.pairs_per_user=40",
)
SHAPES = {
    "gowalla": Shape(
        48_653,
        52_621,
        860_000,
        (
            "model.intervals=3",
            "model.layers=2",
            "encoder.layers=1",
            "ssl.pairs=40",
            "ssl.dim=48",
            "train.lr=0.002",
        ),
    ),
    "amazon": Shape(
        11_199,
        30_821,
        354_716,
        (
            "model.intervals=5",
            "model.layers=3",
            "encoder.layers=4",
            "ssl.pairs=80",
            "ssl.dim=32",
            "objective.pred_num=0",
        ),
    ),
    # The published settings name no number of events here, and no number of items for Yelp: both are guesses.
    "movielens": Shape(
        24_312,
        8_688,
        1_700_000,
        ("model.intervals=6", "model.layers=2", "encoder.layers=3", "ssl.pairs=90", "ssl.dim=48"),
    ),
    "yelp": Shape(
        19_751,
        22_000,
        1_000_000,
        ("model.intervals=12", "model.layers=3", "encoder.layers=2", "ssl.pairs=40", "ssl.weight=1e-7"),
    ),
}


def settings(shape: str, model: str, more: list[str], epochs: int, threads: int) -> Config:
    """The published settings of a shape; `hardgnn` adds K = 3 and λ = 0.1, `best` keeps its own.

    Validation comes after the last epoch.
    """
    published = () if model == "best" else (*PUBLISHED, *SHAPES[shape].settings)
    run = [f"train.epochs={epochs}", f"train.eval_every={epochs}", f"run.threads={threads}"]
    return resolve(model, settings=known([*published, *run, *more]))


def known(settings: Iterable[str]) -> list[str]:
    """Settings under the names that this tree's config has for them."""
    if Callback is not object:
        return list(settings)
    names = runpy.run_path(str(EARLIER))
    keys = {new: old for old, new in names["RENAMED"].items()}
    found = []
    for setting in settings:
        key, _, value = setting.partition("=")
        values = {new: old for old, new in names["VALUES"].get(key, {}).items()}
        found.append(f"{keys.get(key, key)}={values.get(value, value)}")
    return found


def train(data: Dataset, config: Config, folder: Path, watcher: Any) -> dict[str, Any]:
    """Trains with a callback, in this tree or an older one; answers the result."""
    if Callback is object:
        from hardgnn.train import train as run_older

        return dict(run_older(data, config, folder, watcher=watcher))
    from hardgnn.runs.train import train as run

    return run(data, config, folder, callbacks=[watcher]).to_dict()


def market(users: int, items: int, events: int, seed: int = 0) -> Dataset:
    """A simulated market with `events` training events, two more per user to validate and test; repeats stay."""
    from hardgnn import InteractionLog
    from hardgnn.prepare.pipeline import PrepareConfig, prepare
    from hardgnn.prepare.simulate import simulate

    table, _ = simulate(users, items, events + 2 * users, seed)
    log = InteractionLog(table, "simulated", sha256="")
    return prepare(log, PrepareConfig(repeats="all", k_core=0))


def stored_market(shape: str, folder: Path) -> Path:
    """The prepared folder of a shape's market, made where it is not there yet."""
    target = folder / shape
    if not target.exists():
        sizes = SHAPES[shape]
        market(sizes.users, sizes.items, sizes.events).save(target)
    return target


def described(data: Dataset) -> dict[str, Any]:
    """Sizes of a data set and how skewed it is."""
    counts = np.bincount(data.item[data.part == TRAIN], minlength=data.n_items)
    lengths = data.train.lengths
    return {
        "users": data.n_users,
        "items": data.n_items,
        "training_events": int(counts.sum()),
        "events_per_user": {
            "mean": float(lengths.mean()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
        },
        "share_of_top_percent_of_items": float(np.sort(counts)[-max(1, len(counts) // 100) :].sum() / counts.sum()),
    }


def machine() -> dict[str, Any]:
    """Processor, cores, threads, load and versions."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
    }
