"""What an objective is: it draws the batches of an epoch and tells the loss terms of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.config.sections import PartSettings, Section
from hardgnn.data.dataset import Dataset
from hardgnn.models.network import Network
from hardgnn.parts import OBJECTIVES


@dataclass(frozen=True)
class Term:
    """One term of the loss: its name in the log, its coefficient, and what it is of the state of a step."""

    name: str
    weight: float
    function: Callable[[Any], Tensor]


class Objective(Protocol):
    """What training asks of a network; the trainer needs nothing else."""

    def __len__(self) -> int:
        """Steps per epoch."""

    def new_epoch(self) -> None:
        """Forgets what earlier epochs cached and counted, so that a resumed run goes on as an unbroken one."""

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """The batches of one epoch."""

    def losses(self, batch: Any, generator: torch.Generator | None) -> dict[str, tuple[float, Tensor]]:
        """The terms of one batch, each with its coefficient; `generator` drives dropout."""

    def figures(self) -> dict[str, float]:
        """What the log tells of the epoch beside the losses."""


class TermedObjective:
    """What ours have in common: named terms, and the tensors of a step where the network is.

    Registered by `@objective("name")`; it needs `__len__`, `batches`, `step`, and its `terms`.
    """

    Settings: ClassVar[type[PartSettings]] = PartSettings
    terms: list[Term]

    def __init__(self, settings: Any, network: Network, data: Dataset) -> None:
        self.settings, self.network, self.data, self.terms = settings, network, data, []

    @classmethod
    def refuses(cls, objective: Any, model: Section) -> str:
        """Why it cannot train a network of these settings; nothing, where it can."""
        return ""

    def __len__(self) -> int:
        """See `Objective.__len__`."""
        raise NotImplementedError

    def new_epoch(self) -> None:
        """See `Objective.new_epoch`."""

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """See `Objective.batches`."""
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """See `Objective.figures`."""
        return {}

    def step(self, batch: Any, generator: torch.Generator | None) -> Any:
        """What the terms of a batch are functions of."""
        raise NotImplementedError

    def losses(self, batch: Any, generator: torch.Generator | None) -> dict[str, tuple[float, Tensor]]:
        """See `Objective.losses`."""
        state = self.step(batch, generator)
        return {term.name: (term.weight, term.function(state)) for term in self.terms}

    def here(self, array: NDArray[Any]) -> Tensor:
        """An array as a tensor where the network is."""
        return torch.from_numpy(array).to(self.network.device)


def objective(name: str) -> Callable[[type[TermedObjective]], type[TermedObjective]]:
    """Registers a class as the objective of that name.

    Raises:
        HardGNNError: the name cannot be, or is taken.
    """

    def register(found: type[TermedObjective]) -> type[TermedObjective]:
        OBJECTIVES.add(name, found, found)
        return found

    return register


def eligible_users(data: Dataset, avoided_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Users that can be learnt from: with a target and something before it, and an item left to be a negative."""
    distinct = np.bincount(avoided_keys // data.n_items, minlength=data.n_users)
    return np.flatnonzero((data.train.lengths >= 2) & (distinct < data.n_items))
