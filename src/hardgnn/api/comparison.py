"""Models side by side on the same users and targets, with paired tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from hardgnn import arguments
from hardgnn.api.answers import Answer, handed
from hardgnn.api.figures import standing
from hardgnn.data.align import places
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import Comparison, compare_ranks, correct
from hardgnn.evaluation.protocols import summarise_frame
from hardgnn.evaluation.results import Result
from hardgnn.metrics import DEFAULT, named, parted
from hardgnn.screen import html_table

if TYPE_CHECKING:
    from hardgnn.api.model import HardGNN


@dataclass(frozen=True)
class Compared:
    """Models side by side.

    `metrics` has a row for each model: its figures. `differences` has one for each pair and metric: the means, their
    difference with 95 % bounds, and p-values of the Wilcoxon and the permutation test, Holm-corrected over all rows.
    """

    dataset: str
    part: str
    protocol: str
    users: int
    metrics: Answer
    differences: Answer
    results: tuple[Result, ...] = field(repr=False, default=())

    def __repr__(self) -> str:
        rows = ", ".join(f"{one.model} {next(iter(one.metrics.items()))}" for one in self.results)
        return f"Compared({self.dataset}, {self.part}, {self.protocol}, {self.users:,} users: {rows})"

    def _repr_html_(self) -> str:
        """The figures with their intervals, for a notebook."""
        names = list(self.results[0].metrics)
        rows = [
            [one.model, *(f"{one.metrics[name]:.4f} ({_bounds(one, name)})" for name in names)] for one in self.results
        ]
        caption = f"{self.dataset}: {self.part}, {self.protocol}, {self.users:,} users, 95 % intervals"
        return html_table(caption, ["model", *names], rows)

    def plot(self, metric: str | None = None) -> Any:
        """A figure of Matplotlib: one metric (by default the last) of each model with its 95 % interval.

        Raises:
            HardGNNError: another metric than was computed, or Matplotlib is not installed.
        """
        from hardgnn.report.plots import dots

        known = list(self.results[0].metrics)
        metric = known[-1] if metric is None else metric
        if metric not in known:
            raise HardGNNError(f"metric: expected one of {', '.join(known)}, got '{metric}'")
        rows = [(one.model, one.metrics[metric], *one.intervals.get(metric, (None, None))) for one in self.results]
        title = f"{self.dataset}: {self.part}, {self.protocol}"
        return standing(dots("compared", title, metric, rows))


def _bounds(result: Result, name: str) -> str:
    low, high = result.intervals[name]
    return f"{low:.4f} – {high:.4f}"


def compare(
    models: Mapping[str, HardGNN] | Iterable[HardGNN],
    data: Any,
    *,
    part: str = "test",
    protocol: str = "full",
    at: int | Iterable[int] = (10, 20),
    metrics: str | Iterable[str] = DEFAULT,
    baseline: str | None = None,
) -> Compared:
    """Models side by side on the same users and targets, with paired tests over users.

    Args:
        models: fitted models by name, or a collection of them, which are called by their presets.
        data: what they are evaluated on: as of `HardGNN.evaluate`.
        part, protocol, at, metrics: as of `HardGNN.evaluate`, of metrics per user.
        baseline: the name of the model that the others are compared with; by default the first is with each other.

    Raises:
        HardGNNError: fewer than two models, one that is not fitted, or models that cannot be asked the same.
    """
    by_name = dict(models) if isinstance(models, Mapping) else _called(models)
    if len(by_name) < 2:
        raise HardGNNError("compare needs at least two models")
    first = next(iter(by_name))
    reference = first if baseline is None else arguments.text(baseline, "baseline")
    if reference not in by_name:
        raise HardGNNError(f"baseline: no model is called '{reference}'; there are {', '.join(by_name)}")
    cutoffs, (of_ranks, of_lists) = arguments.cutoffs(at), parted(named(metrics))
    if of_lists:
        raise HardGNNError(f"{of_lists[0]}: a figure of whole lists, which has no value per user to compare")
    prepared: Dataset = by_name[first]._data_of(data)
    frames = {name: _ranks(model, prepared, part, protocol) for name, model in by_name.items()}
    results = tuple(
        summarise_frame(frame, prepared.name, name, part, protocol, cutoffs, of_ranks) for name, frame in frames.items()
    )
    if baseline is None:
        pairs = [(first, name) for name in by_name if name != first]
    else:
        pairs = [(name, reference) for name in by_name if name != reference]
    rows = correct(
        [
            Comparison(a=a, b=b, **asdict(row))
            for a, b in pairs
            for row in compare_ranks(frames[a], frames[b], cutoffs, of_ranks)
        ]
    )
    output = by_name[first].output
    return Compared(
        prepared.name,
        part,
        protocol,
        results[0].users,
        handed(pl.DataFrame([{"model": one.model, **one.metrics} for one in results]), output, {}),
        handed(pl.DataFrame([row.to_dict() for row in rows]), output, {}),
        results,
    )


def _called(models: Iterable[HardGNN]) -> dict[str, HardGNN]:
    """Models by their presets; of a name that several have, the second is called `name (2)`."""
    found: dict[str, HardGNN] = {}
    for model in models:
        name, number = model.name, 1
        while (called := name if number == 1 else f"{name} ({number})") in found:
            number += 1
        found[called] = model
    return found


def _ranks(model: HardGNN, data: Dataset, part: str, protocol: str) -> pl.DataFrame:
    """A model's ranks, users and targets numbered as in `data`."""
    frame, tables = model._ranked(data, part, protocol)
    return frame.with_columns(
        pl.Series(name, places(ids.gather(frame[name]), known), dtype=pl.Int32)
        for name, ids, known in (("user", tables.user_ids, data.user_ids), ("target", tables.item_ids, data.item_ids))
    )
