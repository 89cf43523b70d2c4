"""The softmax over candidates, and the largest products with them, in C (candidates.c)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hardgnn.ops.native.library import address, each, native

TOGETHER = 512  # queries of a part, whose gradients of candidates are added up by themselves; whole blocks
WHOLE = 32  # queries of a block, candidates of a strip, and what vectors are a multiple of


class _Softmax(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in ("d", "width", "candidates", "count")),
        *((name, ctypes.c_float) for name in ("strength", "epsilon")),
        *(
            (name, ctypes.c_void_p)
            for name in ("queries", "items", "strips", "offsets", "positive", "reached", "added")
        ),
        *((name, ctypes.c_void_p) for name in ("own", "owner", "row", "d_queries", "d_positive", "d_reached")),
    ]


class _Sums(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("d_items", "d_offsets", "d_added", "numbers")]


@dataclass(frozen=True)
class Gradients:
    """The loss, and its gradients of what `sampled_softmax` takes."""

    loss: Tensor
    queries: Tensor
    items: Tensor
    offsets: Tensor
    positive: Tensor
    reached: Tensor | None
    strength: Tensor
    epsilon: Tensor
    added: Tensor | None


def serves(dim: int) -> bool:
    """Whether the C form has vectors of so many numbers."""
    return dim % WHOLE == 0


def _filled(x: Tensor) -> Tensor:
    """Rows of zeros after those of x, up to a multiple of `WHOLE`."""
    missing = -len(x) % WHOLE
    return F.pad(x, (0, 0, 0, missing)) if missing else x.contiguous()


def _strips(items: Tensor) -> Tensor:
    """Whole strips of candidates (n * WHOLE, d) with the candidates of each side by side: (n, d, WHOLE)."""
    return items.view(-1, WHOLE, items.shape[1]).transpose(1, 2).contiguous()


def softmax(
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
) -> Gradients:
    """What `hardgnn.ops.candidates.sampled_softmax` says, and the gradients."""
    functions = native(queries, items)
    assert functions is not None
    count, candidates = len(queries), len(items)
    query, item = _filled(queries), _filled(items)
    width, dim = item.shape
    numbers_of_prior = 0.0 if strength is None else float(strength), 1.0 if epsilon is None else float(epsilon)
    d_queries, d_positive = query.new_empty(query.shape), query.new_empty(positive.shape)
    d_reached = None if reached is None else query.new_empty(reached.shape)
    parts = -(-count // TOGETHER)
    numbers = torch.zeros(parts, 3, dtype=torch.float64)
    d_items, d_offsets = query.new_zeros(parts, width, dim), query.new_zeros(parts, width)
    d_added = None if added is None else query.new_zeros(parts, *added.shape)
    held = [query, item, _strips(item), F.pad(offsets, (0, width - candidates)), positive, reached, added]
    held += [own.view(torch.uint8), owner, row]
    held = [None if one is None else one.contiguous() for one in held]
    softmax = _Softmax(
        dim, width, candidates, count, *numbers_of_prior, *map(address, (*held, d_queries, d_positive, d_reached))
    )

    def sums(part: int) -> tuple[object]:
        places = d_items[part], d_offsets[part], None if d_added is None else d_added[part], numbers[part]
        return (ctypes.byref(_Sums(*map(address, places))),)

    each(count, TOGETHER, functions.hardgnn_softmax, ctypes.byref(softmax), of_part=sums)
    loss, d_strength, d_epsilon = numbers.sum(0).to(queries.dtype)
    return Gradients(
        loss / count,
        d_queries[:count],
        d_items.sum(0)[:candidates],
        d_offsets.sum(0)[:candidates],
        d_positive,
        d_reached,
        d_strength,
        d_epsilon,
        None if d_added is None else d_added.sum(0),
    )


class NativeTop(torch.autograd.Function):
    """The k largest products of each query, k at most the number of items; the first of equal ones."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, own: Tensor, owner: Tensor, k: int) -> tuple[Tensor, Tensor]:
        functions = native(queries, items)
        assert functions is not None
        query, item = _filled(queries), _filled(items)
        values, index = queries.new_empty(len(queries), k), torch.empty(len(queries), k, dtype=torch.long)
        sizes = map(ctypes.c_long, (query.shape[1], len(item), len(items), k))
        held = query, _strips(item), own.view(torch.uint8).contiguous(), owner.contiguous()
        each(len(queries), TOGETHER, functions.hardgnn_top, *sizes, *map(address, (*held, values, index)))
        ctx.functions = functions
        ctx.save_for_backward(queries, items, index)
        ctx.mark_non_differentiable(index)
        return values, index

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        queries, items, index = ctx.saved_tensors
        parts = -(-len(queries) // TOGETHER)
        d_queries, d_items = queries.new_empty(queries.shape), items.new_zeros(parts, *items.shape)
        held = [one.contiguous() for one in (queries, items, index, outer[0])]
        given = ctypes.c_long(queries.shape[1]), ctypes.c_long(index.shape[1]), *map(address, held), address(d_queries)
        function = ctx.functions.hardgnn_top_gradient
        each(len(queries), TOGETHER, function, *given, of_part=lambda i: (address(d_items[i]),))
        return d_queries, d_items.sum(0), None, None, None
