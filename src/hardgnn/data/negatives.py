"""Uniform negatives: items outside a user's history. It knows only the histories it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.histories import Histories

ROUNDS = 16  # redraws before the rest is drawn from lists of what is left


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
