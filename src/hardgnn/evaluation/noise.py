"""Noise for robustness studies: a share of the training interactions replaced by random items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.dataset import TRAIN, Dataset
from hardgnn.data.histories import Histories
from hardgnn.data.negatives import UniformNegatives
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import Ranker, informed

NOISE = "noise"  # the manifest's key


def with_noise(data: Dataset, share: float, seed: int) -> Dataset:
    """`data` with a share of its training interactions given another item; validation and test stay as they are.

    The item is drawn uniformly among those the user has no training interaction with; validation and test items are
    not looked at, so one of them can come up by chance, as any item can. User, time and order stay. With one seed the
    interactions replaced at 5 % are among those replaced at 10 %.

    Source: SelfGNN, section 4.4 (specification, section 4).

    Args:
        share: of the training interactions, in [0, 1].
        seed: of the draw.

    Raises:
        HardGNNError: the share is no share.
    """
    if not 0 <= share <= 1:
        raise HardGNNError(f"a share of noise lies between 0 and 1, got {share}")
    keys = data.train.keys(data.n_items)
    unseen_left = np.bincount(keys // data.n_items, minlength=data.n_users) < data.n_items
    rows = np.flatnonzero(data.part == TRAIN)
    count = round(share * len(rows))
    rng = np.random.default_rng(seed)
    rows = rng.permutation(rows[unseen_left[data.user[rows]]])
    drawn = UniformNegatives(data.train, data.n_items).sample(data.user[rows].astype(np.int64), rng)
    item = data.item.copy()
    item[rows[:count]] = drawn[:count]
    return replace(data, item=item, manifest=data.manifest | {NOISE: {"share": share, "seed": seed}})


class SeesNoise:
    """A ranker trained on noisy data: it sees the noisy histories, while candidates stay those of the clean data."""

    def __init__(self, ranker: Ranker, noisy: Dataset, split: int) -> None:
        self._histories = noisy.before(split)
        self.ranker, self.name = informed(ranker, self._histories), ranker.name

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I) of all items; of the clean `histories` nothing but the lengths is looked at.

        Raises:
            HardGNNError: they are others than those before the part.
        """
        if not np.array_equal(histories.lengths, self._histories.lengths[users]):
            raise HardGNNError(f"{self.name}: was trained with noise, and is asked for the first target alone")
        return self.ranker.scores(users, self._histories.take(users))
