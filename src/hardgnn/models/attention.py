"""Multi-head self-attention, and the first values of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head self-attention: softmax(q kᵀ / sqrt(d / H)) v, the heads side by side, then a projection.

    Args:
        dim: size d of a token.
        heads: number of heads H, a divisor of d.
        projection: whether an output projection follows.

    Shapes: x (B, M, d), key_mask (B, M) bool, True where a key may be seen, or (B, M, M), where the position may see
    it -> (B, M, d); with `last_only` the result
    of the last position alone, (B, 1, d), at the cost of one query.
    """

    def __init__(self, dim: int, heads: int, projection: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim) if projection else nn.Identity()

    def forward(self, x: Tensor, key_mask: Tensor | None = None, last_only: bool = False) -> Tensor:
        batch, length, dim = x.shape
        weights, biases = self.qkv.weight.split(dim), self.qkv.bias.split(dim)
        if length == 1:  # one key: the softmax is 1
            return self.output(F.linear(x, weights[2], biases[2]))

        def split(value: Tensor) -> Tensor:
            return value.view(batch, -1, self.heads, dim // self.heads).transpose(1, 2)  # (B, H, M, d / H)

        query = split(F.linear(x[:, -1:] if last_only else x, weights[0], biases[0]))
        key, value = split(F.linear(x, weights[1], biases[1])), split(F.linear(x, weights[2], biases[2]))
        if key_mask is not None and key_mask.dim() == 3 and last_only:
            key_mask = key_mask[:, -1:]
        mask = None if key_mask is None else _over_heads(key_mask)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(seen.transpose(1, 2).reshape(batch, -1, dim))

    def weights(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """What each position looks at, the mean over heads: (B, M, d) -> (B, M, M), rows sum to 1."""
        batch, length, dim = x.shape
        query, key = (
            F.linear(x, weight, bias).view(batch, length, self.heads, dim // self.heads).transpose(1, 2)
            for weight, bias in list(zip(self.qkv.weight.split(dim), self.qkv.bias.split(dim)))[:2]
        )
        logits = query @ key.transpose(-1, -2) / (dim // self.heads) ** 0.5  # (B, H, M, M)
        if key_mask is not None:
            logits = logits.masked_fill(~_over_heads(key_mask), -torch.inf)
        return logits.softmax(-1).mean(1)


def _over_heads(mask: Tensor) -> Tensor:
    """A mask of keys (B, M) or of pairs (B, M, M) as one that SDPA takes, (B, 1, 1 or M, M)."""
    return mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]


def reset(module: nn.Module, generator: torch.Generator) -> None:
    """Xavier weights and zero biases for every matrix and vector of `module`, LayerNorm left at one and zero."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif "bias" in name:
                nn.init.zeros_(parameter)
