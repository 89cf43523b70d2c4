"""What an evaluation answers: a model's figures on one split under one protocol."""

from __future__ import annotations

from dataclasses import dataclass, field

from hardgnn.storage.documents import OPTIONAL, Document, called

Metrics = dict[str, float]
"""Figures by name, such as `ndcg@10`."""


@dataclass(frozen=True, kw_only=True)
class Result(Document):
    """The figures of one model on one data set, split and protocol.

    `candidates` are the smallest and the largest number of items ranked for a user; `intervals` the 95 % bootstrap
    bounds of the metrics that are per user; `leaks` how the test split steered the model, None where nobody looked;
    `learnt_from` the parts that it was trained on, where that is more than the training part.
    """

    dataset: str
    model: str
    split: str = field(metadata=called("part"))
    protocol: str
    users: int
    candidates: tuple[int, int]
    metrics: Metrics
    intervals: dict[str, tuple[float, float]]
    leaks: tuple[str, ...] | None = field(default=None, metadata=OPTIONAL)
    learnt_from: str | None = field(default=None, metadata=OPTIONAL)
