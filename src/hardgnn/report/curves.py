"""The report's figures by epoch: validation, loss, hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hardgnn.config import flat
from hardgnn.experiments.finished import Finished
from hardgnn.report.canvas import Figure
from hardgnn.report.looks import Looks
from hardgnn.report.names import file_name
from hardgnn.report.plots import Series, lines
from hardgnn.runs.folder import load_config


def curve_figures(plan: str, cells: Sequence[Finished], looks: Looks, command: str) -> list[Figure]:
    """Validation metric and recommendation loss by epoch, a figure per data set; the band spans the seeds.

    What was chosen under another protocol, or trained with another loss, has a figure of its own: such numbers share no
    axis. A model that is fitted in one go is a line across, and nothing is drawn where no model has two epochs.
    """
    figures = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data]
        for kind, key in (("validation", _chosen_by), ("training", _loss)):
            alike: dict[str, list[Series]] = {}
            for cell in mine:
                label = key(cell)
                where = ("valid", label.partition(",")[0]) if kind == "validation" else ("loss_rec",)
                if (one := _curve(cell, where, looks)) is not None:
                    alike.setdefault(label, []).append(one)
            for label, series in alike.items():
                if any(not one.across for one in series):
                    many = len(alike) > 1
                    name = f"curve-{kind}-{plan}-{data}{f'-{file_name(label)}' if many else ''}".lower()
                    title = f"{data}: {kind} by epoch{f', {label}' if many else ''}"
                    figures.append(lines(name, title, "epoch", label, series, command=command, band=True))
    return figures


def _chosen_by(cell: Finished) -> str:
    """What an epoch was chosen by, such as `ndcg@10, full`."""
    told = cell.results[0]["chosen_by"]
    return f"{told.split(' ')[0]}, {told.rpartition(', ')[2]}"


def _loss(cell: Finished) -> str:
    """What the recommendation loss is, such as `recommendation loss: hinge`."""
    loss = flat(load_config(cell.folders[0])).get("loss", {}).get("kind")
    return f"recommendation loss: {loss}" if loss else "recommendation loss"


def hard_section(plan: str, cells: Sequence[Finished], looks: Looks, command: str) -> tuple[list[str], list[Figure]]:
    """What the hard negatives were like: in words what stayed as it was, in figures what moved, by epoch."""
    told, figures = [], []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data]
        for key, what, label in (
            ("false_negatives", "false negatives", "false share of hard negatives"),
            ("temperature", "temperature", "temperature τ"),
        ):
            curves = [curve for cell in mine if (curve := _curve(cell, (key,), looks)) is not None]
            moving = [curve for curve in curves if np.ptp(curve.y) > 1e-9]
            if moving:
                name, title = f"{key.replace('_', '-')}-{plan}-{data}", f"{data}: {what} by epoch"
                figures.append(lines(name, title, "epoch", label, moving, command=command, band=True))
            still = [curve for curve in curves if curve not in moving]
            for value in dict.fromkeys(round(curve.y[0], 9) for curve in still):
                alike = ", ".join(curve.name for curve in still if round(curve.y[0], 9) == value)
                told.append(f"{data}: {label} {value:g} throughout ({alike}).")
    return told, figures


def _curve(cell: Finished, key: tuple[str, ...], looks: Looks) -> Series | None:
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
    name, look, mean = cell.variant.name, looks.of(cell.variant.name), list(values.mean(0))
    if len(epochs) < 2:
        return Series(name, epochs, mean, look=look, across=True)
    best = None if several or key[0] != "valid" else cell.results[0].get("best_epoch")
    return Series(name, epochs, mean, low, high, epochs.index(best) if best in epochs else None, look)
