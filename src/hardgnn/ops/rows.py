"""Some rows of a table under AdamW, in place: what steps without a gradient have done to them, and one with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from hardgnn.ops.native import rows as in_c
from hardgnn.ops.native.library import native


@dataclass(frozen=True)
class Kept:
    """A table, AdamW's moments of it, and its average if there is one: (I, d) each."""

    table: Tensor
    first: Tensor
    second: Tensor
    mean: Tensor | None = None

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """All of them."""
        return self.table, self.first, self.second, self.mean

    def put(self, rows: Tensor, table: Tensor, first: Tensor, second: Tensor) -> None:
        """Puts some rows (n, d) of each but the average."""
        for one, new in zip(self.all, (table, first, second), strict=False):
            assert one is not None
            one.index_copy_(0, rows, new)


@dataclass(frozen=True)
class AdamWStep:
    """One step of AdamW, its number from 1 on; `past` is what an average keeps of itself."""

    number: int
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    past: float


def drift(kept: Kept, rows: Tensor, kinds: Tensor, since: Tensor) -> None:
    """Changes rows (n,), each once, by steps without a gradient.

    `since` (k, 13) says of each kind of row, `kinds` (n,), what becomes of θ, its moments m and v, and its average μ:

        D, E, A, M, V, p, q, b, c, p', q', b', c'
        θ ← D θ - m f,  μ ← E μ + A θ - m f',  m ← M m,  v ← V v,  f = (p √v + q) / (v + b √v + c), f' alike.
    """
    functions = native(*_there(kept))
    if functions is not None:
        return in_c.drift(functions, rows, kinds, since, kept.all)
    d, e, a, m, v, *of = since.index_select(0, kinds).T.unsqueeze(2)  # (n, 1) each
    table, first, second = (one.index_select(0, rows) for one in (kept.table, kept.first, kept.second))
    root = second.sqrt()
    if kept.mean is not None:
        moved = _quotient(root, second, of[4:]).mul_(first)
        kept.mean.index_copy_(0, rows, kept.mean.index_select(0, rows).mul_(e).addcmul_(table, a).sub_(moved))
    table.mul_(d).sub_(_quotient(root, second, of[:4]).mul_(first))
    return kept.put(rows, table, first.mul_(m), second.mul_(v))


def _quotient(root: Tensor, second: Tensor, numbers: list[Tensor]) -> Tensor:
    p, q, b, c = numbers
    return torch.addcmul(q, root, p).div_(torch.addcmul(second, root, b).add_(c))


def step(kept: Kept, rows: Tensor, gradient: Tensor, now: AdamWStep) -> None:
    """One step with the gradients (n, d) of rows (n,), each once."""
    first, second = now.betas
    functions = native(*_there(kept), gradient)
    if functions is not None:
        numbers = [first, 1 - first, second, 1 - second, 1 - now.lr * now.weight_decay]
        numbers += [now.lr / (1 - first**now.number), (1 - second**now.number) ** 0.5, now.eps, 1 - now.past]
        return in_c.step(functions, rows, gradient.contiguous(), torch.tensor(numbers), kept.all)
    table, m, v = (one.index_select(0, rows) for one in (kept.table, kept.first, kept.second))
    adamw(
        [table],
        [gradient],
        [m],
        [v],
        [],
        [torch.tensor(now.number - 1.0, device=table.device)],
        fused=table.device.type in ("cpu", "cuda"),
        amsgrad=False,
        beta1=first,
        beta2=second,
        lr=now.lr,
        weight_decay=now.weight_decay,
        eps=now.eps,
        maximize=False,
    )
    kept.put(rows, table, m, v)
    if kept.mean is not None:
        kept.mean.index_copy_(0, rows, kept.mean.index_select(0, rows).lerp_(table, 1 - now.past))
    return None


def _there(kept: Kept) -> list[Tensor]:
    return [one for one in kept.all if one is not None]
