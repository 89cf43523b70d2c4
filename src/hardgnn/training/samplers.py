"""The hardest negatives by cosine similarity. The sampler knows only the histories it is given."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hardgnn.data.dataset import VALID, Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.ops.product import product
from hardgnn.ops.topk import largest

BLOCK = 4_000_000  # similarities held at once by the search for the hardest


@torch.no_grad()
def hardest(query: Tensor, items: Tensor, avoided: Histories, k: int) -> tuple[Tensor, Tensor]:
    """The k items most similar (cosine) to each query among those not avoided.

    One blocked matrix product and a top-k; no gradient flows through the choice (specification, section 3).

    Shapes: query (B, d), items (I, d), avoided: B histories -> items (B, k) int64 and whether each is a real one
    (B, k) bool, False where fewer than k are left.
    """
    keys = F.normalize(items, dim=-1, eps=1e-6)
    query = F.normalize(query, dim=-1, eps=1e-6)
    k = min(k, len(items))
    rows = max(1, BLOCK // max(1, len(items)))
    found, valid = [], []
    for start in range(0, len(query), rows):
        similarity = product(query[start : start + rows], keys)  # (b, I)
        block = avoided.take(np.arange(start, start + len(similarity)))
        owner = torch.from_numpy(np.repeat(np.arange(len(similarity)), block.lengths))
        similarity[owner, torch.from_numpy(block.items.astype(np.int64))] = -torch.inf
        values, indices = largest(similarity, k)
        found.append(indices)
        valid.append(torch.isfinite(values))
    return torch.cat(found), torch.cat(valid)


class FalseNegatives:
    """Counts hard negatives that are their user's validation item; it serves the log and nothing else."""

    def __init__(self, data: Dataset) -> None:
        users, targets = data.targets(VALID)
        self._valid_item = torch.full((data.n_users,), PADDING)  # (U,)
        self._valid_item[torch.from_numpy(users).long()] = torch.from_numpy(targets).long()
        self._counts = torch.zeros(2)  # false ones, all

    def reset(self) -> None:
        """Forgets what was counted."""
        self._counts.zero_()

    def count(self, users: Tensor, hard: Tensor, valid: Tensor) -> None:
        """Counts the hard negatives (B, K), where valid (B, K), of `users` (B,)."""
        false = (hard == self._valid_item[users].unsqueeze(1)) & valid
        self._counts += torch.stack([false.sum(), valid.sum()])

    def share(self) -> float | None:
        """The share of false ones since `reset`; None where nothing was counted."""
        false, drawn = self._counts.tolist()
        return false / drawn if drawn else None


def distinct_rows(size: int, *groups: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
    """The distinct ids of all groups, sorted (n,), and the row of each id among them (size,)."""
    present = np.zeros(size, dtype=bool)
    for group in groups:
        present[group] = True
    distinct = np.flatnonzero(present)
    row = np.zeros(size, dtype=np.int64)
    row[distinct] = np.arange(len(distinct))
    return torch.from_numpy(distinct), torch.from_numpy(row)
