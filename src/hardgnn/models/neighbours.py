"""Item neighbours, plain and such that know recency: no gradient, a second to fit, hard to beat.

They learn from training interactions only; at test time the validation item is in the history they are asked with.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from torch import Tensor

from hardgnn.config.sections import PartSettings, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.base import Abilities, ClosedForm, Exported, Quality, Stored, as_tensors, checked_matrix, model
from hardgnn.models.choosing import CHOSEN, BestOf, tried
from hardgnn.models.similarity import cosine_similarity, decayed_history, forward_similarity

RECENCY_NEIGHBOURS = 2000  # bounds the memory of large catalogues
Number = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
WHOLE = 0  # as a number of last items or of neighbours: all of them


class ItemToItem(ClosedForm):
    """Sums the similarity of an item to the user's last items: `s_uj = Σ_age decay^age · S[i_age, j]`.

    Args:
        similarity: (I, I), from a history's item (row) to the item scored (column).
        last: how many of the user's last items are asked; 0 or None = the whole history.
        decay: weight of an item relative to the one after it; 1 = all alike.

    Raises:
        HardGNNError: `last` is below 0 or `decay` outside (0, 1].
    """

    abilities = Abilities(similar=True)

    def __init__(
        self,
        similarity: sparse.csr_array,
        last: int | None,
        decay: float = 1.0,
        chosen: Mapping[str, Any] | None = None,
    ) -> None:
        if last is not None and last < 0:
            raise HardGNNError(f"the number of last items must be at least 1, or 0 for all, got {last}")
        if not 0 < decay <= 1:
            raise HardGNNError(f"the decay must be above 0 and at most 1, got {decay}")
        if not np.isfinite(similarity.data).all():
            raise HardGNNError("the similarity of items is no finite number: a setting of the model is too large")
        self.matrix, self.window, self.decay = similarity, last or None, decay
        self.chosen = chosen or {}

    @property
    def n_items(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def parameters(self) -> int:
        return int(self.matrix.nnz)

    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        query = decayed_history(histories, self.decay, self.window, self.matrix.shape[0])
        return (query @ self.matrix).toarray()

    def similarity(self, item: int) -> NDArray[np.float32]:
        """How much one item speaks for each (I,)."""
        return self.matrix[[item]].toarray()[0]

    def reasons(self, history: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """What each item of a history (m,) adds to the score of each of `items` (K,): (K, m)."""
        age = np.arange(len(history))[::-1]
        asked = age < (self.window or len(history))
        weights = np.where(asked, self.decay**age, 0.0).astype(np.float32)
        return self.matrix[history][:, items].toarray().T * weights

    def tensors(self) -> dict[str, Tensor]:
        parts = {
            "offsets": self.matrix.indptr.astype(np.int64),
            "columns": self.matrix.indices,
            "values": self.matrix.data.astype(np.float32),
            "query": np.array([self.window or WHOLE, self.decay], dtype=np.float64),
        }
        return as_tensors(parts)

    def exported(self) -> Exported:
        numbers = {"decay": self.decay, "last": float(self.window or WHOLE)}
        return Exported("sum over the last items, newest first, of decay^age * similarity", numbers, None, self.matrix)

    @classmethod
    def restore(cls, settings: Any, stored: Stored) -> Self:
        last, decay = stored["query"].tolist()
        return cls(checked_matrix(dict(stored), len(stored["offsets"]) - 1), int(last), decay)


class ItemKNNSettings(PartSettings):
    """Of each setting that is not given, the value that is best on validation is taken."""

    last: Literal["chosen"] | Number = Field(CHOSEN, json_schema_extra=search(1, 2, 3, 5, 10, 20, 50, WHOLE))
    """How many of the user's last items are asked; 0 is all."""
    neighbours: Literal["chosen"] | Number = Field(CHOSEN, json_schema_extra=search(20, 100, 500, RECENCY_NEIGHBOURS))
    """Most similar items that are kept of each item; 0 is all."""


@model("itemknn")
class ItemKNN(ItemToItem):
    """Cosine item neighbours over the user's `last` items; see `cosine_similarity`."""

    name = "itemknn"
    Settings = ItemKNNSettings

    @classmethod
    def fit(cls, data: Dataset, settings: ItemKNNSettings, quality: Quality) -> Self:
        found = BestOf(quality)
        for neighbours in tried(settings.neighbours, (20, 100, 500, RECENCY_NEIGHBOURS)):
            similarity = cosine_similarity(data, neighbours or None)
            for last in tried(settings.last, (1, 2, 3, 5, 10, 20, 50, WHOLE)):
                found.ask(cls(similarity, last, chosen={"last": last, "neighbours": neighbours}))
        return found.best


class RecencyKNNSettings(PartSettings):
    """Of each setting that is not given, the value that is best on validation is taken."""

    last: Literal["chosen"] | Number = Field(CHOSEN, json_schema_extra=search(1, 2, 3, 5, 10, 20, 50))
    """How many of the user's last items are asked; 0 is all."""
    decay: Literal["chosen"] | Share = Field(CHOSEN, json_schema_extra=search(low=0.5, high=1.0))
    """Weight of an item relative to the one after it."""
    forward: Literal["chosen"] | Weight = Field(CHOSEN, json_schema_extra=search(low=0.1, high=10.0, log=True))
    """Weight of `forward_similarity` beside the cosine."""
    popularity: Literal["chosen"] | Weight = Field(CHOSEN, json_schema_extra=search(low=0.0, high=0.5))
    """The power of the scored item's count that is multiplied in again: 0 leaves the cosine, 0.5 takes its root back,
    as if only the history's items were normalised."""
    backward: Literal["chosen"] | Weight = Field(CHOSEN, json_schema_extra=search(low=0.0, high=1.0))
    """Weight of items that came before, relative to those that follow."""
    neighbours: Number = RECENCY_NEIGHBOURS
    """Most similar items that are kept of each item; 0 is all. It bounds the memory of large catalogues."""


@model("recencyknn")
class RecencyKNN(ItemToItem):
    """Cosine similarity plus `forward` times `forward_similarity`, the last items weighted by age."""

    name = "recencyknn"
    Settings = RecencyKNNSettings

    @classmethod
    def fit(cls, data: Dataset, settings: RecencyKNNSettings, quality: Quality) -> Self:
        found = BestOf(quality)
        cosine = cosine_similarity(data, settings.neighbours or None)
        backwards = tried(settings.backward, (0.0, 0.5))
        near = {backward: forward_similarity(data, backward=backward) for backward in backwards}
        decays = tried(settings.decay, (0.7, 0.8, 0.9))
        for forward, popularity, backward in itertools.product(
            tried(settings.forward, (0.3, 1.0, 3.0)), tried(settings.popularity, (0.0, 0.25)), backwards
        ):
            similarity = ((cosine + np.float32(forward) * near[backward]) @ _popular(data, popularity)).tocsr()
            for last, decay in itertools.product(tried(settings.last, (1, 2, 3, 5, 10, 20, 50)), decays):
                if last == 1 and decay != decays[0]:
                    continue  # one item's weight is a common factor
                chosen = {"last": last, "decay": decay, "forward": forward, "neighbours": settings.neighbours}
                chosen |= {"popularity": popularity, "backward": backward}
                found.ask(cls(similarity, last, decay, chosen))
        return found.best


def _popular(data: Dataset, power: float) -> sparse.dia_array:
    """Each item's training count to this power, on the diagonal: (I, I)."""
    counts = np.maximum(data.train.item_counts(data.n_items), 1)
    return sparse.diags_array((counts**power).astype(np.float32))
