"""What a user sees of long work: bars on standard error, quiet when it is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from hardgnn.cli.terminal import PLAIN, printable
from hardgnn.config import Config
from hardgnn.errors import HardGNNError

console = Console(stderr=True, **PLAIN)  # type: ignore[arg-type]


def _text(text: str) -> str:
    return printable(text, sys.stderr)


def _bar(counts: bool = True) -> Progress:
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


@contextmanager
def users_bar(description: str, what: str = "users") -> Iterator[Any]:
    """A bar over users or another `what`, as the function (done, total) that blocks of them report to."""
    with _bar() as bar:
        task = bar.add_task(_text(description), total=None, note=what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def bytes_bar(description: str) -> Iterator[Any]:
    """A bar over a download, as the function (bytes so far, bytes in all or None)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(_text(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class TrainingBar:
    """Shows training: a bar over all steps with epoch, loss, validation and time left, which fit into 80 columns.

    Args:
        name: what the run is called.
        config: its settings.
        logs: a folder for TensorBoard, or none.
    """

    def __init__(self, name: str, config: Config, logs: Path | None = None) -> None:
        self.name, self.config = name, config
        self._bar = _bar(counts=False)
        self._task: Any = None
        self._writer = None if logs is None else _tensorboard(logs)
        self._best = -1.0
        self._note = self._valid = ""

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """After each step of training."""
        if self._task is None:
            self._task = self._bar.add_task(_text(self.name), total=self.config.train.epochs * steps, note="")
        self._note = f"epoch {epoch}/{self.config.train.epochs}  loss {loss:.4f}"
        self._bar.update(self._task, completed=(epoch - 1) * steps + step, note=self._note + self._valid)

    def epoch(self, line: dict[str, Any]) -> None:
        """After each epoch."""
        part = self.config.train.choose_on
        if self._writer is not None:
            for key, value in line.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"train/{key}", value, line["epoch"])
            for key, value in line.get(part, {}).items():
                self._writer.add_scalar(f"{part}/{key}", value, line["epoch"])
        if part in line:
            value = line[part][self.config.train.metric]
            self._best = max(self._best, value)
            self._valid = f"  {self.config.train.metric} {value:.4f}, best {self._best:.4f}"
            if self._task is not None:
                self._bar.update(self._task, note=self._note + self._valid)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise HardGNNError("--tensorboard needs an extra: pip install 'hardgnn[tensorboard]'") from None
    return SummaryWriter(str(folder))


class RunsBar:
    """A bar over the runs of a study, with those at work and the number that failed."""

    def __init__(self, description: str) -> None:
        self._bar = _bar()
        self._task = self._bar.add_task(_text(description), total=None, note="runs")

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
        self._bar.reset(self._task, description=_text(stage), total=total or None)

    def told(self, done: float, failed: int, names: str) -> None:
        """How many are done, with fractions of those at work."""
        note = f"runs  {_text(names)}" + (f"  {failed} failed" if failed else "")
        self._bar.update(self._task, completed=round(done, 2), note=note)


def say(sentence: str) -> None:
    """A sentence on standard error, on one line, so that a command in it can be copied."""
    console.print(_text(sentence), soft_wrap=True)
