"""What the graphs give for as long as weights stay as they are, computed once for all who ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardgnn.models.network import Vectors
from hardgnn.models.selfgnn.short_term import ShortTerm
from hardgnn.ops.native.graph import Shared

if TYPE_CHECKING:
    from hardgnn.models.selfgnn.network import SelfGNN


@dataclass(frozen=True)
class SameWeights:
    """The network with the weights that it has now: the layers of its graphs are computed once."""

    network: SelfGNN
    shared: Shared

    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        """See `Network.vectors`."""
        short = self.network.short_term(generator, users, items, self.shared)
        return self.network.encoded(short, users, generator)


class CommonVectors:
    """The short-term vectors of the users and items of all parts of a step. It is a `hardgnn.models.network.Common`.

    Parts take rows of them, and leave their gradients at them; what these add up to goes through the graphs at once.
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
        self.alone = [name for name, _ in network.named_parameters() if name.split(".")[0] in self.PARTS]
        short = network.short_term(generator, users, items, shared)
        self._computed = [short.users, short.items]
        self._places = [torch.full((n,), -1, device=network.device) for n in (network.n_users, network.n_items)]
        for place, rows in zip(self._places, (users, items)):
            place[rows] = torch.arange(len(rows), device=place.device)
        self._asked: tuple[list[tuple[Tensor, Tensor]], ...] = ([], [])  # of both sides places and their vectors

    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        """See `Network.vectors`; all are those that it is of."""
        taken = []
        for table, place, rows, asked in zip(self._computed, self._places, (users, items), self._asked, strict=True):
            places = torch.arange(table.shape[1], device=place.device) if rows is None else place[rows]
            found = table.detach().index_select(1, places).requires_grad_()
            asked.append((places, found))
            taken.append(found)
        return self.network.encoded(ShortTerm(*taken), users, generator)

    def gradient(self) -> list[Tensor]:
        """See `Common.gradient`."""
        found = []
        for table, asked in zip(self._computed, self._asked, strict=True):
            sums = torch.zeros_like(table)
            for places, taken in asked:
                if taken.grad is not None:
                    sums.index_add_(1, places, taken.grad)
            asked.clear()
            found.append(sums.flatten())
        return found

    def go_on(self, sums: Tensor) -> Tensor:
        """See `Common.go_on`."""
        sizes = [table.numel() for table in self._computed]
        *own, rest = sums.split([*sizes, len(sums) - sum(sizes)])
        gradients = [one.view_as(table) for one, table in zip(own, self._computed, strict=True)]
        torch.autograd.backward(self._computed, gradients)
        return rest
