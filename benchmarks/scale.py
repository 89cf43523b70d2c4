"""Time and memory of a training step as a log grows: events, users and items times 1, 4, 16 and 64.

    python benchmarks/scale.py [--events 50000 --users 2500 --items 3000] [--factors 1 4 16 64] [--json]
    python benchmarks/scale.py --factors 1 --events 30000000 --users 600000 --items 200000 --steps 4   # one large log
    python benchmarks/scale.py --model best --events 1000000 --users 50000 --items 20000 --items-power 0.5 --steps 30
    python benchmarks/scale.py --model best --grow items --events 600000 --users 50000 --items 10000 --factors 1 200

Each size is simulated, prepared and trained in a process of its own, for `--steps` steps of which the first, which
makes Adam's state, does not count. Of SelfGNN and HardGNN a step has 512 users and an epoch, always 20 such steps, is
told and not run; of `best`, whose epoch passes over all events, it is told by the number of its steps, and training
stops after `--steps`. `--items-power` is how items grow: 1 as the events do, 0.5 as their root. With `--grow items`
they alone grow, and those that nothing happens to stay in the table: what a step costs by the items. The exponents are
the slopes of the logarithms by least squares; memory counts what lies above a process that has only imported the
package.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import shapes

STEPS_PER_EPOCH = 20


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Simulates and prepares in this process, so that its memory is not counted with that of training."""
    shapes.market(options.users, options.items, options.events).save(folder)


def stopping(steps: int) -> Any:
    """The clock of an epoch that ends after so many steps; it tells how many there would have been."""
    from epoch import Clock

    class Stopping(Clock):
        of = STEPS_PER_EPOCH

        def step(self, epoch: int, step: int, steps_of_epoch: int, loss: float) -> None:
            super().step(epoch, step, steps_of_epoch, loss)
            self.of = steps_of_epoch
            if step == steps:
                self.epoch({"seconds": float("nan")})
                raise KeyboardInterrupt

    return Stopping()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Trains a few steps in this process."""
    from epoch import Clock

    from hardgnn.data.dataset import Dataset
    from hardgnn.runtime import peak_memory_mb

    idle = peak_memory_mb()
    start = time.perf_counter()
    data = Dataset.load(folder)
    if options.grow == "items":
        unseen = [f"unseen{number}" for number in range(options.items - data.n_items)]
        data = replace(data, item_ids=pl.concat([data.item_ids, pl.Series(data.item_ids.name, unseen, pl.String)]))
    loaded = time.perf_counter() - start
    batch = min(512, data.n_users)
    whole = options.model == "best"
    more = ["run.protocol=sampled-999", *options.set]
    if not whole:
        more.insert(0, f"objective.users_per_epoch={options.steps * batch}")
    config = shapes.settings(options.shape, options.model, more, 1, options.threads)
    clock = stopping(options.steps) if whole else Clock()
    start, processor = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=folder.parent) as run, contextlib.suppress(KeyboardInterrupt):
        shapes.train(data, config, Path(run) / "run", clock)
    of_epoch = getattr(clock, "of", STEPS_PER_EPOCH)
    return {
        **shapes.described(data),
        "load_s": loaded,
        "train_s": time.perf_counter() - start,
        "before_cpu_s": time.process_time() - processor - sum(clock.step_cpu),  # graphs, transitions, first step
        "steps_of_epoch": of_epoch,
        "epoch_cpu_s": of_epoch * float(np.median(clock.step_cpu)),
        "step_s": float(np.median(clock.steps)),
        "step_cpu_s": float(np.median(clock.step_cpu)),
        "idle_mib": idle,
        "peak_mib": peak_memory_mb(),
        "machine": shapes.machine(),
    }


def exponent(sizes: list[float], values: list[float]) -> float:
    """The slope of log(values) over log(sizes)."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=2_500)
    parser.add_argument("--items", type=int, default=3_000)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--shape", choices=list(shapes.SHAPES), default="gowalla", help="whose settings are taken")
    parser.add_argument("--model", choices=["selfgnn", "hardgnn", "best"], default="selfgnn")
    parser.add_argument("--items-power", type=float, default=1.0, help="items grow with the factor to this power")
    parser.add_argument("--grow", choices=["all", "items"], default="all", help="what grows with the factor")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train")
    parser.add_argument("--folder", type=Path, help="where the data and the run lie meanwhile")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--child", choices=["prepare", "measure"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "prepare":
        prepare(options, options.folder)
        return
    if options.child == "measure":
        json.dump(measure(options, options.folder), sys.stdout)
        return
    rows = []
    for factor in options.factors:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            others = factor if options.grow == "all" else 1
            sizes = {name: getattr(options, name) * others for name in ("events", "users")}
            sizes["items"] = round(options.items * factor**options.items_power)
            words = [sys.executable, __file__, *sys.argv[1:], "--folder", str(Path(folder) / "data")]
            for name, size in sizes.items():
                words += [f"--{name}", str(size)]
            start = time.perf_counter()
            subprocess.run([*words, "--child", "prepare"], check=True)
            prepared = time.perf_counter() - start
            done = subprocess.run([*words, "--child", "measure"], check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"factor": factor, "simulate_and_prepare_s": prepared, **json.loads(done.stdout)})
            print(f"done: x{factor}", file=sys.stderr, flush=True)
    exponents = {}
    if len(rows) > 1:
        grown = [row["training_events" if options.grow == "all" else "items"] for row in rows]
        exponents = {
            "step_s": exponent(grown, [row["step_s"] for row in rows]),
            "step_cpu_s": exponent(grown, [row["step_cpu_s"] for row in rows]),
            "epoch_cpu_s": exponent(grown, [row["epoch_cpu_s"] for row in rows]),
            "before_cpu_s": exponent(grown, [row["before_cpu_s"] for row in rows]),
            "memory": exponent(grown, [row["peak_mib"] - row["idle_mib"] for row in rows]),
        }
    report = {"model": options.model, "settings": options.set, "sizes": rows, "exponents": exponents}
    if options.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    print(f"{options.model}, settings of {options.shape}; {rows[0]['machine']}")
    print("| events | users | items | s/step | processor s/step | before, processor s | s/epoch (told) | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        numbers = f"| {row['training_events']:,} | {row['users']:,} | {row['items']:,} | {row['step_s']:.3f} "
        epoch = row["steps_of_epoch"] * row["step_s"]
        told = f"{row['before_cpu_s']:.1f} | {epoch:.1f} | {row['peak_mib']:.0f}"
        print(f"{numbers}| {row['step_cpu_s']:.3f} | {told} |")
    print("exponents: " + ", ".join(f"{name} {value:.2f}" for name, value in exponents.items()))


if __name__ == "__main__":
    main()
