"""torch's optimisers without its compiler, which each loads for nothing: a second and 70 MB of every training."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from hardgnn.ops.form import fast
from hardgnn.runtime import side_by_side, threads

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])
LARGE = 2**20  # numbers of a parameter that are worth more than one thread
TOGETHER = 2**18  # numbers of a part, a multiple of any vector's
GUARDED = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")


def light(kind: Kind) -> Kind:
    """Takes the methods of torch as they are, which it wraps to tell them from what is compiled.

    Where a version of torch wraps them no more they stay the same.
    """
    for name in GUARDED:
        setattr(kind, name, _bare(kind, name))
    bare = _bare(kind, "step")

    def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        with torch.no_grad():
            large = _large(self)
            kept = [(group, one, one.grad) for group, one in large]
            for _, one in large:
                one.grad = None
            found = bare(self, closure)
            for group, one, gradient in kept:
                one.grad = gradient
                _in_parts(kind, group, one, self.state[one])
        return found

    kind.step = step  # type: ignore[method-assign]
    return kind


def _large(optimiser: torch.optim.Optimizer) -> list[tuple[dict[str, Any], Tensor]]:
    """The parameters worth more than one thread, with their groups; after their first step, which torch takes."""
    if threads() < 2:
        return []
    return [
        (group, one)
        for group in optimiser.param_groups
        for one in group["params"]
        if one.grad is not None and one.numel() >= LARGE and one in optimiser.state and fast(one)
        if group["fused"] and not group["amsgrad"] and not group["maximize"]
    ]


def _in_parts(kind: type, group: dict[str, Any], parameter: Tensor, state: dict[str, Tensor]) -> None:
    """torch's step of one parameter, shared out; each number comes to the same."""
    update: Any = torch._fused_adamw_ if issubclass(kind, torch.optim.AdamW) else torch._fused_adam_
    gradient = parameter.grad
    assert gradient is not None
    whole = parameter.detach(), gradient.contiguous(), state["exp_avg"], state["exp_avg_sq"]
    parts = [one.view(-1).split(TOGETHER) for one in whole]
    state["step"] += 1
    beta1, beta2 = group["betas"]
    numbers = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}

    def work(number: int) -> None:
        of_part = [[one[number]] for one in parts]
        update(*of_part, [], [state["step"]], beta1=beta1, beta2=beta2, **numbers)

    side_by_side(work, range(len(parts[0])))


def _bare(kind: type, name: str) -> Any:
    method = getattr(kind, name)
    return getattr(method, "__wrapped__", method)


@light
class Adam(torch.optim.Adam):
    """torch's."""


@light
class AdamW(torch.optim.AdamW):
    """torch's."""
