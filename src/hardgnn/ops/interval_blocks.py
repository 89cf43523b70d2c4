"""The interval level on a processor, with its gradient written out, a block of nodes at a time.

Within a block nodes run along the last axis, so that every elementwise operation has long rows and stays in the caches.
The gradient computes a block again instead of keeping its many intermediate results, which costs as much as writing
them to memory and reading them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.ops.product import product
from hardgnn.ops.recurrent import Gated, GatedUnit, LongShortTerm

BLOCK_NUMBERS = 2**20  # numbers of a block's T states, about
NODES_TOGETHER = 128  # blocks hold a multiple of this many nodes, so that products have few different shapes


class Blocks:
    """The weights of one side, prepared for its blocks."""

    def __init__(
        self,
        recurrent: nn.RNNBase,
        norm: nn.LayerNorm | None,
        qkv: nn.Linear,
        output: nn.Linear | None,
        heads: int,
        over_states: bool,
        epsilon: float,
    ) -> None:
        self.cell: Gated = (GatedUnit if isinstance(recurrent, nn.GRU) else LongShortTerm)(recurrent)
        self.norm, self.output, self.heads = norm, output, heads
        self.over = (0, 1) if over_states else (0,)  # of (d, T, n)
        self.epsilon = epsilon
        parts = [part for part in (norm, qkv, output) if part is not None]
        self.parameters = [*self.cell.parameters, *(weight for part in parts for weight in (part.weight, part.bias))]
        # The gain and offset of the LayerNorm, the scale of the logits and the base 2 of the softmax go into the
        # weights of queries, keys and values.
        self.qkv, bias = qkv.weight.detach(), qkv.bias.detach()
        dim = self.qkv.shape[1]
        self.scale = self.qkv.new_ones(3 * dim, 1)
        self.scale[:dim] = (dim // self.heads) ** -0.5 / math.log(2)
        self.weight, self.bias = self.scale * self.qkv, self.scale * bias[:, None]
        if self.norm is not None:
            self.bias = self.bias + self.weight @ self.norm.bias.detach()[:, None]
            self.weight = self.weight * self.norm.weight.detach()

    def forward(self, x: Tensor, kept: Tensor | None, tape: dict[str, Any] | None = None) -> Tensor:
        """The long-term vectors (n, d) of a block (T, n, d); what the gradient needs is left in `tape`."""
        intervals, nodes, dim = x.shape
        cell = self.cell
        hidden = x.new_empty(dim, intervals, nodes)
        steps: list[Any] = []
        state: Tensor | None = None
        before: Any = None
        for time in range(intervals):
            own = product(cell.input_weight, x[time]).add_(cell.input_bias)
            recalled = None if state is None else product(cell.state_weight, state.T)
            entered = state
            state, before, needed = cell.step(own, recalled, before)
            hidden[:, time] = state
            steps.append((needed, entered))
        if kept is not None:
            hidden.mul_(kept)
        deviation = None
        if self.norm is not None:
            hidden.sub_(hidden.mean(self.over, keepdim=True))
            deviation = hidden.square().mean(self.over, keepdim=True).add_(self.epsilon).rsqrt_()
            hidden.mul_(deviation)
        joined = product(self.weight, hidden.view(dim, -1).T).add_(self.bias)
        query, key, value = joined.view(3, self.heads, -1, intervals, nodes)  # (H, d / H, T, n) each
        looks = query[:, 0, :, None] * key[:, 0, None]  # (H, T, T, n)
        for number in range(1, query.shape[1]):
            looks.addcmul_(query[:, number, :, None], key[:, number, None])
        looks.sub_(looks.amax(2, keepdim=True)).exp2_()
        looks.div_(looks.sum(2, keepdim=True))
        weights = looks.mean(1)  # (H, T, n): averaged before they meet the values, which is exact
        pooled = weights[:, None, 0] * value[:, :, 0]
        for time in range(1, intervals):
            pooled.addcmul_(weights[:, None, time], value[:, :, time])
        pooled = pooled.view(dim, nodes)
        if tape is not None:
            tape.update(steps=steps, hidden=hidden, deviation=deviation, looks=looks, weights=weights, pooled=pooled)
            tape["joined"] = (query, key, value)
        if self.output is None:
            return pooled.T
        return product(pooled.T, self.output.weight.detach()).add_(self.output.bias.detach())

    def gradient(self, x: Tensor, kept: Tensor | None, grad: Tensor, sums: list[Any]) -> Tensor:
        """The gradient (T, n, d) of a block from that of its vectors (n, d); those of the weights go into `sums`."""
        tape: dict[str, Any] = {}
        self.forward(x, kept, tape)
        hidden, looks, weights = tape["hidden"], tape["looks"], tape["weights"]
        query, key, value = tape["joined"]
        dim, intervals, nodes = hidden.shape
        of_pooled = grad.T
        if self.output is not None:
            of_pooled = product(self.output.weight.detach().T, grad)
            sums[-2] += product(grad.T, tape["pooled"])
            sums[-1] += grad.sum(0)
        of_pooled = of_pooled.reshape(self.heads, -1, nodes)
        of_joined = grad.new_empty(3, *query.shape)
        of_query, of_key, of_value = of_joined
        torch.mul(weights[:, None], of_pooled[:, :, None], out=of_value)
        of_weights = of_pooled[:, 0, None] * value[:, 0]
        for number in range(1, value.shape[1]):
            of_weights.addcmul_(of_pooled[:, number, None], value[:, number])
        through = looks * of_weights.mul_(math.log(2) / intervals)[:, None]
        through.addcmul_(looks, through.sum(2, keepdim=True), value=-1)
        torch.mul(through[:, None, :, 0], key[:, :, None, 0], out=of_query)
        torch.mul(through[:, None, 0], query[:, :, None, 0], out=of_key)
        for time in range(1, intervals):
            of_query.addcmul_(through[:, None, :, time], key[:, :, None, time])
            of_key.addcmul_(through[:, None, time], query[:, :, None, time])
        flat = of_joined.view(3 * dim, -1)
        first = len(self.cell.parameters) + (0 if self.norm is None else 2)
        sums[first] += product(flat, hidden.view(dim, -1))
        sums[first + 1] += flat.sum(1)
        of_hidden = product(self.weight.T, flat.T).view(dim, intervals, nodes)
        if self.norm is not None:
            alike = (of_hidden * hidden).mean(self.over, keepdim=True)
            of_hidden.sub_(of_hidden.mean(self.over, keepdim=True)).addcmul_(hidden, alike, value=-1)
            of_hidden.mul_(tape["deviation"])
        if kept is not None:
            of_hidden.mul_(kept)
        return self._through_time(x, of_hidden, tape["steps"], sums)

    def _through_time(self, x: Tensor, of_hidden: Tensor, steps: list[Any], sums: list[Any]) -> Tensor:
        cell, result = self.cell, torch.empty_like(x)
        back, carried = None, None
        for time in range(len(x) - 1, -1, -1):
            grad = of_hidden[:, time].contiguous() if back is None else of_hidden[:, time] + back
            needed, entered = steps[time]
            rows, back, carried = cell.gradient(grad, needed, carried)
            into, recalled = rows[cell.into], rows[cell.back]
            sums[0] += product(into, x[time].T)
            sums[2] += into.sum(1)
            sums[3] += recalled.sum(1)
            result[time] = product(cell.input_weight.T, into.T).T  # faster than the product of the transposes
            if entered is not None:
                sums[1] += product(recalled, entered)
                through = product(cell.state_weight.T, recalled.T)
                back = through if back is None else through.add_(back)
        return result

    def of_parameters(self, sums: list[Any]) -> list[Tensor]:
        """The gradients of `parameters` from the sums over all blocks."""
        sums[0], sums[2] = self.cell.from_input_order(sums[0]), self.cell.from_input_order(sums[2])
        first = len(self.cell.parameters)
        if self.norm is None:
            sums[first], sums[first + 1] = sums[first] * self.scale, sums[first + 1] * self.scale[:, 0]
            return sums
        of_weight, of_bias = sums[first + 2] * self.scale, sums[first + 3] * self.scale[:, 0]
        sums[first] = (of_weight * self.qkv).sum(0)
        sums[first + 1] = of_bias @ self.qkv
        sums[first + 2] = of_weight * self.norm.weight.detach() + of_bias[:, None] * self.norm.bias.detach()
        sums[first + 3] = of_bias
        return sums

    def parts(self, x: Tensor) -> list[tuple[slice, int]]:
        """The nodes of each block of x (T, N, d), and how many the block has, a multiple of `NODES_TOGETHER`."""
        size = max(1, BLOCK_NUMBERS // (x.shape[0] * x.shape[2]) // NODES_TOGETHER) * NODES_TOGETHER
        ends = [(start, min(start + size, x.shape[1])) for start in range(0, x.shape[1], size)]
        return [(slice(start, end), end - start + -(end - start) % NODES_TOGETHER) for start, end in ends]

    def blocks(self, x: Tensor) -> list[tuple[slice, Tensor]]:
        """The blocks, the last one with nodes of zeros at its end."""
        found = []
        for rows, size in self.parts(x):
            missing = size - (rows.stop - rows.start)
            found.append((rows, F.pad(x[:, rows], (0, 0, 0, missing)) if missing else x[:, rows]))
        return found


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, level: Blocks, kept: Tensor | None, times: float, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        ctx.level, ctx.kept, ctx.times = level, kept, times
        result = x.new_empty(x.shape[1:])
        for rows, block in level.blocks(x):
            found = level.forward(block, _scaled(kept, rows, block, times))
            result[rows] = found[: rows.stop - rows.start]
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        level = ctx.level
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        result = torch.empty_like(x)
        for rows, block in level.blocks(x):
            nodes = rows.stop - rows.start
            part = F.pad(grad[rows], (0, 0, 0, block.shape[1] - nodes))
            kept = _scaled(ctx.kept, rows, block, ctx.times)
            result[:, rows] = level.gradient(block, kept, part, sums)[:, :nodes]
        return result, None, None, None, *level.of_parameters(sums)


def _scaled(kept: Tensor | None, rows: slice, block: Tensor, times: float) -> Tensor | None:
    """What multiplies the states of a block: of the numbers kept (d, T, N) those of its nodes, zeros for others."""
    if kept is None:
        return None
    scaled = kept[:, :, rows].to(block.dtype).mul_(times)
    return F.pad(scaled, (0, block.shape[1] - scaled.shape[2]))


def encode_blocks(x: Tensor, level: Blocks, kept: Tensor | None, times: float) -> Tensor:
    """What `hardgnn.ops.interval_level.encode` says, (T, N, d) -> (N, d).

    States are `times` as large where they are `kept` (d, T, N), and 0 elsewhere; without, all stay as they are.
    """
    found: Tensor = _Encode.apply(x, level, kept, times, *level.parameters)
    return found
