"""What the items of a history reach by the edges that there are, in C (transitions.c)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.edges import Edges
from hardgnn.ops.native.library import address, each

WINDOWS_TOGETHER = 16  # of a part


def serves(edges: Edges) -> bool:
    """Whether the C form has edges of so many: numbers of 32 bits."""
    return edges.offsets.dtype == torch.int32


class Places:
    """Where each of `width` columns stands among some, -1 for others: one array, of which a step changes a few."""

    def __init__(self, width: int) -> None:
        self._place = torch.full((width,), -1, dtype=torch.int32)
        self._columns = torch.empty(0, dtype=torch.long)

    def of(self, columns: Tensor) -> Tensor:
        """Those among `columns` (C,), (width,) int32, until it is asked for others."""
        if columns is not self._columns:
            self._place[self._columns] = -1
            self._place[columns] = torch.arange(len(columns), dtype=torch.int32)
            self._columns = columns
        return self._place


class NativeWalk(torch.autograd.Function):
    """x of every candidate (columns) after every item of the windows, `x_p = decay x_{p-1} + edges of item p`: (P, C).

    Shapes: windows (B, m) of rows of `edges`, their number for padding; decay, forward: one number each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        decay: Tensor,
        forward: Tensor,
        functions: ctypes.CDLL,
        places: Places,
        edges: Edges,
        columns: Tensor,
        windows: Tensor,
    ) -> Tensor:
        windows = windows.contiguous()
        real = (windows < len(edges)).sum(1)
        starts = torch.cat([real.new_zeros(1), real.cumsum(0)])
        place = places.of(columns)
        found = edges.first.new_empty(int(starts[-1]), len(columns))
        given = ctypes.c_long(windows.shape[1]), ctypes.c_long(len(edges)), address(windows), address(starts)
        graph = (
            *map(address, (edges.offsets, edges.columns, edges.first, edges.second, place)),
            ctypes.c_long(len(columns)),
        )
        numbers = ctypes.c_float(float(decay)), ctypes.c_float(float(forward))
        each(len(windows), WINDOWS_TOGETHER, functions.hardgnn_walk, *given, *graph, *numbers, address(found))
        ctx.save_for_backward(decay, found)
        ctx.constants = functions, places, edges, columns, windows, starts
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        decay, found = ctx.saved_tensors
        functions, places, edges, columns, windows, starts = ctx.constants
        place = places.of(columns)
        grad = outer[0].clone(memory_format=torch.contiguous_format)
        sums = torch.zeros(-(-len(windows) // WINDOWS_TOGETHER), 2, dtype=torch.float64)
        given = ctypes.c_long(windows.shape[1]), ctypes.c_long(len(edges)), address(windows), address(starts)
        graph = *map(address, (edges.offsets, edges.columns, edges.second, place)), ctypes.c_long(found.shape[1])
        held = ctypes.c_float(float(decay)), address(found), address(grad)
        function = functions.hardgnn_walk_gradient
        each(len(windows), WINDOWS_TOGETHER, function, *given, *graph, *held, of_part=lambda i: (address(sums[i]),))
        of_decay, of_forward = sums.sum(0).to(decay.dtype)
        return of_decay, of_forward, *(None,) * 5
