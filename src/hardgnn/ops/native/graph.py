"""Propagation over the graphs and its gradient in C (graph.c)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.native.library import address, each, zeros
from hardgnn.ops.sparse import Active, Rows

TOGETHER = 4096  # rows of a part
WHOLE = 16  # numbers of a vector are a multiple of these


def serves(dim: int, summed: bool) -> bool:
    """Whether the C form has such a propagation: the sum of the layers, of vectors of so many numbers."""
    return summed and dim % WHOLE == 0


@dataclass
class _Side:
    """One side: its rows that have an edge, and those that are asked for (all where there is no list)."""

    active: Active
    size: int
    asked: Tensor | None
    place: Tensor | None  # (size,) of each row among the asked ones, -1 for none
    only: Tensor | None  # of the rows that have an edge those that are asked for, by their number
    among: Tensor | None  # (n,) `place` of the rows that have an edge

    @classmethod
    def of(cls, size: int, asked: Tensor | None, active: Active) -> _Side:
        if asked is None:
            return cls(active, size, None, None, None, None)
        place = torch.full((size,), -1).index_copy_(0, asked, torch.arange(len(asked)))
        return cls(active, size, asked, place, active.among(asked)[1], place.index_select(0, active.rows))

    def __len__(self) -> int:
        """How many rows are asked for."""
        return self.size if self.asked is None else len(self.asked)


class NativePropagation(torch.autograd.Function):
    """The sum of all layers of both sides, and its gradient; see `hardgnn.ops.propagation.Propagation`."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        functions: ctypes.CDLL,
        matrices: tuple[Rows, Rows],
        layers: int,
        slope: float,
        user_rows: Tensor | None,
        item_rows: Tensor | None,
        active: tuple[Active, Active],
    ) -> tuple[Tensor, ...]:
        tables = [users.detach().contiguous(), items.detach().contiguous()]
        sides = [_Side.of(len(one), rows, of) for one, rows, of in zip(tables, (user_rows, item_rows), active)]
        learning = any(ctx.needs_input_grad)
        ctx.constants, ctx.negative = (functions, matrices, slope, sides), []
        dim = ctypes.c_long(users.shape[1])
        totals = [users.new_empty(len(side), users.shape[1]) for side in sides]
        for side, table, total in zip(sides, tables, totals):
            _ends(functions, side, layers, table, total, spread=False)
        for layer in range(1, layers + 1):
            top = layer == layers
            signs = [
                torch.empty(len(side.active.rows), users.shape[1], dtype=torch.int8) if learning else None
                for side in sides
            ]
            made = [None if top else torch.empty_like(table) for table in tables]
            for one, other in ((0, 1), (1, 0)):
                side = sides[one]
                only = side.only if top else None
                edges = (
                    *map(address, (only, *matrices[one])),
                    address(side.active.rows),
                    address(sides[other].active.rows),
                )
                found = address(made[one]), address(side.place), address(totals[one]), address(signs[one])
                given = address(tables[other]), address(tables[one]), dim, ctypes.c_float(slope)
                each(
                    len(side.active.rows if only is None else only),
                    TOGETHER,
                    functions.hardgnn_layer,
                    *edges,
                    *given,
                    *found,
                )
            ctx.negative.append(signs)
            tables = [old if new is None else new for old, new in zip(tables, made)]
        return tuple(totals)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        functions, matrices, slope, sides = ctx.constants
        layers, dim = len(ctx.negative), gradients[0].shape[1]
        gradients = tuple(one.contiguous() for one in gradients)
        width = ctypes.c_long(dim)
        found = [zeros(side.size, dim) for side in sides]
        for side, gradient, table in zip(sides, gradients, found):
            _ends(functions, side, layers, gradient, table, spread=True)
        through = [one.new_empty(len(side.active.rows), dim) for side, one in zip(sides, gradients)]
        for layer in range(layers, 0, -1):
            for side, table, signs, result in zip(sides, found, ctx.negative[layer - 1], through):
                given = address(side.active.rows), width, ctypes.c_float(slope), *map(address, (table, signs, result))
                each(len(result), TOGETHER, functions.hardgnn_through, *given)
            for one, other in ((0, 1), (1, 0)):
                side = sides[one]
                asked = sides[other].among if layer == layers else None
                edges = *map(address, (*matrices[one], through[other], asked, side.active.rows)), width
                given = *edges, *map(address, (side.place, gradients[one], found[one]))
                each(len(through[one]), TOGETHER, functions.hardgnn_gather, *given)
        return found[0], found[1], *(None,) * 7


def _ends(functions: ctypes.CDLL, side: _Side, layers: int, x: Tensor, to: Tensor, spread: bool) -> None:
    """Layer 0 of the asked rows, of which those without an edge stay as they are in all layers; or its gradient."""
    given = address(side.asked), address(side.active.place), ctypes.c_long(x.shape[1]), ctypes.c_float(layers + 1)
    each(len(side), TOGETHER, functions.hardgnn_ends, *given, ctypes.c_long(spread), address(x), address(to))
