"""The hardest negatives by cosine similarity. The sampler knows only the histories it is given."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hardgnn.data.dataset import VALID, Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.ops.form import fast
from hardgnn.ops.product import product
from hardgnn.ops.topk import largest

BLOCK = 4_000_000  # similarities held at once by the search for the hardest
DEVICE_BLOCK = 2**28  # the same where memory is far and many cores wait for work: 1 GiB of float32


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
    rows = max(1, (BLOCK if fast(query) else DEVICE_BLOCK) // max(1, len(items)))
    found, valid = [], []
    for start in range(0, len(query), rows):
        similarity = product(query[start : start + rows], keys)  # (b, I)
        block = avoided.take(np.arange(start, start + len(similarity)))
        owner = np.repeat(np.arange(len(similarity)), block.lengths)
        cells = np.stack([owner, block.items.astype(np.int64)])
        similarity[torch.from_numpy(cells).to(similarity.device).unbind()] = -torch.inf
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
        """Counts the hard negatives (B, K), where valid (B, K), of `users` (B,), on whatever device these are."""
        self._valid_item, self._counts = self._valid_item.to(hard.device), self._counts.to(hard.device)
        false = (hard == self._valid_item[users].unsqueeze(1)) & valid
        self._counts += torch.stack([false.sum(), valid.sum()])

    def share(self) -> float | None:
        """The share of false ones since `reset`; None where nothing was counted."""
        false, drawn = self._counts.tolist()
        return false / drawn if drawn else None


def distinct_rows(size: int, *groups: NDArray[np.integer], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The distinct ids of all groups, sorted (n,), and the row of each id among them (size,), on a device."""
    present = np.zeros(size, dtype=bool)
    for group in groups:
        present[group] = True
    distinct = np.flatnonzero(present)
    row = np.zeros(size, dtype=np.int64)
    row[distinct] = np.arange(len(distinct))
    return torch.from_numpy(distinct).to(device), torch.from_numpy(row).to(device)
