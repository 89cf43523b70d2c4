"""What a peer is, and the peers that need no gradient: popularity, item neighbours, EASE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hardgnn.data.dataset import Dataset
from hardgnn.evaluation.protocols import Ranker
from hardgnn.evaluation.quality import baseline
from hardgnn.models.neighbours import WHOLE

Setting = dict[str, Any]
"""A peer's hyperparameters by name: numbers, texts or None, as its search space has them."""


@dataclass(frozen=True)
class Cap:
    """Where the training of one neural peer ends at the latest.

    `minutes` are processor time of training, without validation, so that a busy machine cuts nothing short.
    """

    epochs: int = 300
    minutes: float | None = None


@dataclass(frozen=True)
class FittedPeer:
    """A fitted peer and what its result.json tells of its training."""

    ranker: Ranker
    parameters: int
    record: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class PeerFitting:
    """What a peer is fitted with. `folder` keeps its state, so that a killed training goes on where it was.

    `validated` is told the epoch and the NDCG@10 of each validation, and may raise to end a hopeless trial; `report`
    is told the share of the epochs that is done.
    """

    dataset: Dataset
    setting: Setting
    seed: int
    cap: Cap
    folder: Path
    validated: Callable[[int, float], None] = lambda epoch, value: None
    report: Callable[[float], None] = lambda share: None


@dataclass(frozen=True)
class Peer:
    """A model to compare with.

    `space` holds the ranges that its search tries, in the form of `hardgnn.config.search_space`, and `ordinary` the
    setting that the search tries first. A deterministic peer is fitted once, whatever the seeds.
    """

    name: str
    source: str
    fit: Callable[[PeerFitting], FittedPeer]
    space: dict[str, dict[str, Any]]
    ordinary: Setting
    deterministic: bool = False


def _fit(kind: str, fitting: PeerFitting) -> FittedPeer:
    """One of our own models, with the settings of a trial."""
    settings = {key: WHOLE if value is None else value for key, value in fitting.setting.items()}
    ranker = baseline(kind, fitting.dataset, **settings)
    return FittedPeer(ranker, ranker.parameters)


LAST = [1, 2, 3, 5, 10, 20, 50, None]

LIGHT = (
    Peer("pop", "number of training interactions", partial(_fit, "popularity"), {}, {}, deterministic=True),
    Peer(
        "decayed",
        "popularity that halves with time, Ji et al. 2020",
        partial(_fit, "decayed-popularity"),
        {"half_life": {"low": 0.5, "high": 1000.0, "log": True}},
        {"half_life": 30.0},
        deterministic=True,
    ),
    Peer(
        "itemknn",
        "Sarwar et al. 2001, cosine",
        partial(_fit, "itemknn"),
        {"last": {"choices": LAST}, "neighbours": {"choices": [20, 100, 500, 2000]}},
        {"last": None, "neighbours": 100},
        deterministic=True,
    ),
    Peer(
        "recencyknn",
        "cosine and transitions, the last items weighted by age, times a power of popularity",
        partial(_fit, "recencyknn"),
        {
            "last": {"choices": LAST[:-1]},
            "decay": {"low": 0.5, "high": 1.0, "log": False},
            "forward": {"low": 0.1, "high": 10.0, "log": True},
            "popularity": {"low": 0.0, "high": 0.5, "log": False},
            "backward": {"low": 0.0, "high": 1.0, "log": False},
        },
        {"last": 5, "decay": 0.7, "forward": 1.0, "popularity": 0.0, "backward": 0.0},
        deterministic=True,
    ),
    Peer(
        "ease",
        "Steck 2019, closed form",
        partial(_fit, "ease"),
        {"weight": {"low": 1.0, "high": 5000.0, "log": True}},
        {"weight": 250.0},
        deterministic=True,
    ),
)
