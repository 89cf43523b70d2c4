"""How models stand on the test part: their ranks, and their figures with 95 % intervals over users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.evaluation.protocols import TARGETS, means_of, metrics_of
from hardgnn.evaluation.ranks import ranks_path, read_ranks
from hardgnn.evaluation.stats import bootstrap_intervals
from hardgnn.experiments.finished import Finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.results import BaselineFigures
from hardgnn.metrics import DEFAULT
from hardgnn.parts import MODELS
from hardgnn.runs.folder import load_config

BaselineRanks = Mapping[str, Mapping[str, pl.DataFrame]]
"""Test ranks of baselines that need no gradient, by name and protocol."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Standing:
    """A model's test ranks on one data set under one protocol, a frame for each seed.

    `learnt_from` are the parts that it was trained on, where that is more than the training part.
    """

    data: str
    protocol: str
    model: str
    baseline: bool
    frames: tuple[pl.DataFrame, ...]
    learnt_from: str | None = None

    def values(self, at: Sequence[int], metrics: Sequence[str] = DEFAULT) -> dict[str, NDArray[np.float64]]:
        """Each metric per user (V,), averaged over the seeds."""
        each = [metrics_of(frame.sort("user", maintain_order=True), at, metrics) for frame in self.frames]
        return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}

    def intervals(self, at: Sequence[int], metrics: Sequence[str] = DEFAULT) -> dict[str, Interval]:
        """The 95 % bootstrap interval over users of each metric's mean."""
        values = self.values(at, metrics)
        bounds = bootstrap_intervals(np.stack([*values.values()], axis=1))
        return {name: (float(low), float(high)) for name, (low, high) in zip(values, bounds)}


def standings(cells: Iterable[Finished], baselines: Mapping[str, BaselineRanks]) -> list[Standing]:
    """The ranked models: those of `cells`, and baselines by data set. One that needs no gradient is a baseline."""
    found = []
    for cell in cells:
        config = load_config(cell.folders[0])
        baseline = config.train is None and MODELS.find(config.model.kind).learns  # an ensemble is of what may have one
        found += [
            Standing(cell.data, protocol, cell.variant.name, baseline, tuple(cell.ranks(protocol)), cell.learnt_from)
            for protocol in TARGETS
            if cell.is_ranked(protocol)
        ]
    for data, by_name in baselines.items():
        for name, by_protocol in by_name.items():
            found += [Standing(data, protocol, name, True, (frame,)) for protocol, frame in by_protocol.items()]
    return found


def baseline_ranks(study: Study, data: Sequence[str], names: Iterable[str]) -> dict[str, BaselineRanks]:
    """The ranks of a study's baselines, by data set, as far as they are kept."""
    found: dict[str, BaselineRanks] = {}
    for one in data:
        paths = {
            name: {protocol: ranks_path(study.baseline(one, name), "test", protocol) for protocol in TARGETS}
            for name in names
        }
        found[one] = {
            name: {protocol: read_ranks(path) for protocol, path in by.items() if path.exists()}
            for name, by in paths.items()
        }
    return found


def baseline_figures(baselines: BaselineRanks, at: Sequence[int]) -> BaselineFigures:
    """The metrics of baselines, by name and protocol."""
    return {
        name: {protocol: means_of(frame, at) for protocol, frame in by_protocol.items()}
        for name, by_protocol in baselines.items()
    }
