"""Time to quality: the preset `best` beside RecTools' SASRec and RecBole's SASRec, on one thread, in turn, in one run.

    python benchmarks/peers.py beauty-s3rec --rectools ../rectools/bin/python --recbole ../recbole/bin/python
        [--logs ../shared/data] [--minutes 20] [--patience 10] [--seeds 0] [--json]

Each peer runs in an environment of its own (Python 3.11), given by its interpreter: `pip install 'rectools[torch]'`,
and `pip install recbole 'setuptools<81' 'numpy<2' 'pandas<2.3' 'scipy<1.14'`. A peer without one is left out. Each
training is a process of its own, with its library's own handling of data, batches, loss and optimiser, and the settings
of benchmarks/contenders.py.

Everybody learns from the training part of the same leave-one-out split. After each epoch (`best`: as often as the
preset validates) every user's validation item is ranked among all items but those of training, ties against the model.
The same code judges both peers; `best` judges itself as in use, and the peers' code must find the same of its best.
Time counts from before the model is built, with what a library prepares for it; judging does not count, for anyone, nor
do copies of the state. A peer ends after `--patience` epochs without a better one, `best` as its preset says, everybody
after `--minutes` of processor time: what a contender might have reached later is then not known.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contenders import LOGS, Split

HERE = Path(__file__).resolve().parent
CLOCKS = ("wall_s", "processor_s")


def run(options: argparse.Namespace, name: str, python: Path, log: str, seed: int, folder: Path) -> dict[str, Any]:
    """One training in a process of its own, on one thread."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        words = [str(python), str(HERE / "contenders.py"), name, log, str(folder / log)]
        words += ["--seed", str(seed), "--minutes", str(options.minutes), "--patience", str(options.patience)]
        words += ["--rectools-loss", options.rectools_loss, "--set", *options.set]
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
        done = subprocess.run(words, env=os.environ | one, cwd=work, capture_output=True, text=True)
        if done.returncode:  # the others' hours are not lost
            print(f"{name} failed ({done.returncode}): {done.stderr.strip()[-2000:]}", file=sys.stderr)
            return {"log": log, "contender": name, "seed": seed, "epochs": [], "ended": "a failure"}
        found: dict[str, Any] = json.loads((Path(work) / "epochs.json").read_text())
    return {"log": log, "contender": name, "seed": seed} | found


def reached(run: dict[str, Any], level: float) -> dict[str, float] | None:
    """The first epoch of a run with at least so much NDCG@10."""
    return next((one for one in run["epochs"] if one["ndcg"] >= level), None)


def show(runs: list[dict[str, Any]]) -> None:
    """Prints a log's runs of one seed: what each reached, and when each reached what the others did."""
    bests = {one["contender"]: max(one["epochs"], key=lambda epoch: epoch["ndcg"]) for one in runs if one["epochs"]}
    print(f"{runs[0]['log']}, seed {runs[0]['seed']}: training seconds on one thread, wall (processor)")
    for one in runs:
        if not one["epochs"]:
            print(f"  {one['contender']:<9} not one epoch, ended by {one['ended']}")
            continue
        best, last = bests[one["contender"]], one["epochs"][-1]
        each = seconds({key: last[key] / last["epoch"] for key in CLOCKS})
        found = f"NDCG@10 {best['ndcg']:.4f} at epoch {best['epoch']} of {last['epoch']} of {each} s"
        print(f"  {one['contender']:<9} {found}, ended by {one['ended']}")
    for name, best in bests.items():
        when = {one["contender"]: reached(one, best["ndcg"]) for one in runs}
        told = [f"{who} " + ("never" if at is None else f"{seconds(at)} s") for who, at in when.items()]
        if name != "best" and (ours := when.get("best")):
            told.append(f"best in {seconds({key: ours[key] / best[key] for key in CLOCKS})} of its time")
        print(f"  to {name}'s {best['ndcg']:.4f}: {', '.join(told)}", flush=True)


def seconds(of: dict[str, float]) -> str:
    """Wall and processor time."""
    return "{:.3g} ({:.3g})".format(*(of[key] for key in CLOCKS))


def main() -> None:
    """Parses, trains in turn, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(LOGS), metavar="LOG", help=", ".join(LOGS))
    parser.add_argument("--rectools", type=Path, help="interpreter of an environment with RecTools")
    parser.add_argument("--recbole", type=Path, help="interpreter of an environment with RecBole")
    parser.add_argument("--rectools-loss", choices=["softmax", "gBCE", "sampled_softmax"], default="gBCE")
    parser.add_argument(
        "--logs", type=Path, default=HERE.parent.parent / "shared" / "data", help="folder of LOG.inter.gz"
    )
    parser.add_argument("--minutes", type=float, default=20, help="processor minutes of a training")
    parser.add_argument("--patience", type=int, default=10, help="epochs of a peer without a better one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train for our side")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args()
    import shapes

    from hardgnn import InteractionLog
    from hardgnn.prepare.pipeline import PrepareConfig, prepare

    pythons = {"best": Path(sys.executable), "rectools": options.rectools, "recbole": options.recbole}
    everything = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for log in options.names:
            data = prepare(InteractionLog.read(options.logs / f"{log}.inter.gz"), PrepareConfig(k_core=5))
            data.save(folder / log)
            Split.save(data, folder / log)
            for seed in options.seeds:
                runs = [
                    run(options, who, python.absolute(), log, seed, folder) for who, python in pythons.items() if python
                ]
                everything += runs
                if not options.json:
                    show(runs)
    if options.json:
        json.dump({"machine": shapes.machine(), "runs": everything}, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
