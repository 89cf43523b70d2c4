"""The whole job on MovieLens-100K, as `make demo` runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn import config as settings
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import PROTOCOLS, evaluate
from hardgnn.evaluation.quality import baseline
from hardgnn.metrics import MAIN_AT
from hardgnn.prepare.download import download
from hardgnn.report.page import write_report
from hardgnn.runs.evaluated import compare_runs, evaluate_run
from hardgnn.runs.folder import is_started, load_config
from hardgnn.runs.train import check_place, train
from hardgnn.storage.kinds import kind_of
from hardgnn.training.bar import TrainingBar

MODELS = ("selfgnn", "hardgnn", "best")
FLOORS = ("popularity", "itemknn", "ease", "recencyknn")


@dataclass(frozen=True)
class Length:
    """How long a demo is: epochs at most of each model, what differs from a model's preset, and what that takes."""

    epochs: int
    differing: dict[str, tuple[str, ...]]
    told: str


SMALL = ("model.window=50", "encoder.layers=1")  # half the time of each epoch, and no worse in so few of them
SHORT = Length(12, {"best": SMALL}, "some 2 minutes on two free cores, 5 where others are at work")
FULL = Length(60, {}, "some 10 minutes on two free cores, half an hour where others are at work")


def demo(to: Path, length: Length, epochs: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Downloads and prepares the data, trains the models, evaluates them beside the floors and writes a report.

    A run that was stopped goes on; one that is finished is not trained again.

    Args:
        to: folder for data, runs and report.
        length: of the training.
        epochs: at most, for each model; those of `length` by default.
        say: told what happens.

    Returns:
        dataset, protocols (rows of model and metrics for each), verdict (sentences), paths.

    Raises:
        HardGNNError: before anything is done, a folder that holds something else; or what a step raises.
    """
    if (kind := kind_of(to)) is not None:
        raise HardGNNError(f"{to}: {kind}; choose another --to")
    runs = [to / "runs" / name for name in MODELS]
    configs = []
    for name, folder in zip(MODELS, runs):
        words = [f"train.epochs={epochs or length.epochs}", *length.differing.get(name, ())]
        configs.append(settings.resolve(name, settings=words))
        check_place(folder, resume=True)
        if is_started(folder) and load_config(folder) != configs[-1]:
            raise HardGNNError(f"{folder}: holds a run with other settings; remove it or choose another --to")
    say(f"{len(FLOORS)} baselines and {len(MODELS)} models: {length.told}; stopped and run again it goes on")
    raw = download("ml-100k", to / "raw", say=say)
    data = Dataset.read(raw).prepare()
    data.save(to / "data")
    say(f"prepared: {data.n_users:,} users, {data.n_items:,} items, {len(data.user):,} interactions")
    floors: dict[str, dict[str, dict[str, float]]] = {}
    ranks: dict[str, dict[str, pl.DataFrame]] = {}
    for name in FLOORS:
        say(f"fitting and ranking {name}")
        ranker = baseline(name, data)
        found = {protocol: evaluate(ranker, data, "test", protocol) for protocol in PROTOCOLS}
        floors[name] = {protocol: result.metrics for protocol, (result, _) in found.items()}
        ranks[name] = {protocol: frame for protocol, (_, frame) in found.items()}
    for name, config, folder in zip(MODELS, configs, runs):
        say(f"training {name}: {config.train.epochs if config.train else 1} epochs at most")
        with TrainingBar(name) as bar:
            train(data, config, folder, resume=True, preset=name, data_path=to / "data", callbacks=[bar])
        say(f"ranking {name}")
        for protocol in PROTOCOLS:
            evaluate_run(folder, "test", protocol)
    say("writing the report")
    report = to / "report.html"
    write_report(runs, report, ranks)
    compared = {p: compare_runs(runs[::-1], "test", p, baseline="selfgnn").to_dict() for p in PROTOCOLS}
    protocols = [
        {
            "protocol": protocol,
            "rows": sorted(
                [
                    {"model": name, "metrics": by[protocol], "users": document["runs"][0]["users"]}
                    for name, by in floors.items()
                ]
                + document["runs"],
                key=lambda row: row["metrics"][MAIN_AT],
                reverse=True,
            ),
        }
        for protocol, document in compared.items()
    ]
    verdict = [
        f"{protocol}: {row['a']} − {row['b']} in {row['metric']} is {row['difference']:+.4f} "
        f"({row['low']:+.4f} to {row['high']:+.4f}), permutation p {row['permutation_p_holm']:.2g} "
        f"after Holm over {row['comparisons']} comparisons"
        for protocol, document in compared.items()
        for row in document["comparisons"]
        if row["metric"] == MAIN_AT
    ]
    paths = {"data": str(to / "data"), **{name: str(folder) for name, folder in zip(MODELS, runs)}}
    return {
        "dataset": data.name,
        "protocols": protocols,
        "verdict": verdict,
        "paths": paths | {"report": str(report)},
    }
