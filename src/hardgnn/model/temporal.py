"""The interval level: a recurrent network over the T short-term vectors, then attention over its states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardgnn.config import ModelConfig
from hardgnn.model.attention import SelfAttention, dropout


class IntervalEncoder(nn.Module):
    """One long-term vector per node from its T short-term vectors.

    `(h_1..h_T) = GRU(e_1..e_T)`, dropout, LayerNorm, multi-head self-attention over T, mean over T
    (SelfGNN, section 3.2; SPEC section 2).

    Shapes: states (T, N, d) -> (N, d).
    """

    def __init__(self, config: ModelConfig, recurrent: nn.RNNBase | None = None) -> None:
        super().__init__()
        self.config = config
        if config.interval_encoder == "sum":
            return
        kind = nn.GRU if config.interval_encoder == "gru" else nn.LSTM
        self.recurrent = recurrent or kind(config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.layer_norm else nn.Identity()
        self.attention = SelfAttention(config.dim, config.heads, config.attention_projection)

    def forward(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        pooled = torch.sum if self.config.interval_pooling == "sum" else torch.mean
        if self.config.interval_encoder == "sum":
            return pooled(states, 0)
        hidden, _ = self.recurrent(states)  # (T, N, d)
        hidden = dropout(hidden, self.config.dropout, generator)
        attended = self.attention(self._normalised(hidden).transpose(0, 1))  # (N, T, d)
        return pooled(attended, 1)

    def _normalised(self, hidden: Tensor) -> Tensor:
        """LayerNorm of (T, N, d) over d, or over the T states of a node, with gain and offset per number of d."""
        if self.config.interval_norm == "vector" or not self.config.layer_norm:
            return self.norm(hidden)
        variance, mean = torch.var_mean(hidden, (0, 2), correction=0, keepdim=True)
        normal = (hidden - mean) * torch.rsqrt(variance + self.config.norm_epsilon)
        return normal * self.norm.get_parameter("weight") + self.norm.get_parameter("bias")
