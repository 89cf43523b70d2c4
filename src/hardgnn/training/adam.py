"""torch's optimisers without its compiler, which each loads for nothing: a second and 70 MB of every training."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])
GUARDED = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")


def light(kind: Kind) -> Kind:
    """Takes the methods of torch as they are, which it wraps to tell them from what is compiled.

    Where a version of torch wraps them no more they stay the same.
    """
    for name in GUARDED:
        setattr(kind, name, _bare(kind, name))
    kind.step = torch.no_grad()(_bare(kind, "step"))  # type: ignore[method-assign]
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
