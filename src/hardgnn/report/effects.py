"""The report's tables and figures of the named studies: components, noise, activity, history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hardgnn.experiments.results import GroupRow, NoiseRow, Summary, VariantRow
from hardgnn.report.canvas import Figure
from hardgnn.report.looks import DASHES, Look, Looks
from hardgnn.report.plots import Series, dots, lines
from hardgnn.report.sections import PROTOCOL, SHOWN
from hardgnn.report.tables import Cell, Table, spread


def components_figures(summary: Summary, looks: Looks, command: str) -> list[Figure]:
    """What each component is worth: the model without it, with the 95 % interval over seeds."""
    return [
        dots(
            f"{summary.study}-{table.data}",
            f"{table.data}: test {SHOWN[-1]} of each variant, {table.protocol}"
            + (", 95 % over seeds" if table.rows[0].metrics[SHOWN[-1]].n > 1 else ""),
            SHOWN[-1],
            [(r.variant, f.mean, f.low, f.high) for r in table.rows for f in [r.metrics[SHOWN[-1]]]],
            look=looks.of,
            command=command,
        )
        for table in summary.tables
        if table.protocol == PROTOCOL and SHOWN[-1] in table.rows[0].metrics
    ]


def noise_section_parts(summary: Summary, looks: Looks, command: str) -> tuple[list[Table], list[Figure]]:
    """Metrics relative to no noise, as a table and a figure per metric."""
    tables, figures = [], []
    for table in summary.relative or ():
        metrics = list(table.rows[0].metrics)
        rows = [
            [
                Cell(row.model),
                Cell(f"{100 * row.noise:.0f} %"),
                *(Cell(spread(row.metrics[m])) for m in metrics),
            ]
            for row in table.rows
        ]
        caption = f"{table.data}: test, protocol {table.protocol}, relative to the same seed without noise"
        name = f"noise-relative-{table.data}-{table.protocol}"
        tables.append(Table(name, caption, ["model", "noise", *metrics], rows))
    shown = [table for table in summary.relative or () if table.protocol == PROTOCOL]
    for metric in SHOWN:
        series = [
            _series(
                f"{table.data}, {model}" if len({r.model for r in table.rows}) > 1 else table.data,
                [row for row in table.rows if row.model == model],
                metric,
                [100 * row.noise for row in table.rows if row.model == model],
                look_of(looks, model, place),
            )
            for place, table in enumerate(shown)
            if metric in table.rows[0].metrics
            for model in dict.fromkeys(row.model for row in table.rows)
        ]
        if series:
            title = f"Relative {metric} after noise, test, {PROTOCOL}"
            axis = "training interactions replaced, %"
            name = f"noise-{metric.replace('@', '')}"
            ticks = sorted({x for one in series for x in one.x})
            figures.append(lines(name, title, axis, f"relative {metric}", series, command=command, ticks=ticks))
    return tables, figures


def groups_parts(summary: Summary, looks: Looks, command: str) -> tuple[list[Table], list[Figure]]:
    """Metrics by activity group, as a table and a figure per data set."""
    tables, figures = [], []
    for table in summary.groups or ():
        metrics = list(table.rows[0].metrics)
        rows = [
            [
                Cell(row.variant),
                Cell(row.group),
                Cell(f"{row.users:,}"),
                *(Cell(spread(row.metrics[metric])) for metric in metrics),
            ]
            for row in table.rows
        ]
        caption = f"{table.data}: test, protocol {table.protocol}, by the user's number of training interactions"
        name = f"sparsity-groups-{table.data}-{table.protocol}"
        tables.append(Table(name, caption, ["model", "training items", "users", *metrics], rows))
        if table.protocol != PROTOCOL or SHOWN[-1] not in metrics:
            continue
        labels = list(dict.fromkeys(row.group for row in table.rows))
        series = []
        for variant in dict.fromkeys(row.variant for row in table.rows):
            mine = [row for row in table.rows if row.variant == variant]
            series.append(
                _series(variant, mine, SHOWN[-1], [labels.index(row.group) for row in mine], looks.of(variant))
            )
        title = f"{table.data}: test {SHOWN[-1]} by activity, {PROTOCOL}"
        axis = "training interactions of a user"
        figures.append(
            lines(f"sparsity-{table.data}", title, axis, SHOWN[-1], series, command=command, categories=labels)
        )
    return tables, figures


def history_figures(summary: Summary, windows: dict[str, int], looks: Looks, command: str) -> list[Figure]:
    """Metrics against the window's length, a line per data set and model."""
    figures = []
    for metric in SHOWN:
        series = []
        shown = [t for t in summary.tables if t.protocol == PROTOCOL and metric in t.rows[0].metrics]
        for place, table in enumerate(shown):
            models = dict.fromkeys(row.variant.rpartition("-window-")[0] for row in table.rows)
            for model in models:
                mine = [row for row in table.rows if row.variant.rpartition("-window-")[0] == model]
                name = f"{table.data}, {model}" if len(models) > 1 else table.data
                look = look_of(looks, model, place)
                series.append(_series(name, mine, metric, [windows[row.variant] for row in mine], look))
        if series:
            ticks = sorted({x for one in series for x in one.x})
            title = f"{metric} against the window, test, {PROTOCOL}"
            name = f"history-{metric.replace('@', '')}"
            figures.append(lines(name, title, "window M, items", metric, series, command=command, ticks=ticks))
    return figures


def look_of(looks: Looks, model: str, place: int) -> Look:
    """A model's look on the data set of this place: its colour and marker, the dash that of the data set."""
    return replace(looks.of(model), dash=DASHES[place % len(DASHES)])


def _series(
    name: str, rows: Sequence[VariantRow | NoiseRow | GroupRow], metric: str, x: Sequence[float], look: Look
) -> Series:
    """A line of means with one standard deviation to each side, where there are several seeds."""
    figures = [row.metrics[metric] for row in rows]
    means = [figure.mean for figure in figures]
    if any(figure.sd is None for figure in figures):
        return Series(name, x, means, look=look)
    return Series(name, x, means, [f.band[0] for f in figures], [f.band[1] for f in figures], look=look)
