"""The items with the largest products with each query, in C (nearest.c)."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.ops.native.library import address, each, parts

TOGETHER = 128  # queries of a part
WHOLE = 32  # numbers of a vector are a multiple of these


def serves(dim: int) -> bool:
    """Whether the C form has vectors of so many numbers."""
    return dim % WHOLE == 0


def nearest(
    functions: ctypes.CDLL,
    query: Tensor,
    items: Tensor,
    offsets: NDArray[np.int64],
    avoided: NDArray[np.integer],
    k: int,
) -> tuple[Tensor, Tensor]:
    """What `hardgnn.ops.nearest.nearest` says; of equal items the first."""
    values, index = query.new_empty(len(query), k), torch.empty(len(query), k, dtype=torch.long)
    sizes = map(ctypes.c_long, (query.shape[1], len(items), k, parts()))
    listed = torch.from_numpy(avoided.astype(np.int64))  # a copy, which is sorted
    held = query.contiguous(), items.contiguous(), torch.from_numpy(offsets).contiguous(), listed, values, index
    each(len(query), TOGETHER, functions.hardgnn_nearest, *sizes, *map(address, held))
    return values, index
