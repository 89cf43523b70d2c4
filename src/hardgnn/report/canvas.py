"""What figures are drawn on: their style, and how they become SVG for a page and files for papers."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from hardgnn.errors import HardGNNError, shown
from hardgnn.report.looks import INK, ON_LIGHT
from hardgnn.report.names import file_name
from hardgnn.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH_IN, HEIGHT_IN = 5.0, 3.4
LEGEND_ROW_IN = 0.2
LONGEST = 34  # characters of a label


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
        svg = re.sub(r">\s+<", "><", svg)
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
        with style():
            self.canvas.savefig(buffer, **options)
        return buffer.getvalue()


def _of_page(tag: str) -> str:
    """A tag of a figure's SVG as a page holds it."""
    tag = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", tag)  # the same in every figure, so no page may hold them twice
    if tag.startswith("<svg"):
        tag = re.sub(r' (width|height)="[^"]*"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)  # the page's own
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag).replace("\n", " ")  # a hundredth of a point is seen by nobody
    for number, colour in enumerate(ON_LIGHT):
        tag = tag.replace(colour, f"var(--c{number})")
    return tag.replace(INK, "currentColor")


Asked = ParamSpec("Asked")


def styled(draw: Callable[Asked, Figure]) -> Callable[Asked, Figure]:
    """Draws in the style of every figure, which its texts take when they are made."""

    @wraps(draw)
    def drawn(*given: Asked.args, **named: Asked.kwargs) -> Figure:
        with style():
            return draw(*given, **named)

    return drawn


def as_label(text: str) -> str:
    """What somebody named, as a label: on one line, not too long, and none that a legend leaves out."""
    text = shown(text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 + 1 :]}"
    return f" {text}" if text.startswith("_") else text


def new_canvas(height: float = HEIGHT_IN) -> tuple[Canvas, Axes]:
    from matplotlib.figure import Figure as New

    canvas = New(figsize=(WIDTH_IN, height), layout="constrained")
    axes = canvas.add_subplot()
    framed(axes)
    return canvas, axes


def framed(axes: Axes) -> None:
    axes.grid(alpha=0.25, color="#808080", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(canvas: Canvas, axes: Axes) -> None:
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
def style() -> Iterator[None]:
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
    with style(), matplotlib.rc_context({"svg.hashsalt": salt}):
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
