"""The instance level: attention over the user's window of recent items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.config.sections import PartSettings, search
from hardgnn.data.histories import PADDING
from hardgnn.models.attention import SelfAttention
from hardgnn.models.encoders.base import Encoder, Frame, encoder
from hardgnn.ops.apart import apart
from hardgnn.ops.sparse import sparse_product

ITEMS_TOGETHER = 1024  # items of windows of like length that are encoded at once, about
Encode = Callable[[Tensor, Tensor], Tensor]
"""Of the vectors (B, m, d) of the items in windows, and the windows (B, m): vectors of them (B, d)."""


class PooledSettings(PartSettings):
    """Attention layers over the window."""

    layers: int = Field(2, ge=0, le=8, json_schema_extra=search(low=1, high=4))
    """Attention layers."""


class AttentionSettings(PooledSettings):
    """Attention layers over the window, and how its positions become one vector."""

    pooling: Literal["sum", "mean", "last"] = "last"
    """How the positions become one vector; the paper's sum over 200 of them hardly learns."""


class _Layers(Encoder):
    """The layers of both: `S_0 = LN(ē_v) + LN(p)`, `S_l = σ(SelfAtt(LN(S_{l-1}))) + S_{l-1}`.

    SelfGNN, section 3.3; specification, section 2. The positions count from the end of the window.
    """

    settings: PooledSettings
    torch_on_one = True

    def __init__(self, settings: PooledSettings, frame: Frame) -> None:
        super().__init__(settings, frame)
        self.positions = nn.Parameter(torch.empty(frame.window, frame.dim))

        def norm() -> nn.Module:
            return nn.LayerNorm(frame.dim, eps=frame.norm_epsilon) if frame.layer_norm else nn.Identity()

        self.item_norm, self.position_norm = norm(), norm()
        self.norms = nn.ModuleList(norm() for _ in range(settings.layers))
        self.layers = nn.ModuleList(
            SelfAttention(frame.dim, frame.heads, frame.attention_projection) for _ in range(settings.layers)
        )

    def decayed(self) -> list[Tensor]:
        return [self.positions]

    def _first(self, items: Tensor) -> Tensor:
        """S_0 of windows of these vectors (B, m, d)."""
        state: Tensor = self.item_norm(items) + self.position_norm(self.positions[-items.shape[1] :])
        return state

    def _attend(self, state: Tensor, mask: Tensor | None, last_only: bool = False) -> Tensor:
        """The attention layers; with `last_only` the top one asks for the last position alone, (B, 1, d)."""
        for number, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True), 1):
            top = last_only and number == len(self.layers)
            attended = F.leaky_relu(layer(norm(state), mask, top), self.config.leaky_slope)
            state = attended + (state[:, -1:] if top else state)
        return state


@encoder("attention")
class AttentionEncoder(_Layers):
    """Attention over the M positions, then pooling; padding is masked out of keys, queries and sums.

    Shapes: item vectors (n, d), window (B, m) of row numbers into them, `PADDING` where there is no item -> (B, d).
    """

    Settings = AttentionSettings
    settings: AttentionSettings
    attends = True

    def forward(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        return by_length(item_vectors, window, self._full, tuple(self.parameters()))

    @torch.no_grad()
    def attention(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """How much each item of unpadded windows (B, m) counts in each layer, (L, B, m), rows sum to 1.

        It is what the last position looks at where that one is kept, and else the mean over positions.
        """
        state = self._first(rows_of(item_vectors, window))
        found = []
        for norm, layer in zip(self.norms, self.layers, strict=True):
            assert isinstance(layer, SelfAttention)
            weights = layer.weights(norm(state))  # (B, m, m)
            found.append(weights[:, -1] if self.settings.pooling == "last" else weights.mean(1))
            state = F.leaky_relu(layer(norm(state)), self.config.leaky_slope) + state
        return torch.stack(found) if found else state.new_zeros(0, *window.shape)

    def _full(self, items: Tensor, window: Tensor) -> Tensor:
        """The vectors (B, d) of windows (B, m) of these items (B, m, d)."""
        state, real = self._first(items), window != PADDING
        seen = real.unsqueeze(-1).to(items.dtype)
        # A row without items may look anywhere, since an all-masked softmax is no number; its sum stays 0.
        last_only = self.settings.pooling == "last"
        state = self._attend(state, real | ~real.any(1, keepdim=True), last_only) * (
            seen[:, -1:] if last_only else seen
        )
        if last_only:
            return state[:, -1]
        summed = state.sum(1)
        return summed if self.settings.pooling == "sum" else summed / seen.sum(1).clamp_min(1)


@encoder("pooled")
class PooledEncoder(_Layers):
    """Items and positions are summed over the window before the LayerNorms (the released code).

    So the layers see one token, and no order. Shapes as of `AttentionEncoder`.
    """

    Settings = PooledSettings

    def forward(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        real = window != PADDING
        ends = F.pad(real.sum(1).cumsum(0), (1, 0))
        summed = sparse_product((ends, window[real], None), item_vectors)  # most places of most windows are padding
        positions = real.to(summed.dtype) @ self.positions[self.config.window - window.shape[1] :]
        state = self.item_norm(summed) + self.position_norm(positions)
        return self._attend(state.unsqueeze(1), None).squeeze(1)


def by_length(item_vectors: Tensor, window: Tensor, encode: Encode, learnt: Sequence[Tensor]) -> Tensor:
    """`encode` of windows (B, m), those of like length together and without the padding that all of them have.

    So short windows are not padded to the longest; it is exact. Where there is a gradient, which goes to the vectors
    and to what is `learnt`, they are encoded side by side.
    """
    lengths = (window != PADDING).sum(1).clamp_min(1)
    order = lengths.argsort(stable=True)
    ascending = lengths[order].cpu().numpy()  # all at once: a device is waited for once
    group = (ascending.cumsum() - 1) // ITEMS_TOGETHER
    ends = np.flatnonzero(np.diff(group, append=-1)) + 1
    parts = [
        window[rows, -int(ascending[end - 1]) :]
        for rows, end in zip(order.tensor_split(ends[:-1].tolist()), ends, strict=True)
    ]
    if torch.is_grad_enabled():
        items = item_vectors.index_select(0, torch.cat([part.flatten() for part in parts]).clamp_min(0))

        def work(number: int, items: Tensor) -> Tensor:
            return encode(items.view(*parts[number].shape, -1), parts[number])

        found = apart(work, items, [part.numel() for part in parts], learnt)
    else:
        found = torch.cat([encode(rows_of(item_vectors, part), part) for part in parts])
    return found.index_select(0, order.argsort())


def rows_of(item_vectors: Tensor, window: Tensor) -> Tensor:
    """The vectors (B, m, d) of the items of windows (B, m), those of the first one where there is padding."""
    return item_vectors.index_select(0, window.clamp_min(0).flatten()).view(*window.shape, -1)
