"""What a study found: metrics with their spread over seeds, all comparisons with their number, activity groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import SeedComparison, compare_ranks, correct
from hardgnn.evaluation.protocols import PROTOCOLS, TARGETS, means_of
from hardgnn.evaluation.quality import BASELINES
from hardgnn.evaluation.ranks import ranks_path, read_ranks
from hardgnn.evaluation.results import Metrics
from hardgnn.evaluation.stats import OverSeeds, over_seeds, paired_over_seeds
from hardgnn.experiments.finished import Finished, finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.plan import Plan
from hardgnn.metrics import DEFAULT, per_user, summarise
from hardgnn.runs.folder import load_tables
from hardgnn.storage.documents import OPTIONAL, Document, called

GROUPS = 4
Figures = dict[str, OverSeeds]
"""By name, such as `ndcg@10`."""
BaselineFigures = dict[str, dict[str, Metrics]]
"""Test metrics of baselines that need no gradient, by name and protocol."""


@dataclass(frozen=True)
class VariantRow(Document):
    """A variant's test figures; `further` are those that its runs were also evaluated with."""

    variant: str
    seeds: tuple[int, ...]
    leaks: tuple[str, ...]
    users: int
    metrics: Figures
    further: Figures
    learnt_from: str | None = field(default=None, metadata=OPTIONAL)
    """The parts that it was trained on, where that is more than the training part."""


@dataclass(frozen=True)
class NoiseRow(Document):
    """The figures of a noisy variant divided by those of the same seed without noise; `noise` is a share."""

    model: str
    noise: float
    variant: str
    seeds: tuple[int, ...]
    metrics: Figures


@dataclass(frozen=True)
class GroupRow(Document):
    """A variant's test figures for the users of an activity group, such as "8–12" training interactions."""

    variant: str
    group: str
    users: int
    seeds: tuple[int, ...]
    leaks: tuple[str, ...]
    metrics: Figures


Row = TypeVar("Row", VariantRow, NoiseRow, GroupRow)


@dataclass(frozen=True)
class ResultTable(Document, Generic[Row]):
    """The rows of one data set under one protocol."""

    data: str
    protocol: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Summary(Document):
    """The test figures of one plan, and every variant compared with its reference, p-values corrected over all rows.

    `baselines`, by data set, are there where the plan asked for them, `relative` for noise, `groups` for sparsity.
    """

    study: str
    kind: str
    tables: tuple[ResultTable[VariantRow], ...]
    comparisons: tuple[SeedComparison, ...]
    baselines: dict[str, BaselineFigures] | None = field(default=None, metadata=called("floors", **OPTIONAL))
    relative: tuple[ResultTable[NoiseRow], ...] | None = field(default=None, metadata=OPTIONAL)
    groups: tuple[ResultTable[GroupRow], ...] | None = field(default=None, metadata=OPTIONAL)


def summary(
    study: Study, name: str, at: Sequence[int] = (10, 20), groups: int = GROUPS, metrics: Sequence[str] = DEFAULT
) -> Summary:
    """The test figures of the plan of this name.

    Raises:
        HardGNNError: nothing is finished yet.
    """
    plan = study.plans[name]
    cells = finished(study, plan)
    if not cells:
        raise HardGNNError(f"{study.folder}: no run of '{name}' is finished yet; run its command again to go on")
    tables, comparisons = summarise_cells(cells, at, metrics)
    return Summary(
        name,
        plan.kind,
        tables,
        comparisons,
        {data: baselines_of(study, data, at, metrics) for data in plan.data} if plan.with_baselines else None,
        relative_to_clean(tables, plan) if plan.kind == "noise" else None,
        activity_groups(cells, at, groups, metrics) if plan.kind == "sparsity" else None,
    )


def baselines_of(study: Study, data: str, at: Sequence[int], metrics: Sequence[str] = DEFAULT) -> BaselineFigures:
    """The test metrics of the baselines that need no gradient, by name and protocol, where they are ranked."""
    found: BaselineFigures = {}
    for name in BASELINES:
        paths = {protocol: ranks_path(study.baseline(data, name), "test", protocol) for protocol in PROTOCOLS}
        if all(path.exists() for path in paths.values()):
            ranks = {protocol: read_ranks(path)["rank"].to_numpy() for protocol, path in paths.items()}
            found[name] = {protocol: summarise(of, at, metrics) for protocol, of in ranks.items()}
    return found


def summarise_cells(
    cells: Sequence[Finished], at: Sequence[int] = (10, 20), metrics: Sequence[str] = DEFAULT
) -> tuple[tuple[ResultTable[VariantRow], ...], tuple[SeedComparison, ...]]:
    """`tables` and `comparisons` of a `Summary`, of the runs whose test part is ranked under a protocol."""
    tables: list[ResultTable[VariantRow]] = []
    comparisons: list[SeedComparison] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        for protocol in TARGETS:
            mine = {cell.variant.name: cell for cell in cells if cell.data == data and cell.is_ranked(protocol)}
            if not mine:
                continue
            frames = {name: cell.ranks(protocol) for name, cell in mine.items()}
            rows = [
                VariantRow(
                    variant=name,
                    seeds=tuple(cell.seeds),
                    leaks=cell.leaks,
                    users=frames[name][0]["user"].n_unique(),
                    metrics=by_metric([means_of(frame, at, metrics) for frame in frames[name]]),
                    further=by_metric(cell.further(protocol, at, metrics)),
                    learnt_from=cell.learnt_from,
                )
                for name, cell in mine.items()
            ]
            tables.append(ResultTable(data, protocol, tuple(rows)))
            for cell in mine.values():
                other = mine.get(cell.variant.reference)
                if other is not None:
                    comparisons += compared(cell, other, frames, protocol, at, metrics)
    return tuple(tables), tuple(correct(comparisons))


def by_metric(each: list[Metrics]) -> Figures:
    """From the metrics of each seed to those that all seeds have, with their spread."""
    shared = [metric for metric in each[0] if all(metric in one for one in each)]
    return {metric: over_seeds([one[metric] for one in each]) for metric in shared}


def relative_to_clean(tables: Sequence[ResultTable[VariantRow]], plan: Plan) -> tuple[ResultTable[NoiseRow], ...]:
    """Each noisy variant's figures divided by those of the same seed without noise (SelfGNN, section 4.4)."""
    variants = {variant.name: variant for variant in plan.variants}
    found = []
    for table in tables:
        by_name = {row.variant: row for row in table.rows}
        rows = []
        for row in table.rows:
            variant = variants[row.variant]
            clean = by_name.get(variant.reference or variant.name)
            if clean is None:
                continue
            seeds = [seed for seed in row.seeds if seed in clean.seeds]
            each = []
            for seed in seeds:
                pairs = {
                    metric: (figure.values[row.seeds.index(seed)], base.values[clean.seeds.index(seed)])
                    for (metric, figure), base in zip(row.metrics.items(), clean.metrics.values())
                }
                each.append({metric: value / base if base else np.nan for metric, (value, base) in pairs.items()})
            if each:
                rows.append(NoiseRow(clean.variant, variant.noise, variant.name, tuple(seeds), by_metric(each)))
        found.append(ResultTable(table.data, table.protocol, tuple(rows)))
    return tuple(found)


def compared(
    a: Finished,
    b: Finished,
    frames: dict[str, list[pl.DataFrame]],
    protocol: str,
    at: Sequence[int],
    metrics: Sequence[str] = DEFAULT,
) -> list[SeedComparison]:
    """The comparison of two variants over the seeds that both have finished, one row per metric.

    A deterministic one has a single run, which stands for each seed of the other.
    """
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    if a.deterministic or b.deterministic:
        seeds = b.seeds if a.deterministic else a.seeds
    if not seeds:
        return []
    ours, theirs = ([frames[one.variant.name][one.place(seed)] for seed in seeds] for one in (a, b))
    figures = [[means_of(frame, at, metrics) for frame in side] for side in (ours, theirs)]
    found = []
    for row in compare_ranks(ours, theirs, at, metrics):
        p, effect_size = paired_over_seeds(*([one[row.metric] for one in side] for side in figures))
        found.append(
            SeedComparison(
                data=a.data,
                protocol=protocol,
                a=a.variant.name,
                b=b.variant.name,
                seeds=len(seeds),
                seed_p=p,
                seed_effect_size=effect_size,
                **asdict(row),
            )
        )
    return found


def activity_groups(
    cells: Sequence[Finished], at: Sequence[int], groups: int = GROUPS, metrics: Sequence[str] = DEFAULT
) -> tuple[ResultTable[GroupRow], ...]:
    """The test figures by how many training interactions a user has, in groups of about equally many users.

    Raises:
        HardGNNError: fewer than two groups are asked for.
    """
    if groups < 2:
        raise HardGNNError(f"activity groups: at least 2, got {groups}")
    tables: list[ResultTable[GroupRow]] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data]
        counts = load_tables(mine[0].folders[0]).user_interactions
        for protocol in PROTOCOLS:
            rows: list[GroupRow] = []
            for cell in mine:
                frames = cell.ranks(protocol)
                users = frames[0]["user"].to_numpy()
                values = [per_user(frame["rank"].to_numpy(), at, metrics) for frame in frames]
                for label, members in quantile_groups(counts[users], groups):
                    means = [{metric: float(one[metric][members].mean()) for metric in one} for one in values]
                    rows.append(
                        GroupRow(
                            variant=cell.variant.name,
                            group=label,
                            users=int(members.sum()),
                            seeds=tuple(cell.seeds),
                            leaks=cell.leaks,
                            metrics=by_metric(means),
                        )
                    )
            tables.append(ResultTable(data, protocol, tuple(rows)))
    return tuple(tables)


def quantile_groups(counts: NDArray[np.integer], groups: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """Splits users (V,) by their counts at the quantiles; users of one count stay together.

    Returns:
        (label, mask (V,)) for each group that has users, the least active first.
    """
    edges = np.unique(np.quantile(counts, np.arange(1, groups) / groups, method="lower"))
    place = np.searchsorted(edges, counts, side="left")
    found = []
    for number in np.unique(place):
        members = place == number
        low, high = int(counts[members].min()), int(counts[members].max())
        found.append((str(low) if low == high else f"{low}–{high}", members))
    return found
