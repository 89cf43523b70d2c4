"""A training step on one thread and on several, in turn within one run: processor and wall-clock milliseconds.

    python benchmarks/threads.py --shape gowalla --model selfgnn [--threads 2] [--steps 40] [--rounds 2]
    python benchmarks/threads.py --prepared beauty --model best     # a prepared log
    ... --compare ../before/src                                     # another source tree too, in turn
    ... --busy 2                                                    # beside so many endless loops
    ... --torch-first                                               # torch imported before hardgnn, which spins

Each measurement is a process of its own, and all have the same batches. `two at once` is two processes of one thread
each, side by side: what they take more than one by itself is what the cores take from each other, whatever runs.
Seconds of the wall clock mean something where nobody else is at work: `others` is the share of the machine they had.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
FIRST = 6  # steps that do not count
LOOP = "while True: pass"


def watcher(steps: int) -> Any:
    """A callback that stops training after so many steps, with the seconds of each."""
    import shapes

    class Watcher(shapes.Callback):
        def __init__(self) -> None:
            self.marks: list[tuple[float, float, float]] = []

        def step(self, epoch: int, step: int, total: int, loss: float) -> None:
            self.marks.append((time.perf_counter(), time.process_time(), busy()))
            if len(self.marks) > FIRST + steps:
                raise KeyboardInterrupt

    return Watcher()


def busy() -> float:
    """Seconds that the machine's processors have worked so far, where the system tells it."""
    if not Path("/proc/stat").exists():
        return float("nan")
    ticks = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def measure(options: argparse.Namespace) -> dict[str, float]:
    """The steps of one training in this process."""
    importlib.import_module("torch" if options.torch_first else "hardgnn")  # shapes itself imports torch first
    import numpy as np
    import shapes

    from hardgnn.config import resolve
    from hardgnn.data.dataset import Dataset

    watched = watcher(options.steps)
    if options.prepared is None:
        data = Dataset.load(options.data / options.shape)
        config = shapes.settings(options.shape, options.model, options.set, 1000, options.threads)
    else:
        data = Dataset.load(options.prepared)
        brief = ["train.epochs=1000", "train.eval_every=1000", f"run.threads={options.threads}"]
        config = resolve(options.model, settings=[*brief, *options.set])
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        shapes.train(data, config, Path(folder) / "run", watched)
    wall, own, all_busy = (np.array(watched.marks)[-1] - np.array(watched.marks)[FIRST]).tolist()
    steps = len(watched.marks) - 1 - FIRST
    others = (all_busy - own) / wall / (os.cpu_count() or 1)
    return {"processor_ms": 1e3 * own / steps, "wall_ms": 1e3 * wall / steps, "others": others}


def start(options: argparse.Namespace, source: Path, threads: int) -> subprocess.Popen[str]:
    """`measure` in a process of its own, on the package in `source`."""
    words = [sys.executable, "-W", "ignore", str(HERE / "threads.py"), *sys.argv[1:]]
    words += ["--child", "--data", str(options.data), "--threads", str(threads)]
    environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{HERE}"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> dict[str, float]:
    """What it measured."""
    told, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    found: dict[str, float] = json.loads(told)
    return found


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["gowalla", "amazon", "movielens", "yelp"], default="gowalla")
    parser.add_argument("--prepared", type=Path, help="a prepared log, instead of a shape")
    parser.add_argument("--model", default="selfgnn", help="a preset")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each kind")
    parser.add_argument("--busy", type=int, default=0, help="endless loops beside")
    parser.add_argument("--torch-first", action="store_true", help="import torch before hardgnn")
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train")
    parser.add_argument("--data", type=Path, help="folder that keeps the simulated markets")
    parser.add_argument("--compare", type=Path, help="another source tree (its src folder), measured in turn")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        json.dump(measure(options), sys.stdout)
        return
    trees = {"": SOURCE} | ({} if options.compare is None else {"other, ": options.compare.resolve()})
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as loops:
        options.data = (options.data or Path(folder)).resolve()
        if options.prepared is None:
            import shapes

            shapes.stored_market(options.shape, options.data)
        for _ in range(options.busy):
            loops.callback(loops.enter_context(subprocess.Popen([sys.executable, "-c", LOOP])).kill)
        for _ in range(options.rounds):
            for name, tree in trees.items():
                for threads in (1, options.threads):
                    rows.setdefault(f"{name}threads {threads}", []).append(ended(start(options, tree, threads)))
            pair = [start(options, SOURCE, 1) for _ in range(2)]
            rows.setdefault("two at once", []).extend([ended(one) for one in pair])
    first = {key: min(one[key] for one in rows["threads 1"]) for key in ("processor_ms", "wall_ms")}
    print(
        f"{options.prepared.name if options.prepared else options.shape}, {options.model}, {options.busy} loops beside"
    )
    for name, found in rows.items():
        of = {key: [one[key] for one in found] for key in found[0]}
        told = (
            f"{key[:-3]} {' '.join(f'{one:.0f}' for one in values)} ({min(values) / first[key]:.2f})"
            for key, values in of.items()
            if key in first
        )
        print(f"  {name:18} {', '.join(told)}, others {' '.join(f'{one:.2f}' for one in of['others'])}")


if __name__ == "__main__":
    main()
