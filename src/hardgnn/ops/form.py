"""Which form of an operation runs: the one written for the processor, or the plain reference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from hardgnn.errors import HardGNNError, nearest, shown

VARIABLE = "HARDGNN_OPS"
"""In the environment it asks for `reference` everywhere, or for `torch`, the fast forms that need no compiler, to look
for a fault in the others. The default is `native`: what there is in C in C, the rest in torch; `float32` is the same
without the processor's tiles of bfloat16 numbers (AMX)."""
FAST_TYPES = (torch.float32, torch.float64)

COMPILED = ("native", "float32")
FORMS = (*COMPILED, "torch", "reference")

_wanted = ContextVar("wanted", default=os.environ.get(VARIABLE) or FORMS[0])
_halved = ContextVar("halved", default=False)


def wanted() -> str:
    """The form that is asked for, one of `FORMS`.

    Raises:
        HardGNNError: the environment asks for another.
    """
    form = _wanted.get()
    if form not in FORMS:
        raise HardGNNError(f"{VARIABLE}: unknown form '{shown(form)}'; {nearest(form, FORMS)}")
    return form


def fast(*tensors: Tensor) -> bool:
    """Whether the fast form serves these tensors: float32 or float64 on a processor, and no autocast."""
    if wanted() == "reference" or torch.is_autocast_enabled("cpu"):
        return False
    return all(one.device.type == "cpu" and one.dtype in FAST_TYPES for one in tensors)


def halved() -> bool:
    """Whether fast forms may keep tables in bfloat16 and multiply such numbers; see `hardgnn.ops.precision`."""
    return _halved.get()


@contextmanager
def in_bfloat16() -> Iterator[None]:
    """Within it they may."""
    token = _halved.set(True)
    try:
        yield
    finally:
        _halved.reset(token)


@contextmanager
def asked_for(form: str) -> Iterator[None]:
    """Within it operations run in another form, one of `FORMS`."""
    token = _wanted.set(form)
    try:
        yield
    finally:
        _wanted.reset(token)
