"""The short-term graphs: propagation over sparse matrices, with its own gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

Rows = tuple[Tensor, Tensor, Tensor | None]
"""A CSR matrix as row offsets (n + 1,), column indices (E,) and values (E,), where no values means all ones."""


def _product(matrix: Rows, x: Tensor) -> Tensor:
    """`A @ x` of A (n, m) and x (m, d), without gradient, (n, d)."""
    offsets, columns, values = matrix
    return F.embedding_bag(columns, x, offsets, mode="sum", per_sample_weights=values, include_last_offset=True)


def _row_slice(matrix: Rows, rows: Tensor | None) -> Rows:
    """The given rows of a matrix, in that order; None is all of them."""
    if rows is None:
        return matrix
    offsets, columns, values = matrix
    starts = offsets[rows]
    counts = offsets[rows + 1] - starts
    ends = counts.cumsum(0)
    place = torch.arange(int(ends[-1]) if len(rows) else 0) + (starts - ends + counts).repeat_interleave(counts)
    return F.pad(ends, (1, 0)).int(), columns[place], None if values is None else values[place]


@dataclass
class Active:
    """The rows of a table that have an edge, in order (n,), and the place of each row among them, -1 for none."""

    rows: Tensor
    place: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> Active:
        """Those of a CSR matrix with these row offsets."""
        rows = offsets.diff().nonzero()[:, 0]
        place = torch.full((len(offsets) - 1,), -1)
        place[rows] = torch.arange(len(rows))
        return cls(rows, place)

    @classmethod
    def all(cls, size: int) -> Active:
        """Every row of a table."""
        return cls(torch.arange(size), torch.arange(size))

    def among(self, asked: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Where in `asked` active rows stand, and which active ones these are (None: all of them)."""
        if asked is None:
            return self.rows, None
        found = self.place[asked]
        where = (found >= 0).nonzero()[:, 0]
        return where, found[where]


def _among_active(matrix: tuple[Tensor, Tensor], rows: Active, columns: Active) -> tuple[Tensor, Tensor]:
    """Offsets and columns of a matrix without its empty rows and columns."""
    offsets, indices = matrix
    return torch.cat([offsets[rows.rows], offsets[-1:]]), columns.place[indices].int()


class InteractionGraph:
    """The T interval graphs as one block-diagonal bipartite graph, with both directions kept.

    Args:
        stacked: the (T * U, T * I) matrix of `hardgnn.data.intervals.stacked_graph`.
        shape: (T, U, I).
        norm: `none` sums over neighbours, `sym` weighs an edge by 1 / sqrt(deg(u) deg(v)) within its interval.
    """

    def __init__(
        self, stacked: sp.csr_matrix, shape: tuple[int, int, int], norm: Literal["none", "sym"] = "none"
    ) -> None:
        self.shape = shape
        forward = stacked.tocsr()
        # The transpose carries edge numbers, so that both directions can drop the same edges.
        numbered = sp.csr_matrix(
            (np.arange(forward.nnz, dtype=np.int32), forward.indices, forward.indptr), shape=forward.shape
        )
        backward = numbered.T.tocsr()
        self._users = (_int(forward.indptr), _int(forward.indices))
        self._items = (_int(backward.indptr), _int(backward.indices))
        self._edge_of_items = torch.from_numpy(backward.data)
        self.active = Active.of(self._users[0]), Active.of(self._items[0])
        self._active_users = _among_active(self._users, *self.active)
        self._active_items = _among_active(self._items, *self.active[::-1])
        self._weights: Tensor | None = None
        if norm == "sym":
            user_degree = np.diff(forward.indptr)
            item_degree = np.diff(backward.indptr)
            both = np.repeat(user_degree, user_degree) * item_degree[forward.indices]
            self._weights = torch.from_numpy((1.0 / np.sqrt(both)).astype(np.float32))

    @property
    def edges(self) -> int:
        """Number of edges over all intervals."""
        return len(self._users[1])

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Row offsets (T * U + 1,) and columns (E,) of the user side; row t * U + u, column t * I + v."""
        return self._users

    def matrices(
        self, dropout: float = 0.0, generator: torch.Generator | None = None, active: bool = False
    ) -> tuple[Rows, Rows]:
        """A and its transpose; with a generator, a share `dropout` of the edges is dropped, the rest scaled up.

        With `active` they have no empty rows and columns: only those that `self.active` names.
        """
        weights = self._weights
        if dropout > 0 and generator is not None:
            kept = (torch.rand(self.edges, generator=generator) >= dropout).float() / (1 - dropout)
            weights = kept if weights is None else weights * kept
        reverse = None if weights is None else weights.index_select(0, self._edge_of_items)
        users, items = (self._active_users, self._active_items) if active else (self._users, self._items)
        return (*users, weights), (*items, reverse)


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


class _Propagation(torch.autograd.Function):
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
            matrix_u = _row_slice(forward, user_rows) if top else forward
            matrix_i = _row_slice(backward, item_rows) if top else backward
            z_user = F.leaky_relu_(_product(matrix_u, items), slope)
            z_item = F.leaky_relu_(_product(matrix_i, users), slope)
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
                to_items = _product(backward, _leaky_gradient(g_user, active_u, slope))
            g_user.add_(_product(forward, through_i))
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
        return _product(transposed, x)
    offsets, columns, values = _row_slice(matrix, rows)
    edges = x.repeat_interleave(offsets.diff(), 0)
    if values is not None:
        edges = edges * values.unsqueeze(1)
    # The gradient of an embedding: rows of the same index are added in a fixed order.
    result: Tensor = torch.ops.aten.embedding_dense_backward(edges, columns, len(transposed[0]) - 1, -1, False)
    return result


def propagate(
    matrices: tuple[Rows, Rows],
    users: Tensor,
    items: Tensor,
    layers: int,
    slope: float,
    user_rows: Tensor | None = None,
    item_rows: Tensor | None = None,
    summed: bool = False,
    active: tuple[Active, Active] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    r"""The layers 0..L of the short-term graphs, or their sum.

    `z_l^(u) = σ(A e_{l-1}^(v))`, `z_l^(v) = σ(Aᵀ e_{l-1}^(u))`, `e_l = z_l + e_{l-1}`, both sides from layer
    l - 1 at once (SelfGNN, section 3.1; specification, section 2).

    Args:
        matrices: A and its transpose, both as rows.
        users, items: layer 0, (T * U, d) and (T * I, d).
        layers: L.
        slope: of the LeakyReLU.
        user_rows, item_rows: the rows that are asked for, each once; None is all.
        summed: the sum of the layers instead, which holds one table of each side and not L + 1.
        active: the rows of the tables that the rows of the matrices stand for; all by default.

    Returns:
        L + 1 tensors (n_u, d) and L + 1 tensors (n_i, d), or one each.
    """
    if active is None:
        active = Active.all(len(users)), Active.all(len(items))
    found: tuple[Tensor, ...] = _Propagation.apply(
        users, items, matrices, layers, slope, user_rows, item_rows, summed, active
    )
    half = len(found) // 2
    return list(found[:half]), list(found[half:])


def _int(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
