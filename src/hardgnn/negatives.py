"""Negative samplers: uniform, and the hardest by cosine similarity. They know only the histories they are given."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hardgnn.data.dataset import VALID, Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.model.product import product

ROUNDS = 16  # redraws before the rest is drawn from lists of what is left
BLOCK = 4_000_000  # similarities held at once by the search for the hardest
CHUNK = 64  # similarities at most whose largest stands for them


class UniformNegatives:
    """Items drawn uniformly among those outside a user's history.

    Rejection against the sorted (user, item) keys of the histories: no loop over users.
    """

    def __init__(self, avoided: Histories, n_items: int) -> None:
        self.n_items = n_items
        self._keys = avoided.keys(n_items)

    def sample(self, users: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
        """One negative for each entry of `users` (P,), none of whom has interacted with every item -> (P,)."""
        owners = users.astype(np.int64)
        drawn = rng.integers(0, self.n_items, len(owners))
        open_ = np.flatnonzero(self._seen(owners, drawn))
        for _ in range(ROUNDS):
            if len(open_) == 0:
                return drawn
            drawn[open_] = rng.integers(0, self.n_items, len(open_))
            open_ = open_[self._seen(owners[open_], drawn[open_])]
        for user in np.unique(owners[open_]):  # the few who have nearly everything: draw from what is left
            mine = open_[owners[open_] == user]
            first, last = np.searchsorted(self._keys, [user * self.n_items, (user + 1) * self.n_items])
            left = np.setdiff1d(np.arange(self.n_items), self._keys[first:last] - user * self.n_items)
            drawn[mine] = rng.choice(left, len(mine))
        return drawn

    def _seen(self, owners: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        keys = owners * self.n_items + items
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return self._keys[places] == keys


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


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k, dim=1)`, by the largest of each chunk: the k largest lie in the k chunks with the largest ones.

    Shapes: scores (B, I) -> values (B, k), descending, and columns (B, k).
    """
    size = min(CHUNK, math.isqrt(scores.shape[1] // k))  # then as many chunks as numbers are left, about
    if size < 4:
        return scores.topk(k, dim=1)
    whole = scores.shape[1] // size
    chunks = scores[:, : whole * size].view(-1, whole, size)
    best = chunks.amax(2).topk(k, dim=1).indices  # (B, k)
    near = chunks.gather(1, best.unsqueeze(2).expand(-1, -1, size)).flatten(1)
    columns = (best.unsqueeze(2) * size + torch.arange(size)).flatten(1)
    rest = torch.arange(whole * size, scores.shape[1]).expand(len(scores), -1)
    values, places = torch.cat([near, scores[:, whole * size :]], 1).topk(k, dim=1)
    return values, torch.cat([columns, rest], 1).gather(1, places)


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
