"""torch's optimisers without its compiler, which each loads for nothing: a second and 70 MB of every training."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, TypeVar

import torch

from hardgnn.runtime import torch_on_all

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])
LARGE = 2**20  # numbers that are worth more than one thread of torch
GUARDED = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")


def light(kind: Kind) -> Kind:
    """Takes the methods of torch as they are, which it wraps to tell them from what is compiled.

    Where a version of torch wraps them no more they stay the same.
    """
    for name in GUARDED:
        setattr(kind, name, _bare(kind, name))
    bare = _bare(kind, "step")

    def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        learnt = [one for group in self.param_groups for one in group["params"] if one.grad is not None]
        numbers = sum(one.numel() for one in learnt)
        with torch.no_grad(), torch_on_all() if numbers >= LARGE else nullcontext():
            return bare(self, closure)

    kind.step = step  # type: ignore[method-assign]
    return kind


def _bare(kind: type, name: str) -> Any:
    method = getattr(kind, name)
    return getattr(method, "__wrapped__", method)


@light
class Adam(torch.optim.Adam):
    """torch's."""


@light
class AdamW(torch.optim.AdamW):
    """torch's."""
