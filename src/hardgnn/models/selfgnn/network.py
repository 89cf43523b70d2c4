"""SelfGNN: the graphs, the interval level and the instance level put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.data.dataset import TRAIN, Dataset
from hardgnn.data.intervals import cut, stacked_graph, times_or_positions
from hardgnn.models.base import model
from hardgnn.models.network import Common, Network, Seen, Source, Vectors
from hardgnn.models.selfgnn.augmented import SelfAugmented
from hardgnn.models.selfgnn.common import CommonVectors, SameWeights
from hardgnn.models.selfgnn.intervals import IntervalEncoder
from hardgnn.models.selfgnn.settings import SelfGNNSettings
from hardgnn.models.selfgnn.short_term import ShortTerm, stacked
from hardgnn.ops.graph import InteractionGraph, propagate, share
from hardgnn.ops.native import graph, level
from hardgnn.ops.native.graph import Shared

ShortTermSource = Callable[[torch.Generator | None, Tensor | None, Tensor | None], ShortTerm]
"""What has the signature of `SelfGNN.short_term`."""


def build_graph(data: Dataset, settings: SelfGNNSettings) -> InteractionGraph:
    """The T interval graphs of the training interactions."""
    rows = data.part == TRAIN
    shape = (settings.intervals, data.n_users, data.n_items)
    times, are_positions = times_or_positions(data.timestamp[rows], data.user[rows])
    how = "count" if are_positions else settings.interval_cut
    interval = cut(times, settings.intervals, how, data.time_span)
    return InteractionGraph(stacked_graph(interval, data.user[rows], data.item[rows], shape), shape, settings.norm)


@model("selfgnn")
class SelfGNN(Network):
    """The network of SelfGNN (SIGIR 2024) and of HardGNN, which adds only a sampler and a loss.

    The score of item v for user u is `(ē^(u) + σ(ẽ^(u))) · ē^(v)` (specification, section 2). Users have vectors only
    where something asks for them (`with_users`).
    """

    Settings = SelfGNNSettings
    settings: SelfGNNSettings
    halves = True

    def __init__(self, settings: SelfGNNSettings, n_users: int, n_items: int, seen: Seen) -> None:
        super().__init__(settings, n_users, n_items, seen)
        ssl = settings.ssl
        self._source: ShortTermSource | None = None
        self.with_users = settings.layers > 0 or settings.user_term or ssl.weight > 0
        users = n_users if self.with_users else 0
        self.user_embedding = nn.Parameter(torch.empty(settings.intervals, users, settings.dim))
        self.item_embedding = nn.Parameter(torch.empty(settings.intervals, n_items, settings.dim))
        if settings.layer_combination == "concat" and settings.layers > 0:
            self.combine_users = nn.Linear(settings.layers * settings.dim, settings.dim, bias=False)
            self.combine_items = nn.Linear(settings.layers * settings.dim, settings.dim, bias=False)
        self.user_encoder = IntervalEncoder(settings)
        shared = settings.interval_sharing == "shared" and settings.interval_encoder != "sum"
        self.item_encoder = IntervalEncoder(settings, self.user_encoder.recurrent if shared else None)
        self.sequence_encoder = self.make_encoder()
        if ssl.weight > 0:
            inputs = settings.dim * (3 if ssl.user_weight == "concat" else 1)
            self.weight_hidden = nn.Linear(inputs, ssl.dim)
            self.weight_out = nn.Linear(ssl.dim, 1)
        self.transitions = self.make_transitions()
        if ssl.weight > 0 and seen.graph is not None:
            self.auxiliary = SelfAugmented(ssl, settings.leaky_slope, self.graph)

    @classmethod
    def build(cls, settings: SelfGNNSettings, data: Dataset, generator: torch.Generator) -> Self:
        seen = Seen.of(data, settings, build_graph(data, settings))
        network = cls(settings, data.n_users, data.n_items, seen)
        network.initialise(generator)
        return network

    @property
    def graph(self) -> InteractionGraph:
        """The T interval graphs."""
        assert self._seen.graph is not None
        return self._seen.graph

    def initialise(self, generator: torch.Generator) -> None:
        for table in self.user_embedding.data:
            # Drawn even where it is not kept, so that one seed starts the items alike with and without users' vectors.
            kept = table if self.with_users else torch.empty(self.n_users, self.settings.dim)
            nn.init.xavier_uniform_(kept, generator=generator)
        for table in self.item_embedding.data:
            nn.init.xavier_uniform_(table, generator=generator)
        self.reset(generator)
        if self.settings.interval_encoder == "lstm":
            for encoder in (self.user_encoder, self.item_encoder):
                # gates i, f, g, o; torch adds this bias to a second one, which stays zero
                bias = encoder.recurrent.get_parameter("bias_ih_l0").data
                bias[self.settings.dim : 2 * self.settings.dim] = self.settings.forget_bias

    def touched(self, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        if self.settings.layers > 0:  # what a row's vector is made of reaches over the whole graph
            return {}
        found = {"item_embedding": items} | ({"user_embedding": users} if self.with_users else {})
        sizes = {"item_embedding": self.n_items, "user_embedding": self.n_users}
        intervals = self.settings.intervals
        return {name: stacked(rows, intervals, sizes[name]) for name, rows in found.items()}

    @property
    def torch_on_one(self) -> bool:
        settings, encoder = self.settings, self.user_encoder
        levels = settings.interval_encoder == "sum" or level.serves(encoder.recurrent, settings.dim)
        graphs = settings.layers == 0 or graph.serves(settings.dim, settings.layer_combination == "sum")
        return levels and graphs and self.sequence_encoder.torch_on_one

    def tables(self) -> list[Tensor]:
        found: list[Tensor] = [self.user_embedding, self.item_embedding]
        return found

    def decayed(self, over: str = "embeddings") -> list[Tensor]:
        found = super().decayed(over)
        if over == "embeddings" and self.settings.ssl.weight > 0:
            found += [self.weight_hidden.weight, self.weight_out.weight]
        return found

    def now(self) -> Source:
        settings, graph = self.settings, self.graph
        if settings.layers == 0 or settings.edge_dropout > 0 or settings.layer_combination != "sum":
            return self
        tables = self.user_embedding.flatten(0, 1), self.item_embedding.flatten(0, 1)
        layers = settings.layers, settings.leaky_slope
        shared = share(graph.matrices(active=True), *tables, *layers, graph.active)
        return self if shared is None else SameWeights(self, shared)

    def common(
        self, users: Tensor, items: Tensor, generator: torch.Generator | None = None, now: Source | None = None
    ) -> Common | None:
        if self.settings.layers == 0:
            return None
        return CommonVectors(self, users, items, generator, now.shared if isinstance(now, SameWeights) else None)

    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        short = self.short_term(generator, users, items)
        asked = self.with_users and (users is None or len(users) > 0)
        of_users = self.users(short, generator) if asked else short.users.sum(0)
        return Vectors(of_users, self.items(short, generator), short)

    @contextmanager
    def taking(self, source: ShortTermSource) -> Iterator[None]:
        """Within it short-term vectors come from `source`, who has computed what several calls share."""
        self._source = source
        try:
            yield
        finally:
            self._source = None

    def short_term(
        self,
        generator: torch.Generator | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> ShortTerm:
        """The short-term vectors from the interval graphs, of all nodes or of distinct `users` and `items` (n,).

        Of no users without `with_users`.
        """
        return (self._source or self.propagated)(generator, users, items)

    def propagated(
        self,
        generator: torch.Generator | None,
        users: Tensor | None,
        items: Tensor | None,
        shared: Shared | None = None,
    ) -> ShortTerm:
        """The same, computed; what is `shared` is not computed again."""
        graph = self.graph
        intervals, n_users, n_items = graph.shape
        if not self.with_users:
            users = torch.empty(0, dtype=torch.int64, device=self.device)
        tables = self.user_embedding.flatten(0, 1), self.item_embedding.flatten(0, 1)
        rows = (
            None if users is None else stacked(users, intervals, n_users),
            None if items is None else stacked(items, intervals, n_items),
        )
        dim = self.settings.dim
        if self.settings.layers == 0:  # the tables as they are
            found = [
                table if asked is None else table.index_select(0, asked)
                for table, asked in zip(tables, rows, strict=True)
            ]
            return ShortTerm(found[0].view(intervals, -1, dim), found[1].view(intervals, -1, dim))
        summed = self.settings.layer_combination == "sum"
        user_layers, item_layers = propagate(
            graph.matrices(self.settings.edge_dropout, generator, active=True),
            *tables,
            self.settings.layers,
            self.settings.leaky_slope,
            *rows,
            summed,
            graph.active,
            shared,
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

    def user_weight(self, long: Tensor, short: Tensor) -> Tensor:
        """w_{t,u} = sigmoid(FC(σ(FC([ē ⊙ e_t, ē, e_t])))), (..., n) from ē (..., n, d) and e_t (..., n, d)."""
        parts = [long * short, long, short]
        joined = torch.cat(parts, -1) if self.settings.ssl.user_weight == "concat" else _total(parts)
        hidden = F.leaky_relu(self.weight_hidden(joined), self.settings.leaky_slope)
        return torch.sigmoid(self.weight_out(hidden)).squeeze(-1)


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
