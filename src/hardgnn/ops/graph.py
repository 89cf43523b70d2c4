"""The short-term graphs, and propagation over them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.ops.form import fast
from hardgnn.ops.native.graph import NativePropagation, Shared, serves
from hardgnn.ops.native.library import native
from hardgnn.ops.propagation import Propagation
from hardgnn.ops.sparse import Active, Rows, sparse_product


class InteractionGraph(nn.Module):
    """The T interval graphs as one block-diagonal bipartite graph, with both directions kept.

    A module, so that `.to(device)` moves it; it has no weights, and nothing of it is saved with a model's.

    Args:
        stacked: the (T * U, T * I) matrix of `hardgnn.data.intervals.stacked_graph`.
        shape: (T, U, I).
        norm: `none` sums over neighbours, `sym` weighs an edge by 1 / sqrt(deg(u) deg(v)) within its interval.
    """

    users: _Side
    items: _Side
    edge_of_items: Tensor
    weights: Tensor | None

    def __init__(
        self, stacked: sp.csr_matrix, shape: tuple[int, int, int], norm: Literal["none", "sym"] = "none"
    ) -> None:
        super().__init__()
        self.shape = shape
        forward = stacked.tocsr()
        # The transpose carries edge numbers, so that both directions can drop the same edges.
        numbered = sp.csr_matrix(
            (np.arange(forward.nnz, dtype=np.int32), forward.indices, forward.indptr), shape=forward.shape
        )
        backward = numbered.T.tocsr()
        active = Active.of(_int(forward.indptr)), Active.of(_int(backward.indptr))
        self.users, self.items = _Side(forward, *active), _Side(backward, *active[::-1])
        weights = None
        if norm == "sym":
            user_degree = np.diff(forward.indptr)
            item_degree = np.diff(backward.indptr)
            both = np.repeat(user_degree, user_degree) * item_degree[forward.indices]
            weights = torch.from_numpy((1.0 / np.sqrt(both)).astype(np.float32))
        self.register_buffer("edge_of_items", torch.from_numpy(backward.data), persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    @property
    def edges(self) -> int:
        """Number of edges over all intervals."""
        return len(self.edge_of_items)

    @property
    def active(self) -> tuple[Active, Active]:
        """The rows of both sides that have an edge."""
        return self.users.active, self.items.active

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Row offsets (T * U + 1,) and columns (E,) of the user side; row t * U + u, column t * I + v."""
        return self.users.whole

    def matrices(
        self, dropout: float = 0.0, generator: torch.Generator | None = None, active: bool = False
    ) -> tuple[Rows, Rows]:
        """A and its transpose; with a generator, a share `dropout` of the edges is dropped, the rest scaled up.

        With `active` they have no empty rows and columns: only those that `self.active` names. The generator is on the
        graph's device.
        """
        weights = self.weights
        if dropout > 0 and generator is not None:
            drawn = torch.rand(self.edges, generator=generator, device=self.edge_of_items.device)
            kept = (drawn >= dropout).float() / (1 - dropout)
            weights = kept if weights is None else weights * kept
        reverse = None if weights is None else weights.index_select(0, self.edge_of_items)
        users, items = (side.among_active if active else side.whole for side in (self.users, self.items))
        return (*users, weights), (*items, reverse)


class _Side(nn.Module):
    """The rows of one side: of the whole table, and without the rows and columns that are empty."""

    offsets: Tensor
    columns: Tensor
    active_rows: Tensor
    active_place: Tensor
    short_offsets: Tensor
    short_columns: Tensor

    def __init__(self, matrix: sp.csr_matrix, rows: Active, columns: Active) -> None:
        super().__init__()
        offsets, indices = _int(matrix.indptr), _int(matrix.indices)
        kept = {"offsets": offsets, "columns": indices, "active_rows": rows.rows, "active_place": rows.place}
        kept["short_offsets"] = torch.cat([offsets[rows.rows], offsets[-1:]])
        kept["short_columns"] = columns.place[indices].int()
        for name, tensor in kept.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def whole(self) -> tuple[Tensor, Tensor]:
        return self.offsets, self.columns

    @property
    def among_active(self) -> tuple[Tensor, Tensor]:
        return self.short_offsets, self.short_columns

    @property
    def active(self) -> Active:
        return Active(self.active_rows, self.active_place)


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
    shared: Shared | None = None,
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
        shared: what `share` gave of the same matrices and tables.

    Returns:
        L + 1 tensors (n_u, d) and L + 1 tensors (n_i, d), or one each.
    """
    if active is None:
        active = Active.all(len(users), users.device), Active.all(len(items), items.device)
    if not fast(users, items):
        return _reference(matrices, users, items, layers, slope, user_rows, item_rows, summed, active)
    functions = native(users, items) if serves(users.shape[1], summed) else None
    found: tuple[Tensor, ...]
    if functions is not None:
        asked = user_rows, item_rows
        found = NativePropagation.apply(users, items, functions, matrices, layers, slope, *asked, active, shared)
    else:
        found = Propagation.apply(users, items, matrices, layers, slope, user_rows, item_rows, summed, active)
    half = len(found) // 2
    return list(found[:half]), list(found[half:])


def share(
    matrices: tuple[Rows, Rows], users: Tensor, items: Tensor, layers: int, slope: float, active: tuple[Active, Active]
) -> Shared | None:
    """What several calls of `propagate`, for the sum of the layers of the same tables, compute once.

    None where the C form does not serve.
    """
    functions = native(users, items) if fast(users, items) and serves(users.shape[1], True) else None
    return None if functions is None else Shared.of(users, items, functions, matrices, layers, slope, active)


def _reference(
    matrices: tuple[Rows, Rows],
    users: Tensor,
    items: Tensor,
    layers: int,
    slope: float,
    user_rows: Tensor | None,
    item_rows: Tensor | None,
    summed: bool,
    active: tuple[Active, Active],
) -> tuple[list[Tensor], list[Tensor]]:
    user, item = users.index_select(0, active[0].rows), items.index_select(0, active[1].rows)
    of_users, of_items = [user], [item]
    for _ in range(layers):
        from_items, from_users = sparse_product(matrices[0], item), sparse_product(matrices[1], user)
        user, item = F.leaky_relu(from_items, slope) + user, F.leaky_relu(from_users, slope) + item
        of_users.append(user)
        of_items.append(item)
    return _asked(users, of_users, active[0], user_rows, summed), _asked(items, of_items, active[1], item_rows, summed)


def _asked(table: Tensor, layers: list[Tensor], active: Active, asked: Tensor | None, summed: bool) -> list[Tensor]:
    """The rows that are asked for of every layer, or of their sum; rows that are not active stay as in layer 0."""
    found = [table.index_copy(0, active.rows, layer) for layer in layers]
    if summed:
        found = [torch.stack(found).sum(0)]
    return found if asked is None else [layer.index_select(0, asked) for layer in found]


def _int(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
