"""The report's figures as Matplotlib's own, to be shown and saved alone."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardgnn.report.plots import Figure


def standing(figure: Figure) -> Any:
    """The figure with its title on white paper; a notebook shows it without pyplot."""
    canvas = figure.canvas
    canvas.set_facecolor("white")
    canvas.suptitle(figure.title, fontsize=11, x=0.02, ha="left")
    canvas._repr_png_ = partial(_png, canvas)  # type: ignore[attr-defined]
    return canvas


def _png(canvas: Any) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", facecolor="white", dpi=120)
    return buffer.getvalue()
