"""SelfGNN: the graphs, the interval level and the instance level put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.config import ModelConfig, SelfAugmentedConfig, TransitionsConfig
from hardgnn.models.attention import reset
from hardgnn.models.encoders.attention import SequenceEncoder
from hardgnn.models.encoders.causal import CausalEncoder
from hardgnn.models.intervals import IntervalEncoder
from hardgnn.models.transitions import Transitions
from hardgnn.ops.graph import InteractionGraph, propagate

Encoder = SequenceEncoder | CausalEncoder


@dataclass
class ShortTerm:
    """Short-term vectors of the users and items asked for: (T, n_u, d) and (T, n_i, d)."""

    users: Tensor
    items: Tensor


class SelfGNN(nn.Module):
    """The network of SelfGNN (SIGIR 2024) and of HardGNN, which adds only a sampler and a loss.

    The score of item v for user u is `(ē^(u) + σ(ẽ^(u))) · ē^(v)` (specification, section 2). Random dropout happens
    only where a generator is passed; without one every method is deterministic.

    Args:
        model: the network's settings.
        ssl: the settings of the user weight w_{t,u}.
        users, items: U and I. Users have vectors only where something asks for them (`with_users`).
        generator: source of the initial weights.
        transitions: those of the transitions' part of the score; without them it has none.
    """

    def __init__(
        self,
        model: ModelConfig,
        ssl: SelfAugmentedConfig,
        users: int,
        items: int,
        generator: torch.Generator,
        transitions: TransitionsConfig | None = None,
    ) -> None:
        super().__init__()
        self.config, self.ssl = model, ssl
        self.n_users, self.n_items = users, items
        self.with_users = model.layers > 0 or model.user_term or ssl.weight > 0
        self.user_embedding = nn.Parameter(torch.empty(model.intervals, users if self.with_users else 0, model.dim))
        self.item_embedding = nn.Parameter(torch.empty(model.intervals, items, model.dim))
        if model.layer_combination == "concat" and model.layers > 0:
            self.combine_users = nn.Linear(model.layers * model.dim, model.dim, bias=False)
            self.combine_items = nn.Linear(model.layers * model.dim, model.dim, bias=False)
        self.user_encoder = IntervalEncoder(model)
        shared = model.interval_sharing == "shared" and model.interval_encoder != "sum"
        self.item_encoder = IntervalEncoder(model, self.user_encoder.recurrent if shared else None)
        if model.sequence != "none":
            self.sequence_encoder = sequence_encoder(model)
        if ssl.weight > 0:
            inputs = model.dim * (3 if ssl.user_weight == "concat" else 1)
            self.weight_hidden = nn.Linear(inputs, ssl.dim)
            self.weight_out = nn.Linear(ssl.dim, 1)
        if transitions is not None and transitions.use:
            self.transitions = Transitions(transitions)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        for table in self.user_embedding.data:
            # Drawn even where it is not kept, so that one seed starts the items alike with and without users' vectors.
            kept = table if self.with_users else torch.empty(self.n_users, self.config.dim)
            nn.init.xavier_uniform_(kept, generator=generator)
        for table in self.item_embedding.data:
            nn.init.xavier_uniform_(table, generator=generator)
        for child in self.children():
            reset(child, generator)
        if self.config.sequence == "causal":
            assert isinstance(self.sequence_encoder, CausalEncoder)
            self.sequence_encoder.start(generator)
        if self.config.interval_encoder == "lstm":
            for encoder in (self.user_encoder, self.item_encoder):
                # gates i, f, g, o; torch adds this bias to a second one, which stays zero
                bias = encoder.recurrent.get_parameter("bias_ih_l0").data
                bias[self.config.dim : 2 * self.config.dim] = self.config.forget_bias

    def decayed(self, over: Literal["embeddings", "all"] = "embeddings") -> list[Tensor]:
        """What the L2 term covers (specification, section 2): embeddings, positions, what is behind w_{t,u}; or all."""
        if over == "all":
            return list(self.parameters())
        found: list[Tensor] = [self.user_embedding, self.item_embedding]
        if self.config.sequence != "none":
            found.append(self.sequence_encoder.positions)
        if self.ssl.weight > 0:
            found += [self.weight_hidden.weight, self.weight_out.weight]
        return found

    def short_term(
        self,
        graph: InteractionGraph,
        generator: torch.Generator | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> ShortTerm:
        """The short-term vectors from the interval graphs, of all nodes or of distinct `users` and `items` (n,).

        Of no users without `with_users`.
        """
        intervals, n_users, n_items = graph.shape
        if not self.with_users:
            users = torch.empty(0, dtype=torch.int64)
        tables = self.user_embedding.flatten(0, 1), self.item_embedding.flatten(0, 1)
        rows = _stacked(users, intervals, n_users), _stacked(items, intervals, n_items)
        dim = self.config.dim
        if self.config.layers == 0:  # the tables as they are
            found = [
                table if asked is None else table.index_select(0, asked)
                for table, asked in zip(tables, rows, strict=True)
            ]
            return ShortTerm(found[0].view(intervals, -1, dim), found[1].view(intervals, -1, dim))
        summed = self.config.layer_combination == "sum"
        user_layers, item_layers = propagate(
            graph.matrices(self.config.edge_dropout, generator, active=True),
            *tables,
            self.config.layers,
            self.config.leaky_slope,
            *rows,
            summed,
            graph.active,
        )
        if summed:
            user_sum, item_sum = user_layers[0], item_layers[0]
        else:
            user_sum = self.combine_users(torch.cat(user_layers[1:], -1))
            item_sum = self.combine_items(torch.cat(item_layers[1:], -1))
        return ShortTerm(user_sum.view(intervals, -1, dim), item_sum.view(intervals, -1, dim))

    def users(self, short: ShortTerm, generator: torch.Generator | None = None) -> Tensor:
        """Long-term vectors ē of the users in `short`, (n_u, d)."""
        return self.user_encoder(short.users, generator)

    def items(self, short: ShortTerm, generator: torch.Generator | None = None) -> Tensor:
        """Long-term vectors ē of the items in `short`, (n_i, d)."""
        return self.item_encoder(short.items, generator)

    @torch.no_grad()
    def all_items(self, graph: InteractionGraph) -> Tensor:
        """Long-term vectors of all items, (I, d), without gradient or dropout."""
        return self.items(self.short_term(graph, users=torch.empty(0, dtype=torch.int64)))

    @torch.no_grad()
    def encode(self, graph: InteractionGraph) -> tuple[Tensor, Tensor]:
        """Long-term vectors of all users (U, d), or (0, d) without `with_users`, and all items (I, d).

        Without gradient or dropout.
        """
        short = self.short_term(graph)
        return self.users(short), self.items(short)

    def sequence(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """Sequence vectors ẽ (B, d) of windows (B, m) of rows of `item_vectors`; zeros without a sequence encoder."""
        if self.config.sequence == "none":
            return item_vectors.new_zeros(len(window), item_vectors.shape[1])
        return self.sequence_encoder(item_vectors, window)

    @staticmethod
    def query_vector(config: ModelConfig, user_vectors: Tensor | None, sequence_vectors: Tensor) -> Tensor:
        """The vector whose product with ē^(v) is the score: ē^(u) + σ(ẽ^(u)), (B, d), or σ(ẽ^(u)) alone."""
        if config.sequence_activation == "leaky":
            sequence_vectors = F.leaky_relu(sequence_vectors, config.leaky_slope)
        return sequence_vectors if user_vectors is None else user_vectors + sequence_vectors

    def user_weight(self, long: Tensor, short: Tensor) -> Tensor:
        """w_{t,u} = sigmoid(FC(σ(FC([ē ⊙ e_t, ē, e_t])))), (n,) from ē (n, d) and e_t (n, d)."""
        parts = [long * short, long, short]
        joined = torch.cat(parts, -1) if self.ssl.user_weight == "concat" else _total(parts)
        hidden = F.leaky_relu(self.weight_hidden(joined), self.config.leaky_slope)
        return torch.sigmoid(self.weight_out(hidden)).squeeze(-1)


def sequence_encoder(config: ModelConfig) -> Encoder:
    """The sequence encoder that the config names; it must name one."""
    return CausalEncoder(config) if config.sequence == "causal" else SequenceEncoder(config)


def _stacked(which: Tensor | None, intervals: int, size: int) -> Tensor | None:
    """The rows of the nodes `which` (n,) in a table of T blocks of `size` rows, (T * n,)."""
    return None if which is None else (torch.arange(intervals)[:, None] * size + which).flatten()


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
