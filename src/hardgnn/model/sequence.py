"""The instance level: attention over the user's window of recent items."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.config import ModelConfig
from hardgnn.data.histories import PADDING
from hardgnn.model.attention import SelfAttention


class SequenceEncoder(nn.Module):
    """One vector per window: `S_0 = LN(ē_v) + LN(p)`, `S_l = σ(SelfAtt(LN(S_{l-1}))) + S_{l-1}`, then pooling.

    SelfGNN, section 3.3; SPEC section 2. `sequence = "pooled"` sums items and positions over the window before the
    LayerNorms, so that the layers see one token, as the released code does. Padding is masked out of keys, queries
    and sums. The positions count from the end of the window.

    Shapes: item vectors (n, d), window (B, m) of row numbers into them, `PADDING` where there is no item -> (B, d).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.positions = nn.Parameter(torch.empty(config.window, config.dim))

        def norm() -> nn.Module:
            return nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.layer_norm else nn.Identity()

        self.item_norm, self.position_norm = norm(), norm()
        self.norms = nn.ModuleList(norm() for _ in range(config.sequence_layers))
        self.layers = nn.ModuleList(
            SelfAttention(config.dim, config.heads, config.attention_projection) for _ in range(config.sequence_layers)
        )

    def forward(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        width = window.shape[1]
        real = window != PADDING  # (B, m)
        flat = window.clamp_min(0).flatten()
        items = item_vectors.index_select(0, flat).view(*window.shape, -1)  # (B, m, d)
        positions = self.positions[self.config.window - width :]  # (m, d)
        seen = real.unsqueeze(-1).to(items.dtype)
        if self.config.sequence == "pooled":
            state = self.item_norm((items * seen).sum(1)) + self.position_norm(seen[..., 0] @ positions)
            return self._attend(state.unsqueeze(1), None).squeeze(1)
        state = self.item_norm(items) + self.position_norm(positions)
        # A row without items may look anywhere, since an all-masked softmax is no number; its sum stays 0.
        state = self._attend(state, real | ~real.any(1, keepdim=True)) * seen
        if self.config.sequence_pooling == "last":
            return state[:, -1]
        summed = state.sum(1)
        return summed if self.config.sequence_pooling == "sum" else summed / seen.sum(1).clamp_min(1)

    def _attend(self, state: Tensor, mask: Tensor | None) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            state = F.leaky_relu(layer(norm(state), mask), self.config.leaky_slope) + state
        return state
