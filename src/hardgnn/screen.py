"""Text for a terminal or a notebook, and bars on standard error that are quiet when it is none.

No id, title, path or name is ever markup, a terminal sequence or an emoji's code; what the encoding of the output
cannot hold is written in ASCII.
"""

from __future__ import annotations

import codecs
import html
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hardgnn.errors import shown

IN_ASCII = {"→": "->", "−": "-", "–": "-", "±": "+/-", "…": "...", "≥": ">=", "≤": "<=", "·": "*"}
PLAIN = {"markup": False, "emoji": False, "highlight": False}
"""For every console of rich: what it prints is text."""
REPLACED = "hardgnn.replaced"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """The signs of our own tables in ASCII, everything else as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(IN_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in signs), error.end


codecs.register_error(REPLACED, _replaced)


def printable(text: object, stream: TextIO | None = None) -> str:
    """Text as it can be shown on one line of `stream`, standard output by default."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return shown(text).encode(encoding, REPLACED).decode(encoding)


console = Console(stderr=True, **PLAIN)  # type: ignore[arg-type]


def told(text: str) -> str:
    """Text as standard error can show it."""
    return printable(text, sys.stderr)


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table for a notebook; every text in it is text."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(shown(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(shown(caption))}</caption><thead><tr>{head}</tr></thead>{body}</table>"


def bar(counts: bool = True) -> Progress:
    """A bar with its time left, and, with `counts`, what is done and since when."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        *([MofNCompleteColumn()] if counts else []),
        TextColumn("{task.fields[note]}", markup=False),
        *([TimeElapsedColumn()] if counts else []),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def say(sentence: str) -> None:
    """A sentence on standard error, on one line, so that a command in it can be copied."""
    console.print(told(sentence), soft_wrap=True)
