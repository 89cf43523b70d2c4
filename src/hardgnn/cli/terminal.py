"""What commands print on standard output: one JSON document, or lines and tables of plain text.

No id, title, path or name is ever markup, a terminal sequence or an emoji's code: tables and lines show them escaped
(`hardgnn.errors.shown`), JSON keeps them exactly. What the encoding of the output cannot hold is written in ASCII.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len

from hardgnn.errors import UNSEEN
from hardgnn.screen import PLAIN, REPLACED, end_wait, in_lines, printable

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 160  # columns, where standard output is no terminal
EDGES = 3  # what a column takes beside its text: blanks and a line
LEAST_TEXT = 12  # columns that text may be folded to


def print_line(text: object) -> None:
    """One line, or on a terminal as many as it takes."""
    from rich.console import Console

    end_wait()
    print(in_lines(printable(text), Console()))


def print_block(text: str) -> None:
    """Several lines as they are, of our own."""
    end_wait()
    print(text.encode(sys.stdout.encoding or "utf-8", REPLACED).decode(sys.stdout.encoding or "utf-8"))


def print_json(document: Any) -> None:
    """One machine-readable document, valid whatever the encoding; what is no finite number is null."""
    end_wait()
    try:
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=1)
    print("\n".join(UNSEEN.sub(lambda sign: json.dumps(sign[0])[1:-1], line) for line in text.split("\n")))


def _finite(document: Any) -> Any:
    """The document with null for NaN and infinity, which JSON does not have."""
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """A table whose first `texts` columns are text, under a title that may be wider.

    Where it is wider than the terminal, text folds and figures stay whole: columns without room follow in a table
    below, beside the first ones again.
    """
    from rich.console import Console

    console = Console(**PLAIN)  # type: ignore[arg-type]
    if not console.is_terminal:  # a file or a pipe has no edge to fold at
        console = Console(width=WIDTH, **PLAIN)  # type: ignore[arg-type]
    end_wait()
    console.print(in_lines(printable(title), console), style="italic")
    table = [[printable(cell) for cell in row] for row in (header, *rows)]
    for columns, widths in _split(table, texts, console.width):
        console.print(_table(table, columns, widths, texts))


def _split(table: list[list[str]], texts: int, width: int) -> list[tuple[list[int], list[int]]]:
    """Which columns stand beside each other on a terminal of so many columns, and how wide each of them is."""
    needed = [_needed(column, number < texts) for number, column in enumerate(zip(*table))]
    named, figures = needed[:texts], [min(one, width - 2 * EDGES - LEAST_TEXT) for one in needed[texts:]]
    room = width - 1 - EDGES * texts
    for_all = room - sum(one + EDGES for one in figures)
    while sum(named) > (for_all if for_all >= LEAST_TEXT * texts else width // 3) and max(named) > LEAST_TEXT:
        named[named.index(max(named))] -= 1  # the widest text folds first
    found = [(list(range(texts)), list(named))]
    left = room - sum(named)
    for number, one in enumerate(figures, texts):
        if left < one + EDGES and len(found[-1][0]) > texts:
            found.append((list(range(texts)), list(named)))
            left = room - sum(named)
        found[-1][0].append(number)
        found[-1][1].append(one)
        left -= one + EDGES
    return found


def _needed(column: Sequence[str], is_text: bool) -> int:
    """How wide a column is: figures on one line, the words of a header one below the other."""
    header, *cells = column
    words = [header] if is_text else header.split()
    return max(map(cell_len, [*cells, *words, ""]))


def _table(table: list[list[str]], columns: list[int], widths: list[int], texts: int) -> Table:
    from rich.table import Table

    shown = Table()
    for column, width in zip(columns, widths):
        justify: Literal["left", "right"] = "left" if column < texts else "right"
        shown.add_column(table[0][column], justify=justify, overflow="fold", width=width)
    for row in table[1:]:
        cells = [
            _folded(row[column], width) if column < texts else row[column] for column, width in zip(columns, widths)
        ]
        shown.add_row(*cells)
    return shown


def _folded(text: str, width: int) -> str:
    """Text over several lines, after blanks and hyphens where there are some; what is still too wide rich folds."""
    if len(text) <= width or len(text) != cell_len(text):
        return text
    return "\n".join(textwrap.wrap(text, width, expand_tabs=False, replace_whitespace=False))


def marked(name: str, leaks: Sequence[str] | None) -> str:
    """A model's name, with a sign where the test part steered it."""
    return f"{name} †" if leaks else name


def print_leaks(models: Iterable[tuple[str, Sequence[str] | None]]) -> None:
    """What that sign means, for each of the named models that have it."""
    for name, leaks in models:
        if leaks:
            print_line(f"† {name} LEAKS: {'; '.join(leaks)}")
