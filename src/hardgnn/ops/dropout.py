"""Inverted dropout from a generator that is passed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hardgnn.ops.native.dropout import NativeDropout
from hardgnn.ops.native.library import native

STEPS = 2**16  # a number is dropped by 16 random bits


def dropout(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout of any shape; without a generator (evaluation) x itself. The generator is on x's device.

    Each number takes 16 random bits, so that `share` holds to 1 / 65536.
    """
    if share == 0 or generator is None:
        return x
    functions = native(x)
    if functions is not None:
        least = round(share * STEPS) - STEPS // 2
        kept: Tensor = NativeDropout.apply(x, functions, _drawn(x.numel(), generator), least, scale(share))
        return kept
    return x * (kept_numbers(x.shape, share, generator, x.device).to(x.dtype) * scale(share))


def scale(share: float) -> float:
    """What the numbers that are kept are multiplied by."""
    return STEPS / (STEPS - round(share * STEPS))


def kept_numbers(
    shape: tuple[int, ...], share: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Which numbers dropout keeps, bool."""
    dropped = round(share * STEPS)
    if device is not None and device.type != "cpu":
        return torch.randint(STEPS, shape, dtype=torch.int32, device=device, generator=generator) >= dropped
    drawn = _drawn(math.prod(shape), generator).numpy()  # numpy compares these five times as fast as torch
    return torch.from_numpy(drawn >= np.int16(dropped - STEPS // 2)).view(shape)


def _drawn(numbers: int, generator: torch.Generator) -> Tensor:
    """So many random int16, four of a draw."""
    bits = torch.empty(-(-numbers // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return bits.view(torch.int16)[:numbers]
