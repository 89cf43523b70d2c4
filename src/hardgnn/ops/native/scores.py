"""Scores of all items for many users, and what is wanted of them, in C (scores.c); see `hardgnn.ops.scores`."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.ops.native.library import address, each, native

if TYPE_CHECKING:
    from hardgnn.ops.scores import LeftOut, Terms

TOGETHER = 256  # users of a part, which pass a block of items one block of users after the other
POINTERS = "queries vectors base moments moment order offsets history weights edges columns values without out"


class _Terms(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in ("d", "items")),
        *((name, ctypes.c_float) for name in ("strength", "epsilon")),
        *((name, ctypes.c_void_p) for name in POINTERS.split()),
    ]


def scores(terms: Terms) -> Tensor:
    """All scores, (B, I)."""
    found = torch.empty(len(terms.queries), len(terms.vectors))
    _run("hardgnn_scores", terms, None, address(found))
    return found


def some(terms: Terms, asked: NDArray[np.int32]) -> Tensor:
    """The scores of the items asked (B, C), (B, C)."""
    items = torch.from_numpy(np.ascontiguousarray(asked, dtype=np.int32))
    found = torch.empty(items.shape)
    _run("hardgnn_some", terms, None, ctypes.c_long(items.shape[1]), address(items), address(found))
    return found


def of_targets(terms: Terms, targets: NDArray[np.int32]) -> Tensor:
    """See `hardgnn.ops.scores.of_targets`."""
    of, found = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.int32)), torch.empty(len(targets))
    _run("hardgnn_targets", terms, None, *map(address, (of, found)))
    return found


def reaching(terms: Terms, limits: Tensor, without: LeftOut) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """See `hardgnn.ops.scores.reaching`."""
    found, odd = torch.empty(len(limits), dtype=torch.int32), torch.empty(len(limits), dtype=torch.uint8)
    _run("hardgnn_above", terms, without, *map(address, (limits.contiguous(), found, odd)))
    return found.numpy(), odd.numpy() != 0


def best(terms: Terms, n: int, without: LeftOut) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """See `hardgnn.ops.scores.best`."""
    users = len(terms.queries)
    values, which = torch.empty(users, n), torch.empty(users, n, dtype=torch.int32)
    odd = torch.empty(users, dtype=torch.uint8)
    _run("hardgnn_best", terms, without, ctypes.c_long(n), *map(address, (values, which, odd)))
    return which.numpy(), values.numpy(), odd.numpy() != 0


def _run(name: str, terms: Terms, without: LeftOut | None, *given: Any) -> None:
    """Calls a function of scores.c for all users, a part after the other."""
    functions = native(terms.queries, terms.vectors)
    assert functions is not None
    table, row = terms.moments or (None, None)
    reach = terms.reach
    order = torch.arange(len(terms.queries)) if row is None else row.argsort(stable=True)
    held: list[Tensor | None] = [terms.queries, terms.vectors, terms.base, table, row, order]
    strength, epsilon = 0.0, 1.0
    if reach is None:
        held += [None] * 6
    else:
        strength, epsilon, history = reach.strength, reach.epsilon, reach.history
        kinds = (np.int64, history.indptr), (np.int32, history.indices), (np.float32, history.data)
        held += [torch.from_numpy(part.astype(kind, copy=False)) for kind, part in kinds]
        held += reach.edges.rows
    held += [None, None] if without is None else [torch.from_numpy(part) for part in without]
    held = [None if one is None else one.contiguous() for one in held]
    numbers = *terms.vectors.shape[::-1], strength, epsilon
    told = _Terms(*numbers, *map(address, held))
    each(len(terms.queries), TOGETHER, getattr(functions, name), ctypes.byref(told), *given)
