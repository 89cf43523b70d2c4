"""Times an epoch of the authors' released code beside ours: one run, one machine, in turn.

    python benchmarks/released.py --checkout ../HardGNN --python ../tensorflow/bin/python
        [--shapes gowalla amazon] [--models selfgnn hardgnn] [--epochs 2] [--repeat 2] [--threads 1] [--json]

`--checkout` is a clone of the released code of HardGNN (github.com/lucyZihanZ/HardGNN; without its hard negatives it is
SelfGNN) or of SelfGNN (github.com/HKUDS/SelfGNN; it asks for TensorFlow 1, which no Python of today has, and gets what
TensorFlow 2 lacks from benchmarks/contrib.py). `--python` is the interpreter of an environment for either:
`pip install 'tensorflow==2.15.*' scipy 'numpy<2' matplotlib`. Neither code nor environment comes with this package.

Both sides get the same simulated market (benchmarks/shapes.py), the published settings and 20 steps of 512 users; ours
attends over one token per user at the Amazon shape as the released code does (`encoder.kind=pooled`). A first epoch
warms up and does not count, nor does what comes before it. Each measurement is a process of its own. The released
process only trains; ours also validates once and keeps a checkpoint, which its peak memory holds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PARTS = ("DataHandler.py", "Params.py", "Utils/TimeLogger.py")
MODULES = {"HardGNN_model": ["selfgnn", "hardgnn"], "model": ["selfgnn"]}  # of each checkout, and what it trains
SAME_WORK = {"gowalla": [], "amazon": ["encoder.kind=pooled"]}
# Our settings and the released flags; what stands in neither is the same constant in both (40 pairs of each user).
FLAGS = {
    "model.dim": "latdim",
    "model.heads": "num_attention_heads",
    "model.window": "pos_length",
    "model.intervals": "graphNum",
    "model.layers": "gnn_layer",
    "encoder.layers": "att_layer",
    "objective.batch_users": "batch",
    "objective.pred_num": "pred_num",
    "ssl.pairs": "sslNum",
    "ssl.dim": "ssldim",
    "train.lr": "lr",
}
PUBLISHED = ["--reg", "1e-2", "--temp", "0.1", "--ssl_reg", "1e-6", "--trnNum", "10000"]
HARD = ["--use_hard_neg", "True", "--hard_neg_top_k", "3", "--contrastive_weight", "0.1"]


def flags(shape: str, model: str) -> list[str]:
    """The released command line with the settings that our side has."""
    import shapes

    settings = dict(setting.split("=") for setting in (*shapes.PUBLISHED, *shapes.SHAPES[shape].settings))
    words = [word for key, flag in FLAGS.items() if key in settings for word in (f"--{flag}", settings[key])]
    return ["--data", shape, *PUBLISHED, *words, *(HARD if model == "hardgnn" else [])]


def write_market(market: Path, intervals: int, folder: Path) -> None:
    """A prepared market as the released loader reads it: `trn_mat_time`, `sequence` and `tst_int`.

    The released graphs end 100 rows behind their last node with an edge, and a node behind these is an error. So the
    users and items of the most intervals get the last numbers.
    """
    import scipy.sparse as sp

    from hardgnn.data.dataset import TEST, TRAIN, Dataset
    from hardgnn.data.intervals import cut

    data = Dataset.load(market)
    training = data.part == TRAIN
    user, item, when = data.user[training], data.item[training], data.timestamp[training]
    interval = cut(when, intervals)
    users = renumbered(user, interval, data.n_users, intervals)
    items = renumbered(item, interval, data.n_items, intervals)
    graphs = []
    for one in range(intervals):
        pairs, first = np.unique(np.stack([users[user], items[item]])[:, interval == one], axis=1, return_index=True)
        graphs.append(
            sp.csr_matrix((when[interval == one][first].astype(np.int64), pairs), (data.n_users, data.n_items))
        )
    every = sp.csr_matrix((np.ones(len(user), np.int64), (users[user], items[item])), (data.n_users, data.n_items))
    known = data.part != TEST
    ends = np.cumsum(np.bincount(data.user[known], minlength=data.n_users))[:-1]
    rows = np.split(items[data.item[known]], ends)
    sequence: list[Any] = [None] * data.n_users
    targets: list[Any] = [None] * data.n_users
    for old, new in enumerate(users):
        sequence[new] = rows[old].tolist()
    for old, target in zip(data.user[data.part == TEST], data.item[data.part == TEST], strict=True):
        targets[users[old]] = int(items[target])
    folder.mkdir(parents=True)
    for name, value in (("trn_mat_time", [every, graphs, every]), ("sequence", sequence), ("tst_int", targets)):
        (folder / name).write_bytes(pickle.dumps(value))


def renumbered(node: np.ndarray, interval: np.ndarray, count: int, intervals: int) -> np.ndarray:
    """New numbers (count,) of nodes: the 50 with edges in the most intervals stand last, the others in their order."""
    present = np.zeros((count, intervals), dtype=bool)
    present[node, interval] = True
    last = np.argsort(present.sum(axis=1), kind="stable")[-50:]
    order = np.concatenate([np.setdiff1d(np.arange(count), last), last])
    numbers = np.empty(count, dtype=np.int64)
    numbers[order] = np.arange(count)
    return numbers


def module_of(checkout: Path) -> str | None:
    """The module of a checkout that has the model; None where it is no checkout."""
    whole = all((checkout / name).is_file() for name in PARTS)
    return next((name for name in MODULES if whole and (checkout / f"{name}.py").is_file()), None)


def train_released(checkout: Path, epochs: int, threads: int, words: list[str]) -> dict[str, Any]:
    """One warm epoch and `epochs` measured ones of the released code, in this process and folder."""
    sys.path = [str(checkout), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE), str(HERE)]
    sys.argv = ["main.py", *words]
    import tensorflow

    tf, module = tensorflow, module_of(checkout)
    if module == "model":
        import contrib

        contrib.provide()
    from DataHandler import DataHandler

    Recommender = importlib.import_module(str(module)).Recommender
    np.random.seed(100)  # noqa: NPY002 (the released code draws from it)
    tf.compat.v1.set_random_seed(100)
    handler = DataHandler()
    handler.LoadData()
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    measured = []
    with tf.compat.v1.Session(config=config) as session:
        model = Recommender(session, handler)
        model.prepareModel()
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(1 + epochs):
            wall, processor = time.perf_counter(), time.process_time()
            losses = model.trainEpoch()
            measured.append([time.perf_counter() - wall, time.process_time() - processor])
    if not np.isfinite(losses["Loss"]):
        raise SystemExit(f"the released code's loss is {losses['Loss']}")
    return {
        "epochs": measured[1:],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": float(losses["Loss"]),
        "tensorflow": tf.__version__,
    }


def released(options: argparse.Namespace, shape: str, model: str, folder: Path) -> dict[str, Any]:
    """`train_released` in a process of its own; what the released code prints goes to a file beside its data."""
    words = [str(options.python), str(HERE / "released.py"), "--checkout", str(options.checkout)]
    words += ["--epochs", str(options.epochs), "--threads", str(options.threads), "--child", *flags(shape, model)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "TF_CPP_MIN_LOG_LEVEL": "2"
    }
    if options.threads:
        environment["OMP_NUM_THREADS"] = str(options.threads)
    log = folder / "released.log"
    with log.open("w") as output:
        done = subprocess.run(words, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    result = folder / "released.json"
    if done.returncode or not result.exists():
        raise SystemExit(f"the released code failed: {' '.join(log.read_text().split()[-40:])}")
    measured: dict[str, Any] = json.loads(result.read_text())
    result.unlink()
    return measured


def ours(options: argparse.Namespace, shape: str, model: str) -> dict[str, Any]:
    """The same by benchmarks/epoch.py."""
    words = [sys.executable, str(HERE / "epoch.py"), "--shape", shape, "--model", model, "--json"]
    words += ["--epochs", str(1 + options.epochs), "--threads", str(options.threads), "--data", str(options.data)]
    words += ["--set", *SAME_WORK[shape], *options.set]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    row = report["measured"]["this"]
    return {
        "epochs": [[row["epoch_median_s"], row["epoch_cpu_s"]]],
        "peak_mib": row["peak_mib"],
        "loss": row["last_loss"],
        "machine": report["machine"],
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Wall and processor seconds of all measured epochs (least, median, most) and the largest peak."""
    wall, processor = np.array([epoch for run in runs for epoch in run["epochs"]]).T
    spread = {"least": np.min, "median": np.median, "most": np.max}
    return {
        "wall_s": {name: float(of(wall)) for name, of in spread.items()},
        "processor_s": {name: float(of(processor)) for name, of in spread.items()},
        "peak_mib": max(run["peak_mib"] for run in runs),
    }


def missing(checkout: Path | None, python: Path | None, models: list[str] | None = None) -> str | None:
    """What the released side lacks, in one sentence; None where it can run."""
    if checkout is None or python is None:
        return (
            "the released code is not measured without --checkout (its clone) and --python (TensorFlow's interpreter)"
        )
    module = module_of(checkout)
    if module is None:
        needs = f"{', '.join(PARTS)} and {' or '.join(f'{name}.py' for name in MODULES)}"
        return f"{checkout} is no checkout of the released code, which has {needs}"
    if other := [model for model in models or [] if model not in MODULES[module]]:
        return f"the released code in {checkout} has no {other[0]}"
    asked = "import tensorflow, scipy; print(tensorflow.__version__)"
    try:
        done = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, cwd="/")
    except OSError as error:
        return f"{python} cannot be run: {error.strerror}"
    if done.returncode:
        return f"{python} cannot import TensorFlow and SciPy: {done.stderr.strip().splitlines()[-1]}"
    version = done.stdout.split()[-1]
    return (
        None if version.startswith("2.15.") else f"{python} has TensorFlow {version}, and the released code needs 2.15"
    )


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="clone of the released code")
    parser.add_argument("--python", type=Path, help="interpreter that has TensorFlow 2.15 and SciPy")
    parser.add_argument("--shapes", nargs="+", choices=list(SAME_WORK), default=list(SAME_WORK))
    parser.add_argument("--models", nargs="+", choices=["selfgnn", "hardgnn"], help="all of the checkout")
    parser.add_argument("--epochs", type=int, default=2, help="measured epochs of a run, after one that warms up")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each side, in turn")
    parser.add_argument("--threads", type=int, default=0, help="of both sides; 0 is what each takes by itself")
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train for our side")
    parser.add_argument("--data", type=Path, help="folder that keeps the simulated markets")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        report = train_released(options.checkout, options.epochs, options.threads, options.child)
        Path("released.json").write_text(json.dumps(report))
        return
    if lacking := missing(options.checkout, options.python, options.models):
        raise SystemExit(lacking)
    import shapes

    options.checkout = options.checkout.resolve()
    options.python = options.python.absolute()  # not resolved: a link is what makes an environment
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options.data = (options.data or folder / "markets").resolve()
        for shape in options.shapes:
            intervals = int(dict(one.split("=") for one in shapes.SHAPES[shape].settings)["model.intervals"])
            write_market(shapes.stored_market(shape, options.data), intervals, folder / "Datasets" / shape)
            for model in options.models or MODULES[str(module_of(options.checkout))]:
                runs: dict[str, list[dict[str, Any]]] = {"released": [], "ours": []}
                for _ in range(options.repeat):
                    runs["released"].append(released(options, shape, model, folder))
                    runs["ours"].append(ours(options, shape, model))
                rows.append({"shape": shape, "model": model, "runs": runs, **{k: summary(v) for k, v in runs.items()}})
                if not options.json:
                    show(rows[-1])
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()


def show(row: dict[str, Any]) -> None:
    """Prints one shape and model, the machine and the ratios of the medians."""
    machine, tensorflow = row["runs"]["ours"][0]["machine"], row["runs"]["released"][0]["tensorflow"]
    versions = f"TensorFlow {tensorflow}, torch {machine['versions']['torch']}"
    print(f"{row['shape']}, {row['model']}: {machine['processor']}, {machine['cpus']} cores; {versions}")
    for side in ("released", "ours"):
        spans = [f"{{least:.3g}} to {{most:.3g}} {unit}".format(**row[side][key]) for key, unit in UNITS.items()]
        print(f"  {side:<9} " + ", ".join([*spans, f"peak {row[side]['peak_mib']:.0f} MiB"]), flush=True)
    ratios = [
        f"{row['released'][key]['median'] / row['ours'][key]['median']:.1f} ({unit})" for key, unit in UNITS.items()
    ]
    print(f"  ratio     {', '.join(ratios)}, {row['ours']['peak_mib'] / row['released']['peak_mib']:.2f} of the memory")


UNITS = {"wall_s": "s wall", "processor_s": "processor s"}

if __name__ == "__main__":
    main()
