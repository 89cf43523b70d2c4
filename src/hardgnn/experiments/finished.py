"""The finished runs of a study, variant by variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn.evaluation.ranks import ranks_path, read_ranks
from hardgnn.evaluation.results import Metrics
from hardgnn.experiments.folder import Study
from hardgnn.experiments.plan import Plan, Variant
from hardgnn.metrics import split
from hardgnn.runs.evaluated import more_than_training
from hardgnn.runs.folder import read_metrics, read_result


@dataclass
class Finished:
    """The finished runs of one variant on one data set, by seed."""

    data: str
    variant: Variant
    seeds: list[int]
    folders: list[Path]
    deterministic: bool = False
    """Whether the seed changes nothing, so that there is one run."""

    def place(self, seed: int) -> int:
        """Where the run of a seed is among the runs."""
        return 0 if self.deterministic else self.seeds.index(seed)

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """What each run's result.json holds."""
        return [read_result(folder) for folder in self.folders]

    @cached_property
    def lines(self) -> list[list[dict[str, Any]]]:
        """Each run's lines of metrics.jsonl, one per epoch."""
        return [read_metrics(folder) for folder in self.folders]

    @property
    def leaks(self) -> tuple[str, ...]:
        """How the test split steered it, as its first run says."""
        return tuple(self.results[0].get("leaks", ()))

    @property
    def learnt_from(self) -> str | None:
        """The parts that it was trained on, where that is more than the training part."""
        return more_than_training(self.folders[0])

    def is_ranked(self, protocol: str) -> bool:
        """Whether the test part of all its runs is ranked."""
        return all(ranks_path(folder, "test", protocol).exists() for folder in self.folders)

    def ranks(self, protocol: str) -> list[pl.DataFrame]:
        """The test ranks of each run."""
        return [read_ranks(ranks_path(folder, "test", protocol)) for folder in self.folders]

    def further(self, protocol: str, at: Sequence[int], metrics: Sequence[str]) -> list[Metrics]:
        """The test figures at these cut-offs that each run's result.json holds beside `metrics`."""
        held: list[Metrics] = [result.get("test", {}).get(protocol, {}) for result in self.results]
        return [
            {
                figure: value
                for figure, value in one.items()
                if split(figure)[1] in at and split(figure)[0] not in metrics
            }
            for one in held
        ]


def finished(study: Study, plan: Plan, test: bool = True) -> list[Finished]:
    """The variants of a plan that have finished runs, data set by data set; with `test`, runs whose test is ranked."""
    found = []
    runs = plan.runs()
    for data in plan.data:
        for variant in plan.variants:
            mine = [run for run in runs if run.data == data and run.variant == variant and study.done(run, test)]
            if mine:
                found.append(Finished(data, variant, [run.seed for run in mine], [study.path(run) for run in mine]))
    return found
