"""Popularity: the same items for everybody."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.config.sections import PartSettings
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.models.base import Abilities, ClosedForm, Quality, Stored, as_tensors, model


class PopularitySettings(PartSettings):
    """None."""


@model("popularity")
class Popularity(ClosedForm):
    """Scores an item by its number of training interactions, the same for every user.

    Args:
        counts: (I,).
    """

    Settings = PopularitySettings
    abilities = Abilities(histories=False)

    def __init__(self, counts: NDArray[np.number], name: str = "popularity") -> None:
        self.counts, self.name = counts.astype(np.float32), name

    @property
    def n_items(self) -> int:
        return len(self.counts)

    @classmethod
    def fit(cls, data: Dataset, settings: PopularitySettings, quality: Quality) -> Self:
        return cls(data.train.item_counts(data.n_items))

    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        return np.tile(self.counts, (len(histories.lengths), 1))

    def tensors(self) -> dict[str, Tensor]:
        return as_tensors({"counts": self.counts})

    @classmethod
    def restore(cls, settings: PopularitySettings, stored: Stored) -> Self:
        return cls(stored["counts"].numpy())
