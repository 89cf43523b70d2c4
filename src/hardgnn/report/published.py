"""The figures that the papers published, as data: to stand beside ours, never to be chosen by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import FULL, SAMPLED
from hardgnn.evaluation.results import Metrics
from hardgnn.storage.documents import Document

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


@dataclass(frozen=True)
class Record:
    """What was published for a log: `how` it was measured, and `sources`, what each row's source stands for.

    `counts` are the log's users, items and interactions, where they are known, and `near` the rows that were measured
    on another file of the same log, or otherwise.
    """

    name: str
    protocol: str
    how: str
    rows: tuple[Published, ...]
    near: tuple[Published, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def differs(self, counts: Mapping[str, int]) -> str:
        """In what a log of these counts is not the published one, in words; nothing where it may be."""
        wrong = {name: count for name, count in self.counts.items() if counts.get(name, count) != count}
        return ", ".join(f"{counts[name]:,} {name} instead of {count:,}" for name, count in wrong.items())


def record(dataset: str) -> Record:
    """What was published for a log of the papers.

    Raises:
        HardGNNError: the papers have no such log; names the nearest.
    """
    known = _records()
    if dataset not in known:
        raise HardGNNError(f"no published figures for '{dataset}': {nearest(dataset, known)}")
    return known[dataset]


def names() -> list[str]:
    """The logs that have published figures."""
    return list(_records())


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources.files("hardgnn.report") / name).read_text("utf-8"))
    return found


@cache
def _records() -> dict[str, Record]:
    return _sampled() | _full()


def _sampled() -> dict[str, Record]:
    """The papers of SelfGNN and HardGNN."""
    rows: dict[str, list[Published]] = {}
    for source, table in _read("published.json")["tables"].items():
        for model, by_dataset in table.items():
            for name, metrics in by_dataset.items():
                rows.setdefault(name, []).append(Published(model, SOURCES[source], SAMPLED, metrics))
    return {name: Record(name, SAMPLED, HOW, tuple(rows[name])) for name in sorted(rows)}


def _full() -> dict[str, Record]:
    """Full rankings of public repositories."""
    document, found = _read("published-full-ranking.json"), {}
    for key, log in document["data"].items():
        name = re.sub("-[a-z0-9]+$", "", key)
        rows, near = (
            tuple(
                Published(row["model"], row["source"], FULL, {"hr@10": row["hr10"], "ndcg@10": row["ndcg10"]})
                for row in sorted(log[kind], key=lambda row: -row["ndcg10"])
            )
            for kind in ("published", "near")
        )
        sources = {row.source: document["sources"][row.source] for row in (*rows, *near)}
        counts = {count: log["stats"][count] for count in ("users", "items", "interactions")}
        how = f"{document['protocol']}; {log['what']}"
        found[name] = Record(name, FULL, how, rows, near, sources, counts)
    return found
