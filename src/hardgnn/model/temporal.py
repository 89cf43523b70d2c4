"""The interval level: a recurrent network over the T short-term vectors, then attention over its states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.config import ModelConfig
from hardgnn.model.attention import SelfAttention, dropout

BLOCK_NUMBERS = 2**20  # numbers in the largest tensor of a block: 4 MiB, so that a block stays in the caches


class IntervalEncoder(nn.Module):
    """One long-term vector per node from its T short-term vectors.

    `(h_1..h_T) = GRU(e_1..e_T)`, dropout, LayerNorm, multi-head self-attention over T, mean over T
    (SelfGNN, section 3.2; SPEC section 2). Nodes do not see each other, so they go through a block at a time.

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
        intervals, _, dim = states.shape
        if self.config.interval_encoder == "sum":
            return states.sum(0) if self.config.interval_pooling == "sum" else states.mean(0)
        nodes = max(256, BLOCK_NUMBERS // (intervals * intervals * dim))
        pooled = torch.cat([self._block(block, generator) for block in states.split(nodes, 1)])
        return pooled * intervals if self.config.interval_pooling == "sum" else pooled

    def _block(self, states: Tensor, generator: torch.Generator | None) -> Tensor:
        if isinstance(self.recurrent, nn.GRU):
            hidden = gated_states(self.recurrent, states)
        else:
            hidden, _ = self.recurrent(states)
        return self.attention.mean(self._normalised(dropout(hidden, self.config.dropout, generator)))

    def _normalised(self, hidden: Tensor) -> Tensor:
        """LayerNorm of (T, N, d) over d, or over the T states of a node, with gain and offset per number of d."""
        if self.config.interval_norm == "vector" or not self.config.layer_norm:
            return self.norm(hidden)
        variance, mean = torch.var_mean(hidden, (0, 2), correction=0, keepdim=True)
        normal = (hidden - mean) * torch.rsqrt(variance + self.config.norm_epsilon)
        return normal * self.norm.get_parameter("weight") + self.norm.get_parameter("bias")


def gated_states(gru: nn.GRU, inputs: Tensor) -> Tensor:
    """The states of a GRU of one layer from zero, as `gru(inputs)[0]`, with fewer and smaller temporaries.

    The inputs of all steps are projected at once, and the first step, whose state is zero, takes no product.

    Shapes: inputs (T, N, d) -> (T, N, d).
    """
    size = gru.hidden_size
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    input_weight, input_bias, weight, bias = (gru.get_parameter(name) for name in names)
    projected = F.linear(inputs, input_weight, input_bias)  # (T, N, 3 d): reset, update, new
    # Two products, since the gradient keeps only the second one's result.
    gate_weight, new_weight = weight.split([2 * size, size])
    gate_bias, new_bias = bias.split([2 * size, size])
    states: list[Tensor] = []
    for step in projected:
        gates = F.linear(states[-1], gate_weight, gate_bias) if states else gate_bias
        reset, update = torch.sigmoid(step[:, : 2 * size] + gates).split(size, 1)
        candidate = F.linear(states[-1], new_weight, new_bias) if states else new_bias
        new = torch.tanh(step[:, 2 * size :] + reset * candidate)
        states.append(torch.addcmul(new, update, states[-1] - new) if states else new - update * new)
    return torch.stack(states)
