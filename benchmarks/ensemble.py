"""How much of a model's error is its seed: NDCG@10 (full) of runs one by one, and of their mean log-probabilities.

python benchmarks/ensemble.py RUN RUN [RUN ...]      # runs of one variant on one data set, such as runs/DATA/best-*
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.histories import Histories
from hardgnn.evaluate import Ranker, rank_targets
from hardgnn.metrics import summarise
from hardgnn.run import load_data, load_model


class Ensemble:
    """Scores by the mean over models of the log of the softmax over all items."""

    name = "ensemble"

    def __init__(self, models: list[Ranker]) -> None:
        self.models = models

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        total = np.float32(0)
        for model in self.models:
            scores = model.scores(users, histories)
            scores = scores - scores.max(1, keepdims=True)
            total = total + scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return np.asarray(total / len(self.models), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    folders = parser.parse_args().runs
    data = load_data(folders[0])
    models: list[Ranker] = [load_model(folder) for folder in folders]
    for part in ("valid", "test"):
        single = [summarise(rank_targets(model, data, part)["rank"], [10])["ndcg@10"] for model in models]
        together = summarise(rank_targets(Ensemble(models), data, part)["rank"], [10])["ndcg@10"]
        print(f"{part}: {np.mean(single):.4f} ± {np.std(single, ddof=1):.4f} one by one, {together:.4f} together")


if __name__ == "__main__":
    main()
