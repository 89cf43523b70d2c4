"""One colour and one marker for each model, the same in every chart and table of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Hues after Okabe and Ito, safe for the colour-blind; each at least 3 : 1 against its page. On paper the first set.
ON_LIGHT = ("#0072b2", "#c44e00", "#007a5a", "#a8508a", "#8f6500", "#4a4a4a", "#5f5fd3")
ON_DARK = ("#56b4e9", "#ff8c42", "#2fd0a3", "#e29ac6", "#f0b429", "#c8c8c8", "#a9a9ff")
PAGES = ("#ffffff", "#16181d")
INK = "#101112"  # becomes the page's own ink
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))  # fewer than colours
MARKERS = {  # what Matplotlib calls it, and its outline in a box of 12 for the page's own marks
    "o": "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z",
    "s": "M2 2h8v8H2z",
    "^": "M6 1L11 10.5H1z",
    "D": "M6 .5L11.5 6L6 11.5L.5 6z",
    "v": "M6 11L1 1.5H11z",
    "P": "M4 1h4v3h3v4H8v3H4V8H1V4h3z",
    "X": "M3 .8L6 3.6L9 .8L11.2 3L8.4 6L11.2 9L9 11.2L6 8.4L3 11.2L.8 9L3.6 6L.8 3z",
}


@dataclass(frozen=True)
class Look:
    """How one model is drawn. `number` is that of its colour on the page; None is the page's ink, of no model."""

    number: int | None
    marker: str
    dash: Any

    @property
    def colour(self) -> str:
        """Its colour on paper."""
        return INK if self.number is None else ON_LIGHT[self.number]

    @property
    def outline(self) -> str:
        """Its marker as an SVG path in a box of 12."""
        return MARKERS[self.marker]


class Looks:
    """The looks of a page: a name that is asked for the first time gets the next one and keeps it.

    Colours come again after seven names, then with another marker and dash.
    """

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._found: dict[str, Look] = {}
        for name in names:
            self.of(name)

    def of(self, name: str) -> Look:
        """The look of a model."""
        return self._found.setdefault(name, _look(len(self._found)))


def plain(number: int) -> Look:
    """A look for what is no model, such as a data set: ink, told apart by marker and dash."""
    return Look(None, [*MARKERS][number % len(MARKERS)], DASHES[number % len(DASHES)])


def _look(number: int) -> Look:
    again = number // len(ON_LIGHT)
    marker = [*MARKERS][(number + again) % len(MARKERS)]
    return Look(number % len(ON_LIGHT), marker, DASHES[(number + again) % len(DASHES)])
