"""The report's figures by epoch: validation, loss, false negatives, temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hardgnn.experiments.finished import Finished
from hardgnn.report.plots import Figure, Series, lines


def curve_figures(plan: str, cells: Sequence[Finished], command: str) -> list[Figure]:
    """Validation metric and recommendation loss by epoch, a figure per data set; the band spans the seeds."""
    figures = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data]
        metric = mine[0].results[0]["chosen_by"].split(" ")[0]
        protocol = mine[0].results[0]["chosen_by"].rpartition(", ")[2]
        for kind, label, key in (
            ("validation", f"{metric}, {protocol}", ("valid", metric)),
            ("training", "recommendation loss", ("loss_rec",)),
        ):
            series = [one for cell in mine if (one := _curve(cell, key)) is not None]
            if series:
                name = f"curve-{kind}-{plan}-{data}".lower()
                title = f"{data}: {kind} by epoch"
                figures.append(lines(name, title, "epoch", label, series, command=command, band=True))
    return figures


def hard_figures(plan: str, cells: Sequence[Finished], command: str) -> list[Figure]:
    """The share of false negatives among the hard ones, a figure per data set, and the temperature, by epoch."""
    figures = []
    for data in dict.fromkeys(cell.data for cell in cells):
        curves = [_curve(cell, ("false_negatives",)) for cell in cells if cell.data == data]
        series = [curve for curve in curves if curve is not None]
        if series:
            name, title = f"false-negatives-{plan}-{data}", f"{data}: false negatives by epoch"
            label = "share of hard negatives"
            figures.append(lines(name, title, "epoch", label, series, command=command, band=True))
    temperatures: dict[tuple[float, ...], Series] = {}
    for cell in cells:
        curve = _curve(cell, ("temperature",))
        if curve is not None:
            ends = (
                round(curve.y[0], 9),
                round(curve.y[-1], 9),
            )  # means over two and three seeds differ in the last bit
            known = temperatures.setdefault(ends, curve)
            if len(curve.x) > len(known.x):
                temperatures[ends] = curve
    if temperatures:
        drawn = list(temperatures.values())
        if len(drawn) == 1:
            drawn = [Series("all models", drawn[0].x, drawn[0].y)]
        title = "Temperature by epoch" + (", the same for all models" if len(drawn) == 1 else "")
        figures.append(lines(f"temperature-{plan}", title, "epoch", "temperature τ", drawn, command=command))
    return figures


def _curve(cell: Finished, key: tuple[str, ...]) -> Series | None:
    """A figure of the epoch lines, mean over seeds at the epochs that all seeds have; None where there is none."""
    runs = []
    for logged in cell.lines:
        found: dict[int, float] = {}
        for line in logged:
            value: Any = line
            for part in key:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                found[line["epoch"]] = float(value)
        runs.append(found)
    epochs = sorted(set.intersection(*(set(run) for run in runs)))
    if not epochs:
        return None
    values = np.array([[run[epoch] for epoch in epochs] for run in runs])  # (S, epochs)
    several = len(runs) > 1
    low, high = (list(values.min(0)), list(values.max(0))) if several else (None, None)
    return Series(cell.variant.name, epochs, list(values.mean(0)), low, high)
