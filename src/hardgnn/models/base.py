"""What a model is: fitted, it scores items for users; registered, it can be named, fitted, kept and asked anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.config.sections import PartSettings
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Everybody, Histories
from hardgnn.errors import HardGNNError
from hardgnn.parts import MODELS, Registered


@dataclass(frozen=True)
class Abilities:
    """What a fitted model can do, so that nobody looks it up in its settings."""

    known_users: bool = False
    """It has learnt something of each user of its training beside their items."""
    histories: bool = True
    """It listens to the items that it is given of a user, known or not."""
    vectors: bool = False
    """Its scores are products of a vector of the user and one of the item: an index can serve it."""
    similar: bool = False
    """It can tell how like items are to another (`similarity`) and why one is recommended (`reasons`)."""
    attention: bool = False
    """It can tell how much it looked at each item of the window."""


class Model(Protocol):
    """A fitted model, a `hardgnn.evaluation.protocols.Ranker`. It knows the indices that it was fitted on."""

    name: str
    """What tables call it."""
    seal: str
    """The hash of the file it came from; empty where it came from none."""

    @property
    def window(self) -> int | None:
        """How many of a user's last items it looks at; None is all."""

    @property
    def n_items(self) -> int:
        """How many items it scores."""

    @property
    def parameters(self) -> int:
        """How many numbers it has learnt."""

    @property
    def abilities(self) -> Abilities:
        """What it can do."""

    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I) of all items, higher is better, for `users` (B,), or None where nobody is known.

        `histories` are their items, oldest first, in the same order.
        """

    def knowing(self, histories: Everybody) -> Model:
        """The same model, which has counted the events of these histories of everybody and no others; one that counts
        none by their times is as it was."""

    def tensors(self) -> dict[str, Tensor]:
        """All that `restore` needs, to be kept."""

    def exported(self) -> Exported:
        """What another system needs to score as it does."""


@dataclass(frozen=True)
class Exported:
    """What another system needs to score as a model does.

    `score` is the formula in words; `numbers` are those that it names; `vectors` (I, d) the items'; `similarity` (I, I)
    from an item of the history (row) to the one scored; `moment` (I,) what the clock adds after the end of the log.
    """

    score: str
    numbers: Mapping[str, float]
    vectors: NDArray[np.float32] | None = None
    similarity: sparse.csr_array | None = None
    moment: NDArray[np.float32] | None = None


class Similar(Protocol):
    """A model with the ability `similar`."""

    def similarity(self, item: int) -> NDArray[np.float32]:
        """How like each item (I,) is to one."""

    def reasons(self, history: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """How much each item of a history (m,), oldest first, speaks for each of `items` (K,): (K, m)."""


class Quality(Protocol):
    """Tells how good a model is on validation (NDCG@10 over all items), the higher the better; a fit chooses by it."""

    def __call__(self, model: Any, /) -> float: ...


Stored = Mapping[str, Tensor]
"""Tensors by name, read when they are asked for."""


class ClosedForm(ABC):
    """A model that is fitted in one go, registered by `@model("name")`.

    What it has learnt is in arrays; nothing of the data set is kept.
    """

    Settings: ClassVar[type[PartSettings]] = PartSettings
    objective: ClassVar[str | None] = None
    name: str = ""
    seal: str = ""
    window: int | None = None
    learns: ClassVar[bool] = True
    """Whether it is fitted to data; an ensemble is made of what was."""
    abilities = Abilities()
    chosen: Mapping[str, Any] = {}
    """The settings that it was fitted with, where fitting chose them."""

    @property
    @abstractmethod
    def n_items(self) -> int:
        """How many items it scores."""

    @property
    def parameters(self) -> int:
        """How many numbers it has learnt."""
        return sum(tensor.numel() for tensor in self.tensors().values())

    @classmethod
    @abstractmethod
    def fit(cls, data: Dataset, settings: Any, quality: Quality) -> Self:
        """Learns from the training part of `data`; `quality` compares candidates on validation."""

    @classmethod
    @abstractmethod
    def restore(cls, settings: Any, stored: Stored) -> Self:
        """The model out of what `tensors` gave."""

    @abstractmethod
    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        """See `Model.scores`."""

    def knowing(self, histories: Everybody) -> ClosedForm:
        """See `Model.knowing`."""
        return self

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """See `Model.tensors`."""

    def exported(self) -> Exported:
        """See `Model.exported`."""
        raise HardGNNError(f"{self.name}: the model has nothing that another system could score with")


def model(name: str) -> Callable[[Registered], Registered]:
    """Registers a class as the model of that name: a `ClosedForm`, or a `hardgnn.models.network.Network`.

    Raises:
        HardGNNError: the name cannot be, or is taken; or the class lacks a method that every model has.
    """

    def register(found: Registered) -> Registered:
        MODELS.register(name)(found)
        found.kind = name  # type: ignore[attr-defined]
        if issubclass(found, ClosedForm):
            found.name = found.name or name
        return found

    return register


def part_of(stored: Stored, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)}


def as_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """Arrays of numpy as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def checked_matrix(parts: dict[str, Tensor], n_items: int, width: int | None = None) -> sparse.csr_array:
    """A sparse matrix (I, `width`), or (I, I), from its `offsets` (I + 1,), `columns` and `values` (E,).

    Raises:
        ValueError: they cannot be those of such a matrix.
    """
    width = n_items if width is None else width
    values, columns, offsets = (parts[name].numpy() for name in ("values", "columns", "offsets"))
    fits = (
        offsets.shape == (n_items + 1,)
        and columns.ndim == values.ndim == 1
        and len(columns) == len(values) == offsets[-1]
        and offsets[0] == 0
        and (np.diff(offsets) >= 0).all()
        and columns.dtype.kind == "i"
    )
    if not fits or (len(columns) and (columns.min() < 0 or columns.max() >= width)):
        raise ValueError("a sparse matrix points outside itself")
    if not np.isfinite(values).all():
        raise ValueError("a number of a sparse matrix is not finite")
    return sparse.csr_array((values, columns, offsets), shape=(n_items, width))
