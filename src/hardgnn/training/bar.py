"""Shows training, as a callback."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from hardgnn import screen
from hardgnn.training.callbacks import Callback, Validation
from hardgnn.training.trainer import Trainer


class TrainingBar(Callback):
    """A bar over all steps with epoch, validation, loss, speed and the time left, as much as there is room for.

    The time left runs from that of the earliest end, where no validation is better any more, to that of the last epoch.

    Args:
        name: what the run is called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar = screen.Bar()
        self._task: Any = None
        self._epoch: list[str] = []
        self._best: list[str] = []
        self._now: list[str] = []
        self._began, self._first = 0.0, 0

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        self._task = self._bar.add_task(screen.told(self.name), total=None, notes=["getting ready"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._task is not None:  # one that was fitted in one go, or ended early
            self._bar.update(self._task, total=1, completed=1, notes=[*self._epoch, *self._best])
        self._bar.stop()

    def begin(self, trainer: Trainer) -> None:
        """The clock of the steps begins."""
        super().begin(trainer)
        self._first, self._began = trainer.progress.epoch, time.perf_counter()

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Moves the bar."""
        epochs = self.trainer.epochs
        done = (epoch - 1) * steps + step
        pace = (time.perf_counter() - self._began) / (done - self._first * steps)  # validation is in it
        speed = f"{1 / pace:.0f} steps/s" if pace < 1 else f"{pace:.1f} s/step"
        self._epoch = [f"epoch {epoch}/{epochs}"]
        earliest = max(0, min(epochs, self._earliest()) * steps - done)
        self._bar.update(
            self._task,
            total=epochs * steps,
            completed=done,
            notes=[*self._epoch, *self._best, f"loss {loss:.3g}", speed, *self._now],
            left=(earliest * pace, (epochs * steps - done) * pace),
        )

    def validated(self, metric: str, value: float) -> None:
        """Shows the best figure so far and that of this validation."""
        self._best = [f"best {metric} {self.trainer.progress.best_metric:.4f}"]
        self._now = [f"now {value:.4f}"]

    def _earliest(self) -> int:
        """The epoch after which training ends if no validation is better any more."""
        return min(
            (one.last_epoch() for one in self.trainer.callbacks if isinstance(one, Validation)),
            default=self.trainer.epochs,
        )
