"""What commands print on standard output: one JSON document, or tables."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 160  # columns, where standard output is no terminal


def print_json(document: Any) -> None:
    """One machine-readable document."""
    print(json.dumps(document, indent=1, ensure_ascii=False))


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table whose first column is text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no edge to fold at
        console = Console(width=WIDTH)
    console.print(table)
