"""What a study found: metrics with their spread over seeds, all comparisons with their number, activity groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import PROTOCOLS
from hardgnn.evaluation.quality import BASELINES
from hardgnn.evaluation.ranks import ranks_path, read_ranks
from hardgnn.evaluation.stats import compare_ranks, correct, over_seeds, paired_over_seeds
from hardgnn.experiments.plan import Plan, Study, Variant
from hardgnn.metrics import DEFAULT, per_user, split, summarise
from hardgnn.runs.folder import load_tables, read_metrics, read_result

GROUPS = 4


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

    def is_ranked(self, protocol: str) -> bool:
        """Whether the test part of all its runs is ranked."""
        return all(ranks_path(folder, "test", protocol).exists() for folder in self.folders)

    def ranks(self, protocol: str) -> list[pl.DataFrame]:
        """The test ranks of each run."""
        return [read_ranks(ranks_path(folder, "test", protocol)) for folder in self.folders]

    def further(self, protocol: str, at: Sequence[int], metrics: Sequence[str]) -> list[dict[str, float]]:
        """The test figures at these cut-offs that each run's result.json holds beside `metrics`."""
        held: list[dict[str, float]] = [result.get("test", {}).get(protocol, {}) for result in self.results]
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


def summary(
    study: Study, name: str, at: Sequence[int] = (10, 20), groups: int = GROUPS, metrics: Sequence[str] = DEFAULT
) -> dict[str, Any]:
    """The test figures of one plan, and every variant compared with its reference.

    Returns:
        study (the plan's name), kind, tables: one per data set and protocol, with rows of variant, seeds, leaks, users,
        metrics (mean, sd, low, high over seeds; values by seed) and further (`Finished.further`); comparisons: rows as
        `compare_ranks` gives them, with data, protocol, a, b, seeds, seed_p and seed_effect_size,
        p-values Holm-corrected over all of them; for noise `relative` (`relative_to_clean`), for sparsity `groups`
        (`activity_groups`); where the plan asked for them `floors` by data set (`floors_of`).

    Raises:
        HardGNNError: nothing is finished yet.
    """
    plan = study.plans[name]
    cells = finished(study, plan)
    if not cells:
        raise HardGNNError(f"{study.folder}: no run of '{name}' is finished yet; run its command again to go on")
    document = {"study": name, "kind": plan.kind, **summarise_cells(cells, at, metrics)}
    if plan.floors:
        document["floors"] = {data: floors_of(study, data, at, metrics) for data in plan.data}
    if plan.kind == "noise":
        document["relative"] = relative_to_clean(document["tables"], plan)
    if plan.kind == "sparsity":
        document["groups"] = activity_groups(cells, at, groups, metrics)
    return document


def floors_of(
    study: Study, data: str, at: Sequence[int], metrics: Sequence[str] = DEFAULT
) -> dict[str, dict[str, dict[str, float]]]:
    """The test metrics of the baselines that need no gradient, by name and protocol, where they are ranked."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in BASELINES:
        paths = {protocol: ranks_path(study.floor(data, name), "test", protocol) for protocol in PROTOCOLS}
        if all(path.exists() for path in paths.values()):
            ranks = {protocol: read_ranks(path)["rank"].to_numpy() for protocol, path in paths.items()}
            found[name] = {protocol: summarise(of, at, metrics) for protocol, of in ranks.items()}
    return found


def summarise_cells(
    cells: Sequence[Finished], at: Sequence[int] = (10, 20), metrics: Sequence[str] = DEFAULT
) -> dict[str, Any]:
    """`tables` and `comparisons` of `summary`, of the runs whose test part is ranked under a protocol."""
    tables: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        for protocol in PROTOCOLS:
            mine = {cell.variant.name: cell for cell in cells if cell.data == data and cell.is_ranked(protocol)}
            if not mine:
                continue
            frames = {name: cell.ranks(protocol) for name, cell in mine.items()}
            rows = [
                {
                    "variant": name,
                    "seeds": cell.seeds,
                    "leaks": cell.results[0].get("leaks", []),
                    "users": frames[name][0].height,
                    "metrics": by_metric([summarise(frame["rank"].to_numpy(), at, metrics) for frame in frames[name]]),
                    "further": by_metric(cell.further(protocol, at, metrics)),
                }
                for name, cell in mine.items()
            ]
            tables.append({"data": data, "protocol": protocol, "rows": rows})
            for cell in mine.values():
                other = mine.get(cell.variant.reference)
                if other is not None:
                    comparisons += compared(cell, other, frames, protocol, at, metrics)
    return {"tables": tables, "comparisons": correct(comparisons)}


def by_metric(each: list[dict[str, float]]) -> dict[str, Any]:
    """From one dictionary of metrics per seed to mean, sd, low, high, n and the values of each that all seeds have."""
    shared = [metric for metric in each[0] if all(metric in one for one in each)]
    figures = {metric: [one[metric] for one in each] for metric in shared}
    return {metric: over_seeds(values) | {"values": values} for metric, values in figures.items()}


def relative_to_clean(tables: list[dict[str, Any]], plan: Plan) -> list[dict[str, Any]]:
    """Each noisy variant's figures divided by those of the same seed without noise (SelfGNN, section 4.4).

    Returns:
        One table per data set and protocol, with rows of model, noise (a share), variant, seeds and metrics.
    """
    variants = {variant.name: variant for variant in plan.variants}
    found = []
    for table in tables:
        by_name = {row["variant"]: row for row in table["rows"]}
        rows = []
        for row in table["rows"]:
            variant = variants[row["variant"]]
            clean = by_name.get(variant.reference or variant.name)
            if clean is None:
                continue
            seeds = [seed for seed in row["seeds"] if seed in clean["seeds"]]
            each = []
            for seed in seeds:
                pairs = {
                    metric: (figure["values"][row["seeds"].index(seed)], base["values"][clean["seeds"].index(seed)])
                    for (metric, figure), base in zip(row["metrics"].items(), clean["metrics"].values())
                }
                each.append({metric: value / base if base else np.nan for metric, (value, base) in pairs.items()})
            if each:
                named = {"model": clean["variant"], "noise": variant.noise, "variant": variant.name, "seeds": seeds}
                rows.append(named | {"metrics": by_metric(each)})
        found.append({"data": table["data"], "protocol": table["protocol"], "rows": rows})
    return found


def compared(
    a: Finished,
    b: Finished,
    frames: dict[str, list[pl.DataFrame]],
    protocol: str,
    at: Sequence[int],
    metrics: Sequence[str] = DEFAULT,
) -> list[dict[str, Any]]:
    """The comparison of two variants over the seeds that both have finished, one row per metric.

    A deterministic one has a single run, which stands for each seed of the other.
    """
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    if a.deterministic or b.deterministic:
        seeds = b.seeds if a.deterministic else a.seeds
    if not seeds:
        return []
    ours, theirs = ([frames[one.variant.name][one.place(seed)] for seed in seeds] for one in (a, b))
    figures = [[summarise(frame["rank"].to_numpy(), at, metrics) for frame in side] for side in (ours, theirs)]
    names = {"data": a.data, "protocol": protocol, "a": a.variant.name, "b": b.variant.name, "seeds": len(seeds)}
    return [
        names | row | paired_over_seeds(*([one[row["metric"]] for one in side] for side in figures))
        for row in compare_ranks(ours, theirs, at, metrics)
    ]


def activity_groups(
    cells: Sequence[Finished], at: Sequence[int], groups: int = GROUPS, metrics: Sequence[str] = DEFAULT
) -> list[dict[str, Any]]:
    """The test figures by how many training interactions a user has, in groups of about equally many users.

    Returns:
        One table per data set and protocol, with rows of variant, group (such as "8–12"), users, seeds and metrics.

    Raises:
        HardGNNError: fewer than two groups are asked for.
    """
    if groups < 2:
        raise HardGNNError(f"activity groups: at least 2, got {groups}")
    tables: list[dict[str, Any]] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data]
        counts = load_tables(mine[0].folders[0]).user_interactions
        for protocol in PROTOCOLS:
            rows: list[dict[str, Any]] = []
            for cell in mine:
                frames = cell.ranks(protocol)
                users = frames[0]["user"].to_numpy()
                values = [per_user(frame["rank"].to_numpy(), at, metrics) for frame in frames]
                for label, members in quantile_groups(counts[users], groups):
                    means = [{metric: float(one[metric][members].mean()) for metric in one} for one in values]
                    rows.append(
                        {
                            "variant": cell.variant.name,
                            "group": label,
                            "users": int(members.sum()),
                            "seeds": cell.seeds,
                            "leaks": cell.results[0]["leaks"],
                            "metrics": by_metric(means),
                        }
                    )
            tables.append({"data": data, "protocol": protocol, "rows": rows})
    return tables


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
