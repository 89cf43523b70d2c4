"""Products of pairs of rows and their gradient in C (pairs.c)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.native.library import address, each, zeros

TOGETHER = 2**15  # pairs of a part
WHOLE = 16  # numbers of a row are a multiple of these


class NativePairs(torch.autograd.Function):
    """See `hardgnn.ops.pairs.pair_products`. The gradient is added up pair by pair, on one thread."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, functions: ctypes.CDLL, rows: Tensor, columns: Tensor, slope: float
    ) -> Tensor:
        held = tuple(one.contiguous() for one in (left, right, rows, columns))
        ctx.functions, ctx.slope = functions, slope
        ctx.save_for_backward(*held)
        products = left.new_empty(len(rows))
        given = ctypes.c_long(left.shape[1]), ctypes.c_float(slope), *map(address, (*held, products))
        each(len(rows), TOGETHER, functions.hardgnn_pairs, *given)
        return products

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        left, right, rows, columns = ctx.saved_tensors
        d_left, d_right, grad = zeros(*left.shape), zeros(*right.shape), grad.contiguous()
        held = left, right, rows, columns, grad, d_left, d_right
        given = ctypes.c_long(left.shape[1]), ctypes.c_float(ctx.slope), *map(address, held)
        ctx.functions.hardgnn_pairs_gradient(ctypes.c_long(0), ctypes.c_long(len(rows)), *given)
        return d_left, d_right, None, None, None, None
