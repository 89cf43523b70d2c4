"""Shows training, as a callback."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from hardgnn import screen
from hardgnn.training.callbacks import Callback


class TrainingBar(Callback):
    """A bar over all steps with epoch, loss, validation and time left, which fit into 80 columns.

    Args:
        name: what the run is called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar = screen.bar(counts=False)
        self._task: Any = None
        self._note = self._valid = ""

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Moves the bar."""
        epochs = self.trainer.epochs
        if self._task is None:
            self._task = self._bar.add_task(screen.told(self.name), total=epochs * steps, note="")
        self._note = f"epoch {epoch}/{epochs}  loss {loss:.4f}"
        self._bar.update(self._task, completed=(epoch - 1) * steps + step, note=self._note + self._valid)

    def validated(self, metric: str, value: float) -> None:
        """Shows the figure of a validation and the best so far."""
        self._valid = f"  {metric} {value:.4f}, best {self.trainer.progress.best_metric:.4f}"
        if self._task is not None:
            self._bar.update(self._task, note=self._note + self._valid)
