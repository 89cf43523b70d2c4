"""What a sweep chose on validation: the points it tried on each data set, and the best."""

from __future__ import annotations

from dataclasses import dataclass

from hardgnn.errors import HardGNNError
from hardgnn.experiments.finished import finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.plan import Grid, Plan, Point, Trials, Variant
from hardgnn.experiments.results import by_metric
from hardgnn.storage.documents import Document

SWEEP = "sweep"  # the name of its plan


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
    tried = tried_by(plan)
    variant = plan.variants[0] if plan.variants else Variant("", tried.preset)
    asked, protocol = variant.validation, variant.protocol
    found = []
    for data in plan.data:
        if isinstance(tried, Trials):
            points = [point for point in tried.trials.get(data, ()) if point.state == "complete"]
        else:
            points = _grid_points(study, plan, tried, data, protocol)
        if not points:
            raise HardGNNError(f"{study.folder}: nothing of the sweep on {data} is finished; run its command again")
        best = max(points, key=lambda point: point.figures[asked.metric].mean)
        found.append(Choice(data, asked.metric, protocol, tuple(points), best))
    return found


def tried_by(plan: Plan) -> Grid | Trials:
    """What a sweep's plan tries.

    Raises:
        HardGNNError: the plan is not that of a sweep.
    """
    if not isinstance(plan.more, Grid | Trials):
        raise HardGNNError(f"the plan '{plan.kind}' is damaged: it names neither a grid nor a search")
    return plan.more


def _grid_points(study: Study, plan: Plan, tried: Grid, data: str, protocol: str) -> list[Point]:
    keys = len(tried.grid)
    return [
        Point(
            settings=cell.variant.settings[-keys:],
            seeds=tuple(cell.seeds),
            valid=by_metric([result["valid"][protocol] for result in cell.results]),
        )
        for cell in finished(study, plan, test=False)
        if cell.data == data
    ]
