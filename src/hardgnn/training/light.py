"""torch's optimisers without its compiler, which each loads for nothing: a second and 70 MB of every training."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
GUARDED = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")


def light(kind: type[Kind]) -> type[Kind]:
    """The same optimiser, whose methods are those that torch wraps to be told from what is compiled.

    Where a version of torch wraps them no more they are taken as they are.
    """
    body: dict[str, Any] = {name: _bare(kind, name) for name in GUARDED}
    body["step"] = torch.no_grad()(_bare(kind, "step"))
    return type(kind.__name__, (kind,), body)


def _bare(kind: type, name: str) -> Any:
    method = getattr(kind, name)
    return getattr(method, "__wrapped__", method)


Adam, AdamW = light(torch.optim.Adam), light(torch.optim.AdamW)
