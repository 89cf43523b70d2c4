"""What an objective is: it draws the batches of an epoch and tells the loss terms of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hardgnn.config.sections import PartSettings, Section, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.network import Common, Network
from hardgnn.parts import LOSSES, OBJECTIVES, SAMPLERS
from hardgnn.training.samplers import FalseNegatives


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


class TermedObjective(ABC):
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

    @abstractmethod
    def __len__(self) -> int:
        """See `Objective.__len__`."""

    def new_epoch(self) -> None:  # noqa: B027 - an objective need not remember anything
        """See `Objective.new_epoch`."""

    @abstractmethod
    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """See `Objective.batches`."""

    def figures(self) -> dict[str, float]:
        """See `Objective.figures`."""
        return {}

    def cut(self, batch: Any, parts: int) -> list[Any]:
        """The batch as so many batches of different users (`train.shards`), None where there is nobody.

        The terms of all parts add up to those of the batch, as far as no random number enters.

        Raises:
            HardGNNError: the objective does not tell how.
        """
        raise HardGNNError(f"objective '{self.settings.kind}' does not tell how a step is cut; set train.shards=1")

    def common(self, parts: list[Any], mine: range, generator: torch.Generator) -> tuple[list[Any], Common | None]:
        """The parts of a batch as they go on, and what the network computes once for all of them.

        None, the default, where each computes all of its own. `mine` are the numbers of the parts that this process
        goes on with; `generator` drives what is random in common; a part where there is nobody is None. All processes
        call it.
        """
        return parts, None

    def touched(self, batch: Any) -> dict[str, Tensor]:
        """Which rows (r,) of a parameter a batch gives gradients, by its name; those not named have them in all."""
        return {}

    def walked(self, parts: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows (n,) and columns (c,), both ascending, between which parts of a batch ask for edges of transitions.

        A part where there is nobody is None.

        Raises:
            HardGNNError: the objective does not tell.
        """
        raise HardGNNError(
            f"train.shard_tables: objective.kind={self.settings.kind} does not tell which edges of the transitions a "
            "step asks for; set train.shard_tables=false"
        )

    @abstractmethod
    def step(self, batch: Any, generator: torch.Generator | None) -> Any:
        """What the terms of a batch are functions of."""

    def losses(self, batch: Any, generator: torch.Generator | None) -> dict[str, tuple[float, Tensor]]:
        """See `Objective.losses`."""
        state = self.step(batch, generator)
        return {term.name: (term.weight, term.function(state)) for term in self.terms}

    def here(self, array: NDArray[Any]) -> Tensor:
        """An array as a tensor where the network is."""
        return torch.from_numpy(array).to(self.network.device)


class HardSettings(Section):
    """Hard negatives and the contrastive loss (specification, section 3)."""

    k: int = Field(0, ge=0, json_schema_extra=search(low=1, high=20))
    """Number K of hard negatives for each user, or at each position; 0 is none."""
    weight: float = Field(0.0, ge=0, json_schema_extra=search(low=1e-3, high=1.0, log=True))
    """λ, the coefficient of InfoNCE; 0 is none."""
    temperature: float = Field(0.1, gt=0, json_schema_extra=search(low=0.05, high=1.0, log=True))
    """τ of InfoNCE."""

    @property
    def active(self) -> bool:
        """Whether anything is contrasted."""
        return self.k > 0 and self.weight > 0

    @property
    def mined(self) -> bool:
        """Whether hard negatives are searched."""
        return self.active


class ContrastedObjective(TermedObjective):
    """A recommendation loss, and beside it, by `hard`, InfoNCE with hard negatives, whose false ones the log counts.

    It needs `recommendation` and `contrast` besides.
    """

    def __init__(self, settings: Any, network: Network, data: Dataset) -> None:
        super().__init__(settings, network, data)
        self.hard: HardSettings = settings.hard
        self.loss = LOSSES.find(settings.loss.kind)
        self.sampler = SAMPLERS.find(settings.sampler.kind).make(settings.sampler, data, shared=bool(network.shares))
        self.false = FalseNegatives(data)
        self.terms = [Term("rec", 1.0, self.recommendation)]
        if self.hard.active:
            self.terms.append(Term("infonce", self.hard.weight, self.contrast))

    @abstractmethod
    def recommendation(self, step: Any) -> Tensor:
        """The loss of the recommendation."""

    @abstractmethod
    def contrast(self, step: Any) -> Tensor:
        """InfoNCE."""

    def new_epoch(self) -> None:
        """See `Objective.new_epoch`."""
        self.false.reset()

    def figures(self) -> dict[str, float]:
        """The share of hard negatives that are their user's validation item."""
        share = self.false.share()
        return {} if share is None else {"temperature": self.hard.temperature, "false_negatives": share}


def objective(name: str) -> Callable[[type[TermedObjective]], type[TermedObjective]]:
    """Registers a class as the objective of that name.

    Raises:
        HardGNNError: the name cannot be, or is taken; or the class lacks a method that every objective has.
    """
    return OBJECTIVES.register(name)


def cuts(size: int, parts: int) -> list[slice]:
    """So many slices of `size` rows, about alike."""
    bounds = np.linspace(0, size, parts + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def share_of(loss: Tensor, share: float, settings: Any = None) -> Tensor:
    """What a part adds to the loss of a whole step: its share of a mean, all of a sum (`reduction`)."""
    return loss if share == 1 or getattr(settings, "reduction", "mean") == "sum" else share * loss


def eligible_users(data: Dataset, avoided: Histories) -> NDArray[np.int64]:
    """Users that can be learnt from: with a target and something before it, and an item left to be a negative."""
    return np.flatnonzero((data.train.lengths >= 2) & (avoided.different() < data.n_items))
