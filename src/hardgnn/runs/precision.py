"""What numbers a run computes its losses in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from hardgnn.config import Config
from hardgnn.ops import precision
from hardgnn.parts import MODELS
from hardgnn.runtime import device_of


def computing(config: Config) -> AbstractContextManager[Any]:
    """Within it they are in `run.precision`, where the model is trained at all; see `hardgnn.ops.precision.computing`.

    Raises:
        HardGNNError: this machine has no such device or precision.
    """
    halves = getattr(MODELS.find(config.model.kind), "halves", False)
    return precision.computing(device_of(config.run.device), config.run.precision, halves)
