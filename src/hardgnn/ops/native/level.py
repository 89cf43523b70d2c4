"""The interval level and its gradient in C (level.c)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from hardgnn.ops.interval_blocks import Blocks
from hardgnn.ops.native.library import address, each, parts

TOGETHER = 2048  # nodes of a part, whose weights' gradients are added up by themselves
WHOLE = 32  # numbers of a vector are a multiple of these


class _Level(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in ("intervals", "dim", "heads", "over_states", "with_norm", "tiles")),
        *((name, ctypes.c_float) for name in ("epsilon", "kept_scale")),
        *((name, ctypes.c_void_p) for name in ("input", "state", "qkv", "output")),
        *((name, ctypes.c_void_p) for name in ("input_bias", "state_bias", "qkv_bias", "output_bias")),
    ]


def serves(recurrent: nn.RNNBase, dim: int) -> bool:
    """Whether the C form has such a network."""
    return isinstance(recurrent, nn.GRU) and dim % WHOLE == 0


def _described(blocks: Blocks, shape: torch.Size, times: float, tiles: int) -> tuple[_Level, list[Tensor]]:
    """The level as C takes it, and the tensors that it points to."""
    recurrent, output = blocks.cell.parameters, blocks.output
    weights = [recurrent[0], recurrent[1], blocks.weight]
    biases = [recurrent[2], recurrent[3], blocks.bias[:, 0]]
    kept: list[Any] = [*weights, None if output is None else output.weight]
    kept += [*biases, None if output is None else output.bias]
    kept = [None if one is None else one.detach().contiguous() for one in kept]
    norm = blocks.norm is not None
    sizes = (shape[0], shape[2], blocks.heads, len(blocks.over) > 1, norm, tiles)
    return _Level(*map(int, sizes), blocks.epsilon, times, *map(address, kept)), kept


class NativeEncode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        functions: ctypes.CDLL,
        blocks: Blocks,
        kept: Tensor | None,
        times: float,
        *parameters: Tensor,
    ) -> Tensor:
        x = x.contiguous()
        nodes, dim = x.shape[1:]
        ctx.save_for_backward(x, *parameters)
        ctx.functions, ctx.blocks, ctx.kept, ctx.times, ctx.tiles = functions, blocks, kept, times, parts()
        level, _alive = _described(blocks, x.shape, times, ctx.tiles)
        result = x.new_empty(nodes, dim)
        given = ctypes.byref(level), address(x), address(kept), ctypes.c_long(nodes)
        each(nodes, TOGETHER, functions.hardgnn_level, *given, address(result))
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *_ = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        grad = grad.contiguous()
        nodes, dim = grad.shape
        level, _alive = _described(blocks, x.shape, ctx.times, ctx.tiles)
        sizes = [3 * dim * dim] * 3 + [dim * dim] + [3 * dim] * 3 + [dim]
        result, sums = x.new_empty(x.shape), x.new_zeros(-(-nodes // TOGETHER), sum(sizes))
        given = ctypes.byref(level), address(x), address(ctx.kept), ctypes.c_long(nodes)
        places = address(grad), address(result)
        function = ctx.functions.hardgnn_level_gradient
        each(nodes, TOGETHER, function, *given, *places, of_part=lambda i: (address(sums[i]),))
        found = sums.sum(0).split(sizes)
        of_input, of_state, of_qkv = (one.view(3 * dim, dim) for one in found[:3])
        cell = blocks.cell
        ordered: list[Any] = [cell.to_input_order(of_input), of_state, cell.to_input_order(found[4]), found[5]]
        ordered += [None, None] if blocks.norm is not None else []
        ordered += [of_qkv, found[6]]
        ordered += [] if blocks.output is None else [found[3].view(dim, dim), found[7]]
        return result, None, None, None, None, *blocks.of_parameters(ordered)


def encode_natively(x: Tensor, functions: ctypes.CDLL, blocks: Blocks, kept: Tensor | None, times: float) -> Tensor:
    """What `hardgnn.ops.interval_blocks.encode_blocks` says."""
    found: Tensor = NativeEncode.apply(x, functions, blocks, kept, times, *blocks.parameters)
    return found
