"""What a user sees of long work: bars on standard error, quiet when it is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from hardgnn.screen import bar, console, told


@contextmanager
def users_bar(description: str, what: str = "users") -> Iterator[Any]:
    """A bar over users or another `what`, as the function (done, total) that blocks of them report to."""
    with bar() as shown:
        task = shown.add_task(told(description), total=None, note=what)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def bytes_bar(description: str) -> Iterator[Any]:
    """A bar over a download, as the function (bytes so far, bytes in all or None)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(told(description), total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


class RunsBar:
    """A bar over the runs of a study, with those at work and the number that failed."""

    def __init__(self, description: str) -> None:
        self._bar = bar()
        self._task = self._bar.add_task(told(description), total=None, note="runs")

    def __enter__(self) -> RunsBar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def counted(self, total: int) -> None:
        """How many runs there are."""
        self._bar.update(self._task, total=total)

    def begins(self, stage: str, total: int) -> None:
        """A stage of a sweep begins, with so many runs."""
        self._bar.reset(self._task, description=told(stage), total=total or None)

    def told(self, done: float, failed: int, names: str) -> None:
        """How many are done, with fractions of those at work."""
        note = f"runs  {told(names)}" + (f"  {failed} failed" if failed else "")
        self._bar.update(self._task, completed=round(done, 2), note=note)
