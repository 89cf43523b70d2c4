"""What a sweep chose on validation: the points it tried on each data set, and the best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hardgnn import config as settings
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.stats import OverSeeds
from hardgnn.experiments.folder import Study
from hardgnn.experiments.plan import Plan
from hardgnn.experiments.results import Figures, by_metric, finished
from hardgnn.storage.documents import OPTIONAL, Document

SWEEP = "sweep"  # the name of its plan


@dataclass(frozen=True)
class Point(Document):
    """Settings that were tried, and their validation figures over seeds.

    A search's points also have the number, state and variant of their trial; of one that was pruned there are no
    figures.
    """

    number: int | None = field(default=None, metadata=OPTIONAL)
    state: str | None = field(default=None, metadata=OPTIONAL)
    variant: str | None = field(default=None, metadata=OPTIONAL)
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = field(default=None, metadata=OPTIONAL)
    valid: Figures | None = field(default=None, metadata=OPTIONAL)

    @property
    def figures(self) -> Figures:
        """The validation figures, none where it was pruned."""
        return self.valid or {}

    @property
    def values(self) -> dict[str, str]:
        """What it sets, by key."""
        return dict(word.split("=", 1) for word in self.settings)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Point:
        """Back from study.json."""
        found = dict(document)
        for name in ("settings", "seeds"):
            if name in found:
                found[name] = tuple(found[name])
        if "valid" in found:
            found["valid"] = {metric: OverSeeds.from_dict(one) for metric, one in found["valid"].items()}
        return cls(**found)


@dataclass(frozen=True)
class Choice(Document):
    """The points of one data set, of which `chosen` has the highest mean of `metric` under `protocol`."""

    data: str
    metric: str
    protocol: str
    points: tuple[Point, ...]
    chosen: Point


def choices(study: Study) -> list[Choice]:
    """Each data set's points with their validation figures over seeds, the best first among equals by order.

    Raises:
        HardGNNError: there is no sweep in the folder, or nothing of it is finished.
    """
    if SWEEP not in study.plans:
        raise HardGNNError(f"{study.folder}: no sweep has been in this folder")
    plan = study.plans[SWEEP]
    asked = plan.variants[0].config(0).train if plan.variants else settings.resolve(plan.more["preset"]).train
    found = []
    for data in plan.data:
        if "trials" in plan.more:
            trials = map(Point.from_dict, plan.more["trials"].get(data, []))
            points = [point for point in trials if point.state == "complete"]
        else:
            points = _grid_points(study, plan, data, asked.protocol)
        if not points:
            raise HardGNNError(f"{study.folder}: nothing of the sweep on {data} is finished; run its command again")
        best = max(points, key=lambda point: point.figures[asked.metric].mean)
        found.append(Choice(data, asked.metric, asked.protocol, tuple(points), best))
    return found


def _grid_points(study: Study, plan: Plan, data: str, protocol: str) -> list[Point]:
    keys = len(plan.more["grid"])
    return [
        Point(
            settings=cell.variant.settings[-keys:],
            seeds=tuple(cell.seeds),
            valid=by_metric([result["valid"][protocol] for result in cell.results]),
        )
        for cell in finished(study, plan, test=False)
        if cell.data == data
    ]
