"""What numbers losses are computed in."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch

from hardgnn.ops.form import in_bfloat16
from hardgnn.ops.native.library import tiles
from hardgnn.runtime import autocast


def computing(device: torch.device, precision: str, halves: bool = True) -> AbstractContextManager[Any]:
    """Within it losses are computed in `precision`: `float32`, or `bfloat16`, where weights and sums stay float32.

    On a processor with tiles of bfloat16 numbers the C forms take these: tables of the graphs between two layers, and
    products of the interval level and of the nearest items, one such number for each; the rest stays float32. On other
    processors and devices, and for a model that has none of these (`halves`), it is torch's autocast, which on a
    processor leaves the fast forms aside, as a warning says.

    Raises:
        HardGNNError: there is no such precision, or the device has none.
    """
    if precision == "bfloat16" and device.type == "cpu":
        if halves and tiles():
            return in_bfloat16()
        lacking = "no tiles of bfloat16 numbers here (AMX, by the C forms)"
        say_slow(lacking if halves else "none of this model's C forms has it")
    return autocast(device, precision)


@cache
def say_slow(why: str) -> None:
    """Warns, once."""
    warnings.warn(
        f"run.precision=bfloat16: {why}, so it runs by autocast, slower than run.precision=float32",
        stacklevel=3,
    )
