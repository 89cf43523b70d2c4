"""No encoder: the ablation without the instance level."""

from __future__ import annotations

from torch import Tensor

from hardgnn.models.encoders.base import Encoder, encoder


@encoder("none")
class NoEncoder(Encoder):
    """Zeros for every window."""

    silent = torch_on_one = True

    def forward(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        return item_vectors.new_zeros(len(window), item_vectors.shape[1])
