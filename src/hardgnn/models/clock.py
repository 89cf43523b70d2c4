"""Popularity as of the moment of asking: `Σ_m w_m log(1 + c_m / b_m)`, counts that halve with time (docs/model.md)."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from hardgnn.config.sections import Section, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Everybody, Histories
from hardgnn.models.past import NEVER, Past


class NoClock(Section):
    """The score is the same at any time."""

    use: Literal[False] = False
    """Whether the score knows how popular an item is at the moment of asking."""


class ClockSettings(Section):
    """How popular an item is at the moment of asking, in the score (docs/model.md)."""

    use: Literal[True] = True
    """Whether the score knows how popular an item is at the moment of asking. A log without times has no such thing."""
    terms: int = Field(4, ge=1, le=32)
    """How many counts of an item there are, each with a half-life of its own."""
    shortest: float = Field(3.0, ge=1e-3, le=1e5, json_schema_extra=search(low=0.1, high=30, log=True))
    """First value of the shortest half-life, in days; learned."""
    longest: float = Field(365.0, ge=1e-3, le=1e5)
    """First value of the longest half-life, in days; learned. The others are spread between, evenly in their logs."""
    base: float = Field(1.0, ge=1e-6, le=1e6)
    """First value of the count below which a count says little; learned for each half-life."""
    bins: int = Field(128, ge=2, le=4096)
    """The clock goes in so many steps, between which equally many events lie."""
    rate: float = Field(10.0, gt=0, json_schema_extra=search(low=1, high=30, log=True))
    """The learned numbers take steps of so many times `train.lr`."""


ITEMS_TOGETHER = 2**16  # whose scores are computed at once: 34 MB a term at 129 readings
CLOCKS = {False: NoClock, True: ClockSettings}


class Clock(nn.Module):
    """`Σ_m w_m log(1 + c_m(v, t) / b_m)`, c_m the events of item v before t, each halved every h_m days.

    The weights w (from 0 on), half-lives h and bases b are learned. What comes next is never among what is counted:
    only what is over before the moment of asking is, so nothing has to be taken out as of `Transitions`.
    """

    def __init__(self, config: ClockSettings) -> None:
        super().__init__()
        self.config = config
        spread = torch.linspace(math.log(config.shortest), math.log(config.longest), config.terms)
        self.log_half_life = nn.Parameter(spread)
        self.weight = nn.Parameter(torch.zeros(config.terms))
        self.log_base = nn.Parameter(torch.full((config.terms,), math.log(config.base)))

    def kernel(self, ages: Tensor) -> Tensor:
        """What is left of an event so many days old (R, T), by term: (m, R, T)."""
        left = torch.exp2(-ages / self.log_half_life.exp()[:, None, None])
        return torch.where(ages < NEVER, left, 0.0)  # however long the half-life

    def term(self, left: Tensor) -> Tensor:
        """The score of counts c (m, ...): (...)."""
        shape = (-1, *[1] * (left.dim() - 1))
        return (self.weight.view(shape) * torch.log1p(left / self.log_base.exp().view(shape))).sum(0)

    def table(self, kernel: Tensor, counts: Tensor) -> Tensor:
        """The score of C items at R readings, (R, C), of a kernel (m, R, T) and the items' counts (T, C)."""
        return self.term(kernel @ counts)

    def at(self, kernel: Tensor, rows: Tensor, counts: Tensor, columns: Tensor) -> Tensor:
        """The score of one item at each of P readings, (P,): `rows` (P,) of a kernel, `columns` (P,) of counts."""
        return self.term((kernel[:, rows] * counts.T[columns]).sum(-1))


def past_of(data: Dataset, settings: ClockSettings) -> Past | None:
    """What the training part tells; None, and a warning, where its times are only an order."""
    if not data.timed:
        warnings.warn(
            f"{data.name}: its times are only an order, so nothing is popular at a moment: clock.use does nothing",
            stacklevel=2,
        )
        return None
    return Past.of(data.train, data.n_items, settings.bins)


class ClockScores:
    """The trained clock: what it adds to the score of each item at the moment of asking."""

    def __init__(self, module: Clock, past: Past) -> None:
        self.module, self.past = module, past
        # the place of each reading in a table, -1 for none, and the table; replaced as one, since threads may ask
        self._known: tuple[NDArray[np.int64], Tensor | None] = (np.full(len(past.edges) + 1, -1), None)

    def knowing(self, histories: Everybody) -> ClockScores:
        """The same clock, which has counted the events of these histories and no others."""
        return ClockScores(self.module, Past.of(histories, self.past.counts.shape[1], self.module.config.bins))

    @torch.no_grad()
    def moments(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """What is added to the score of all items at R moments, (R, I), and the moment of each user, (B,).

        A moment is computed when it is first asked for, and kept.
        """
        readings, rows = self.past.asked(histories)
        place, table = self._known
        new = readings[place[readings] < 0]
        if table is None or len(new):
            found, place = self._at(new), place.copy()
            place[new] = np.arange(len(new)) + (0 if table is None else len(table))
            table = found if table is None else torch.cat([table, found])
            self._known = place, table
        return table, torch.from_numpy(place[readings][rows]).to(table.device)

    def _at(self, readings: NDArray[np.integer]) -> Tensor:
        """What is added at these readings, (R, I); some items at a time, for each term of them is as large."""
        where, module, past = self.module.weight.device, self.module, self.past
        kernel = module.kernel(torch.from_numpy(past.ages(readings)).to(where)).cpu().numpy()
        found = torch.empty(len(readings), past.counts.shape[1], device=where)
        for start in range(0, found.shape[1], ITEMS_TOGETHER):
            some = replace(past, counts=past.counts[:, start : start + ITEMS_TOGETHER])
            block = torch.zeros(some.counts.shape[1], len(readings), device=where)
            for weight, base, one in zip(module.weight, module.log_base.exp(), kernel, strict=True):
                left = torch.from_numpy(some.left(one)).to(where)
                block += left.div_(base).log1p_().mul_(weight)
            found[:, start : start + ITEMS_TOGETHER] = block.T
        return found

    def numbers(self) -> dict[str, float]:
        """The learned numbers, by term."""
        module, found = self.module, {}
        with torch.no_grad():
            for place in range(len(module.weight)):
                found[f"clock_weight_{place + 1}"] = float(module.weight[place])
                found[f"clock_half_life_days_{place + 1}"] = float(module.log_half_life[place].exp())
                found[f"clock_base_{place + 1}"] = float(module.log_base[place].exp())
        return found
