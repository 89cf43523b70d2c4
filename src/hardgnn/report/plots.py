"""The kinds of figure: lines, intervals, columns, bars in panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hardgnn.report.canvas import WIDTH_IN, Figure, as_label, framed, legend, new_canvas, styled
from hardgnn.report.looks import INK, ON_LIGHT, Look, plain

MANY_MARKS = 25  # a line with more points has some


@dataclass(frozen=True)
class Series:
    """One line: points x, y with their spread low and high, and the index of the point that was chosen.

    `look` is that of its model; what is no model is drawn in ink. A line of a single value stands `across` the axes.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    chosen: int | None = None
    look: Look | None = None
    across: bool = False


def _places_of_x(
    axes: Any, series: Sequence[Series], log: bool, categories: Sequence[str] | None, ticks: Sequence[float] | None
) -> None:
    """What stands along x."""
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # the formatters of a log axis write mathematics
        axes.xaxis.set_minor_formatter("{x:g}" if _within_a_decade(series) else "")
    if categories is not None:
        axes.set_xticks(range(len(categories)), [as_label(one) for one in categories])
    elif ticks is not None:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    elif not log:
        from matplotlib.ticker import MaxNLocator

        whole = all(float(x).is_integer() for one in series for x in one.x)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=whole, min_n_ticks=1))


@styled
def lines(
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    command: str = "",
    categories: Sequence[str] | None = None,
    log: bool = False,
    ticks: Sequence[float] | None = None,
    band: bool = False,
    connect: bool = True,
    log_y: bool = False,
) -> Figure:
    """Lines with their spread, as bars or (band) as an area; the chosen point of a line is ringed.

    `categories` name the places 0, 1, … of x.
    """
    canvas, axes = new_canvas()
    spread_out = not band and len(series) > 1 and any(one.low is not None for one in series)
    for number, one in enumerate(_side_by_side(series, log) if spread_out else series):
        _line(axes, one, one.look or plain(number), connect, band)
    _places_of_x(axes, series, log, categories, ticks)
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel(as_label(x_label))
    axes.set_ylabel(as_label(y_label))
    if any(one.chosen is not None for one in series):
        axes.plot([], [], "o", ms=11, mfc="none", mec=INK, mew=1.5, linestyle="none", label="chosen on validation")
    legend(canvas, axes)
    spread = "The band spans the seeds." if band else "Bars: one standard deviation over seeds to each side."
    known = any(one.low is not None for one in series)
    return Figure(name, title, f"{title}. {_told(series, categories)}", canvas, command, spread if known else "")


def _line(axes: Any, one: Series, look: Look, connect: bool, band: bool) -> None:
    """One line with its spread and its chosen point."""
    style: dict[str, Any] = {"color": look.colour, "label": as_label(one.name), "linewidth": 1.8}
    if one.across:
        axes.axhline(one.y[0], linestyle=look.dash, **style)
        return
    style |= {"linestyle": look.dash if connect else "none", "marker": look.marker, "markersize": 5}
    if len(one.x) > MANY_MARKS and connect:
        style["markevery"] = ((look.number or 0) % 4 * len(one.x) // 32, max(1, len(one.x) // 8))  # not all on one spot
    axes.plot(one.x, one.y, **style)
    if one.low is not None and one.high is not None:
        if band:
            axes.fill_between(one.x, one.low, one.high, color=look.colour, alpha=0.18, linewidth=0)
        else:
            axes.vlines(one.x, one.low, one.high, color=look.colour, linewidth=1.2, alpha=0.7)
    if one.chosen is not None:
        at = ([one.x[one.chosen]], [one.y[one.chosen]])
        axes.plot(*at, "o", ms=13, mfc="none", mec=look.colour, mew=1.8, linestyle="none")


@styled
def dots(
    name: str,
    title: str,
    x_label: str,
    rows: Sequence[tuple[str, float, float | None, float | None]],
    *,
    look: Callable[[str], Look] | None = None,
    zero: bool = False,
    command: str = "",
) -> Figure:
    """Means with intervals, one row each, with a line to compare them with: through the first, or (zero) through 0."""
    height = 0.9 + 0.32 * len(rows)
    canvas, axes = new_canvas(height)
    axes.axvline(0.0 if zero else rows[0][1], color=INK, linewidth=1.2, linestyle=":", alpha=0.7)
    for place, (label, mean, low, high) in enumerate(rows):
        one = look(label) if look is not None else plain(0)
        if low is not None and high is not None:
            axes.hlines(place, low, high, color=one.colour, linewidth=2)
        axes.plot([mean], [place], one.marker, color=one.colour, markersize=6.5)
    axes.set_yticks(range(len(rows)), [as_label(label) for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if not zero:  # a metric is nowhere else, whatever few seeds let one believe
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, 0.0), min(right, 1.0))
    axes.locator_params("x", nbins=4)
    axes.set_xlabel(x_label)
    sign = "+" if zero else ""
    told = "; ".join(f"{label} {mean:{sign}.4f}" for label, mean, *_ in rows)
    return Figure(name, title, f"{title}: {told}", canvas, command)


@styled
def columns(
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    places: Sequence[str],
    stacks: Sequence[tuple[str, Sequence[float]]],
    *,
    command: str = "",
) -> Figure:
    """Counts in columns, one above the other: (what they are, values) each, in shades of ink; `places` stand below."""
    canvas, axes = new_canvas()
    below = np.zeros(len(places))
    for (label, values), strength in zip(stacks, (0.75, 0.35, 0.15)):
        axes.bar(range(len(places)), values, 0.86, below, color=INK, alpha=strength, label=as_label(label), linewidth=0)
        below = below + np.asarray(values, dtype=float)
    step = -(-len(places) // 6) if max(map(len, places)) < 8 else -(-len(places) // 4)
    shown = range(0, len(places), step)
    axes.set_xticks(shown, [as_label(places[place]) for place in shown])
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(as_label(x_label))
    axes.set_ylabel(as_label(y_label))
    legend(canvas, axes)
    most = int(np.argmax(below))
    told = f"{len(places)} columns from {places[0]} to {places[-1]}, {below.sum():,.0f} in all"
    return Figure(name, title, f"{title}. {told}; most at {places[most]}: {below[most]:,.0f}", canvas, command)


@styled
def panels(
    name: str, title: str, parts: Sequence[tuple[str, Sequence[str], Sequence[float]]], *, command: str = ""
) -> Figure:
    """Horizontal bars in panels above each other: (what the bars are, names, values) each."""
    from matplotlib.figure import Figure as New

    sizes = [0.8 + 0.24 * len(names) for _, names, _ in parts]
    canvas = New(figsize=(WIDTH_IN, sum(sizes) + 0.3), layout="constrained")
    grid = canvas.subplots(len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": sizes})[:, 0]
    for number, (axes, (label, names, values)) in enumerate(zip(grid, parts)):
        framed(axes)
        axes.barh(range(len(names)), values, color=ON_LIGHT[number % len(ON_LIGHT)], height=0.7)
        axes.set_yticks(range(len(names)), [as_label(one) for one in names], fontsize=9)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(label, loc="left", fontsize=10.5)
        axes.locator_params("x", nbins=5)  # long labels such as 0.0125 must not meet
    told = ". ".join(
        f"{label}: " + ", ".join(f"{one} {value:.3f}" for one, value in zip(names, values))
        for label, names, values in parts
    )
    return Figure(name, title, f"{title}. {told}", canvas, command)


def _side_by_side(series: Sequence[Series], log: bool) -> list[Series]:
    """The lines moved apart by a little in x, so that their spreads do not hide each other."""
    places = np.array(sorted({x for one in series for x in one.x}), dtype=float)
    across = np.log(places) if log else places
    step = 0.012 * float(across[-1] - across[0])
    moved = []
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * step
        x = np.asarray(one.x, dtype=float)
        moved.append(replace(one, x=list(x * np.exp(shift) if log else x + shift)))
    return moved


def _within_a_decade(series: Sequence[Series]) -> bool:
    """Whether a log axis may have no power of ten, so that the marks between must be named."""
    places = [x for one in series for x in one.x]
    return max(places) < 10 * min(places)


def _told(series: Sequence[Series], categories: Sequence[str] | None) -> str:
    """What a line figure shows, in words: each line's ends, its best, and the chosen point."""

    def at(one: Series, index: int) -> str:
        x = categories[int(one.x[index])] if categories is not None else f"{one.x[index]:g}"
        return f"{one.y[index]:.4f} at {x}"

    parts = []
    for one in series:
        if not len(one.x):
            continue
        best = int(np.nanargmax(one.y)) if not np.all(np.isnan(one.y)) else 0
        words = f"{one.name}: from {at(one, 0)} to {at(one, len(one.x) - 1)}, highest {at(one, best)}"
        parts.append(words + ("" if one.chosen is None else f", chosen {at(one, one.chosen)}"))
    return "; ".join(parts)
