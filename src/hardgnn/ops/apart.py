"""Parts of a step side by side, on one thread of torch each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.form import fast
from hardgnn.runtime import side_by_side


def at_once(*work: Callable[[], Any], where: torch.device) -> list[Any]:
    """What these give that do not need each other, in their order; on a processor they go on side by side.

    One of them at most may draw random numbers. Their gradients go on one after the other.
    """
    if where.type != "cpu" or not fast():
        return [one() for one in work]
    found: list[Any] = [None] * len(work)
    learning = torch.is_grad_enabled()

    def run(number: int) -> None:
        with torch.set_grad_enabled(learning):
            found[number] = work[number]()

    side_by_side(run, range(len(work)))
    return found


Work = Callable[[int, Tensor], Tensor]
"""What is done with a part, of which it is told the number and the rows."""


def apart(work: Work, x: Tensor, sizes: Sequence[int], learnt: Sequence[Tensor]) -> Tensor:
    """`work` of the parts of x (n, ...), which have so many rows each, the results one after the other.

    Gradients go to x and to what is `learnt`, whatever else `work` makes use of has none; they are added up in the
    order of the parts, so that they do not depend on the number of threads.
    """
    if fast(x) and torch.is_grad_enabled():
        found: Tensor = _Apart.apply(work, sizes, x, *(one for one in learnt if one.requires_grad))
        return found
    return torch.cat([work(number, part) for number, part in enumerate(x.split(list(sizes)))])


class _Apart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: Work, sizes: Sequence[int], x: Tensor, *learnt: Tensor) -> Tensor:
        parts = [one.detach().requires_grad_() for one in x.split(list(sizes))]
        found: list[Any] = [None] * len(parts)

        def run(number: int) -> None:
            with torch.enable_grad():
                found[number] = work(number, parts[number])

        side_by_side(run, range(len(parts)))
        ctx.held = parts, found, learnt
        return torch.cat([one.detach() for one in found])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts, found, learnt = ctx.held
        outer = grad.split([len(one) for one in found])
        gradients: list[Any] = [None] * len(parts)

        def run(number: int) -> None:
            asked = parts[number], *learnt
            gradients[number] = torch.autograd.grad(found[number], asked, outer[number], allow_unused=True)

        side_by_side(run, range(len(parts)))
        of_parts, *of_learnt = zip(*gradients)
        return None, None, torch.cat(of_parts), *map(_sum, of_learnt)


def _sum(gradients: tuple[Tensor | None, ...]) -> Tensor | None:
    total = None
    for one in gradients:
        if one is not None:
            total = one if total is None else total + one  # not in place: it may be another's gradient too
    return total
