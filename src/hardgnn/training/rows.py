"""AdamW over tables of which a step asks for some rows: the others' steps are made up when they are asked for.

A row without a gradient still moves, by its decayed momentum and by weight decay, and so does its moving average. All
of it depends on the steps that have gone by alone, so that it is written down in closed form, and a step costs by the
rows that it asks for and not by those that there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.ops.rows import AdamWStep, Kept, drift, step
from hardgnn.training.adam import AdamW

KEPT_STEPS = 2**12
"""Steps after which all rows are brought up, at the latest, so that the coefficients of a step stay few."""
ROWS_TOGETHER = 2**14
"""Rows that are brought up at once: 4 MiB of 64 numbers."""
TOO_LITTLE = 1e-12
"""What is left of momentum below which it is rounding."""
NARROW = 1e-9
"""Relative variance of the steps' scales below which one stands for all."""


class Elapsed:
    """What the steps since each step do to a row that none of them touches.

    Untouched for k steps, a row θ with the moments m and v, and its average μ, become

        θ' = D θ - m Σ_j w_j ρ_j / (√v + ε ρ_j)
        μ' = E μ + A θ - m Σ_j u_j ρ_j / (√v + ε ρ_j)
        m' = β1^k m,  v' = β2^k v

    with w_j = lr_j β1^j / (1 - β1^t_j) times the weight decay after j, u_j what the average has of it, and
    ρ_j = √((1 - β2^t_j) / β2^j). Where ε vanishes beside √v, or √v beside ε, the sums have closed forms, Σ w_j ρ_j / √v
    and Σ w_j / ε. Between, two values of ρ stand for all, chosen so that the first four moments of ρ are right (Gauss's
    quadrature): the relative error is of the order of (ε ρ / √v)³.
    """

    # D, E, A; β1^k, β2^k; Σ w ρ^i of i = 0 .. 3, and Σ u ρ^i
    _D, _E, _A, _M, _V, _W, _U = 0, 1, 2, 3, 4, slice(5, 9), slice(9, 13)

    def __init__(self, betas: tuple[float, float]) -> None:
        self.betas = betas
        self._table = np.empty((13, KEPT_STEPS + 1))
        self.restart()

    def restart(self) -> None:
        """As if all rows had been touched by the last step."""
        self.steps = 0
        self._begin()

    def _begin(self) -> None:
        self._table[:, self.steps] = 0
        self._table[[self._D, self._E, self._M, self._V], self.steps] = 1

    def advance(self, step: int, lr: float, weight_decay: float, past: float) -> None:
        """One more step, number `step` from 1 on; `past` is what the average keeps of itself in it."""
        first, second = self.betas
        now = self._table[:, : self.steps + 1]
        now[self._M] *= first
        now[self._V] *= second
        now[self._D] *= 1 - lr * weight_decay
        now[self._W] *= 1 - lr * weight_decay
        moved, scale = now[self._M] * (lr / (1 - first**step)), np.sqrt((1 - second**step) / now[self._V])
        for moment in now[self._W]:
            moment += moved
            moved *= scale
        now[self._E] *= past
        for mean, one in ((now[self._A], now[self._D]), (now[self._U], now[self._W])):
            mean *= past
            mean += (1 - past) * one
        self.steps += 1
        self._begin()

    def since(self, place: NDArray[np.integer], eps: float) -> NDArray[np.float64]:
        """What `hardgnn.ops.rows.drift` takes, of rows touched last at these steps (n,), from 0 on: (n, 13)."""
        found = self._table[:, place]
        found[self._M][found[self._M] < TOO_LITTLE] = 0
        with_eps = np.array([[1], [eps], [eps], [eps**2]])
        sums = [_gauss(found[which]) * with_eps for which in (self._W, self._U)]
        return np.concatenate([found[[self._D, self._E, self._A, self._M, self._V]], *sums]).T


def _gauss(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """p, q, b, c, with which (p s + q ε) / (s² + b ε s + c ε²) is Σ w ρ / (s + ε ρ): (4, n), of moments (4, n).

    ρ² - b ρ + c is the polynomial whose roots are the two nodes.
    """
    zeroth, first, second, third = moments
    spread = zeroth * second - first**2
    wide = spread > NARROW * first**2
    mean = np.divide(first, zeroth, out=np.ones_like(first), where=zeroth > 0)
    b = np.divide(zeroth * third - first * second, spread, out=2 * mean, where=wide)
    c = np.divide(first * third - second**2, spread, out=mean**2, where=wide)
    return np.stack([first, c * zeroth, b, c])


class LazyRows:
    """A table (n, d) under AdamW, whose rows are up to date when they are asked for. It is a `models.network.Rows`.

    Args:
        table: the parameter.
        moments: its `step`, `exp_avg` and `exp_avg_sq`, as those of torch's AdamW.
        betas, eps: of AdamW.
        average: a moving average of the table (n, d), and what a step leaves of its past; it begins with the weights
            after the first step.
    """

    def __init__(
        self,
        table: Tensor,
        moments: dict[str, Tensor],
        betas: tuple[float, float],
        eps: float,
        average: tuple[Tensor, float] | None,
    ) -> None:
        self.table, self.betas, self.eps, self.average = table, betas, eps, average
        self._elapsed = Elapsed(betas)
        self._last = np.zeros(len(table), np.int32)  # the step that touched each row, counted from the last `catch_up`
        self.restart(moments)

    def restart(self, moments: dict[str, Tensor]) -> None:
        """With other moments, where table and average are up to date."""
        self.moments, self._asked = moments, list[tuple[Tensor, Tensor]]()
        self._step = int(moments["step"])
        self._last.fill(0)
        self._elapsed.restart()

    def look_up(self, rows: Tensor | None) -> Tensor:
        """The given rows (n,), each once, or the whole table; the next step changes rows that have a gradient then."""
        if rows is None:
            self.catch_up()
            return self.table
        self._bring_up(rows, rows.cpu().numpy())
        found = self.table.detach().index_select(0, rows)
        if torch.is_grad_enabled():
            self._asked.append((rows, found.requires_grad_()))
        return found

    def gradient(self, rows: Tensor) -> Tensor:
        """The gradients (n, d) of given rows (n,), sorted, from what was asked for so far, which then has none."""
        found = self.table.new_zeros(len(rows), self.table.shape[1])
        for asked, one in self._taken():
            found.index_add_(0, torch.searchsorted(rows, asked), one)
        return found

    def change(self, rows: Tensor, gradient: Tensor) -> None:
        """Gives rows (n,), each once, gradients (n, d) from elsewhere, for the next step."""
        self.look_up(rows).grad = gradient

    def _taken(self) -> list[tuple[Tensor, Tensor]]:
        asked, self._asked = self._asked, []
        return [(rows, found.grad) for rows, found in asked if found.grad is not None]

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float) -> None:
        """One step of AdamW, and of the average."""
        self._step += 1
        past = self.average[1] if self.average is not None and self._step > 1 else 0.0
        touched = self._taken()
        self._elapsed.advance(self._step, lr, weight_decay, past)
        if touched:
            rows, gradient = _together(touched)
            now = AdamWStep(self._step, lr, weight_decay, self.betas, self.eps, past)
            step(self._kept(), rows, gradient, now)
            self._last[rows.cpu().numpy()] = self._elapsed.steps
        self.moments["step"].fill_(self._step)
        if self._elapsed.steps == KEPT_STEPS:
            self.catch_up()

    @torch.no_grad()
    def catch_up(self) -> None:
        """Brings all rows up to date."""
        if self._elapsed.steps == 0:
            return
        behind = np.flatnonzero(self._last < self._elapsed.steps)
        for start in range(0, len(behind), ROWS_TOGETHER):
            place = behind[start : start + ROWS_TOGETHER]
            self._bring_up(torch.from_numpy(place).to(self.table.device), place)
        self._last.fill(0)
        self._elapsed.restart()

    @torch.no_grad()
    def _bring_up(self, rows: Tensor, place: NDArray[np.integer]) -> None:
        """What the steps since they were touched make of some rows."""
        behind = np.flatnonzero(self._last[place] < self._elapsed.steps)
        if len(behind) < len(place):
            rows, place = rows[torch.from_numpy(behind).to(rows.device)], place[behind]
        steps, kinds = np.unique(self._last[place], return_inverse=True)
        since = torch.from_numpy(np.ascontiguousarray(self._elapsed.since(steps, self.eps))).to(self.table)
        drift(self._kept(), rows, torch.from_numpy(kinds).to(rows.device), since)
        self._last[place] = self._elapsed.steps

    def _kept(self) -> Kept:
        mean = None if self.average is None else self.average[0]
        return Kept(self.table.detach(), self.moments["exp_avg"], self.moments["exp_avg_sq"], mean)


def _together(touched: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows asked for more than once, each once, with the sum of their gradients."""
    if len(touched) == 1:
        return touched[0]
    rows, place = torch.cat([one for one, _ in touched]).unique(return_inverse=True)
    gradients = torch.cat([gradient for _, gradient in touched])
    return rows, gradients.new_zeros(len(rows), gradients.shape[1]).index_add_(0, place, gradients)


class RowAdamW(AdamW):
    """torch's AdamW, with some parameters kept by rows; what it keeps of these is the same.

    Args:
        groups: as of AdamW; every parameter, those by rows too.
        tables: the parameters by rows, each with its average, as of `LazyRows`.
    """

    def __init__(
        self, groups: list[dict[str, Any]], tables: list[tuple[Tensor, tuple[Tensor, float] | None]], **options: Any
    ) -> None:
        super().__init__(groups, **options)
        self.rows: dict[Tensor, LazyRows] = {}
        for table, average in tables:
            group = self._group(table)
            self.state[table] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(table),
                "exp_avg_sq": torch.zeros_like(table),
            }
            self.rows[table] = LazyRows(table, self.state[table], group["betas"], group["eps"], average)

    def _group(self, table: Tensor) -> dict[str, Any]:
        return next(one for one in self.param_groups if any(table is parameter for parameter in one["params"]))

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of all parameters."""
        found = super().step(closure)
        for table, kept in self.rows.items():
            group = self._group(table)
            kept.step(float(group["lr"]), group["weight_decay"])
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of torch, where tables and averages are up to date."""
        super().load_state_dict(state_dict)
        for table, kept in self.rows.items():
            kept.restart(self.state[table])
