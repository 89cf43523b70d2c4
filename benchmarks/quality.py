"""Test figures of presets and variants over seeds and data sets; stops and goes on.

    python benchmarks/quality.py --data data/ml-100k data/gowalla-1k --out runs/quality \
        --variants selfgnn pooled hardgnn --seeds 0 1 2

Each run keeps its best epoch by validation (NDCG@10, full) within the epochs given; the test part is ranked once per
finished run. Prints mean and standard deviation over seeds for both protocols, seconds per epoch and peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

VARIANTS: dict[str, list[str]] = {
    "selfgnn": ["--preset", "selfgnn"],
    "pooled": ["--preset", "selfgnn", "--set", "model.sequence=pooled"],
    "mean": ["--preset", "selfgnn", "--set", "model.sequence_pooling=mean"],
    "sum": ["--preset", "selfgnn", "--set", "model.sequence_pooling=sum"],
    "hardgnn": ["--preset", "hardgnn"],
    "hardgnn-pooled": ["--preset", "hardgnn", "--set", "model.sequence=pooled"],
}
FLOORS = ("popularity", "itemknn", "recencyknn")
PROTOCOLS = ("full", "sampled-999")


def run_one(data: Path, out: Path, variant: str, seed: int, more: list[str]) -> Path:
    """Trains (or goes on with) one run and ranks its test part, each in a process of its own for the peak memory."""
    folder = out / data.name / f"{variant}-{seed}"
    hardgnn = [sys.executable, "-c", "from hardgnn.cli import main; main()"]
    result = folder / "result.json"
    if not result.exists():
        words = ["train", str(data), "--out", str(folder), *VARIANTS[variant], "--seed", str(seed), "--resume"]
        for setting in more:
            words += ["--set", setting]
        subprocess.run([*hardgnn, *words, "--json"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for protocol in PROTOCOLS:
        if protocol not in json.loads(result.read_text()).get("test", {}):
            words = ["evaluate", str(folder), "--protocol", protocol, "--json"]
            subprocess.run([*hardgnn, *words], check=True, stdout=subprocess.DEVNULL)
    return folder


def floors(data: Path, out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The floors' test metrics, computed once per data set."""
    stored = out / data.name / "floors.json"
    if not stored.exists():
        from hardgnn.baselines import baseline
        from hardgnn.data.dataset import Dataset
        from hardgnn.evaluate import evaluate
        from hardgnn.files import write_json

        loaded = Dataset.load(data)
        rankers = {name: baseline(name, loaded) for name in FLOORS}
        write_json(
            stored,
            {
                name: {protocol: evaluate(ranker, loaded, "test", protocol)[0]["metrics"] for protocol in PROTOCOLS}
                for name, ranker in rankers.items()
            },
        )
    document: dict[str, dict[str, dict[str, float]]] = json.loads(stored.read_text())
    return document


def row(name: str, protocol: str, results: list[dict]) -> str:
    cells = []
    for metric in ("ndcg@10", "hr@10", "ndcg@20", "hr@20"):
        values = [result["test"][protocol][metric] for result in results]
        cells.append(f"{np.mean(values):.4f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.4f}")
    chosen = [result["valid"]["full"]["ndcg@10"] for result in results]
    cells.append(f"{np.mean(chosen):.4f}")
    cells.append(f"{np.mean([result['seconds_per_epoch'] for result in results]):.2f}")
    cells.append(f"{max(result['peak_memory_mb'] for result in results):.0f}")
    cells.append(", ".join(f"{result['best_epoch']}/{result['epochs']}" for result in results))
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["selfgnn", "pooled", "hardgnn"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings for every run")
    parser.add_argument("--table-only", action="store_true", help="only runs that are finished")
    options = parser.parse_args()
    for data in options.data:
        by_variant: dict[str, list[dict]] = {}
        for seed in options.seeds:
            for variant in options.variants:
                folder = options.out / data.name / f"{variant}-{seed}"
                if not options.table_only:
                    run_one(data, options.out, variant, seed, options.settings)
                    print(f"done: {folder}", file=sys.stderr, flush=True)
                if (folder / "result.json").exists():
                    result = json.loads((folder / "result.json").read_text())
                    if "test" in result:
                        by_variant.setdefault(variant, []).append(result)
        base = floors(data, options.out)
        for protocol in PROTOCOLS:
            print(f"\n{data.name}, test, {protocol}, mean ± standard deviation over seeds\n")
            print("| model | NDCG@10 | HR@10 | NDCG@20 | HR@20 | valid NDCG@10, full | s/epoch | MB | best epoch |")
            print("|---|---|---|---|---|---|---|---|---|")
            for name, metrics in base.items():
                cells = [f"{metrics[protocol][m]:.4f}" for m in ("ndcg@10", "hr@10", "ndcg@20", "hr@20")]
                print(f"| {name} | {' | '.join(cells)} | – | – | – | – |")
            for variant, results in by_variant.items():
                if all(protocol in result["test"] for result in results):
                    print(row(variant, protocol, results))


if __name__ == "__main__":
    main()
