"""The losses, as pure functions of tensors (specification, sections 2 and 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def hinge(positive: Tensor, negative: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Recommendation loss `max(0, 1 - s⁺ + s⁻)` over pairs; positive, negative (P,) -> scalar."""
    margin = F.relu(1 - positive + negative)
    return margin.mean() if reduction == "mean" else margin.sum()


def edge_score(user: Tensor, item: Tensor, slope: float) -> Tensor:
    """`Σ_d σ(e_u ⊙ e_v)` per edge: (m, d), (m, d) -> (m,)."""
    return F.leaky_relu(user * item, slope).sum(-1)


def self_augmented(weight: Tensor, long_score: Tensor, short_score: Tensor) -> Tensor:
    """Self-augmented loss of one interval: its edges 0..m/2-1 are paired with m/2..m-1.

    `Σ max(0, 1 - (w_u s̄_uv - w_u' s̄_u'v')(s_uv - s_u'v'))`; no gradient flows into s̄ (SelfGNN, section 3.4).

    Shapes: weight, long_score, short_score (m,) with m even -> scalar.
    """
    half = len(weight) // 2
    target = weight * long_score.detach()
    return F.relu(1 - (target[:half] - target[half:]) * (short_score[:half] - short_score[half:])).sum()


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
