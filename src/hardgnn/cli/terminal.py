"""What commands print on standard output: one JSON document, or lines and tables of plain text.

No id, title, path or name is ever markup, a terminal sequence or an emoji's code: tables and lines show them escaped
(`hardgnn.errors.shown`), JSON keeps them exactly. What the encoding of the output cannot hold is written in ASCII.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from hardgnn.errors import UNSEEN
from hardgnn.screen import PLAIN, printable

WIDTH = 160  # columns, where standard output is no terminal


def print_line(text: object) -> None:
    """One line."""
    print(printable(text))


def print_json(document: Any) -> None:
    """One machine-readable document, valid whatever the encoding; what is no finite number is null."""
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


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table whose first column is text, under a title that may be wider."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for number, name in enumerate(header):
        table.add_column(printable(name), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(**PLAIN)  # type: ignore[arg-type]
    if not console.is_terminal:  # a file or a pipe has no edge to fold at
        console = Console(width=WIDTH, **PLAIN)  # type: ignore[arg-type]
    console.print(printable(title), style="italic")
    console.print(table)


def marked(name: str, leaks: Sequence[str] | None) -> str:
    """A model's name, with a sign where the test part steered it."""
    return f"{name} †" if leaks else name


def print_leaks(models: Iterable[tuple[str, Sequence[str] | None]]) -> None:
    """What that sign means, for each of the named models that have it."""
    for name, leaks in models:
        if leaks:
            print_line(f"† {name} LEAKS: {'; '.join(leaks)}")
