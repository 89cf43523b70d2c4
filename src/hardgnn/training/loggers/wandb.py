"""Settings and figures for Weights & Biases: offline, until its own variable `WANDB_MODE` says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hardgnn.training.callbacks import callback
from hardgnn.training.loggers.base import Logger


@callback("wandb")
class WandB(Logger):
    """A run of Weights & Biases: the settings are its config, every figure of every epoch is logged.

    It is written into `wandb` of the working folder and nothing leaves the machine: `wandb sync` sends it, or
    `WANDB_MODE=online` at once. Its other variables count too, as `WANDB_PROJECT` (hardgnn by default), `WANDB_ENTITY`
    and `WANDB_DIR`. A run that the program has begun is taken, and left open.
    """

    library = "wandb"

    def open(self) -> None:
        """Begins the run."""
        import wandb

        self.ours = wandb.run is None
        self.run: Any = self._begun() if wandb.run is None else wandb.run
        self.run.config.update(self.settings, allow_val_change=True)
        self.run.define_metric("*", step_metric="epoch")

    def _begun(self) -> Any:
        import wandb

        mode, earlier = os.environ.get("WANDB_MODE", "offline"), self.earlier()
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "hardgnn"),
            name=self.name or None,
            id=earlier,
            resume="allow" if earlier and mode == "online" else None,  # offline the same id is enough
            mode=mode,
            settings=wandb.Settings(console="off"),  # a bar that moves is no log
        )
        self.keep(run.id)
        return run

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Logs them."""
        self.run.log({"epoch": epoch, **figures})

    def conclude(self, best: Mapping[str, float]) -> None:
        """Puts it into the summary."""
        self.run.summary.update(dict(best))

    def shut(self) -> None:
        """Ends the run as finished or failed."""
        if self.ours:
            self.run.finish(exit_code=0 if self.whole else 1)
