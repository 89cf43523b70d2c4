"""Propagation over the graphs and its gradient in C (graph.c)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.native.library import address, each, parts
from hardgnn.ops.sparse import Active, Rows

TOGETHER = 4096  # rows of a part
WHOLE = 16  # numbers of a vector are a multiple of these
SIDES = ((0, 1), (1, 0))


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
    among: Tensor  # (n,) `place` of the rows that have an edge

    @classmethod
    def of(cls, size: int, asked: Tensor | None, active: Active) -> _Side:
        if asked is None:
            return cls(active, size, None, None, None, active.rows)
        place = torch.full((size,), -1).index_copy_(0, asked, torch.arange(len(asked)))
        return cls(active, size, asked, place, active.among(asked)[1], place.index_select(0, active.rows))

    def __len__(self) -> int:
        """How many rows are asked for."""
        return self.size if self.asked is None else len(self.asked)


@dataclass
class Shared:
    """What propagations of the same tables have in common: all but the users' top layer.

    `below` holds of each side the layers so far, `negative` of each layer and side the signs that its gradient needs,
    `items` (T * I, d) the sum of all layers of every item; with `half` the layers are bfloat16 numbers.
    """

    below: tuple[list[Tensor], list[Tensor]]
    negative: list[list[Tensor | None]]
    items: Tensor
    half: bool

    @classmethod
    def of(
        cls,
        users: Tensor,
        items: Tensor,
        functions: ctypes.CDLL,
        matrices: tuple[Rows, Rows],
        layers: int,
        slope: float,
        active: tuple[Active, Active],
    ) -> Shared:
        """It, computed: there is one layer at least."""
        tables, sides = _held(users, items, (torch.empty(0, dtype=torch.int64), None), active)
        _, found = _layers(functions, tables, sides, matrices, layers, slope, True)
        return found


class NativePropagation(torch.autograd.Function):
    """The sum of all layers of both sides, and its gradient; see `hardgnn.ops.propagation.Propagation`.

    What is `shared` is not computed again.
    """

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
        shared: Shared | None,
    ) -> tuple[Tensor, ...]:
        tables, sides = _held(users, items, (user_rows, item_rows), active)
        learning = any(ctx.needs_input_grad)
        totals, found = _layers(functions, tables, sides, matrices, layers, slope, learning, shared)
        ctx.constants, ctx.negative = (functions, matrices, slope, sides, found.half), found.negative
        return totals

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        functions, matrices, slope, sides, half = ctx.constants
        layers, dim = len(ctx.negative), gradients[0].shape[1]
        gradients = tuple(one.contiguous() for one in gradients)
        found = [one.new_empty(side.size, dim) for side, one in zip(sides, gradients)]
        for side, gradient, table in zip(sides, gradients, found):
            given = address(side.place), address(side.active.place), ctypes.c_long(dim), ctypes.c_long(layers)
            each(side.size, TOGETHER, functions.hardgnn_ends_gradient, *given, address(gradient), address(table))
        kind = torch.bfloat16 if half else torch.float32
        above: list[Tensor | None] = [None, None]
        for layer in range(layers, 0, -1):
            top, last = layer == layers, layer == 1
            made = [table if last else _rows(side, dim, kind) for side, table in zip(sides, found)]
            for one, other in SIDES:
                side = sides[one]
                from_other = (sides[other].among, gradients[other]) if top else (None, above[other])
                held = *matrices[one], *from_other, ctx.negative[layer - 1][other], above[one], side.among
                each(
                    len(side.active.rows),
                    TOGETHER,
                    functions.hardgnn_layer_gradient,
                    *map(address, held),
                    ctypes.c_float(2 if top else 1),
                    address(gradients[one]),
                    ctypes.c_long(dim),
                    ctypes.c_float(slope),
                    ctypes.c_long(half),
                    *map(address, (side.active.rows if last else None, made[one])),
                )
            above = list(made)
        return found[0], found[1], *(None,) * 8


def _held(
    users: Tensor, items: Tensor, asked: tuple[Tensor | None, Tensor | None], active: tuple[Active, Active]
) -> tuple[tuple[Tensor, ...], tuple[_Side, ...]]:
    """Both tables as C reads them, and what is asked of each."""
    tables = users.detach().contiguous(), items.detach().contiguous()
    return tables, tuple(_Side.of(len(one), rows, of) for one, rows, of in zip(tables, asked, active))


def _layers(
    functions: ctypes.CDLL,
    tables: tuple[Tensor, ...],
    sides: tuple[_Side, ...],
    matrices: tuple[Rows, Rows],
    layers: int,
    slope: float,
    learning: bool,
    shared: Shared | None = None,
) -> tuple[tuple[Tensor, ...], Shared]:
    """The sums of all layers of the asked rows of both sides, and what came on the way.

    Of the layers but the top one all rows that have an edge are computed; if they are `shared`, the users' top alone.
    """
    half = parts() == 1 if shared is None else shared.half
    dim, negative = tables[0].shape[1], _signs(layers, shared)
    sizes = ctypes.c_long(dim), ctypes.c_float(slope), ctypes.c_long(half)
    computed = SIDES if shared is None else SIDES[:1]
    totals = [table.new_empty(len(side), dim) for side, table in zip(sides[: len(computed)], tables)]
    for side, table, total in zip(sides, tables, totals):
        given = address(side.asked), address(side.active.place), ctypes.c_long(dim), ctypes.c_long(layers)
        each(len(side), TOGETHER, functions.hardgnn_ends, *given, address(table), address(total))
    if shared is not None:
        rows = sides[1].asked
        totals.append(shared.items.view_as(shared.items) if rows is None else shared.items.index_select(0, rows))
        below = shared.below
    else:  # of each side the layers so far: the first of the whole table, or rounded of the rows that have an edge
        first = [_rounded(functions, table, side) if half else table for table, side in zip(tables, sides)]
        below = [first[0]], [first[1]]
    counts = [len(side.active.rows) for side in sides]
    for layer in range(1 if shared is None else layers, layers + 1):
        top, whole = layer == layers, layer == 1 and not half
        made = [None if top else _rows(side, dim, below[0][0].dtype) for side in sides]
        for one, other in computed:
            side, firsts = sides[one], [side.active.rows if whole else None for side in sides]
            only = side.only if top else None
            between = (ctypes.c_void_p * layer)(*(table.data_ptr() for table in below[one][1:]))
            signs = torch.empty(counts[one], dim // WHOLE, dtype=torch.int16) if learning else None
            each(
                counts[one] if only is None else len(only),
                TOGETHER,
                functions.hardgnn_layer,
                *map(address, (only, *matrices[one], firsts[other], below[other][-1], firsts[one], below[one][-1])),
                *sizes,
                *map(address, (made[one], signs, side.active.rows, side.place, tables[one])),
                between,
                ctypes.c_long(layer - 1),
                address(totals[one] if top else None),
            )
            negative[layer - 1][one] = signs
        for layers_below, new in zip(below, made):
            layers_below += [] if new is None else [new]
    return tuple(totals), Shared(below, negative, totals[1], half)


def _signs(layers: int, shared: Shared | None) -> list[list[Tensor | None]]:
    """Room for the signs of each layer and side, with those that are shared."""
    return [[None, None] for _ in range(layers)] if shared is None else [list(signs) for signs in shared.negative]


def _rows(side: _Side, dim: int, kind: torch.dtype) -> Tensor:
    """A table of the rows that have an edge, not filled."""
    return torch.empty(len(side.active.rows), dim, dtype=kind)


def _rounded(functions: ctypes.CDLL, table: Tensor, side: _Side) -> Tensor:
    """The rows that have an edge, as bfloat16."""
    rounded = _rows(side, table.shape[1], torch.bfloat16)
    given = address(side.active.rows), ctypes.c_long(table.shape[1]), address(table), address(rounded)
    each(len(rounded), TOGETHER, functions.hardgnn_rounded, *given)
    return rounded
