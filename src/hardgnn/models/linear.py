"""EASE: the linear item-to-item model in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hardgnn.config.sections import PartSettings, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.base import Abilities, ClosedForm, Exported, Quality, Stored, model
from hardgnn.models.choosing import CHOSEN, BestOf, tried
from hardgnn.models.similarity import training_matrix

Strength = Annotated[float, Field(gt=0)]
MOST_ITEMS = 40_000  # its item-to-item matrix is dense: 6.4 GB, and as much again while it is inverted


class EASESettings(PartSettings):
    """The strength of the regularisation."""

    weight: Literal["chosen"] | Strength = Field(CHOSEN, json_schema_extra=search(low=1.0, high=5000.0, log=True))
    """λ; where it is not given, the best of a few on validation."""


@model("ease")
class EASE(ClosedForm):
    """`B = I − P diag(P)⁻¹` with `P = (XᵀX + λI)⁻¹`, zero on the diagonal.

    `X` (U, I) are the training interactions, zeros and ones; a user's scores are the profile, also of zeros and ones,
    times `B` (I, I), which is dense.

    Raises:
        HardGNNError: more than `MOST_ITEMS` items.

    Source: Steck, Embarrassingly shallow autoencoders for sparse data, 2019, algorithm 1.
    """

    name = "ease"
    abilities = Abilities(similar=True)
    Settings = EASESettings

    def __init__(self, weights: Tensor, chosen: Mapping[str, Any] | None = None) -> None:
        self.weights, self.chosen = weights, chosen or {}

    @property
    def n_items(self) -> int:
        return len(self.weights)

    @classmethod
    def fit(cls, data: Dataset, settings: EASESettings, quality: Quality) -> Self:
        if data.n_items > MOST_ITEMS:
            raise HardGNNError(
                f"{data.name}: ease keeps a dense matrix of items by items, {data.n_items:,} are too many for "
                f"it; leave it out above {MOST_ITEMS:,}"
            )
        users = training_matrix(data)
        gram = torch.from_numpy((users.T @ users).toarray())
        counts = gram.diagonal().clone()
        found = BestOf(quality)
        for weight in tried(settings.weight, (50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)):
            gram.diagonal().copy_(counts + weight)
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)).T  # symmetric: its rows follow each other
            weights = inverse.div_(-inverse.diagonal().clone())
            weights.fill_diagonal_(0)
            found.ask(cls(weights.contiguous(), {"weight": weight}))
        return found.best

    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        n_items = len(self.weights)
        rows, items = np.divmod(histories.keys(n_items), n_items)  # each item of a profile once
        profile = np.zeros((len(histories.lengths), n_items), dtype=np.float32)
        profile[rows, items] = 1
        return (torch.from_numpy(profile) @ self.weights).numpy()

    def similarity(self, item: int) -> NDArray[np.float32]:
        """How much one item speaks for each (I,)."""
        return self.weights[item].numpy()

    def reasons(self, history: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """What each item of a history (m,) adds to the score of each of `items` (K,): (K, m)."""
        return self.weights.numpy()[np.ix_(history, items)].T

    def tensors(self) -> dict[str, Tensor]:
        return {"weights": self.weights}

    def exported(self) -> Exported:
        columns = np.ascontiguousarray(self.weights.numpy().T)  # of an item: what each item of a profile adds
        return Exported("sum over the different items of the history of vector[item]", {}, columns)

    @classmethod
    def restore(cls, settings: EASESettings, stored: Stored) -> Self:
        weights = stored["weights"]
        if weights.dim() != 2 or weights.shape[0] != weights.shape[1] or not bool(torch.isfinite(weights).all()):
            raise ValueError("the matrix of items by items cannot be")
        return cls(weights)
