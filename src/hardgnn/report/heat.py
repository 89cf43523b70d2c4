"""A grid of figures in shades that tell more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hardgnn.report.canvas import WIDTH_IN, Figure, as_label, framed, styled

SCALE_STEPS = 32  # of the scale


@styled
def heat_map(
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    columns: Sequence[str],
    rows: Sequence[str],
    values: np.ndarray,
    *,
    chosen: tuple[int, int] | None = None,
    noise: float | None = None,
    command: str = "",
) -> Figure:
    """A grid of figures (rows, columns), the number in each cell, the chosen one framed; NaN cells stay empty.

    The palette spans what the figures do, and at least four times their `noise` (a standard deviation over seeds) or,
    where none is known, a tenth of their mean: what differs by chance alone looks alike.
    """
    import matplotlib
    from matplotlib.figure import Figure as New
    from matplotlib.patches import Rectangle

    canvas = New(figsize=(WIDTH_IN, 1.0 + 0.45 * max(3, len(rows))), layout="constrained")
    axes, scale = canvas.subplots(1, 2, gridspec_kw={"width_ratios": [18, 1]})
    framed(axes)
    shades = matplotlib.colormaps["cividis"]
    low, high = _palette(values, noise)
    _scale(scale, shades, low, high)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        shade = shades((value - low) / (high - low))
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=shade, edgecolor="none"))
        dark = 0.2126 * shade[0] + 0.7152 * shade[1] + 0.0722 * shade[2] < 0.45
        bold = "bold" if chosen == (row, column) else "normal"
        ink = "#ffffff" if dark else "#000000"
        axes.text(column, row, f"{value:.4f}", ha="center", va="center", color=ink, fontsize=9, fontweight=bold)
    if chosen is not None:
        frame = Rectangle((chosen[1] - 0.47, chosen[0] - 0.47), 0.94, 0.94, fill=False, linewidth=2.5)
        frame.set_edgecolor("#ffffff")
        axes.add_patch(frame)
        inner = Rectangle((chosen[1] - 0.44, chosen[0] - 0.44), 0.88, 0.88, fill=False, linewidth=1.2)
        inner.set_edgecolor("#000000")
        axes.add_patch(inner)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [as_label(one) for one in columns])
    axes.set_yticks(range(len(rows)), [as_label(one) for one in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(as_label(x_label))
    axes.set_ylabel(as_label(y_label))
    told = "; ".join(
        f"{y_label} {rows[r]}, {x_label} {columns[c]}: {value:.4f}"
        for (r, c), value in np.ndenumerate(values)
        if not np.isnan(value)
    )
    span = "one standard deviation over seeds is " + f"{noise:.4f}" if noise else "at least a tenth of the mean"
    return Figure(name, title, f"{title}. {told}", canvas, command, f"The palette spans {high - low:.4f}; {span}.")


def _palette(values: np.ndarray, noise: float | None) -> tuple[float, float]:
    """Between which figures a palette runs."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    middle = (low + high) / 2
    half = max((high - low) / 2, 2 * noise if noise else 0.05 * abs(middle)) or 0.5
    return middle - half, middle + half


def _scale(axes: Any, shades: Any, low: float, high: float) -> None:
    """What the shades of a heat map stand for."""
    from matplotlib.patches import Rectangle

    step = (high - low) / SCALE_STEPS
    for number in range(SCALE_STEPS):
        shade = shades((number + 0.5) / SCALE_STEPS)
        axes.add_patch(Rectangle((0, low + number * step), 1, step * 1.05, facecolor=shade, edgecolor="none"))
    axes.set_xlim(0, 1)
    axes.set_ylim(low, high)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([low, (low + high) / 2, high], [f"{one:.3f}" for one in (low, (low + high) / 2, high)])
    axes.spines[:].set_visible(False)
