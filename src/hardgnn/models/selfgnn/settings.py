"""The settings of SelfGNN (specification, section 2)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hardgnn.config.sections import Section, search
from hardgnn.models.encoders.base import Frame
from hardgnn.models.network import NetworkSettings, check_heads
from hardgnn.models.query import Scoring
from hardgnn.parts import ENCODERS


class SelfAugmentedSettings(Section):
    """The self-augmented loss: short-term against long-term taste."""

    weight: float = Field(1e-6, ge=0, json_schema_extra=search(low=1e-7, high=1e-3, log=True))
    """Its coefficient in the total loss; 0 is the ablation without it."""
    pairs: int = Field(40, ge=1)
    """Edge pairs per user and interval at most; half the user's edges there if that is fewer."""
    pairing: Literal["random", "interleaved"] = "random"
    """Two random observed edges, or the released code's slices of a list in user order, which pairs the same users
    again and again."""
    dim: int = Field(32, ge=1)
    """Hidden size of the network behind the user weight w."""
    user_weight: Literal["concat", "sum"] = "concat"
    """Input of that network: the three vectors side by side, or (the paper) added up, which cannot tell them apart."""


class SelfGNNSettings(NetworkSettings):
    """The network (specification, section 2)."""

    dim: int = Field(64, ge=1, json_schema_extra=search(32, 64, 128))
    """Embedding size d; a multiple of `heads`."""
    intervals: int = Field(5, ge=1, le=64, json_schema_extra=search(low=2, high=12))
    """Number T of time intervals, one graph each."""
    interval_cut: Literal["width", "count"] = "width"
    """Intervals of equal width in time, or with equally many interactions."""
    layers: int = Field(2, ge=0, le=8, json_schema_extra=search(low=1, high=4))
    """Graph layers L; 0 is the ablation without graphs."""
    layer_combination: Literal["sum", "concat"] = "sum"
    """Sum of layers 0..L, or (the paper) layers 1..L side by side and projected back to d, which costs two matrices
    and loses the embedding itself."""
    norm: Literal["none", "sym"] = "none"
    """Plain sum over neighbours, or symmetric normalisation by degrees as in LightGCN, which the paper names; the
    released code computes it and never reads it."""
    edge_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of edges dropped per training step; the released code drops edges from values that it never reads."""
    interval_encoder: Literal["gru", "lstm", "sum"] = "gru"
    """Recurrent network over intervals, followed by attention: the paper's GRU or the released code's LSTM, which
    costs a third more; `sum` is the ablation without both."""
    forget_bias: float = 0.0
    """First value of the forget gate's bias (`lstm` only): 1 in the released code; a GRU has no such gate."""
    interval_sharing: Literal["own", "shared"] = "own"
    """A recurrent network for users and one for items, or one for both (the SelfGNN code)."""
    interval_norm: Literal["vector", "states"] = "vector"
    """LayerNorm in front of the attention over intervals: over each state's d numbers, or over the T states of a node
    together (the SelfGNN code), which ties a node's scale in one interval to all others."""
    interval_pooling: Literal["mean", "sum"] = "mean"
    """How the T states become one vector: the mean, or (the paper) the sum, T times as large."""
    heads: int = Field(4, ge=1)
    """Attention heads, over intervals and over the window."""
    attention_projection: bool = True
    """Whether attention ends with an output projection (the SelfGNN code has none)."""
    layer_norm: bool = True
    """LayerNorm in front of each attention; the paper writes none, and without it scores grow without bound."""
    norm_epsilon: float = Field(1e-3, gt=0)
    """The epsilon inside LayerNorm; 1e-3 is the released HardGNN's, 1e-12 the SelfGNN code's."""
    dropout: float = Field(0.5, ge=0, lt=1, json_schema_extra=search(low=0.0, high=0.7))
    """Dropout on the recurrent outputs; the paper writes none."""
    window: int = Field(200, ge=1, json_schema_extra=search(50, 100, 200))
    """The most recent M items that the sequence encoder sees."""
    sequence_activation: Literal["leaky", "none"] = "leaky"
    """Whether the sequence vector passes the LeakyReLU before the score, as in the released code (the paper: not)."""
    leaky_slope: float = Field(0.5, ge=0, le=1)
    """Slope of every LeakyReLU below zero."""
    user_term: bool = True
    """Whether the score has the user's long-term vector, or the sequence vector alone (`best`)."""
    ssl: SelfAugmentedSettings = SelfAugmentedSettings()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_heads(self.dim, self.heads)
        if self.forget_bias and self.interval_encoder != "lstm":
            raise ValueError(f"model.forget_bias: a {self.interval_encoder} has no forget gate, expected 0.0 or lstm")
        if not self.user_term and ENCODERS.find(self.encoder.kind).silent:
            raise ValueError("model.user_term=false needs an encoder: set encoder.kind, or model.user_term=true")
        return self

    def scoring(self) -> Scoring:
        frame = Frame(
            self.dim,
            self.window,
            self.heads,
            self.dropout,
            self.attention_projection,
            self.layer_norm,
            self.norm_epsilon,
            self.leaky_slope,
        )
        slope = self.leaky_slope if self.sequence_activation == "leaky" else None
        return Scoring(frame, slope, self.user_term, self.intervals)
