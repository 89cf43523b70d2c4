"""Figures: for the report as inline SVG that follows the page's colours, for papers as SVG and PDF files."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from hardgnn.errors import HardGNNError, shown
from hardgnn.report.names import file_name
from hardgnn.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Hues after Okabe and Ito, safe for the colour-blind; each at least 3 : 1 against its page. On paper the first set.
ON_LIGHT = ("#0072b2", "#c44e00", "#007a5a", "#a8508a", "#8f6500", "#4a4a4a", "#5f5fd3")
ON_DARK = ("#56b4e9", "#ff8c42", "#2fd0a3", "#e29ac6", "#f0b429", "#c8c8c8", "#a9a9ff")
PAGES = ("#ffffff", "#16181d")
INK = "#101112"  # becomes the page's own ink
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))  # fewer than colours: pairs repeat late
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH_IN, HEIGHT_IN = 5.0, 3.4
LEGEND_ROW_IN = 0.2
LONGEST = 34  # characters of a label
MANY_MARKS = 25  # a line with more points has no mark at each


@dataclass(frozen=True)
class Series:
    """One line: points x, y with their spread low and high, and the index of the point that was chosen."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    chosen: int | None = None


@dataclass(frozen=True)
class Figure:
    """A drawn figure, with a title, a text that says what it shows, and the command that makes its figures again."""

    name: str
    title: str
    alt: str
    canvas: Canvas
    command: str = ""
    note: str = ""

    @property
    def stem(self) -> str:
        """Its name as that of a file, or as an id of the page."""
        return file_name(self.name)

    def inline(self) -> str:
        """SVG for a page: its colours are the page's variables, its text is text."""
        svg = _svg(self.canvas, self.stem)
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        return re.sub("<[^>]*>", lambda tag: _of_page(tag[0]), svg)  # text between the tags is what users named

    def save(self, folder: Path) -> None:
        """Writes NAME.svg and NAME.pdf."""
        with atomic_path(folder / f"{self.stem}.svg") as temporary:
            temporary.write_text(_svg(self.canvas, self.stem), "utf-8")
        with atomic_path(folder / f"{self.stem}.pdf") as temporary:
            temporary.write_bytes(self._drawn(format="pdf", metadata={"CreationDate": None}))

    def write(self, path: Path) -> None:
        """Writes it alone, on white, as the ending of `path` says.

        Raises:
            HardGNNError: an ending other than .svg, .pdf or .png, or a place that may not be written.
        """
        if path.suffix not in (".svg", ".pdf", ".png"):
            raise HardGNNError(f"{path}: expected a name that ends in .svg, .pdf or .png")
        with atomic_path(path) as temporary:
            temporary.write_bytes(self._drawn(format=path.suffix[1:], facecolor="white", dpi=200))

    def _drawn(self, **options: Any) -> bytes:
        """The figure as a file's content: on a full disk Matplotlib's own writers fail in words of their own."""
        buffer = io.BytesIO()
        with _style():
            self.canvas.savefig(buffer, **options)
        return buffer.getvalue()


def _of_page(tag: str) -> str:
    """A tag of a figure's SVG as a page holds it."""
    tag = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", tag)  # the same in every figure, so no page may hold them twice
    if tag.startswith("<svg"):
        tag = re.sub(r' (width|height)="[^"]*"', "", tag)
    for number, colour in enumerate(ON_LIGHT):
        tag = tag.replace(colour, f"var(--c{number})")
    return tag.replace(INK, "currentColor")


Asked = ParamSpec("Asked")


def _styled(draw: Callable[Asked, Figure]) -> Callable[Asked, Figure]:
    """Draws in the style of every figure, which its texts take when they are made."""

    @wraps(draw)
    def drawn(*given: Asked.args, **named: Asked.kwargs) -> Figure:
        with _style():
            return draw(*given, **named)

    return drawn


def _words(text: str) -> str:
    """What somebody named, as a label: on one line, not too long, and none that a legend leaves out."""
    text = shown(text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 + 1 :]}"
    return f" {text}" if text.startswith("_") else text


def _places_of_x(
    axes: Any, series: Sequence[Series], log: bool, categories: Sequence[str] | None, ticks: Sequence[float] | None
) -> None:
    """What stands along x."""
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # the formatters of a log axis write mathematics
        axes.xaxis.set_minor_formatter("{x:g}" if _within_a_decade(series) else "")
    if categories is not None:
        axes.set_xticks(range(len(categories)), [_words(one) for one in categories])
    elif ticks is not None:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    elif not log:
        from matplotlib.ticker import MaxNLocator

        whole = all(float(x).is_integer() for one in series for x in one.x)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=whole, min_n_ticks=1))


@_styled
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
) -> Figure:
    """Lines with their spread, as bars or (band) as an area; the chosen point of a line is ringed.

    `categories` name the places 0, 1, … of x.
    """
    canvas, axes = _canvas()
    spread_out = not band and len(series) > 1 and any(one.low is not None for one in series)
    for number, one in enumerate(_side_by_side(series, log) if spread_out else series):
        colour = ON_LIGHT[number % len(ON_LIGHT)]
        style: dict[str, Any] = {"color": colour, "label": _words(one.name), "linewidth": 1.8, "markersize": 5}
        style["linestyle"] = DASHES[number % len(DASHES)] if connect else "none"
        if len(one.x) <= MANY_MARKS or not connect:
            style["marker"] = MARKERS[number % len(MARKERS)]
        axes.plot(one.x, one.y, **style)
        if one.low is not None and one.high is not None:
            if band:
                axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.18, linewidth=0)
            else:
                axes.vlines(one.x, one.low, one.high, color=colour, linewidth=1.2, alpha=0.7)
        if one.chosen is not None:
            axes.plot(
                [one.x[one.chosen]], [one.y[one.chosen]], "o", ms=13, mfc="none", mec=colour, mew=1.8, linestyle="none"
            )
    _places_of_x(axes, series, log, categories, ticks)
    axes.set_xlabel(_words(x_label))
    axes.set_ylabel(_words(y_label))
    if any(one.chosen is not None for one in series):
        axes.plot([], [], "o", ms=11, mfc="none", mec=INK, mew=1.5, linestyle="none", label="chosen on validation")
    _legend(canvas, axes)
    spread = "The band spans the seeds." if band else "Bars: one standard deviation over seeds to each side."
    known = any(one.low is not None for one in series)
    return Figure(name, title, f"{title}. {_told(series, categories)}", canvas, command, spread if known else "")


@_styled
def dots(
    name: str,
    title: str,
    x_label: str,
    rows: Sequence[tuple[str, float, float | None, float | None]],
    *,
    command: str = "",
) -> Figure:
    """Means with intervals, one row each, the first on top with a line through it to compare the others with."""
    height = 0.9 + 0.32 * len(rows)
    canvas, axes = _canvas(height)
    axes.axvline(rows[0][1], color=INK, linewidth=1, linestyle=":", alpha=0.6)
    for place, (_, mean, low, high) in enumerate(rows):
        colour = ON_LIGHT[0 if place == 0 else 1]
        if low is not None and high is not None:
            axes.hlines(place, low, high, color=colour, linewidth=1.8)
        axes.plot([mean], [place], MARKERS[0 if place == 0 else 1], color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), [_words(label) for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, 0.0), min(right, 1.0))  # a metric is nowhere else, whatever few seeds let one believe
    axes.set_xlabel(x_label)
    told = "; ".join(f"{label} {mean:.4f}" for label, mean, *_ in rows)
    return Figure(name, title, f"{title}: {told}", canvas, command)


@_styled
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
    command: str = "",
) -> Figure:
    """A grid of figures (rows, columns), the number in each cell, the chosen one framed; NaN cells stay empty."""
    import matplotlib
    from matplotlib.patches import Rectangle

    canvas, axes = _canvas(1.0 + 0.45 * len(rows))
    shades = matplotlib.colormaps["cividis"]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        shade = shades((value - low) / (high - low) if high > low else 0.5)
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
    axes.set_xticks(range(len(columns)), [_words(one) for one in columns])
    axes.set_yticks(range(len(rows)), [_words(one) for one in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(_words(x_label))
    axes.set_ylabel(_words(y_label))
    told = "; ".join(
        f"{y_label} {rows[r]}, {x_label} {columns[c]}: {value:.4f}"
        for (r, c), value in np.ndenumerate(values)
        if not np.isnan(value)
    )
    return Figure(name, title, f"{title}. {told}", canvas, command)


@_styled
def panels(
    name: str, title: str, parts: Sequence[tuple[str, Sequence[str], Sequence[float]]], *, command: str = ""
) -> Figure:
    """Horizontal bars in panels above each other: (what the bars are, names, values) each."""
    from matplotlib.figure import Figure as New

    sizes = [0.8 + 0.24 * len(names) for _, names, _ in parts]
    canvas = New(figsize=(WIDTH_IN, sum(sizes) + 0.3), layout="constrained")
    grid = canvas.subplots(len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": sizes})[:, 0]
    for number, (axes, (label, names, values)) in enumerate(zip(grid, parts)):
        _frame(axes)
        axes.barh(range(len(names)), values, color=ON_LIGHT[number % len(ON_LIGHT)], height=0.7)
        axes.set_yticks(range(len(names)), [_words(one) for one in names], fontsize=9)
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


def _canvas(height: float = HEIGHT_IN) -> tuple[Canvas, Axes]:
    from matplotlib.figure import Figure as New

    canvas = New(figsize=(WIDTH_IN, height), layout="constrained")
    axes = canvas.add_subplot()
    _frame(axes)
    return canvas, axes


def _frame(axes: Axes) -> None:
    axes.grid(alpha=0.25, color="#808080", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(canvas: Canvas, axes: Axes) -> None:
    """Below the axes, where it hides nothing; as many columns as the names leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    longest = max(map(len, labels))
    columns = 3 if longest <= 12 else 2 if longest <= 24 else 1
    width, height = canvas.get_size_inches()
    canvas.set_size_inches(width, height + LEGEND_ROW_IN * (-(-len(labels) // columns) - 1))
    canvas.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6)


@contextmanager
def _style() -> Iterator[None]:
    """The settings of every figure; `$` is a sign as any other."""
    try:
        import matplotlib
    except ImportError:
        raise HardGNNError("figures need an extra: pip install 'hardgnn[report]'") from None
    settings: Any = {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10.5,
        "legend.fontsize": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # it shows as a box
        yield


def _svg(canvas: Canvas, salt: str) -> str:
    import matplotlib

    buffer = io.StringIO()
    with _style(), matplotlib.rc_context({"svg.hashsalt": salt}):
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
