"""The transformer with transitions, the model of the preset `best` (docs/model.md)."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hardgnn.config.sections import Chosen, search
from hardgnn.models.base import model
from hardgnn.models.encoders.base import Frame
from hardgnn.models.encoders.causal import CausalSettings
from hardgnn.models.network import Network, NetworkSettings, Seen, Vectors, check_heads
from hardgnn.models.query import Scoring
from hardgnn.models.transitions import TRANSITIONS, TransitionsSettings
from hardgnn.ops.native import candidates
from hardgnn.parts import ENCODERS

ROWS_TOGETHER = 2**14


class TransformerSettings(NetworkSettings):
    """A table of items and an encoder of the window; the score is their product, plus transitions."""

    dim: int = Field(64, ge=1, json_schema_extra=search(32, 64, 128))
    """Embedding size d; a multiple of `heads`."""
    heads: int = Field(2, ge=1)
    """Attention heads over the window."""
    attention_projection: bool = True
    """Whether attention ends with an output projection."""
    dropout: float = Field(0.3, ge=0, lt=1, json_schema_extra=search(low=0.0, high=0.7))
    """Dropout on the window's vectors and on what each half of a layer adds."""
    window: int = Field(100, ge=1, json_schema_extra=search(50, 100, 200))
    """The most recent M items that the encoder sees."""
    encoder: Chosen(ENCODERS, "causal") = CausalSettings(kind="causal")  # type: ignore[valid-type]
    transitions: Chosen(TRANSITIONS, True, "use") = TransitionsSettings()  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_heads(self.dim, self.heads)
        if ENCODERS.find(self.encoder.kind).silent:
            raise ValueError("encoder.kind: the transformer has nothing but its encoder, expected another than none")
        return self

    def scoring(self) -> Scoring:
        return Scoring(Frame(self.dim, self.window, self.heads, self.dropout, self.attention_projection))


@model("transformer")
class Transformer(Network):
    """A table of items (I, d), an encoder of the window, transitions; users have no vectors."""

    Settings = TransformerSettings
    objective = "next-item"
    by_rows = ("item_embedding",)
    settings: TransformerSettings

    def __init__(self, settings: TransformerSettings, n_users: int, n_items: int, seen: Seen) -> None:
        super().__init__(settings, n_users, n_items, seen)
        self.item_embedding = self.table("item_embedding", n_items)
        self.sequence_encoder = self.make_encoder()
        self.transitions = self.make_transitions()

    def initialise(self, generator: torch.Generator) -> None:
        # Drawn and forgotten, so that one seed starts the items alike in networks with and without users' vectors.
        forgotten = torch.empty(min(self.n_users, ROWS_TOGETHER), self.settings.dim)
        for start in range(0, self.n_users, ROWS_TOGETHER):
            forgotten[: self.n_users - start].uniform_(generator=generator)
        super().initialise(generator)

    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        return Vectors(self.item_embedding.new_empty(0, self.settings.dim), self.look_up("item_embedding", items))

    def touched(self, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        return {"item_embedding": items}

    @property
    def torch_on_one(self) -> bool:
        return self.sequence_encoder.torch_on_one and candidates.serves(self.settings.dim)

    def tables(self) -> list[Tensor]:
        return [self.item_embedding]
