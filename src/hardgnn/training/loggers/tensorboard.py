"""Figures for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hardgnn.training.callbacks import callback
from hardgnn.training.loggers.base import Logger


@callback("tensorboard")
class TensorBoard(Logger):
    """Every figure of every epoch, for TensorBoard.

    Args:
        folder: the run folder; the logs lie in `tensorboard` there, without one in `runs` of the working folder.
        logs: another folder for the logs.
    """

    library = "tensorboard"

    def __init__(self, folder: Path | None = None, logs: Path | None = None) -> None:
        super().__init__(folder)
        self.logs = logs or (None if folder is None else folder / "tensorboard")

    def open(self) -> None:
        """Opens a file of events; TensorBoard takes those of one folder as one run."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(None if self.logs is None else str(self.logs))

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes them as scalars."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, epoch)

    def conclude(self, best: Mapping[str, float]) -> None:
        """Leaves it: the curves show it."""

    def shut(self) -> None:
        """Flushes what was written."""
        with suppress(OSError):
            self.writer.close()
