"""Which form of an operation runs: the one written for the processor, or the plain reference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

VARIABLE = "HARDGNN_OPS"
"""Set to `reference` in the environment it asks for the reference everywhere, to look for a fault in a fast form."""
FAST_TYPES = (torch.float32, torch.float64)

_reference = ContextVar("reference", default=os.environ.get(VARIABLE) == "reference")


def fast(*tensors: Tensor) -> bool:
    """Whether the fast form serves these tensors: float32 or float64 on a processor, and no autocast."""
    if _reference.get() or torch.is_autocast_enabled("cpu"):
        return False
    return all(one.device.type == "cpu" and one.dtype in FAST_TYPES for one in tensors)


@contextmanager
def reference_only() -> Iterator[None]:
    """Within it every operation runs its reference."""
    token = _reference.set(True)
    try:
        yield
    finally:
        _reference.reset(token)
