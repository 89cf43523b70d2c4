"""Dropout and its gradient in C (dropout.c)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.native.library import address, each

TOGETHER = 2**18  # numbers of a part


class NativeDropout(torch.autograd.Function):
    """`x * scale` where the random number, one int16 for each of x, is at least `dropped`, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, functions: ctypes.CDLL, drawn: Tensor, dropped: int, scale: float) -> Tensor:
        ctx.constants = functions, drawn, dropped, scale
        return _dropped(x, *ctx.constants)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _dropped(grad, *ctx.constants), *(None,) * 4


def _dropped(x: Tensor, functions: ctypes.CDLL, drawn: Tensor, dropped: int, scale: float) -> Tensor:
    x = x.contiguous()
    result = torch.empty_like(x)
    given = address(drawn), ctypes.c_long(dropped), ctypes.c_float(scale), address(x), address(result)
    each(x.numel(), TOGETHER, functions.hardgnn_dropout, *given)
    return result
