"""The self-augmented loss: short-term against long-term taste, over pairs of edges (SelfGNN, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hardgnn.models.network import Vectors
from hardgnn.models.selfgnn.settings import SelfAugmentedSettings
from hardgnn.ops.graph import InteractionGraph
from hardgnn.ops.pairs import pair_products

if TYPE_CHECKING:
    from hardgnn.models.selfgnn.network import SelfGNN

EdgePairs = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Per interval (users, items), each (m_t,), of which edge j is paired with edge j + m_t / 2."""


class SelfAugmented:
    """The term of a network, and the edges that a step has for it. It is a `hardgnn.models.network.Auxiliary`."""

    name = "ssl"

    def __init__(self, settings: SelfAugmentedSettings, slope: float, graph: InteractionGraph) -> None:
        self.settings, self.slope, self.weight, self.shape = settings, slope, settings.weight, graph.shape
        self._offsets, self._columns = (part.numpy() for part in graph.rows)

    def __deepcopy__(self, memo: Any) -> SelfAugmented:
        return self  # what copies the network shares its edges

    def draw(self, users: NDArray[np.integer], rng: np.random.Generator) -> EdgePairs:
        """Random training edges of these users in each interval, an even number per user, then paired."""
        pairs = []
        intervals, n_users, n_items = self.shape
        for interval in range(intervals):
            starts = self._offsets[interval * n_users + users]
            degree = self._offsets[interval * n_users + users + 1] - starts
            count = 2 * np.minimum(self.settings.pairs, degree // 2)
            place = np.repeat(starts, count) + (rng.random(count.sum()) * np.repeat(degree, count)).astype(np.int64)
            owners, items = np.repeat(users, count), self._columns[place] - interval * n_items
            if self.settings.pairing == "random":
                order = rng.permutation(len(owners))
                owners, items = owners[order], items[order]
            pairs.append((owners.astype(np.int64), items.astype(np.int64)))
        return pairs

    def cut(self, drawn: EdgePairs, parts: int) -> list[EdgePairs]:
        """The edges in so many parts, pairs together."""
        found: list[EdgePairs] = [[] for _ in range(parts)]
        for users, items in drawn:
            paired = users.reshape(2, -1), items.reshape(2, -1)
            bounds = np.linspace(0, len(users) // 2, parts + 1).round().astype(int)
            for part, start, stop in zip(found, bounds, bounds[1:]):
                part.append((paired[0][:, start:stop].ravel(), paired[1][:, start:stop].ravel()))
        return found

    def rows(self, drawn: EdgePairs) -> tuple[list[NDArray[np.integer]], list[NDArray[np.integer]]]:
        """The users and the items of the edges."""
        return [users for users, _ in drawn], [items for _, items in drawn]

    def loss(self, network: SelfGNN, drawn: EdgePairs, vectors: Vectors, user_row: Tensor, item_row: Tensor) -> Tensor:
        """`Σ_t` of `self_augmented` over the intervals, all at once: their vectors follow each other as one table."""
        short: Any = vectors.short
        users, items = (torch.from_numpy(halves_together(ids)).to(user_row.device) for ids in zip(*drawn))
        interval = torch.from_numpy(halves_together([np.full(len(ids), t) for t, (ids, _) in enumerate(drawn)]))
        u, v, t = user_row[users], item_row[items], interval.to(user_row.device)
        users_then, items_then = short.users.flatten(0, 1), short.items.flatten(0, 1)
        of_user, of_item = t * len(vectors.users) + u, t * len(vectors.items) + v
        weight = network.user_weight(vectors.users.expand_as(short.users), short.users).flatten()
        with torch.no_grad():
            long_score = pair_products(vectors.users, vectors.items, u, v, self.slope)
        short_score = pair_products(users_then, items_then, of_user, of_item, self.slope)
        return self_augmented(weight.index_select(0, of_user), long_score, short_score)


def halves_together(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The first halves of all parts and then the second ones, so that what is paired stays paired."""
    return np.concatenate([part.reshape(2, -1) for part in parts], axis=1).ravel()


def self_augmented(weight: Tensor, long_score: Tensor, short_score: Tensor) -> Tensor:
    """Self-augmented loss of the edges 0..m/2-1, which are paired with m/2..m-1.

    `Σ max(0, 1 - (w_u s̄_uv - w_u' s̄_u'v')(s_uv - s_u'v'))`; no gradient flows into s̄ (SelfGNN, section 3.4).

    Shapes: weight, long_score, short_score (m,) with m even -> scalar.
    """
    half = len(weight) // 2
    target = weight * long_score.detach()
    return F.relu(1 - (target[:half] - target[half:]) * (short_score[:half] - short_score[half:])).sum()
