"""What numbers losses are computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from hardgnn.ops.form import in_bfloat16
from hardgnn.ops.native.library import tiles
from hardgnn.runtime import autocast


def computing(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Within it losses are computed in `precision`: `float32`, or `bfloat16`, where weights and sums stay float32.

    On a processor with tiles of bfloat16 numbers the C forms take these: tables of the graphs between two layers, and
    products of the interval level and of the nearest items, one such number for each; the rest stays float32. On other
    processors and devices it is torch's autocast, which on a processor leaves the fast forms aside.

    Raises:
        HardGNNError: there is no such precision, or the device has none.
    """
    if precision == "bfloat16" and device.type == "cpu" and tiles():
        return in_bfloat16()
    return autocast(device, precision)
