"""The interval level: a recurrent network over the T short-term vectors, then attention over its states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardgnn.models.attention import SelfAttention
from hardgnn.models.selfgnn.settings import SelfGNNSettings
from hardgnn.ops.interval_level import Level, encode


class IntervalEncoder(nn.Module):
    """One long-term vector per node from its T short-term vectors.

    `(h_1..h_T) = GRU(e_1..e_T)`, dropout, LayerNorm, multi-head self-attention over T, mean over T
    (SelfGNN, section 3.2; specification, section 2). Nodes do not see each other, so they go through a block at a time.

    Shapes: states (T, N, d) -> (N, d).
    """

    def __init__(self, config: SelfGNNSettings, recurrent: nn.RNNBase | None = None) -> None:
        super().__init__()
        self.config = config
        if config.interval_encoder == "sum":
            return
        kind = nn.GRU if config.interval_encoder == "gru" else nn.LSTM
        self.recurrent = recurrent or kind(config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.layer_norm else nn.Identity()
        self.attention = SelfAttention(config.dim, config.heads, config.attention_projection)

    def forward(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        intervals = len(states)
        if self.config.interval_encoder == "sum":
            return states.sum(0) if self.config.interval_pooling == "sum" else states.mean(0)
        config = self.config
        level = Level(
            recurrent=self.recurrent,
            norm=self.norm if isinstance(self.norm, nn.LayerNorm) else None,
            qkv=self.attention.qkv,
            output=self.attention.output if isinstance(self.attention.output, nn.Linear) else None,
            heads=self.attention.heads,
            over_states=config.interval_norm == "states",
            epsilon=config.norm_epsilon,
        )
        pooled = encode(states, level, config.dropout, generator)
        return pooled * intervals if config.interval_pooling == "sum" else pooled
