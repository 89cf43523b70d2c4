"""The short-term graphs: a sparse product with its own backward, and propagation over it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

Rows = tuple[Tensor, Tensor, Tensor | None]
"""A CSR matrix as row offsets (n + 1,), column indices (E,) and values (E,), where no values means all ones."""


class _SparseProduct(torch.autograd.Function):
    """`A @ x` for a constant A whose transpose is kept, so that the backward is a gather as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Rows, transposed: Rows) -> Tensor:
        ctx.transposed = transposed
        return _gather_sum(x, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _gather_sum(gradients[0].contiguous(), ctx.transposed), None, None


def _gather_sum(x: Tensor, matrix: Rows) -> Tensor:
    offsets, columns, values = matrix
    return F.embedding_bag(columns, x, offsets, mode="sum", per_sample_weights=values, include_last_offset=True)


def sparse_product(x: Tensor, matrix: Rows, transposed: Rows) -> Tensor:
    """`A @ x`, differentiable in x.

    Shapes: A (n, m) as CSR with its transpose beside it, x (m, d) -> (n, d).
    """
    result: Tensor = _SparseProduct.apply(x, matrix, transposed)
    return result


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
            (np.arange(forward.nnz, dtype=np.int64), forward.indices, forward.indptr), shape=forward.shape
        )
        backward = numbered.T.tocsr()
        self._users = (_int(forward.indptr), _int(forward.indices))
        self._items = (_int(backward.indptr), _int(backward.indices))
        self._edge_of_items = torch.from_numpy(backward.data)
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

    def matrices(self, dropout: float = 0.0, generator: torch.Generator | None = None) -> tuple[Rows, Rows]:
        """A and its transpose; with a generator, a share `dropout` of the edges is dropped, the rest scaled up."""
        weights = self._weights
        if dropout > 0 and generator is not None:
            kept = (torch.rand(self.edges, generator=generator) >= dropout).float() / (1 - dropout)
            weights = kept if weights is None else weights * kept
        reverse = None if weights is None else weights[self._edge_of_items]
        return (*self._users, weights), (*self._items, reverse)


def propagate(
    matrices: tuple[Rows, Rows], users: Tensor, items: Tensor, layers: int, slope: float
) -> tuple[list[Tensor], list[Tensor]]:
    r"""The layers 0..L of the short-term graphs.

    `z_l^(u) = σ(A e_{l-1}^(v))`, `z_l^(v) = σ(Aᵀ e_{l-1}^(u))`, `e_l = z_l + e_{l-1}`, both sides from layer
    l - 1 at once (SelfGNN, section 3.1; SPEC section 2).

    Shapes: users (T * U, d), items (T * I, d) -> L + 1 tensors of each.
    """
    forward, backward = matrices
    user_layers, item_layers = [users], [items]
    for _ in range(layers):
        e_user, e_item = user_layers[-1], item_layers[-1]
        user_layers.append(F.leaky_relu(sparse_product(e_item, forward, backward), slope) + e_user)
        item_layers.append(F.leaky_relu(sparse_product(e_user, backward, forward), slope) + e_item)
    return user_layers, item_layers


def _int(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
