"""Scores of all items for many users: all of them, some, how many reach a target's, or the largest.

A score is `base + moment + strength * log(1 + x / epsilon) + query · vector`. Of x, what a history reaches, most is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.ops.form import fast
from hardgnn.ops.native import scores as in_c
from hardgnn.ops.native.library import native
from hardgnn.ops.product import product
from hardgnn.ops.sparse import Rows, sparse_product

TABLE_NUMBERS = 2**22  # scores that are in memory at once where ranks are not told in C
CANDIDATE_ROWS = 32  # users whose candidates are gathered at once: 8 MB for 1,000 of 64 numbers


LeftOut = tuple[NDArray[np.int64], NDArray[np.int32]]
"""Offsets (B + 1,), and what is left out of user b: `items[offsets[b]:offsets[b + 1]]`, ascending, each once."""


class Reachable:
    """Edges (I, I) from an item of a history, its row, to those that are scored."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.matrix = matrix if matrix.has_sorted_indices else matrix.sorted_indices()
        self._turned: Rows | None = None

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets (I + 1,) int64, columns (E,) int32 and values (E,) float32, on the processor; columns ascend."""
        one = self.matrix
        parts = one.indptr.astype(np.int64), one.indices.astype(np.int32, copy=False), one.data
        offsets, columns, values = (torch.from_numpy(part) for part in parts)
        return offsets, columns, values

    def turned(self, device: torch.device) -> Rows:
        """The transpose on a device."""
        if self._turned is None or self._turned[0].device != device:
            turned = self.matrix.T.tocsr()
            offsets, columns, values = (
                torch.from_numpy(part).to(device) for part in (turned.indptr, turned.indices, turned.data)
            )
            self._turned = offsets, columns, values
        return self._turned


@dataclass(frozen=True)
class Reach:
    """`strength * log(1 + x / epsilon)`, x what the weights of each history (B, I) reach along the edges."""

    history: sparse.csr_array
    edges: Reachable
    strength: float
    epsilon: float


@dataclass(frozen=True)
class Terms:
    """What the scores of B users are made of.

    Shapes: queries (B, d), vectors (I, d), base (I,); moments (R, I), and the row of each user (B,) int64.
    """

    queries: Tensor
    vectors: Tensor
    base: Tensor
    reach: Reach | None = None
    moments: tuple[Tensor, Tensor] | None = None


def direct(vectors: Tensor) -> bool:
    """Whether `above` and `best` serve here: in C, without a table of all scores."""
    return native(vectors) is not None


def above(terms: Terms, targets: NDArray[np.int32], without: LeftOut) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """How many items score as much as the target of each user (B,) or more, but for it and what is left out: (B,).

    And whether a user's scores are not all numbers, (B,). A target is not among what is left out.
    """
    found, odd = in_c.reaching(terms, in_c.of_targets(terms, targets), without)
    return found - 1, odd  # the target itself is counted once


def of_targets(terms: Terms, targets: NDArray[np.int32]) -> Tensor:
    """The score of the target of each user (B,), 0 where that is -1: (B,)."""
    if direct(terms.vectors):
        return in_c.of_targets(terms, targets)
    found = terms.queries.new_zeros(len(targets))
    for rows, table in _tables(terms):
        asked = torch.from_numpy(targets[rows].astype(np.int64)).to(table.device)
        there = (asked >= 0).nonzero()[:, 0]
        found[rows][there] = table[there, asked[there]]
    return found


def reaching(terms: Terms, limits: Tensor, without: LeftOut) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """How many items but those left out score as much as the limit of each user (B,) or more, (B,); and whether a
    user's scores are not all numbers, (B,)."""
    if direct(terms.vectors):
        return in_c.reaching(terms, limits, without)
    counts, odd, (offsets, items) = np.zeros(len(limits), np.int32), np.zeros(len(limits), np.bool_), without
    for rows, table in _tables(terms):
        odd[rows] = table.isnan().any(1).cpu().numpy()
        over = table >= limits[rows, None]
        users = np.repeat(np.arange(len(table)), np.diff(offsets[rows.start : rows.stop + 1]))
        out = items[offsets[rows.start] : offsets[rows.stop]].astype(np.int64)
        over[torch.from_numpy(users).to(table.device), torch.from_numpy(out).to(table.device)] = False
        counts[rows] = over.sum(1).cpu().numpy()
    return counts, odd


def _tables(terms: Terms) -> Iterator[tuple[slice, Tensor]]:
    """All scores of some users after the other, (b, I)."""
    users = len(terms.queries)
    step = max(1, TABLE_NUMBERS // max(1, len(terms.vectors)))
    for start in range(0, users, step):
        rows = slice(start, min(start + step, users))
        reach = None if terms.reach is None else replace(terms.reach, history=terms.reach.history[rows])
        moments = None if terms.moments is None else (terms.moments[0], terms.moments[1][rows])
        yield rows, scores(replace(terms, queries=terms.queries[rows], reach=reach, moments=moments))


def best(terms: Terms, n: int, without: LeftOut) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """The n best items of each user (B, n), the first of equal ones first, and their scores, (B, n).

    -1 and minus infinity where fewer are above it; the rest as of `above`.
    """
    return in_c.best(terms, n, without)


def scores(terms: Terms) -> Tensor:
    """The scores of all items, (B, I)."""
    queries, vectors = terms.queries, terms.vectors
    if native(queries, vectors) is not None:
        return in_c.scores(terms)
    found = _products(queries, vectors, terms.base)
    if terms.reach is not None:
        found += _reached(terms.reach, queries)
    if terms.moments is not None:
        table, row = terms.moments
        found += table.index_select(0, row)
    return found


def candidate_scores(terms: Terms, asked: NDArray[np.int32]) -> Tensor:
    """The scores of the items asked of each user (B, C): (B, C)."""
    queries, vectors = terms.queries, terms.vectors
    if native(queries, vectors) is not None:
        return in_c.some(terms, asked)
    items = torch.from_numpy(asked).long().to(vectors.device)
    found = terms.base[items]
    for start in range(0, len(items), CANDIDATE_ROWS):
        rows = slice(start, start + CANDIDATE_ROWS)
        chosen = items[rows]
        near = vectors.index_select(0, chosen.flatten()).view(*chosen.shape, -1)  # (b, C, d)
        found[rows] += (near @ queries[rows].unsqueeze(-1)).squeeze(-1)
    if terms.reach is not None:
        reached = _sparse(terms.reach)[np.arange(len(asked))[:, None], asked].toarray()
        found += torch.from_numpy(reached).to(found.device)
    if terms.moments is not None:
        table, row = terms.moments
        found += table[row[:, None], items]
    return found


def _sparse(reach: Reach) -> sparse.csr_array:
    """The term where it is not 0, (B, I)."""
    found = reach.history @ reach.edges.matrix
    found.data = np.log1p(found.data / np.float32(reach.epsilon)) * np.float32(reach.strength)
    return found


def _reached(reach: Reach, like: Tensor) -> Tensor:
    """The term of all items, (B, I)."""
    if fast(like):
        return torch.from_numpy(_sparse(reach).toarray())
    history = torch.from_numpy(reach.history.toarray()).to(like.device)
    reached = sparse_product(reach.edges.turned(like.device), history.T.contiguous()).T
    return reach.strength * torch.log1p(reached / reach.epsilon)


def _products(queries: Tensor, vectors: Tensor, base: Tensor) -> Tensor:
    """`q · e_v + b_v`, (B, I), of queries (B, d), vectors (I, d) and base (I,)."""
    if len(queries) <= vectors.shape[1] or not fast(queries):  # a copy of the vectors costs more than a pass over all
        return product(queries, vectors).add_(base)
    longer = torch.cat([queries, queries.new_ones(len(queries), 1)], 1)
    return product(longer, torch.cat([vectors, base.unsqueeze(1)], 1))
