"""The instance level of `best`: a causal transformer, whose every position predicts the item after it."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.config.sections import PartSettings, search
from hardgnn.data.histories import PADDING
from hardgnn.models.attention import SelfAttention
from hardgnn.models.encoders.attention import by_length, rows_of
from hardgnn.models.encoders.base import Encoder, Frame, encoder
from hardgnn.ops.dropout import dropout


class CausalSettings(PartSettings):
    """A causal transformer over the window."""

    layers: int = Field(2, ge=0, le=8, json_schema_extra=search(low=1, high=4))
    """Transformer layers."""


@encoder("causal")
class CausalEncoder(Encoder):
    """`x_0 = √d ē_v + p`; per layer `x += Att(LN(x))`, `x += W_2 GELU(W_1 LN(x))`; in the end `LN(x)`.

    Attention sees a position and those before it. Dropout falls on x_0 and on what each half of a layer adds. The
    positions count from the end of the window. Source: Kang and McAuley, Self-attentive sequential recommendation,
    2018, with the LayerNorms in front as in later transformers.

    Shapes: item vectors (n, d), window (B, m) of row numbers into them, `PADDING` on the left -> (B, d), the vector of
    the last position, zeros where the window is empty.
    """

    Settings = CausalSettings
    every_position = attends = torch_on_one = True

    def __init__(self, settings: CausalSettings, frame: Frame) -> None:
        super().__init__(settings, frame)
        dim = frame.dim
        self.positions = nn.Parameter(torch.empty(frame.window, dim))
        layers = range(settings.layers)
        self.attention_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in layers)
        self.attentions = nn.ModuleList(SelfAttention(dim, frame.heads, frame.attention_projection) for _ in layers)
        self.forward_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in layers)
        self.widen = nn.ModuleList(nn.Linear(dim, 2 * dim) for _ in layers)
        self.narrow = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in layers)
        self.last_norm = nn.LayerNorm(dim)

    def decayed(self) -> list[Tensor]:
        return [self.positions]

    def start(self, generator: torch.Generator) -> None:
        """First positions of the size of item vectors: larger ones would outshout them for many epochs."""
        nn.init.normal_(self.positions, std=0.02, generator=generator)

    def forward(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        return by_length(item_vectors, window, self._last, tuple(self.parameters())) * _real(window[:, -1:])

    def _last(self, items: Tensor, window: Tensor) -> Tensor:
        """`every` of the last position alone, (B, d), of items (B, m, d): the top layer asks for no other."""
        state, mask = self._start(items, window, None)
        top = len(self.attentions) - 1
        for layer in range(top + 1):
            state = self._layer(layer, state, mask, None, last_only=layer == top)
        last: Tensor = self.last_norm(state[:, -1])
        return last

    def every(self, item_vectors: Tensor, window: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The vectors of all positions, (B, m, d); those of padding mean nothing. `generator` drives dropout."""
        state, mask = self._start(rows_of(item_vectors, window), window, generator)
        for layer in range(len(self.attentions)):
            state = self._layer(layer, state, mask, generator)
        return self.last_norm(state)

    @torch.no_grad()
    def attention(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """What the last position looks at in each layer, the mean over heads: (L, B, m), rows sum to 1."""
        state, mask = self._start(rows_of(item_vectors, window), window, None)
        found = []
        for layer, (norm, attention) in enumerate(zip(self.attention_norms, self.attentions, strict=True)):
            assert isinstance(attention, SelfAttention)
            found.append(attention.weights(norm(state), mask)[:, -1])
            state = self._layer(layer, state, mask, None)
        return torch.stack(found) if found else state.new_zeros(0, *window.shape)

    def _start(self, items: Tensor, window: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """x_0 (B, m, d) and what each position may see, (B, m, m); padding sees itself, since a softmax needs a key."""
        width = window.shape[1]
        state = items * self.config.dim**0.5 + self.positions[self.config.window - width :]
        before = torch.ones(width, width, dtype=torch.bool, device=window.device).tril()
        mask = (before & (window != PADDING).unsqueeze(1)) | torch.eye(width, dtype=torch.bool, device=window.device)
        return dropout(state, self.config.dropout, generator), mask

    def _layer(
        self, layer: int, state: Tensor, mask: Tensor, generator: torch.Generator | None, last_only: bool = False
    ) -> Tensor:
        share = self.config.dropout
        attended = self.attentions[layer](self.attention_norms[layer](state), mask, last_only)
        state = (state[:, -1:] if last_only else state) + dropout(attended, share, generator)
        wide = F.gelu(self.widen[layer](self.forward_norms[layer](state)))
        return state + dropout(self.narrow[layer](dropout(wide, share, generator)), share, generator)


def _real(last: Tensor) -> Tensor:
    """1 for windows that hold an item, else 0, (B, 1) float32."""
    return (last != PADDING).float()
