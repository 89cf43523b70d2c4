"""What the items of a history reach by the edges that there are, in C (transitions.c)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hardgnn.ops.native.library import address, each

WINDOWS_TOGETHER = 16  # of a part
ROWS_TOGETHER = 256
LANES = 16  # edges of a mask

Parts = tuple[Tensor, Tensor, Tensor, Tensor]
"""Edges: where each row begins (n + 1,), columns (E,) int32, two values of each (E,)."""


class Chosen:
    """Which of `width` columns are chosen and where they stand among them, as a step asks: it changes a few.

    4.1 bytes a column.
    """

    def __init__(self, width: int) -> None:
        self._place = torch.empty(width, dtype=torch.int32)  # told by the bits, so that nothing need be cleared
        self._bits = torch.zeros(-(-width // 32), dtype=torch.int32)

    def edges(self, functions: ctypes.CDLL, parts: Parts, rows: Tensor, columns: Tensor) -> Parts:
        """The edges of rows (n,) into columns (c,), ascending, which are numbered by their places among these."""
        offsets, every, one, other = parts
        words = columns >> 5
        self._place[columns] = torch.arange(len(columns), dtype=torch.int32)
        self._bits.index_add_(0, words, torch.ones((), dtype=torch.int64).bitwise_left_shift(columns & 31).int())
        begins = offsets[rows].long()
        lengths = offsets[rows + 1].long() - begins
        starts = F.pad(((lengths + LANES - 1) // LANES).cumsum(0), (1, 0))
        masks, counts = torch.empty(int(starts[-1]), dtype=torch.int16), torch.empty_like(lengths)
        where = *map(address, (begins, lengths, every)), *map(address, (self._bits, starts, masks, counts))
        each(len(rows), ROWS_TOGETHER, functions.hardgnn_among, *where)
        to = F.pad(counts.cumsum(0), (1, 0))
        found = every.new_empty(int(to[-1])), one.new_empty(int(to[-1])), other.new_empty(int(to[-1]))
        held = begins, lengths, every, one, other, starts, masks, self._place, to, *found
        each(len(rows), ROWS_TOGETHER, functions.hardgnn_take_among, *map(address, held))
        self._bits[words] = 0
        return to.int(), *found


class NativeWalk(torch.autograd.Function):
    """x of every candidate after every item of the windows, `x_p = decay x_{p-1} + edges of item p`: (P, width).

    Shapes: windows (B, m) of rows of the edges, their number for padding; `place` of each of their columns among the
    candidates, int32, -1 for others; decay, forward: one number each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        decay: Tensor,
        forward: Tensor,
        functions: ctypes.CDLL,
        edges: Parts,
        place: Tensor,
        width: int,
        windows: Tensor,
    ) -> Tensor:
        windows, rows = windows.contiguous(), len(edges[0]) - 1
        starts = F.pad((windows < rows).sum(1).cumsum(0), (1, 0))
        found = edges[2].new_empty(int(starts[-1]), width)
        given = ctypes.c_long(windows.shape[1]), ctypes.c_long(rows), address(windows), address(starts)
        graph = *map(address, (*edges, place)), ctypes.c_long(width)
        numbers = ctypes.c_float(float(decay)), ctypes.c_float(float(forward))
        each(len(windows), WINDOWS_TOGETHER, functions.hardgnn_walk, *given, *graph, *numbers, address(found))
        ctx.save_for_backward(decay, found)
        ctx.constants = functions, edges, place, windows, starts
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        decay, found = ctx.saved_tensors
        functions, (offsets, columns, _, other), place, windows, starts = ctx.constants
        grad = outer[0].clone(memory_format=torch.contiguous_format)
        sums = torch.zeros(-(-len(windows) // WINDOWS_TOGETHER), 2, dtype=torch.float64)
        given = ctypes.c_long(windows.shape[1]), ctypes.c_long(len(offsets) - 1), address(windows), address(starts)
        graph = *map(address, (offsets, columns, other, place)), ctypes.c_long(found.shape[1])
        held = ctypes.c_float(float(decay)), address(found), address(grad)
        function = functions.hardgnn_walk_gradient
        each(len(windows), WINDOWS_TOGETHER, function, *given, *graph, *held, of_part=lambda i: (address(sums[i]),))
        of_decay, of_forward = sums.sum(0).to(decay.dtype)
        return of_decay, of_forward, *(None,) * 5
