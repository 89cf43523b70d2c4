"""Popularity, of the whole log and of the moment: the same items for everybody who asks at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hardgnn.config.sections import PartSettings, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Everybody, Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.base import Abilities, ClosedForm, Exported, Quality, Stored, as_tensors, model
from hardgnn.models.choosing import CHOSEN, BestOf, tried
from hardgnn.models.past import NEVER, Past

HALF_LIVES = (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 120.0, 240.0, 0.0)  # days that fitting tries


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

    def exported(self) -> Exported:
        return Exported("train_interactions of the item", {})

    @classmethod
    def restore(cls, settings: PopularitySettings, stored: Stored) -> Self:
        return cls(stored["counts"].numpy())


class DecayedPopularitySettings(PartSettings):
    """Where it is not given, the half-life that is best on validation is taken."""

    half_life: Literal["chosen"] | Annotated[float, Field(ge=0)] = Field(
        CHOSEN, json_schema_extra=search(low=0.5, high=1000, log=True)
    )
    """Days after which an event counts half; 0 is never."""
    bins: int = Field(256, ge=2, le=4096)
    """The clock goes in so many steps, between which equally many events lie."""


@model("decayed-popularity")
class DecayedPopularity(ClosedForm):
    """Scores an item by its events before the moment of asking, each halved every `half_life` days.

    The same for every user who asks at the same time. Source: Ji et al., A re-visit of the popularity baseline in
    recommender systems, 2020.

    Args:
        past: what happened when.
        half_life: in days; 0 is never.
        chosen: what was chosen on validation.
    """

    Settings = DecayedPopularitySettings
    abilities = Abilities(histories=False)
    name = "decayed-popularity"

    def __init__(self, past: Past, half_life: float, bins: int, chosen: Mapping[str, Any] | None = None) -> None:
        self.past, self.half_life, self.bins, self.chosen = past, half_life, bins, chosen or {}

    @property
    def n_items(self) -> int:
        return int(self.past.counts.shape[1])

    @classmethod
    def fit(cls, data: Dataset, settings: DecayedPopularitySettings, quality: Quality) -> Self:
        if not data.timed:
            raise HardGNNError(f"{data.name}: its times are only an order, so nothing is popular at a moment")
        found, past = BestOf(quality), Past.of(data.train, data.n_items, settings.bins)
        for half_life in tried(settings.half_life, HALF_LIVES):
            found.ask(cls(past, half_life, settings.bins, {"half_life": half_life}))
        best: Self = found.best
        return best

    def knowing(self, histories: Everybody) -> DecayedPopularity:
        """See `Model.knowing`."""
        if not histories.timed:
            return self
        past = Past.of(histories, self.n_items, self.bins)
        return DecayedPopularity(past, self.half_life, self.bins, self.chosen)

    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        readings, rows = self.past.asked(histories)
        return self._table(readings)[rows]

    def _table(self, readings: NDArray[np.integer]) -> NDArray[np.float32]:
        ages = self.past.ages(readings)
        left = np.where(ages < NEVER, np.exp2(-ages / self.half_life) if self.half_life else 1.0, 0.0)
        return np.ascontiguousarray(self.past.left(left.astype(np.float32)).T)

    def tensors(self) -> dict[str, Tensor]:
        return self.past.tensors() | as_tensors({"half_life": np.array([self.half_life, self.bins], dtype=np.float64)})

    def exported(self) -> Exported:
        moment = self._table(np.array([len(self.past.edges)]))[0]
        return Exported("moment of the item, its decayed events at the end of the log", {}, moment=moment)

    @classmethod
    def restore(cls, settings: DecayedPopularitySettings, stored: Stored) -> Self:
        half_life, bins = stored["half_life"].tolist()
        return cls(Past.restored(stored, len(stored["offsets"]) - 1), half_life, int(bins))
