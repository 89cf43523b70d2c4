"""Propagation over the graphs on a processor, with its gradient written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hardgnn.ops.sparse import Active, Rows, row_slice, sparse_product


@dataclass
class _Side:
    """What is asked of one side: rows of the whole table, and among them those that are active."""

    shape: torch.Size
    asked: Tensor | None
    active: Tensor  # rows of the whole table
    where: Tensor  # places among the asked rows that hold an active one
    rows: Tensor | None  # which active ones these are

    @classmethod
    def of(cls, table: Tensor, asked: Tensor | None, active: Active) -> _Side:
        return cls(table.shape, asked, active.rows, *active.among(asked))

    def outside(self, table: Tensor, times: int, inside: Tensor) -> Tensor:
        """The asked rows: of the table, `times` over, and `inside` where they are active."""
        found = _take(table, self.asked, copied=True)
        return (found.mul_(times) if times > 1 else found).index_copy_(0, self.where, inside)

    def gradient(self, asked: Tensor, active: Tensor) -> Tensor:
        """The gradient of the whole table from that of asked rows that are not active, and of active ones."""
        return _spread(asked, self.asked, self.shape).index_copy_(0, self.active, active)


class Propagation(torch.autograd.Function):
    """All layers of both sides, and their gradient, with one table per layer and side held at a time.

    The top layer is computed for the asked rows alone, and none for rows without an edge, which stay as they are.
    """

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        matrices: tuple[Rows, Rows],
        layers: int,
        slope: float,
        user_rows: Tensor | None,
        item_rows: Tensor | None,
        summed: bool,
        active: tuple[Active, Active],
    ) -> tuple[Tensor, ...]:
        whole = users, items
        sides = _Side.of(users, user_rows, active[0]), _Side.of(items, item_rows, active[1])
        users, items = (table.index_select(0, side.active) for table, side in zip(whole, sides, strict=True))
        user_rows, item_rows = (side.rows for side in sides)
        ctx.constants = matrices, slope, sides, (users.shape, items.shape), summed
        ctx.activated = []  # σ(A e) per layer: its sign tells which side of the LeakyReLU a number was on
        learning = any(ctx.needs_input_grad)
        forward, backward = matrices
        user_layers, item_layers = [_take(users, user_rows, True)], [_take(items, item_rows, True)]
        for layer in range(1, layers + 1):
            top = layer == layers
            matrix_u = row_slice(forward, user_rows) if top else forward
            matrix_i = row_slice(backward, item_rows) if top else backward
            z_user = F.leaky_relu_(sparse_product(matrix_u, items), slope)
            z_item = F.leaky_relu_(sparse_product(matrix_i, users), slope)
            if learning:
                ctx.activated.append((z_user, z_item))
            if top:
                asked_users, asked_items = _take(users, user_rows) + z_user, _take(items, item_rows) + z_item
            else:
                users, items = z_user + users, z_item + items
                asked_users, asked_items = _take(users, user_rows), _take(items, item_rows)
            if summed:
                user_layers[0].add_(asked_users)
                item_layers[0].add_(asked_items)
            else:
                user_layers.append(asked_users)
                item_layers.append(asked_items)
        times = layers + 1 if summed else 1
        return tuple(
            side.outside(table, times, inside)
            for table, side, found in zip(whole, sides, (user_layers, item_layers), strict=True)
            for inside in found
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        matrices, slope, sides, (user_shape, item_shape), summed = ctx.constants
        user_rows, item_rows = (side.rows for side in sides)
        forward, backward = matrices
        layers = len(ctx.activated)
        asked, inside = [], []
        for side, layer_gradients in zip(sides, (gradients[: len(gradients) // 2], gradients[len(gradients) // 2 :])):
            asked.append(layer_gradients[0] * (layers + 1) if summed else torch.stack(layer_gradients).sum(0))
            of_active = [gradient.index_select(0, side.where) for gradient in layer_gradients]
            inside.append(of_active * (layers + 1) if summed else of_active)
        of_users, of_items = inside
        g_user = _spread(of_users[layers], user_rows, user_shape)  # of layer l, counted down from L
        g_item = _spread(of_items[layers], item_rows, item_shape)
        for layer in range(layers, 0, -1):
            active_u, active_i = ctx.activated[layer - 1]
            if layer == layers:
                through_i = _spread(_leaky_gradient(of_items[layer], active_i, slope), item_rows, item_shape)
                top_u = _leaky_gradient(of_users[layer], active_u, slope)
                to_items = _transposed_product(forward, backward, top_u, user_rows)
            else:
                through_i = _leaky_gradient(g_item, active_i, slope)
                to_items = sparse_product(backward, _leaky_gradient(g_user, active_u, slope))
            g_user.add_(sparse_product(forward, through_i))
            g_item.add_(to_items)
            _add(g_user, user_rows, of_users[layer - 1])
            _add(g_item, item_rows, of_items[layer - 1])
        return sides[0].gradient(asked[0], g_user), sides[1].gradient(asked[1], g_item), *(None,) * 7


def _take(x: Tensor, rows: Tensor | None, copied: bool = False) -> Tensor:
    if rows is not None:
        return x.index_select(0, rows)
    return x.clone() if copied else x


def _spread(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    """A table that holds `values` in the given rows and zeros elsewhere."""
    return values.clone() if rows is None else values.new_zeros(shape).index_copy_(0, rows, values)


def _add(x: Tensor, rows: Tensor | None, values: Tensor) -> None:
    """Adds `values` to the given rows of x, each of which occurs once."""
    if rows is None:
        x.add_(values)
    else:
        x.index_copy_(0, rows, x.index_select(0, rows).add_(values))


def _leaky_gradient(gradient: Tensor, activated: Tensor, slope: float) -> Tensor:
    result: Tensor = torch.ops.aten.leaky_relu_backward(gradient, activated, slope, True)
    return result


def _transposed_product(matrix: Rows, transposed: Rows, x: Tensor, rows: Tensor | None) -> Tensor:
    """`A[rows]ᵀ @ x`: where the rows are few, their edges are scattered instead of all edges gathered."""
    if rows is None:
        return sparse_product(transposed, x)
    offsets, columns, values = row_slice(matrix, rows)
    edges = x.repeat_interleave(offsets.diff(), 0)
    if values is not None:
        edges = edges * values.unsqueeze(1)
    # The gradient of an embedding: rows of the same index are added in a fixed order.
    result: Tensor = torch.ops.aten.embedding_dense_backward(edges, columns, len(transposed[0]) - 1, -1, False)
    return result
