"""Inverted dropout from a generator that is passed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEPS = 2**16  # a number is dropped by 16 random bits


def dropout(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout of any shape; without a generator (evaluation) x itself. The generator is on x's device."""
    if share == 0 or generator is None:
        return x
    kept = kept_numbers(x.shape, share, generator, x.device)
    return x * (kept.to(x.dtype) * (STEPS / (STEPS - round(share * STEPS))))


def kept_numbers(
    shape: tuple[int, ...], share: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Which numbers dropout keeps, bool: each takes 16 random bits, so that `share` holds to 1 / 65536."""
    dropped = round(share * STEPS)
    if device is not None and device.type != "cpu":
        return torch.randint(STEPS, shape, dtype=torch.int32, device=device, generator=generator) >= dropped
    numbers = math.prod(shape)  # on a processor four numbers share a draw
    bits = torch.empty(-(-numbers // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return bits.view(torch.int16)[:numbers].view(shape) >= dropped - STEPS // 2
