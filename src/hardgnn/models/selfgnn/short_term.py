"""Short-term vectors, one of a node for each interval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class ShortTerm:
    """Short-term vectors of the users and items asked for: (T, n_u, d) and (T, n_i, d)."""

    users: Tensor
    items: Tensor


def stacked(nodes: Tensor, intervals: int, size: int) -> Tensor:
    """The rows of the nodes (n,) in a table of T blocks of `size` rows, (T * n,)."""
    return (torch.arange(intervals, device=nodes.device)[:, None] * size + nodes).flatten()
