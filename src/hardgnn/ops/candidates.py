"""Products of many queries with all candidates: the softmax over them, and the largest.

On a processor they run a chunk of queries at a time, with gradients of their own: autograd would hold each table of
positions × candidates that a loss passes through, and walk over all of them in memory; a chunk stays in the cache from
scores to gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardgnn.ops.form import fast
from hardgnn.ops.native.candidates import NativeTop, serves, softmax
from hardgnn.ops.native.library import native
from hardgnn.ops.topk import largest

CHUNK_NUMBERS = 2**18
"""Numbers of a table that are computed at once, about: 1 MiB of float32."""
Prior = tuple[Tensor, Tensor, Tensor]
"""x (P, C), β and ε, of `β log(ε + x)`."""
Moment = tuple[Tensor, Tensor]
"""What is added to the score of each candidate at R moments (R, C), and the moment of each query (P,)."""


def sampled_softmax(
    queries: Tensor,
    items: Tensor,
    offsets: Tensor,
    positive: Tensor,
    own: Tensor,
    owner: Tensor,
    prior: Prior | None = None,
    moment: Moment | None = None,
) -> Tensor:
    """Mean of `log(e^{s⁺} + Σ_c e^{s_c}) - s⁺`, where `s_c = q · e_c + o_c + β log(ε + x_c) + a_{r, c}`.

    Shapes: queries (P, d); items (C, d); offsets (C,); positive (P,), s⁺; own (B, C) bool, candidates left out;
    owner (P,), the row of `own` of each query; prior: x (P, C), β and ε, each a number; moment: a (R, C), and r (P,)
    -> scalar.
    """
    if not fast(queries, items):
        return _reference_softmax(queries, items, offsets, positive, own, owner, prior, moment)
    reached, strength, epsilon = prior or (None, None, None)
    added, row = moment or (None, None)
    given = queries, items, offsets, positive, reached, strength, epsilon, added, row, own, owner
    if serves(queries.shape[1]) and native(queries, items) is not None:
        return _NativeSoftmax.apply(*given)
    return _SampledSoftmax.apply(*given)


def top_products(queries: Tensor, items: Tensor, own: Tensor, owner: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest products of each query with the candidates, and which these are: (P, K), (P, K).

    -inf where fewer than `k` are left. Shapes: queries (P, d); items (C, d); own (B, C) bool, candidates left out;
    owner (P,), the row of `own` of each query; K = min(k, C).
    """
    if not fast(queries, items):
        return _reference_top(queries, items, own, owner, k)
    if serves(queries.shape[1]) and native(queries, items) is not None:
        return NativeTop.apply(queries, items, own, owner, min(k, len(items)))
    return _TopProducts.apply(queries, items, own, owner, k)


def _reference_softmax(
    queries: Tensor,
    items: Tensor,
    offsets: Tensor,
    positive: Tensor,
    own: Tensor,
    owner: Tensor,
    prior: Prior | None,
    moment: Moment | None,
) -> Tensor:
    scores = queries @ items.T + offsets  # (P, C)
    if moment is not None:
        scores = scores + moment[0].index_select(0, moment[1])
    if prior is not None:
        reached, strength, epsilon = prior
        scores = scores + strength * torch.log(epsilon + reached)
    scores = scores.masked_fill(own.index_select(0, owner), -torch.inf)
    return (torch.logsumexp(torch.cat([positive.unsqueeze(1), scores], 1), 1) - positive).mean()


def _reference_top(queries: Tensor, items: Tensor, own: Tensor, owner: Tensor, k: int) -> tuple[Tensor, Tensor]:
    table = (queries @ items.T).masked_fill(own.index_select(0, owner), -torch.inf)  # (P, C)
    return largest(table, min(k, len(items)))


class _SampledSoftmax(torch.autograd.Function):
    """The gradients are those of the mean; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        offsets: Tensor,
        positive: Tensor,
        reached: Tensor | None,
        strength: Tensor | None,
        epsilon: Tensor | None,
        added: Tensor | None,
        row: Tensor | None,
        own: Tensor,
        owner: Tensor,
    ) -> Tensor:
        count = len(queries)
        loss = queries.new_zeros(())
        d_queries, d_positive = torch.empty_like(queries), torch.empty_like(positive)
        d_items, d_offsets = torch.zeros_like(items), torch.zeros_like(offsets)
        d_reached = None if reached is None else torch.empty_like(reached)
        d_strength, d_epsilon = queries.new_zeros(()), queries.new_zeros(())
        d_added = None if added is None else torch.zeros_like(added)
        for part in _chunks(queries, items):
            query, near = queries[part], positive[part]
            table = torch.addmm(offsets, query, items.T)  # (p, C): scores, then probabilities, then their gradients
            if reached is not None and strength is not None and epsilon is not None:
                term = reached[part] + epsilon
                logs = term.log()
                table.addcmul_(logs, strength)
            if added is not None and row is not None:
                table += added.index_select(0, row[part])
            table.masked_fill_(own.index_select(0, owner[part]), -torch.inf)
            total = torch.logaddexp(near, torch.logsumexp(table, 1))
            loss += (total - near).sum()
            table.sub_(total.unsqueeze(1)).exp_().div_(count)
            d_positive[part] = (torch.exp(near - total) - 1) / count
            torch.mm(table, items, out=d_queries[part])
            d_items.addmm_(table.T, query)
            d_offsets += table.sum(0)
            if d_added is not None and row is not None:
                d_added.index_add_(0, row[part], table)
            if d_reached is not None and strength is not None:
                d_strength += torch.dot(table.flatten(), logs.flatten())
                torch.div(table.mul_(strength), term, out=d_reached[part])
                d_epsilon += d_reached[part].sum()
        ctx.save_for_backward(d_queries, d_items, d_offsets, d_positive, d_reached, d_strength, d_epsilon, d_added)
        return loss / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        found = [None if one is None else one * outer[0] for one in ctx.saved_tensors]
        if found[4] is None:
            found[5:7] = [None, None]
        return (*found, None, None, None)


class _NativeSoftmax(_SampledSoftmax):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        found = softmax(*given)
        gradients = found.queries, found.items, found.offsets, found.positive, found.reached
        ctx.save_for_backward(*gradients, found.strength, found.epsilon, found.added)
        return found.loss


class _TopProducts(torch.autograd.Function):
    """Top-k of a product, without the product as a whole."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, own: Tensor, owner: Tensor, k: int) -> tuple[Tensor, Tensor]:
        k = min(k, len(items))
        values = queries.new_empty(len(queries), k)
        index = torch.empty(len(queries), k, dtype=torch.long)
        for part in _chunks(queries, items):
            table = (queries[part] @ items.T).masked_fill_(own.index_select(0, owner[part]), -torch.inf)
            values[part], index[part] = largest(table, k)
        ctx.save_for_backward(queries, items, index)
        ctx.mark_non_differentiable(index)
        return values, index

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        queries, items, index = ctx.saved_tensors
        d_queries, d_items = torch.empty_like(queries), torch.zeros_like(items)
        for part in _chunks(queries, items):
            table = queries.new_zeros(len(queries[part]), len(items)).scatter_(1, index[part], outer[0][part])
            torch.mm(table, items, out=d_queries[part])
            d_items.addmm_(table.T, queries[part])
        return d_queries, d_items, None, None, None


def _chunks(queries: Tensor, items: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK_NUMBERS // max(1, len(items)))
    for start in range(0, len(queries), size):
        yield slice(start, start + size)
