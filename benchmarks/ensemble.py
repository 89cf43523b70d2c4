"""How much of a model's error is its seed: NDCG@10 (full) of runs one by one, and of their mean log-probabilities.

python benchmarks/ensemble.py RUN RUN [RUN ...]      # runs of one variant on one data set, such as runs/DATA/best-*
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import Ranker, rank_targets
from hardgnn.metrics import summarise
from hardgnn.runs.folder import check_version, load_data
from hardgnn.runs.models import load_model


class Ensemble:
    """Scores by the mean over models of the log of the softmax over all items."""

    name = "ensemble"

    def __init__(self, models: list[Ranker]) -> None:
        self.models = models

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        total = np.float32(0)
        for model in self.models:
            total = total + log_softmax(model.scores(users, histories), axis=1)
        return np.asarray(total / len(self.models), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    folders = parser.parse_args().runs
    if len(folders) < 2:
        parser.error("give at least two runs")
    try:
        if len({json.dumps(check_version(folder)["data"]["manifest"]) for folder in folders}) > 1:
            parser.error("the runs are of different data sets")
        data = load_data(folders[0])
        models: list[Ranker] = [load_model(folder) for folder in folders]
    except HardGNNError as error:
        parser.error(str(error))
    for part in ("valid", "test"):
        single = [summarise(rank_targets(model, data, part)["rank"], [10])["ndcg@10"] for model in models]
        together = summarise(rank_targets(Ensemble(models), data, part)["rank"], [10])["ndcg@10"]
        print(f"{part}: {np.mean(single):.4f} ± {np.std(single, ddof=1):.4f} one by one, {together:.4f} together")


if __name__ == "__main__":
    main()
