"""Training over processes against one: seconds, memory, bytes and losses of the same steps, and recovery from a kill.

    python benchmarks/processes.py DATA [--model best] [--steps 20] [--set objective.batch_positions=4096] [--json]
    python benchmarks/processes.py --market 50000 20000 1000000 --ways 1x1/1 1x2/2 2x1/2
    python benchmarks/processes.py DATA --recover [--epochs 4]

A way is PxT/S: P processes of T threads each, and S shards of a step (`train.shards`). All ways take the same batches;
those of as many shards have the same losses. They run one after the other, `--rounds` times in turn, so that what else
the machine does meets all of them; of each figure the smallest is told, which others disturbed least. Seconds are of
the median step: of the clock, and of the processor for each process and for all together. The first step, which makes
Adam's state, does not count. `--validate` ranks for all users once, too. `--dense` sends the gradients of all rows, as
DistributedDataParallel would. `--recover` kills a process of two in the middle under `--max-restarts 1`, and compares
the weights with an undisturbed run's.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import shapes

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


class Enough(Exception):
    """So many steps are done."""


class Clock(shapes.Callback):
    """Watches the steps of one process."""

    def __init__(self, most: int) -> None:
        self.most, self.marks, self.losses, self.steps = most, [], [], 0

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Notes time, loss and bytes."""
        from hardgnn.processes.group import processes

        self.marks.append((time.perf_counter(), time.process_time(), processes().sent))
        self.losses.append(loss)
        self.steps = steps
        if len(self.marks) == self.most:
            raise Enough


def child(options: argparse.Namespace) -> None:
    """One process of a way; the first prints what all measured."""
    from hardgnn.config import resolve
    from hardgnn.data.dataset import Dataset
    from hardgnn.processes.group import processes, together
    from hardgnn.runs.memory import fit
    from hardgnn.runs.ranking import ranked
    from hardgnn.runtime import peak_memory_mb
    from hardgnn.training.objectives.next_item import NextItem

    if options.dense:
        NextItem.touched = lambda self, batch: {}  # type: ignore[method-assign]
    with together() as group:
        data = Dataset.load(options.data)
        clock = Clock(options.steps)
        config = resolve(options.model, settings=options.set)
        with contextlib.suppress(Enough):
            fit(data, config, callbacks=[clock])
        began = time.perf_counter(), time.process_time()
        if options.validate:
            ranked(clock.trainer.network.fitted("x"), data, "valid", "full", config.train.shards)
        validation = time.perf_counter() - began[0], time.process_time() - began[1]
        wall, cpu, sent = np.median(np.diff(clock.marks, axis=0), axis=0).tolist()
        own = {"step_s": wall, "cpu_s": cpu, "sent": sent, "peak_mb": peak_memory_mb(), "steps": clock.steps}
        own |= {"losses": clock.losses, "valid_s": validation[0], "valid_cpu_s": validation[1]}
        of_all = processes().gathered(own)
        if group.first:
            print(json.dumps(of_all))


def measure(options: argparse.Namespace, way: str) -> dict[str, Any]:
    """One way, in processes of its own."""
    count, threads, shards = map(int, re.findall(r"\d+", way))
    settings = [*options.set, f"run.threads={threads}", f"train.shards={shards}", "train.average_epochs=3"]
    words = [__file__, "--child", str(options.data), "--model", options.model, "--steps", str(options.steps)]
    words += [*(["--dense"] if options.dense else []), *(["--validate"] if options.validate else [])]
    words += ["--set", *settings]
    start = [sys.executable] if count == 1 else [*LAUNCH, str(count)]
    done = subprocess.run([*start, *words], check=True, stdout=subprocess.PIPE, text=True)
    of_all = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "step_ms": 1e3 * max(one["step_s"] for one in of_all),
        "cpu_ms_each": 1e3 * max(one["cpu_s"] for one in of_all),
        "cpu_ms_all": 1e3 * sum(one["cpu_s"] for one in of_all),
        "valid_s": max(one["valid_s"] for one in of_all),
        "valid_cpu_s_each": max(one["valid_cpu_s"] for one in of_all),
        "peak_mb_each": max(one["peak_mb"] for one in of_all),
        "sent_kb": of_all[0]["sent"] / 1e3,
        "steps_of_epoch": of_all[0]["steps"],
        "losses": of_all[0]["losses"],
    }


def best_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the smallest."""
    whole = {key: min(one[key] for one in found) for key in found[0] if key != "losses"}
    return whole | {"epoch_s": whole["step_ms"] * whole["steps_of_epoch"] / 1e3, "losses": found[0]["losses"]}


def compare(options: argparse.Namespace) -> None:
    """All ways, in turn."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way, of_way in found.items():
            of_way.append(measure(options, way))
    told = {way: best_of(of_way) for way, of_way in found.items()}
    if options.json:
        print(json.dumps(told))
        return
    keys = [key for key in next(iter(told.values())) if key != "losses"]
    print(f"{'':10}" + "".join(f"{key:>17}" for key in keys))
    for way, figures in told.items():
        print(f"{way:10}" + "".join(f"{figures[key]:17.1f}" for key in keys))
    print("losses of a step: " + "  ".join(told))
    for step in sorted({0, *range(options.steps // 4 - 1, options.steps, max(1, options.steps // 4))}):
        print(f"{step + 1:5}  " + "  ".join(f"{figures['losses'][step]:.7f}" for figures in told.values()))


def recover(options: argparse.Namespace) -> None:
    """A process killed in the middle, against an undisturbed run."""
    settings = ["run.threads=1", "train.shards=2", f"train.epochs={options.epochs}", "train.eval_every=1", *options.set]
    words = ["-m", "hardgnn", "train", str(options.data), "--preset", options.model, "--resume"]
    words += [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        weights = []
        for disturbed in (False, True):
            out = Path(folder) / f"run-{disturbed}"
            log = Path(folder) / "log"
            with log.open("w") as handle:
                whole = [*LAUNCH, "2", "--max-restarts", "1", *words, "--out", str(out)]
                job = subprocess.Popen(whole, stderr=handle, stdout=handle)
                if disturbed:
                    seconds = kill_one(job, out)
            if job.wait() != 0:
                raise SystemExit(log.read_text())
            weights.append(hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest())
    equal = "equal" if weights[0] == weights[1] else "DIFFERENT"
    print(f"from the kill to the end of the epoch in work: {seconds:.1f} s; the weights of both are {equal}")


def kill_one(job: subprocess.Popen[bytes], out: Path) -> float:
    """Kills process 1 after the second epoch; the seconds until the third is done."""
    epochs_of(out, 2, job)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(job.pid)], capture_output=True, text=True, check=True)
    for pid in listed.stdout.split():
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    began = time.monotonic()
    epochs_of(out, 3, job)
    return time.monotonic() - began


def epochs_of(out: Path, count: int, job: subprocess.Popen[bytes]) -> None:
    """Waits until so many epochs are done."""
    lines = out / "metrics.jsonl"
    while job.poll() is None and (not lines.exists() or lines.read_bytes().count(b"\n") < count):
        time.sleep(0.05)


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="a prepared folder")
    parser.add_argument("--market", type=int, nargs=3, metavar=("USERS", "ITEMS", "EVENTS"), help="simulated instead")
    parser.add_argument("--model", default="best")
    parser.add_argument("--ways", nargs="*", default=["1x1/1", "1x2/1", "1x1/2", "1x2/2", "2x1/2"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4, help="of --recover")
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train")
    parser.add_argument("--validate", action="store_true", help="and one full validation")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--recover", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.market:
            options.data = Path(folder) / "market"
            shapes.market(*options.market).save(options.data)
        if options.data is None:
            parser.error("name a prepared folder, or --market")
        (recover if options.recover else compare)(options)


if __name__ == "__main__":
    main()
