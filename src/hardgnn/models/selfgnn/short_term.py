"""Short-term vectors, one of a node for each interval."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ShortTerm:
    """Short-term vectors of the users and items asked for: (T, n_u, d) and (T, n_i, d)."""

    users: Tensor
    items: Tensor
