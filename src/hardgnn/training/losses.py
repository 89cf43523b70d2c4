"""The losses, as functions of scores (specification, sections 2 and 3); docs/extending.md adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from hardgnn.config.sections import PartSettings
from hardgnn.errors import HardGNNError
from hardgnn.ops.candidates import Moment, Prior, sampled_softmax
from hardgnn.parts import LOSSES, blamed, home_of


@dataclass
class Scores:
    """The scores that a loss compares: of P positives, each with N negatives.

    Shapes: `positive` (P,); `negative` (P, N); `valid` (P, N) bool, False where a negative is the user's own item and
    does not count, or None where all do; `offsets` (N,): what stands for how likely each negative was to be drawn,
    -log of that, or None where all were alike.
    """

    positive: Tensor
    negative: Tensor
    valid: Tensor | None = None
    offsets: Tensor | None = None

    def mean(self, each: Tensor) -> Tensor:
        """The mean over the P positives of the mean over the negatives that count, of `each` (P, N)."""
        if self.valid is None:
            return each.mean()
        return ((each * self.valid).sum(1) / self.valid.sum(1).clamp_min(1)).mean()


class CandidateScores(Scores):
    """Scores of candidates that all positives share; the table (P, C) is made where a loss asks for it.

    Args:
        positive: (P,).
        queries, items: (P, d) and (C, d).
        offsets: (C,), -log of how likely each was to be drawn.
        own, owner: (B, C) bool, a user's own items, and the row of it of each query (P,).
        popularity: (C,), what is added to the product, or None.
        prior: x (P, C), β and ε of `β log(ε + x)`, which is added too, or None.
        moment: what is added at R moments (R, C), and the moment of each query (P,), or None.
    """

    def __init__(
        self,
        positive: Tensor,
        queries: Tensor,
        items: Tensor,
        offsets: Tensor,
        own: Tensor,
        owner: Tensor,
        popularity: Tensor | None = None,
        prior: Prior | None = None,
        moment: Moment | None = None,
    ) -> None:
        self.positive, self.queries, self.items, self.offsets = positive, queries, items, offsets
        self.own, self.owner, self.popularity, self.prior, self.moment = own, owner, popularity, prior, moment

    @property
    def added(self) -> Tensor:
        """What is added to each candidate's product, log-Q correction and popularity: (C,)."""
        assert self.offsets is not None
        return self.offsets if self.popularity is None else self.offsets + self.popularity

    @property
    def negative(self) -> Tensor:  # type: ignore[override]
        """The table of scores, (P, C)."""
        table = self.queries @ self.items.T
        if self.popularity is not None:
            table = table + self.popularity
        if self.prior is not None:
            reached, strength, epsilon = self.prior
            table = table + strength * torch.log(reached + epsilon)
        if self.moment is not None:
            added, row = self.moment
            table = table + added.index_select(0, row)
        return table

    @property
    def valid(self) -> Tensor:  # type: ignore[override]
        """Which of them count, (P, C) bool."""
        return ~self.own.index_select(0, self.owner)


@dataclass(frozen=True)
class Loss:
    """A registered loss."""

    name: str
    Settings: type[PartSettings]
    function: Callable[[Scores, Any], Tensor]

    def __call__(self, scores: Scores, settings: Any) -> Tensor:
        """The number to be made small.

        Raises:
            HardGNNError: the function fails, or answers something else.
        """
        whose = f"loss '{self.name}' ({home_of(self.function)})"
        with blamed(whose):
            found = self.function(scores, settings)
        if not isinstance(found, Tensor) or found.dim():
            got = f"one of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise HardGNNError(f"{whose}: expected a tensor of one number, got {got}")
        return found


def loss(name: str, settings: type[PartSettings] = PartSettings) -> Callable[..., Callable[[Scores, Any], Tensor]]:
    """Registers a loss: a function of `Scores` and of its settings, that answers one number to be made small.

    Any objective takes it: `loss.kind = NAME`, its settings beside it.

    Raises:
        HardGNNError: the name cannot be, or is taken.
    """

    def register(function: Callable[[Scores, Any], Tensor]) -> Callable[[Scores, Any], Tensor]:
        LOSSES.add(name, Loss(name, settings, function), function)
        return function

    return register


class HingeSettings(PartSettings):
    """The hinge."""

    reduction: Literal["mean", "sum"] = "mean"
    """The mean over pairs, or (the paper) their sum, beside which other terms vanish."""


@loss("hinge", HingeSettings)
def hinge_of(scores: Scores, settings: HingeSettings) -> Tensor:
    """`max(0, 1 - s⁺ + s⁻)` (specification, section 2, Loss)."""
    if scores.valid is None:
        return hinge(scores.positive.unsqueeze(1), scores.negative, settings.reduction)
    margin = F.relu(1 - scores.positive.unsqueeze(1) + scores.negative)
    return scores.mean(margin) if settings.reduction == "mean" else (margin * scores.valid).sum()


@loss("softmax")
def softmax(scores: Scores, settings: PartSettings) -> Tensor:
    """`log(e^{s⁺} + Σ e^{s⁻ - log P}) - s⁺`: the cross-entropy whose sum stands for all items (log-Q correction)."""
    if isinstance(scores, CandidateScores):
        return sampled_softmax(
            scores.queries,
            scores.items,
            scores.added,
            scores.positive,
            scores.own,
            scores.owner,
            scores.prior,
            scores.moment,
        )
    table = scores.negative if scores.offsets is None else scores.negative + scores.offsets
    if scores.valid is not None:
        table = table.masked_fill(~scores.valid, -torch.inf)
    return (torch.logaddexp(scores.positive, torch.logsumexp(table, 1)) - scores.positive).mean()


def hinge(positive: Tensor, negative: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Recommendation loss `max(0, 1 - s⁺ + s⁻)` over pairs of any shape that fit each other -> scalar."""
    margin = F.relu(1 - positive + negative).flatten()
    return margin.mean() if reduction == "mean" else margin.sum()


def info_nce(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    temperature: float,
    valid: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """`-log(e^{sim(q,k⁺)/τ} / (e^{sim(q,k⁺)/τ} + Σ_K e^{sim(q,k⁻)/τ}))` with cosine similarity, mean over the batch.

    Shapes: anchor, positive (B, d), negatives (B, K, d), or (1, K, d) shared by all; valid (B, K) bool, False where a
    user has fewer than K negatives; counts (B,), how often each anchor counts in the mean (once by default) ->
    scalar. Source: specification, section 3.
    """
    anchor, positive, negatives = (unit(x) for x in (anchor, positive, negatives))
    near = (anchor * positive).sum(-1)
    far = torch.einsum("bd,bkd->bk", anchor, negatives)
    if valid is not None:
        far = far.masked_fill(~valid, -torch.inf)
    return contrast(near, far, temperature, counts)


def contrast(near: Tensor, far: Tensor, temperature: float, counts: Tensor | None = None) -> Tensor:
    """InfoNCE of similarities: to the positive (B,), to the negatives (B, K), -inf where there is none -> scalar."""
    logits = torch.cat([near.unsqueeze(-1), far], 1) / temperature
    lost = torch.logsumexp(logits, 1) - logits[:, 0]
    return lost.mean() if counts is None else (lost * counts).sum() / counts.sum()


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1, zeros left zeros: any shape, the last dimension."""
    return F.normalize(x, dim=-1, eps=1e-6)
