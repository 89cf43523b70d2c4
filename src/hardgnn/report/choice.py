"""The report's section on a search: validation figures against what was tuned, and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardgnn.experiments.choices import Choice
from hardgnn.report.canvas import Figure
from hardgnn.report.heat import heat_map
from hardgnn.report.plots import Series, lines
from hardgnn.report.sections import SHOWN, PageSection
from hardgnn.report.tables import Cell, Table, spread

SYMBOLS = {"hard.k": "K", "hard.weight": "λ", "hard.temperature": "τ"}
TRIALS_SHOWN = 20


def choice_section(choices: list[Choice], grid: dict[str, list[str]] | None, command: str) -> PageSection:
    """How the validation figures depend on what was tuned, and what was chosen."""
    section = PageSection("Choice of settings, on validation")
    section.text.append(
        f"Mean {choices[0].metric} over seeds under protocol {choices[0].protocol} on the validation part chose "
        f"the settings; the test part was not read. Made by: {command}"
    )
    for choice in choices:
        section.tables.append(_points(choice))
    keys = [word.partition("=")[0] for word in choices[0].chosen.settings]
    metrics = [metric for metric in SHOWN if all(metric in choice.chosen.figures for choice in choices)]
    if grid is None:
        metrics = metrics[-1:]
    for key in keys:
        if grid is not None and len(grid[key]) < 2:
            continue
        section.figures += [_against(key, metric, choices, grid, command) for metric in metrics]
    several = [key for key in keys if grid is not None and len(grid[key]) > 1]
    if grid is not None and len(several) >= 2:
        section.figures += [_map(choice, several[:2], grid, command) for choice in choices]
    return section


def _points(choice: Choice) -> Table:
    metrics = list(choice.chosen.figures)
    by = choice.metric
    points = choice.points
    shown = sorted(points, key=lambda point: -point.figures[by].mean)[:TRIALS_SHOWN]
    rows = [
        [
            Cell(("→ " if point is choice.chosen else "") + " ".join(point.settings)),
            Cell(str(len(point.seeds or ()))),
            *(
                Cell(spread(point.figures[m]) if m in point.figures else "–", point is choice.chosen and m == by)
                for m in metrics
            ),
        ]
        for point in shown
    ]
    rest = f", the best {len(shown)} are shown" if len(shown) < len(points) else ""
    notes = [f"{len(points)} settings were tried to the end{rest}. → was chosen, by {by}."]
    caption = f"{choice.data}: validation, protocol {choice.protocol}, mean ± standard deviation over seeds"
    return Table(f"choice-{choice.data}", caption, ["settings", "seeds", *metrics], rows, notes)


def _against(key: str, metric: str, choices: list[Choice], grid: dict[str, list[str]] | None, command: str) -> Figure:
    """A metric against one setting, a line per data set: the others as chosen (grid), or all trials as points."""
    symbol = SYMBOLS.get(key, key)
    numeric = all(_is_number(point.values[key]) for choice in choices for point in choice.points)
    categories = None if numeric else list(dict.fromkeys(p.values[key] for c in choices for p in c.points))
    series = []
    for choice in choices:
        best = choice.chosen
        fixed = {other: value for other, value in best.values.items() if other != key}
        points = [
            point
            for point in choice.points
            if metric in point.figures
            and (grid is None or {k: v for k, v in point.values.items() if k != key} == fixed)
        ]
        place = {id(p): float(p.values[key]) if numeric else (categories or []).index(p.values[key]) for p in points}
        points.sort(key=lambda point: place[id(point)])
        figures = [point.figures[metric] for point in points]
        spread_known = grid is not None and all(figure.sd is not None for figure in figures)
        series.append(
            Series(
                choice.data,
                [place[id(point)] for point in points],
                [figure.mean for figure in figures],
                [figure.band[0] for figure in figures] if spread_known else None,
                [figure.band[1] for figure in figures] if spread_known else None,
                next((index for index, point in enumerate(points) if point is best), None),
            )
        )
    values = sorted({x for one in series for x in one.x})
    log = numeric and values[0] > 0 and values[-1] / values[0] >= 20
    title = f"{metric} against {symbol}, validation"
    return lines(
        f"{metric.replace('@', '')}-against-{key.replace('.', '-')}",
        title + (", others as chosen" if grid is not None and len(grid) > 1 else ""),
        symbol if symbol == key else f"{symbol} ({key})",
        metric,
        series,
        command=command,
        categories=categories,
        log=log,
        ticks=values if numeric and grid is not None else None,
        connect=grid is not None,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _map(choice: Choice, keys: Sequence[str], grid: dict[str, list[str]], command: str) -> Figure:
    """The grid over two settings; over others, if there are any, the best."""
    row_key, column_key = keys
    values = np.full((len(grid[row_key]), len(grid[column_key])), np.nan)
    place = {}
    for point in choice.points:
        at = point.values
        cell = (grid[row_key].index(at[row_key]), grid[column_key].index(at[column_key]))
        values[cell] = np.fmax(values[cell], point.figures[choice.metric].mean)
        place[id(point)] = cell
    others = ", best over the other settings" if len(grid) > 2 else ""
    return heat_map(
        f"grid-{choice.data}",
        f"{choice.data}: {choice.metric} on validation over the grid{others}, the chosen point framed",
        SYMBOLS.get(column_key, column_key),
        SYMBOLS.get(row_key, row_key),
        grid[column_key],
        grid[row_key],
        values,
        chosen=place[id(choice.chosen)],
        noise=_noise(choice),
        command=command,
    )


def _noise(choice: Choice) -> float | None:
    """The standard deviation of the metric over seeds, pooled over the points; None where each has one seed."""
    spreads = [sd for point in choice.points if (sd := point.figures[choice.metric].sd) is not None]
    return float(np.sqrt(np.mean(np.square(spreads)))) if spreads else None
