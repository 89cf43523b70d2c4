"""What the graphs give for as long as weights stay as they are, computed once for all who ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardgnn.models.network import Vectors
from hardgnn.models.selfgnn.short_term import ShortTerm, stacked
from hardgnn.ops.native.graph import Shared

if TYPE_CHECKING:
    from hardgnn.models.selfgnn.network import SelfGNN


class Taking(ABC):
    """Gives the network's vectors, of short-term vectors of its own."""

    network: SelfGNN

    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        """See `Network.vectors`."""
        with self.network.taking(self.short_term):
            return self.network.vectors(users, items, generator)

    @abstractmethod
    def short_term(self, generator: torch.Generator | None, users: Tensor | None, items: Tensor | None) -> ShortTerm:
        """See `SelfGNN.short_term`."""


@dataclass(frozen=True)
class SameWeights(Taking):
    """The network with the weights that it has now: the layers of its graphs are computed once."""

    network: SelfGNN
    shared: Shared

    def short_term(self, generator: torch.Generator | None, users: Tensor | None, items: Tensor | None) -> ShortTerm:
        """See `SelfGNN.short_term`."""
        return self.network.propagated(generator, users, items, self.shared)


class CommonVectors(Taking):
    """The short-term vectors of the users and items of all parts of a step. It is a `hardgnn.models.network.Common`.

    Parts take rows of them, all or those asked for, and leave their gradients there; what these add up to goes through
    the graphs at once.
    """

    PARTS = ("user_embedding", "item_embedding", "combine_users", "combine_items")

    def __init__(
        self,
        network: SelfGNN,
        users: Tensor,
        items: Tensor,
        generator: torch.Generator | None,
        shared: Shared | None = None,
    ) -> None:
        self.network = network
        self.through = [name for name, _ in network.named_parameters() if name.split(".")[0] in self.PARTS]
        short = network.propagated(generator, users, items, shared)
        self._intervals = len(short.users)
        self._computed = [short.users.flatten(0, 1), short.items.flatten(0, 1)]
        self._asked: list[tuple[Tensor, Tensor]] = []  # rows of these, one after the other, and their vectors
        self._places = []
        for size, rows in zip((network.n_users, network.n_items), (users, items)):
            place = torch.full((size,), -1, device=rows.device)
            self._places.append(place.index_copy_(0, rows, torch.arange(len(rows), device=rows.device)))

    @property
    def numbers(self) -> int:
        """See `Common.numbers`."""
        return sum(table.numel() for table in self._computed)

    def short_term(self, generator: torch.Generator | None, users: Tensor | None, items: Tensor | None) -> ShortTerm:
        """See `SelfGNN.short_term`: rows of what has been computed, without what it was computed of."""
        found, first = [], 0
        for table, place, ids in zip(self._computed, self._places, (users, items), strict=True):
            size = len(table) // self._intervals
            rows = stacked(
                torch.arange(size, device=place.device) if ids is None else place[ids], self._intervals, size
            )
            taken = table.detach().index_select(0, rows).requires_grad_()
            self._asked.append((rows + first, taken))
            found.append(taken.view(self._intervals, -1, table.shape[1]))
            first += len(table)
        return ShortTerm(*found)

    def gradient(self, out: Tensor) -> None:
        """See `Common.gradient`."""
        out.zero_()
        for rows, taken in self._asked:
            if taken.grad is not None:
                out.view(-1, taken.shape[1]).index_add_(0, rows, taken.grad)
        self._asked.clear()

    def backward(self, sums: Tensor) -> None:
        """See `Common.backward`."""
        computed, self._computed = self._computed, []  # nothing of them is needed after it
        gradients = sums.split([table.numel() for table in computed])
        torch.autograd.backward(computed, [one.view_as(table) for one, table in zip(gradients, computed, strict=True)])
