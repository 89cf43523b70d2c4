"""Tables whose rows several processes share out in training: what a step asks for, and where a training stands."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardgnn.processes.share import Share
from hardgnn.training import checkpoint
from hardgnn.training.callbacks import Callback, MovingAverage
from hardgnn.training.rows import LazyRows
from hardgnn.training.trainer import Trainer


class SharedRows:
    """A table (I, d) of which this process has a stretch; a `models.network.Rows` of its rows.

    Before a step all processes ask for the rows that it touches (`gather`), each of its parts has some of them
    (`look_up`), and each process changes its own.

    Args:
        own: its stretch.
        share: which one.
    """

    def __init__(self, own: LazyRows, share: Share) -> None:
        self.own, self.share = own, share
        self._asked: list[tuple[Tensor, Tensor]] = []
        self._rows, self._values = torch.empty(0, dtype=torch.int64), own.table.detach()[:0]

    @torch.no_grad()
    def gather(self, rows: Tensor) -> None:
        """Brings the rows (n,), sorted, from their owners, brought up to date."""
        self._rows, self._values = rows, self.share.joined(rows, self.own.look_up, self.own.table)

    def look_up(self, rows: Tensor | None) -> Tensor:
        """Some of the rows gathered (m,), each once; or the whole stretch of this process."""
        if rows is None:
            return self.own.look_up(None)
        found = self._values.index_select(0, torch.searchsorted(self._rows, rows))
        if torch.is_grad_enabled():
            self._asked.append((rows, found.requires_grad_()))
        return found

    def gradient(self, rows: Tensor) -> Tensor:
        """See `models.network.Rows.gradient`."""
        found = self._values.new_zeros(len(rows), self._values.shape[1])
        asked, self._asked = self._asked, []
        for some, one in asked:
            if one.grad is not None:
                found.index_add_(0, torch.searchsorted(rows, some), one.grad)
        return found

    def change(self, rows: Tensor, gradient: Tensor) -> None:
        """See `models.network.Rows.change`; of the rows of others nothing is kept."""
        place, where = self.share.here(rows)
        if len(place):
            self.own.change(where, gradient.index_select(0, place))

    def catch_up(self) -> None:
        """Brings up all rows of this process."""
        self.own.catch_up()


class FollowedCheckpoint(Callback):
    """What a process does while process 0 reads and writes the state of a training: it takes, and gives, its rows."""

    def __init__(self, average: MovingAverage | None) -> None:
        self.average = average

    def restore(self, trainer: Trainer) -> None:
        """Takes its rows, where there is a state."""
        checkpoint.follow_load(trainer.network, trainer.optimiser, self._average())

    def epoch(self, line: dict[str, Any]) -> None:
        """Gives them."""
        trainer = self.trainer
        checkpoint.follow_save(trainer.network, trainer.optimiser, self._average())

    def _average(self) -> dict[str, Tensor]:
        return {} if self.average is None else self.average.state()
