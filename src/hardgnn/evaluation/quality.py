"""How good a model is on validation, for a fit that chooses among a few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hardgnn.config import build
from hardgnn.data.dataset import VALID, Dataset
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import FULL, Ranker, metrics_of, rank_targets
from hardgnn.metrics import MAIN_AT, split
from hardgnn.models.base import Model
from hardgnn.parts import MODELS

BASELINES = ("popularity", "itemknn", "recencyknn")
"""Models that a study fits beside ours: a second each."""


def quality_on(data: Dataset, sample: int = 2000, seed: int = 0, protocol: str = FULL) -> Callable[[Ranker], float]:
    """NDCG@10 on at most `sample` validation users, drawn with `seed`, so that large logs stay cheap.

    The test part is not read. `protocol` is one of `hardgnn.evaluation.protocols.TARGETS`.
    """
    name, n = split(MAIN_AT)
    users, _ = data.targets(VALID)
    asked = np.random.default_rng(seed).permutation(users)[:sample]

    def quality(model: Ranker) -> float:
        frame = rank_targets(model, data, "valid", protocol, users=asked)
        return float(metrics_of(frame, [n], [name])[MAIN_AT].mean())

    return quality


def baseline(name: str, data: Dataset, **settings: Any) -> Model:
    """A model that is fitted in one go; of the settings that are not given, the best on validation are taken.

    Raises:
        HardGNNError: there is none of that name, or nobody can be ranked on validation.
    """
    known = [kind for kind, model in MODELS.sound() if model.objective is None]
    if name not in known:
        raise HardGNNError(f"unknown baseline '{name}'; {nearest(name, known)}")
    config = build({"model": {"kind": name, **settings}}, f"baseline '{name}'")
    found: Model = MODELS.find(name).fit(data, config.model, quality_on(data))
    return found
