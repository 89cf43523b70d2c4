"""The sections of the report: which tables and figures answer which question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hardgnn.experiment.results import Finished
from hardgnn.report import published
from hardgnn.report.plots import Figure, Series, dots, heat_map, lines
from hardgnn.report.tables import Cell, Table, p_value, spread

SIGNIFICANT = 0.05
SHOWN = ("hr@10", "ndcg@10")  # what figures show, where it was computed
PROTOCOL = "full"
SYMBOLS = {"hard.k": "K", "hard.weight": "λ", "hard.temperature": "τ"}
TRIALS_SHOWN = 20


@dataclass
class Section:
    """One question: what was done in words, then tables and figures."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


def figures_section(title: str, document: dict[str, Any], command: str) -> Section:
    """The test figures of one plan, the best of each column in bold, significance marked, every comparison listed."""
    section = Section(title)
    comparisons = document["comparisons"]
    for table in document["tables"]:
        section.tables.append(
            _main_table(document["study"], table, comparisons, document.get("floors", {}).get(table["data"], {}))
        )
    if comparisons:
        section.tables.append(_comparisons(document["study"], comparisons))
    if command:
        section.text.append(f"Made by: {command}")
    return section


def _main_table(
    plan: str, table: dict[str, Any], comparisons: list[dict[str, Any]], floors: dict[str, dict[str, dict[str, float]]]
) -> Table:
    data, protocol, rows = table["data"], table["protocol"], table["rows"]
    metrics = list(rows[0]["metrics"])
    plain = [(name, by[protocol]) for name, by in floors.items() if protocol in by]
    best = {
        name: max([row["metrics"][name]["mean"] for row in rows] + [by.get(name, 0.0) for _, by in plain])
        for name in metrics
    }
    marks = {
        (row["a"], row["metric"]): ("*" if row["permutation_p_holm"] < SIGNIFICANT else "")
        + ("‡" if row["seed_p_holm"] is not None and row["seed_p_holm"] < SIGNIFICANT else "")
        for row in comparisons
        if (row["data"], row["protocol"]) == (data, protocol)
    }
    body = [
        [Cell(name), Cell("–"), *(Cell(f"{by.get(m, float('nan')):.4f}", by.get(m) == best[m]) for m in metrics)]
        for name, by in plain
    ]
    for row in rows:
        name, figures = row["variant"], row["metrics"]
        body.append(
            [
                Cell(name + (" †" if row["leaks"] else "")),
                Cell(str(len(row["seeds"]))),
                *(Cell(spread(figures[m]), figures[m]["mean"] == best[m], marks.get((name, m), "")) for m in metrics),
            ]
        )
    notes = []
    if any(figures["sd"] is not None for row in rows for figures in row["metrics"].values()):
        notes.append("Mean ± standard deviation over seeds; best of a column in bold.")
    else:
        notes.append("One seed, so no spread can be told; best of a column in bold.")
    if marks:
        pairs = sorted({f"{row['a']} with {row['b']}" for row in comparisons})
        told = "; ".join(pairs) if len(pairs) <= 3 else f"every variant with {comparisons[0]['b']}"
        notes.append(
            f"* differs, paired permutation test over users, p < {SIGNIFICANT}; ‡ paired t-test over seeds likewise; "
            f"both Holm-corrected over all {len(comparisons)} comparisons made. Compared: {told}."
        )
    notes += [f"† {row['variant']} LEAKS: {'; '.join(row['leaks'])}." for row in rows if row["leaks"]]
    caption = f"{data}: test, protocol {protocol}, {rows[0]['users']:,} users"
    return Table(f"{plan}-{data}-{protocol}", caption, ["model", "seeds", *metrics], body, notes)


def _comparisons(plan: str, comparisons: list[dict[str, Any]]) -> Table:
    header = ["data", "protocol", "compared", "metric", "difference", "95 % over users", "d over users"]
    header += ["Wilcoxon p", "permutation p", "seeds", "d over seeds", "t p over seeds"]
    rows = [
        [
            Cell(row["data"]),
            Cell(row["protocol"]),
            Cell(f"{row['a']} − {row['b']}"),
            Cell(row["metric"]),
            Cell(f"{row['difference']:+.4f}"),
            Cell(f"{row['low']:+.4f} – {row['high']:+.4f}"),
            Cell(f"{row['effect_size']:+.2f}"),
            *(Cell(f"{p_value(row[p])} ({p_value(row[p + '_holm'])})") for p in ("wilcoxon_p", "permutation_p")),
            Cell(str(row["seeds"])),
            Cell("–" if row["seed_effect_size"] is None else f"{row['seed_effect_size']:+.2f}"),
            Cell("–" if row["seed_p"] is None else f"{p_value(row['seed_p'])} ({p_value(row['seed_p_holm'])})"),
        ]
        for row in comparisons
    ]
    notes = [
        f"{len(rows)} comparisons were made and all are listed; p-values in brackets are Holm-corrected over them. "
        "d is Cohen's d of the paired differences. Over users the seeds' figures are averaged per user first."
    ]
    caption = f"All {len(rows)} comparisons of '{plan}'"
    return Table(f"{plan}-comparisons", caption, header, rows, notes, text_columns=4, folded=True)


def published_section(document: dict[str, Any], names: dict[str, str]) -> Section | None:
    """The published figures beside ours, for data sets that the papers have; `names` maps ours to theirs."""
    section = Section("Published figures")
    for table in document["tables"]:
        theirs = names.get(table["data"])
        if theirs is None or table["protocol"] != published.PROTOCOL:
            continue
        metrics = list(table["rows"][0]["metrics"])
        rows = [
            [Cell(row["variant"]), Cell("ours"), *(Cell(spread(row["metrics"][m])) for m in metrics)]
            for row in table["rows"]
        ]
        for one in published.figures(theirs):
            figures = [one["metrics"].get(metric) for metric in metrics]
            texts = ["–" if figure is None else f"{figure:.3f}" for figure in figures]
            rows.append([Cell(one["model"]), Cell(one["source"]), *map(Cell, texts)])
        notes = [f"Published: {published.HOW}. Ours: {table['protocol']}, epoch chosen on validation."]
        if theirs != table["data"]:
            notes.append(f"{table['data']} may differ from the papers' {theirs}; if so, nothing compares.")
        caption = f"{table['data']} beside the published {theirs}"
        name = f"published-{table['data']}"
        section.tables.append(Table(name, caption, ["model", "source", *metrics], rows, notes, text_columns=2))
    return section if section.tables else None


def choice_section(choices: list[dict[str, Any]], grid: dict[str, list[str]] | None, command: str) -> Section:
    """How the validation figures depend on what was tuned, and what was chosen."""
    section = Section("Choice of settings, on validation")
    section.text.append(
        f"Mean {choices[0]['metric']} over seeds under protocol {choices[0]['protocol']} on the validation part chose "
        f"the settings; the test part was not read. Made by: {command}"
    )
    for choice in choices:
        section.tables.append(_points(choice))
    keys = [word.partition("=")[0] for word in choices[0]["chosen"]["settings"]]
    metrics = [metric for metric in SHOWN if all(metric in choice["chosen"]["valid"] for choice in choices)]
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


def _points(choice: dict[str, Any]) -> Table:
    metrics = list(choice["chosen"]["valid"])
    judged = choice["metric"]
    points = choice["points"]
    shown = sorted(points, key=lambda point: -point["valid"][judged]["mean"])[:TRIALS_SHOWN]
    rows = [
        [
            Cell(("→ " if point is choice["chosen"] else "") + " ".join(point["settings"])),
            Cell(str(len(point["seeds"]))),
            *(
                Cell(
                    spread(point["valid"][m]) if m in point["valid"] else "–", point is choice["chosen"] and m == judged
                )
                for m in metrics
            ),
        ]
        for point in shown
    ]
    rest = f", the best {len(shown)} are shown" if len(shown) < len(points) else ""
    notes = [f"{len(points)} settings were tried to the end{rest}. → was chosen, by {judged}."]
    caption = f"{choice['data']}: validation, protocol {choice['protocol']}, mean ± standard deviation over seeds"
    return Table(f"choice-{choice['data']}", caption, ["settings", "seeds", *metrics], rows, notes)


def _values(point: dict[str, Any]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in point["settings"])


def _against(
    key: str, metric: str, choices: list[dict[str, Any]], grid: dict[str, list[str]] | None, command: str
) -> Figure:
    """A metric against one setting, a line per data set: the others as chosen (grid), or all trials as points."""
    symbol = SYMBOLS.get(key, key)
    numeric = all(_is_number(_values(point)[key]) for choice in choices for point in choice["points"])
    categories = None if numeric else list(dict.fromkeys(_values(p)[key] for c in choices for p in c["points"]))
    series = []
    for choice in choices:
        best = choice["chosen"]
        fixed = {other: value for other, value in _values(best).items() if other != key}
        points = [
            point
            for point in choice["points"]
            if metric in point["valid"]
            and (grid is None or {k: v for k, v in _values(point).items() if k != key} == fixed)
        ]
        place = {
            id(p): float(_values(p)[key]) if numeric else (categories or []).index(_values(p)[key]) for p in points
        }
        points.sort(key=lambda point: place[id(point)])
        figures = [point["valid"][metric] for point in points]
        spread_known = grid is not None and all(figure["sd"] is not None for figure in figures)
        series.append(
            Series(
                choice["data"],
                [place[id(point)] for point in points],
                [figure["mean"] for figure in figures],
                [figure["mean"] - figure["sd"] for figure in figures] if spread_known else None,
                [figure["mean"] + figure["sd"] for figure in figures] if spread_known else None,
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


def _map(choice: dict[str, Any], keys: Sequence[str], grid: dict[str, list[str]], command: str) -> Figure:
    """The grid over two settings; over others, if there are any, the best."""
    row_key, column_key = keys
    values = np.full((len(grid[row_key]), len(grid[column_key])), np.nan)
    place = {}
    for point in choice["points"]:
        at = _values(point)
        cell = (grid[row_key].index(at[row_key]), grid[column_key].index(at[column_key]))
        values[cell] = np.fmax(values[cell], point["valid"][choice["metric"]]["mean"])
        place[id(point)] = cell
    others = ", best over the other settings" if len(grid) > 2 else ""
    return heat_map(
        f"grid-{choice['data']}",
        f"{choice['data']}: {choice['metric']} on validation over the grid{others}, the chosen point framed",
        SYMBOLS.get(column_key, column_key),
        SYMBOLS.get(row_key, row_key),
        grid[column_key],
        grid[row_key],
        values,
        chosen=place[id(choice["chosen"])],
        command=command,
    )


def components_figures(document: dict[str, Any], command: str) -> list[Figure]:
    """What each component is worth: the model without it, with the 95 % interval over seeds."""
    return [
        dots(
            f"{document['study']}-{table['data']}",
            f"{table['data']}: test {SHOWN[-1]} of each variant, {table['protocol']}"
            + (", 95 % over seeds" if table["rows"][0]["metrics"][SHOWN[-1]]["n"] > 1 else ""),
            SHOWN[-1],
            [(r["variant"], *(r["metrics"][SHOWN[-1]][key] for key in ("mean", "low", "high"))) for r in table["rows"]],
            command=command,
        )
        for table in document["tables"]
        if table["protocol"] == PROTOCOL and SHOWN[-1] in table["rows"][0]["metrics"]
    ]


def noise_section_parts(document: dict[str, Any], command: str) -> tuple[list[Table], list[Figure]]:
    """Metrics relative to no noise, as a table and a figure per metric."""
    tables, figures = [], []
    for table in document["relative"]:
        metrics = list(table["rows"][0]["metrics"])
        rows = [
            [
                Cell(row["model"]),
                Cell(f"{100 * row['noise']:.0f} %"),
                *(Cell(spread(row["metrics"][m])) for m in metrics),
            ]
            for row in table["rows"]
        ]
        caption = f"{table['data']}: test, protocol {table['protocol']}, relative to the same seed without noise"
        name = f"noise-relative-{table['data']}-{table['protocol']}"
        tables.append(Table(name, caption, ["model", "noise", *metrics], rows))
    judged = [table for table in document["relative"] if table["protocol"] == PROTOCOL]
    for metric in SHOWN:
        series = [
            _series(
                f"{table['data']}, {model}" if len({r["model"] for r in table["rows"]}) > 1 else table["data"],
                [row for row in table["rows"] if row["model"] == model],
                metric,
                [100 * row["noise"] for row in table["rows"] if row["model"] == model],
            )
            for table in judged
            if metric in table["rows"][0]["metrics"]
            for model in dict.fromkeys(row["model"] for row in table["rows"])
        ]
        if series:
            title = f"Relative {metric} after noise, test, {PROTOCOL}"
            axis = "training interactions replaced, %"
            name = f"noise-{metric.replace('@', '')}"
            ticks = sorted({x for one in series for x in one.x})
            figures.append(lines(name, title, axis, f"relative {metric}", series, command=command, ticks=ticks))
    return tables, figures


def groups_parts(document: dict[str, Any], command: str) -> tuple[list[Table], list[Figure]]:
    """Metrics by activity group, as a table and a figure per data set."""
    tables, figures = [], []
    for table in document["groups"]:
        metrics = list(table["rows"][0]["metrics"])
        rows = [
            [
                Cell(row["variant"]),
                Cell(row["group"]),
                Cell(f"{row['users']:,}"),
                *(Cell(spread(row["metrics"][metric])) for metric in metrics),
            ]
            for row in table["rows"]
        ]
        caption = f"{table['data']}: test, protocol {table['protocol']}, by the user's number of training interactions"
        name = f"sparsity-groups-{table['data']}-{table['protocol']}"
        tables.append(Table(name, caption, ["model", "training items", "users", *metrics], rows))
        if table["protocol"] != PROTOCOL or SHOWN[-1] not in metrics:
            continue
        labels = list(dict.fromkeys(row["group"] for row in table["rows"]))
        series = []
        for variant in dict.fromkeys(row["variant"] for row in table["rows"]):
            mine = [row for row in table["rows"] if row["variant"] == variant]
            series.append(_series(variant, mine, SHOWN[-1], [labels.index(row["group"]) for row in mine]))
        title = f"{table['data']}: test {SHOWN[-1]} by activity, {PROTOCOL}"
        axis = "training interactions of a user"
        figures.append(
            lines(f"sparsity-{table['data']}", title, axis, SHOWN[-1], series, command=command, categories=labels)
        )
    return tables, figures


def history_figures(document: dict[str, Any], windows: dict[str, int], command: str) -> list[Figure]:
    """Metrics against the window's length, a line per data set and model."""
    figures = []
    for metric in SHOWN:
        series = []
        for table in document["tables"]:
            if table["protocol"] != PROTOCOL or metric not in table["rows"][0]["metrics"]:
                continue
            models = dict.fromkeys(row["variant"].rpartition("-window-")[0] for row in table["rows"])
            for model in models:
                mine = [row for row in table["rows"] if row["variant"].rpartition("-window-")[0] == model]
                name = f"{table['data']}, {model}" if len(models) > 1 else table["data"]
                series.append(_series(name, mine, metric, [windows[row["variant"]] for row in mine]))
        if series:
            ticks = sorted({x for one in series for x in one.x})
            title = f"{metric} against the window, test, {PROTOCOL}"
            name = f"history-{metric.replace('@', '')}"
            figures.append(lines(name, title, "window M, items", metric, series, command=command, ticks=ticks))
    return figures


def _series(name: str, rows: list[dict[str, Any]], metric: str, x: Sequence[float]) -> Series:
    """A line of means with one standard deviation to each side, where there are several seeds."""
    figures = [row["metrics"][metric] for row in rows]
    means = [figure["mean"] for figure in figures]
    if any(figure["sd"] is None for figure in figures):
        return Series(name, x, means)
    return Series(name, x, means, [f["mean"] - f["sd"] for f in figures], [f["mean"] + f["sd"] for f in figures])


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
            known = temperatures.setdefault((curve.y[0], curve.y[-1]), curve)
            if len(curve.x) > len(known.x):
                temperatures[curve.y[0], curve.y[-1]] = curve
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
