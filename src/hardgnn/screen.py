"""Text for a terminal or a notebook, and bars on standard error that are quiet when it is none.

No id, title, path or name is ever markup, a terminal sequence or an emoji's code; what the encoding of the output
cannot hold is written in ASCII. On a terminal sentences break between words, commands in them never, and a bar leaves
out what matters least where there is no room.
"""

from __future__ import annotations

import codecs
import html
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hardgnn.errors import shown

if TYPE_CHECKING:
    from rich.status import Status

IN_ASCII = {"→": "->", "−": "-", "–": "-", "±": "+/-", "…": "...", "≥": ">=", "≤": "<=", "·": "*"}
PLAIN = {"markup": False, "emoji": False, "highlight": False}
"""For every console of rich: what it prints is text."""
REPLACED = "hardgnn.replaced"
COMMAND = re.compile(r"`[^`]*`|(?<=goes on with: )hardgnn .*")
HELD = "\ue000"  # stands for a blank where no line breaks; it is of no script
SHORTEST_BAR, LONGEST_BAR = 8, 40  # columns


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


def say(sentence: str) -> None:
    """A sentence on standard error: on one line, or on a terminal on as many as it takes."""
    end_wait()
    console.print(in_lines(told(sentence), console), soft_wrap=True)


def in_lines(text: str, on: Console) -> str:
    """Text as it is, or on a terminal broken between words; a command in it stays whole, so that it can be copied."""
    if not on.is_terminal:
        return text
    whole = COMMAND.sub(lambda found: found[0].replace(" ", HELD), text)
    lines: list[str] = []
    for word in whole.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= on.width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines).replace(HELD, " ")


_waiting: list[Status] = []
_bars: list[Bar] = []


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until what is drawn is up or away: half of it could not be taken away any more."""
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    heard = {one: handler for one, handler in before.items() if callable(handler)}
    try:
        for one in heard:
            signal.signal(one, lambda number, _: came.append(number))
        yield
    finally:
        for one, handler in heard.items():
            signal.signal(one, handler)
        if came:
            signal.raise_signal(came[0])


def wait(what: str) -> None:
    """Shows on a terminal that something goes on, until the next thing is printed; nothing where it is none."""
    end_wait()
    if console.is_terminal:
        with _undisturbed():
            status = console.status(told(what), spinner="line")
            status.start()
            _waiting.append(status)


def end_wait() -> None:
    """Takes it away."""
    if _waiting:
        with _undisturbed():
            _waiting.pop().stop()


def clear() -> None:
    """Takes away whatever is drawn, as a command that was stopped leaves it."""
    end_wait()
    while _bars:
        _bars[-1].stop()


def duration(*seconds: float) -> str:
    """A time, or from the shortest to the longest of several, with its unit: `45 s`, `2–12 min`, `1.5 h`."""
    longest = max(seconds)
    unit, name, digits = (1, "s", 0) if longest < 120 else (60, "min", 0) if longest < 7200 else (3600, "h", 1)
    values = dict.fromkeys(f"{one / unit:.{digits}f}" for one in (min(seconds), longest))
    return f"{'–'.join(values)} {name}"


class Line(ProgressColumn):
    """A task on one line: what, a bar, notes, and the time left, which is always there once it is known.

    Of its fields `notes` are texts, the most important first: what finds no room is left out from the end. `counted`
    names what is counted, and `left` are seconds, the fewest and the most, where its owner knows better than the speed.
    """

    max_refresh = None

    def render(self, task: Task) -> _Fitted:
        """It knows its width only when it is drawn."""
        return _Fitted(task)


class _Fitted:
    def __init__(self, task: Task) -> None:
        self.task = task

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(options.max_width, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        task, width = self.task, options.max_width
        left = _time_left(task)
        what = Text(task.description)
        what.truncate(max(1, width - cell_len(left) - 2), overflow="ellipsis")
        must = [what.plain, *([left] if left else [])]
        room = width - sum(cell_len(part) + 2 for part in must)
        notes: list[str] = []
        for part in _notes(task):
            kept = SHORTEST_BAR + 2 if notes else 0  # the first note matters more than the bar
            if room - cell_len(part) - 2 < kept:
                break
            notes.append(part)
            room -= cell_len(part) + 2
        row = Table.grid(padding=(0, 2, 0, 0))
        cells: list[Any] = [what]
        if room - 2 >= SHORTEST_BAR:
            bar = min(room - 2, LONGEST_BAR)
            cells.append(ProgressBar(task.total, task.completed, width=bar, pulse=task.total is None))
        cells += [*notes, *([left] if left else [])]
        for _ in cells:
            row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(*cells)
        yield row


def _notes(task: Task) -> list[str]:
    """How far it is, what its owner says, since when."""
    counted = task.fields.get("counted")
    done = "" if counted is None or task.total is None else f"{task.completed:,.10g}/{task.total:,.10g} {counted}"
    if counted is not None and task.total is None:
        done = str(counted)
    since = f"{duration(task.elapsed)} so far" if task.elapsed is not None and task.elapsed >= 1 else ""
    return [told(part) for part in (done, *task.fields.get("notes", ()), since) if part]


def _time_left(task: Task) -> str:
    """The time left, from the earliest end to the latest where its owner knows them."""
    if task.finished:
        return ""
    known = task.fields.get("left")
    if known is not None:
        return f"{duration(*known)} left"
    seconds = task.time_remaining
    return "" if seconds is None else f"{duration(seconds)} left"


class Bar(Progress):
    """A bar on standard error, quiet where it is no terminal; where it begins a wait is over."""

    def __init__(self) -> None:
        super().__init__(Line(), console=console, disable=not console.is_terminal, expand=True)

    def start(self) -> None:
        """Shows it."""
        end_wait()
        with _undisturbed():
            super().start()
            _bars.append(self)

    def stop(self) -> None:
        """Takes it away, or leaves it as it is where it is done."""
        with _undisturbed():
            super().stop()
            if self in _bars:
                _bars.remove(self)
