"""A table of the report, as HTML rows, Markdown or LaTeX."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hardgnn.errors import shown
from hardgnn.report.looks import Look
from hardgnn.report.names import file_name

if TYPE_CHECKING:
    from hardgnn.evaluation.stats import OverSeeds


@dataclass(frozen=True)
class Cell:
    """One entry: its text, whether it is the best of its column, and marks of significance.

    `interval` stands below the text, and `look` is the mark of the model that the text names.
    """

    text: str
    best: bool = False
    marks: str = ""
    interval: str = ""
    look: Look | None = None


@dataclass(frozen=True)
class Table:
    """A table with a caption that says what it shows and notes that say how to read it.

    `rows` have as many cells as `header`; the first `text_columns` are words, the others numbers. A `folded` table is
    for looking things up: a page shows it on demand.
    """

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())
    text_columns: int = 1
    folded: bool = False
    looks: Sequence[Look | None] = ()
    """The marks of the models that the header names, where it names models."""

    @property
    def stem(self) -> str:
        """Its name as that of a file, or as an id of the page."""
        return file_name(self.name)

    def to_markdown(self) -> str:
        """As a Markdown table, the best in bold."""
        aligned = ["---"] * self.text_columns + ["---:"] * (len(self.header) - self.text_columns)
        lines = [f"**{markdown_text(self.caption)}**", "", _row(map(markdown_text, self.header)), _row(aligned)]
        lines += [_row(_markdown_cell(cell) for cell in row) for row in self.rows]
        return "\n".join([*lines, "", *(f"{markdown_line(note)}\n" for note in self.notes)]) + "\n"

    def to_latex(self) -> str:
        """As a LaTeX table that needs no package."""
        columns = "l" * self.text_columns + "r" * (len(self.header) - self.text_columns)
        head = " & ".join(map(_latex, self.header))
        body = "\n".join(_latex_row(row) + r" \\" for row in self.rows)
        notes = " ".join([self.caption + ".", *self.notes])
        return (
            f"\\begin{{table}}\n\\centering\n\\caption{{{_latex(notes)}}}\n\\label{{tab:{self.stem}}}\n"
            f"\\begin{{tabular}}{{{columns}}}\n\\hline\n{head} \\\\\n\\hline\n{body}\n\\hline\n"
            "\\end{tabular}\n\\end{table}\n"
        )


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown_text(text: str) -> str:
    """Text as Markdown shows it, whatever it is made of: no markup, no tag, no formula, no end of a cell."""
    return re.sub(r"[\\`*_\[\]|~$]", r"\\\g<0>", html.escape(shown(text), quote=False))


def markdown_line(text: str) -> str:
    """As `markdown_text`, for what begins a line: no heading, list or code."""
    return re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", markdown_text(text).lstrip())


def _markdown_cell(cell: Cell) -> str:
    text = markdown_text(cell.text)
    below = markdown_text(f" [{cell.interval}]") if cell.interval else ""
    return (f"**{text}**" if cell.best and text else text) + markdown_text(cell.marks) + below


LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "−": "$-$",
    "λ": r"$\lambda$",
    "–": "--",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "<": "$<$",
    ">": "$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {sign: "\\" + sign for sign in "&%$#_{}"}


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in shown(text))


def _latex_row(row: Sequence[Cell]) -> str:
    """A row, which must not look like an argument of the line break before it."""
    text = " & ".join(map(_latex_cell, row))
    return "{}" + text if text.lstrip().startswith(("[", "*")) else text


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell.text)
    marks = f"\\textsuperscript{{{_latex(cell.marks)}}}" if cell.marks else ""
    below = _latex(f" [{cell.interval}]") if cell.interval else ""
    return (f"\\textbf{{{text}}}" if cell.best and text else text) + marks + below


def spread(figure: OverSeeds) -> str:
    """A mean with its standard deviation over seeds, or alone for a single seed."""
    return f"{figure.mean:.4f}" + (f" ± {figure.sd:.4f}" if figure.sd is not None else "")


def between(low: float, high: float) -> str:
    """An interval of a metric."""
    return f"{low:.4f} – {high:.4f}"


def p_value(value: float | None) -> str:
    """A p-value to two digits; a dash where no test was made."""
    return "–" if value is None else "<1e-16" if value < 1e-16 else f"{value:.2g}"
