"""Times a training epoch on a simulated market of a published data set's size, with its published settings.

    python benchmarks/epoch.py --shape gowalla --model selfgnn [--epochs 3] [--set objective.batch_users=256] [--json]
    python benchmarks/epoch.py --shape amazon --model hardgnn --compare ../before/src   # old and new in turn
    python benchmarks/epoch.py --shape amazon --model best

Each measurement is a training run in a process of its own, so that the peak memory is that of loading, training,
one validation and one checkpoint. `--compare` measures another source tree too, alternating, and prints the ratio;
settings have today's names, and shapes.py translates them for an older tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import shapes

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"


class Clock(shapes.Callback):
    """Watches training: wall-clock and processor seconds of each step and each epoch."""

    def __init__(self) -> None:
        self.marks = [(time.perf_counter(), time.process_time())]
        self.epochs: list[dict[str, Any]] = []
        self.steps: list[float] = []
        self.step_cpu: list[float] = []
        self.losses: list[float] = []

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Notes the time; the first step of an epoch also holds what lies between the epochs."""
        now = (time.perf_counter(), time.process_time())
        if step == 1:
            self.marks = []
        self.marks.append(now)
        self.losses.append(loss)

    def epoch(self, line: dict[str, Any]) -> None:
        """Notes the epoch's seconds as training counts them."""
        wall = np.diff([mark[0] for mark in self.marks])
        cpu = self.marks[-1][1] - self.marks[0][1] if len(self.marks) > 1 else float("nan")
        self.steps += wall.tolist()
        self.step_cpu += np.diff([mark[1] for mark in self.marks]).tolist()
        self.epochs.append({"seconds": line["seconds"], "cpu_seconds": cpu * len(self.marks) / max(1, len(wall))})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One training run in this process."""
    from hardgnn.data.dataset import Dataset

    data = Dataset.load(options.data / options.shape)
    config = shapes.settings(options.shape, options.model, options.set, options.epochs, options.threads)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        result = shapes.train(data, config, Path(folder) / "run", clock)
    return {
        "epochs": clock.epochs,
        "step_seconds": clock.steps,
        "last_loss": clock.losses[-1],
        "valid": result["valid"],
        "peak_mib": result["peak_memory_mb"],
        "data": shapes.described(data),
        "machine": shapes.machine(),
    }


def run(options: argparse.Namespace, source: Path) -> dict[str, Any]:
    """`measure` in a process of its own, on the package in `source`."""
    words = [sys.executable, str(HERE / "epoch.py"), "--child", *sys.argv[1:], "--data", str(options.data)]
    environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{HERE}"}
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Best and median seconds per epoch over runs; the first epoch of a run warms up and does not count."""
    epochs = [epoch for one in runs for epoch in (one["epochs"][1:] or one["epochs"])]
    return {
        "epoch_s": float(min(epoch["seconds"] for epoch in epochs)),
        "epoch_median_s": float(np.median([epoch["seconds"] for epoch in epochs])),
        "epoch_cpu_s": float(min(epoch["cpu_seconds"] for epoch in epochs)),
        "step_s": float(np.median([step for one in runs for step in one["step_seconds"]])),
        "peak_mib": max(one["peak_mib"] for one in runs),
        "last_loss": runs[-1]["last_loss"],
    }


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(shapes.SHAPES), default="gowalla")
    parser.add_argument("--model", choices=["selfgnn", "hardgnn", "best"], default="selfgnn")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each tree")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train")
    parser.add_argument("--data", type=Path, help="folder that keeps the simulated markets")
    parser.add_argument("--compare", type=Path, help="another source tree (its src folder), measured in turn")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        json.dump(measure(options), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.data = (options.data or Path(folder)).resolve()
        shapes.stored_market(options.shape, options.data)
        trees = {"this": SOURCE} | ({} if options.compare is None else {"other": options.compare.resolve()})
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
        for _ in range(options.repeat):
            for name, tree in trees.items():
                runs[name].append(run(options, tree))
    first = runs["this"][0]
    report = {
        "shape": options.shape,
        "model": options.model,
        "settings": options.set,
        "data": first["data"],
        "machine": first["machine"],
        "measured": {name: summary(each) for name, each in runs.items()},
    }
    if options.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    sizes = report["data"]
    print(
        f"{options.shape}, {options.model}: {sizes['users']:,} users, {sizes['items']:,} items, "
        f"{sizes['training_events']:,} events; {report['machine']}"
    )
    for name, row in report["measured"].items():
        print(f"  {name:<6} " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if options.compare is not None:
        mine, other = report["measured"]["this"], report["measured"]["other"]
        ratios = {key: other[key] / mine[key] for key in ("epoch_s", "epoch_median_s", "epoch_cpu_s", "peak_mib")}
        print("  other / this: " + ", ".join(f"{key} {value:.2f}" for key, value in ratios.items()))


if __name__ == "__main__":
    main()
