"""The figures that the papers published, as data: to stand beside ours, never to be chosen by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.results import Metrics
from hardgnn.storage.documents import Document

PROTOCOL = "sampled-999"
HOW = "leave-one-out, 10,000 test users, 999 sampled negatives, best epoch by the test part"
SOURCES = {
    "selfgnn_paper": "SelfGNN paper, 150 epochs",
    "hardgnn_seed": "HardGNN report, 100 epochs",
    "hardgnn_pos_length_50": "HardGNN report, window 50",
    "selfgnnplus": "SelfGNNplus, not reviewed",
}


@dataclass(frozen=True)
class Published(Document):
    """A published row: `metrics` are hr@10, ndcg@10, hr@20 and ndcg@20 as far as the papers have them."""

    model: str
    source: str
    protocol: str
    metrics: Metrics


def figures(dataset: str) -> list[Published]:
    """The published rows for a data set of the papers.

    Raises:
        HardGNNError: the papers have no such data set; names the nearest.
    """
    document = json.loads((resources.files("hardgnn.report") / "published.json").read_text("utf-8"))
    known = sorted({name for table in document["tables"].values() for by in table.values() for name in by})
    if dataset not in known:
        raise HardGNNError(f"no published figures for '{dataset}': {nearest(dataset, known)}")
    return [
        Published(model, SOURCES[source], PROTOCOL, by_dataset[dataset])
        for source, table in document["tables"].items()
        for model, by_dataset in table.items()
        if dataset in by_dataset
    ]
