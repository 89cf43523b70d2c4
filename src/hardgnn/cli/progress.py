"""What a user sees of long work: bars on standard error, quiet when it is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.filesize import decimal

from hardgnn.screen import Bar, told, wait


@contextmanager
def users_bar(description: str, what: str = "users") -> Iterator[Any]:
    """A bar over users or another `what`, as the function (done, total) that blocks of them report to."""
    with Bar() as shown:
        task = shown.add_task(told(description), total=None, counted=what)
        yield lambda done, total: shown.update(task, completed=done, total=total)
    wait("working out the figures")


@contextmanager
def bytes_bar(description: str) -> Iterator[Any]:
    """A bar over a download, as the function (bytes so far, bytes in all or None)."""
    with Bar() as shown:
        task = shown.add_task(told(description), total=None)

        def moved(done: int, total: int | None) -> None:
            speed = shown.tasks[0].speed
            notes = [decimal(done) + (f" of {decimal(total)}" if total else "")]
            shown.update(
                task, completed=done, total=total, notes=notes + ([f"{decimal(int(speed))}/s"] if speed else [])
            )

        yield moved


class RunsBar:
    """A bar over the runs of a study, with the number that failed and those at work."""

    def __init__(self, description: str) -> None:
        self._bar = Bar()
        self._description = told(description)
        self._task: Any = None

    def __enter__(self) -> RunsBar:
        self._bar.start()
        self._task = self._bar.add_task(self._description, total=None, counted="runs", notes=["getting ready"])
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        if error[0] is None:
            wait("working out the figures")

    def counted(self, total: int) -> None:
        """How many runs there are."""
        self._bar.update(self._task, total=total)

    def begins(self, stage: str, total: int) -> None:
        """A stage of a sweep begins, with so many runs."""
        self._bar.reset(self._task, description=told(stage), total=total or None)

    def told(self, done: float, failed: int, names: str) -> None:
        """How many are done, with fractions of those at work."""
        notes = [*([f"{failed} failed"] if failed else []), *([f"at work: {names}"] if names else [])]
        self._bar.update(self._task, completed=round(done, 2), notes=notes)
