"""torch's optimisers, without its compiler, and large tables in parts that threads share out."""

from __future__ import annotations

from collections.abc import Callable
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

    Each optimiser loads the compiler for nothing: a second and 70 MB of every training. Where a version of torch wraps
    them no more they stay the same.
    """
    for name in GUARDED:
        setattr(kind, name, _bare(kind, name))
    kind.step = torch.no_grad()(_bare(kind, "step"))  # type: ignore[method-assign]
    return kind


def _bare(kind: type, name: str) -> Any:
    method = getattr(kind, name)
    return getattr(method, "__wrapped__", method)


@light
class _Adam(torch.optim.Adam):
    pass


@light
class _AdamW(torch.optim.AdamW):
    pass


class _InParts(torch.optim.Optimizer):
    """Shares out the step of large parameters after their first, which torch takes; each number comes to the same."""

    update: Callable[..., None]
    """torch's step of one parameter."""

    def step(self, closure: Any = None) -> Any:
        """See torch."""
        large = self._large() if threads() > 1 else []
        gradients = [one.grad for _, one in large]
        for _, one in large:
            one.grad = None  # so that torch passes it over
        found = super().step(closure)
        for (group, one), gradient in zip(large, gradients, strict=True):
            one.grad = gradient
            self._in_parts(group, one)
        return found

    def _large(self) -> list[tuple[dict[str, Any], Tensor]]:
        return [
            (group, one)
            for group in self.param_groups
            for one in group["params"]
            if one.grad is not None and one.numel() >= LARGE and one in self.state and fast(one)
            if group["fused"] and not group["amsgrad"] and not group["maximize"]
        ]

    @torch.no_grad()
    def _in_parts(self, group: dict[str, Any], parameter: Tensor) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        whole = parameter.detach(), gradient.contiguous(), state["exp_avg"], state["exp_avg_sq"]
        parts = [one.view(-1).split(TOGETHER) for one in whole]
        state["step"] += 1
        beta1, beta2 = group["betas"]
        numbers = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}

        def work(number: int) -> None:
            of_part = [[one[number]] for one in parts]
            self.update(*of_part, [], [state["step"]], beta1=beta1, beta2=beta2, **numbers)

        side_by_side(work, range(len(parts[0])))


class Adam(_InParts, _Adam):
    """torch's."""

    update = staticmethod(torch._fused_adam_)


class AdamW(_InParts, _AdamW):
    """torch's."""

    update = staticmethod(torch._fused_adamw_)
