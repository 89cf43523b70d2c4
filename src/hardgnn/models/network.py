"""What the networks have in common: an encoder of windows, perhaps transitions, and a score that is a product."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardgnn.config.sections import Chosen, PartSettings
from hardgnn.data.dataset import Dataset
from hardgnn.models.attention import reset
from hardgnn.models.base import Stored
from hardgnn.models.clock import CLOCKS, Clock, ClockScores, NoClock, Past, past_of
from hardgnn.models.encoders.attention import AttentionSettings
from hardgnn.models.encoders.base import Encoder
from hardgnn.models.query import PARAMETERS, QueryModel, Scoring, restored
from hardgnn.models.transitions import (
    TRANSITIONS,
    NoTransitions,
    TransitionGraph,
    Transitions,
    TransitionScores,
)
from hardgnn.ops.graph import InteractionGraph
from hardgnn.parts import ENCODERS
from hardgnn.processes.share import Share


class NetworkSettings(PartSettings):
    """What every network's settings have."""

    encoder: Chosen(ENCODERS, "attention") = AttentionSettings(kind="attention")  # type: ignore[valid-type]
    transitions: Chosen(TRANSITIONS, False, "use") = NoTransitions()  # type: ignore[valid-type]
    clock: Chosen(CLOCKS, False, "use") = NoClock()  # type: ignore[valid-type]

    @abstractmethod
    def scoring(self) -> Scoring:
        """What they say of the score."""


@dataclass
class Vectors:
    """The vectors of the users (n_u, d) and items (n_i, d) that were asked for; `short` is the network's own."""

    users: Tensor
    items: Tensor
    short: Any = None


class Source(Protocol):
    """What gives vectors of a network until its weights change."""

    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        """See `Network.vectors`."""


class Common(Source, Protocol):
    """What the parts of a step have in common (`train.shards`): computed once, and its gradient too.

    Its `vectors` are those of the network, with gradients that end at what is in common.
    """

    through: list[str]
    """The parameters that have gradients through it, and otherwise at most in some processes."""

    @property
    def numbers(self) -> int:
        """How many numbers `gradient` has, the same in all processes."""

    def gradient(self, out: Tensor) -> None:
        """Puts into `out` (n,) what parts have left at it since it was last asked."""

    def backward(self, sums: Tensor) -> None:
        """Adds to the gradients of the parameters, given what `gradient` adds up to over all parts, (n,).

        It is the end of it: nothing of it is asked for any more.
        """


@dataclass(frozen=True)
class Seen:
    """What a network counts in the training part beside its weights; copies of the network share it."""

    counted: TransitionGraph | None = None
    """The transitions, where its settings use them."""
    idle: NDArray[np.bool_] | None = None
    """Which users have no training interactions, (U,)."""
    graph: InteractionGraph | None = None
    """The interval graphs, where it has such."""
    past: Past | None = None
    """What happened when, where its settings use a clock and the log has times."""
    shared: bool = False
    """Whether several processes share out the rows of the tables `by_rows`, and the edges."""

    def __deepcopy__(self, memo: Any) -> Seen:
        return self

    def to(self, device: torch.device) -> Seen:
        """The same on a device."""
        counted = None if self.counted is None else self.counted.to(device)
        return replace(self, counted=counted, graph=None if self.graph is None else self.graph.to(device))

    @classmethod
    def of(cls, data: Dataset, settings: Any, graph: InteractionGraph | None = None, shared: bool = False) -> Seen:
        """What the training part has of it; where processes share out what is of items, what this one has."""
        share = Share.own(data.n_items) if shared else None
        counted = TransitionGraph.of(data, settings.transitions, share) if settings.transitions.use else None
        past = past_of(data, settings.clock) if settings.clock.use else None
        return cls(counted, data.train.lengths == 0, graph, past, shared)


class Rows(Protocol):
    """Who keeps a table in training, and so tells its rows."""

    def look_up(self, rows: Tensor | None) -> Tensor:
        """The given rows (n,), each once, or all: (n, d)."""

    def catch_up(self) -> None:
        """Brings up the rows that no step has asked for."""

    def gradient(self, rows: Tensor) -> Tensor:
        """The gradients (n, d) of given rows (n,), sorted, from what was asked for so far, which then has none."""

    def change(self, rows: Tensor, gradient: Tensor) -> None:
        """Gives rows (n,), each once, gradients (n, d) from elsewhere, for the next step."""


class Auxiliary(Protocol):
    """A loss term that a network brings with it, with the rows of users and items that it needs in a step."""

    name: str
    weight: float

    def draw(self, users: NDArray[np.integer], rng: np.random.Generator) -> Any:
        """What the term of a step with these users is computed on."""

    def cut(self, drawn: Any, parts: int) -> list[Any]:
        """What was drawn in so many parts, whose terms add up to the whole's."""

    def rows(self, drawn: Any) -> tuple[list[NDArray[np.integer]], list[NDArray[np.integer]]]:
        """The users and the items that it needs vectors of."""

    def loss(self, network: Any, drawn: Any, vectors: Vectors, user_row: Tensor, item_row: Tensor) -> Tensor:
        """The term; `user_row` (U,) and `item_row` (I,) tell where the vectors of each are."""


class Network(nn.Module, ABC):
    """A network whose score is `query(user, window) · item`, plus transitions where its settings have them.

    Registered by `@model("name")`. It needs `Settings`, `tables`, `vectors`, and a `sequence_encoder` and `transitions`
    made in `__init__`; any objective trains it, and what comes of it is a `QueryModel`. Random dropout happens only
    where a generator is passed; without one every method is deterministic.
    """

    Settings: ClassVar[type[NetworkSettings]]
    objective: ClassVar[str | None] = "pairwise"
    """The objective that it is trained with where none is named."""
    kind: ClassVar[str]
    auxiliary: Auxiliary | None = None
    by_rows: ClassVar[tuple[str, ...]] = ()
    """The tables of which a step asks for some rows alone, by `look_up`, so that it may cost by these."""
    halves: ClassVar[bool] = False
    """Whether what it has in C takes tables and products in bfloat16 (`hardgnn.ops.precision`)."""
    with_users: bool = False
    """Whether users have vectors."""
    fresh: ClassVar[tuple[str, ...]] = ("clock.",)
    """Beginnings of the names of weights that add nothing to any score at first, so that a warm start may lack them."""

    def __init__(self, settings: Any, n_users: int, n_items: int, seen: Seen) -> None:
        super().__init__()
        self.settings, self.scoring = settings, settings.scoring()
        self.n_users, self.n_items = n_users, n_items
        self._seen = seen
        self.kept: dict[str, Rows] = {}
        self.shares: dict[str, Share] = {}
        self.clock = None if seen.past is None else Clock(settings.clock)

    @classmethod
    def build(cls, settings: Any, data: Dataset, generator: torch.Generator) -> Self:
        """The network with first weights from `generator`; graphs and transitions are counted in training."""
        network = cls(settings, data.n_users, data.n_items, Seen.of(data, settings))
        network.initialise(generator)
        return network

    @classmethod
    def build_share(cls, settings: Any, data: Dataset, generator: torch.Generator) -> Self:
        """The same, but that each of several processes has its own rows alone of the tables `by_rows`, and edges."""
        network = cls(settings, data.n_users, data.n_items, Seen.of(data, settings, shared=True))
        network.initialise(generator)
        return network

    def make_encoder(self) -> Encoder:
        """The encoder that the settings name."""
        found: Encoder = ENCODERS.find(self.settings.encoder.kind)(self.settings.encoder, self.scoring.frame)
        return found

    def make_transitions(self) -> Transitions | None:
        """The learned numbers of the transitions, if there are any."""
        return Transitions(self.settings.transitions) if self.settings.transitions.use else None

    def table(self, name: str, rows: int) -> nn.Parameter:
        """An empty table (rows, d) of that name, or this process's rows of it (`shares`)."""
        if self._seen.shared:
            self.shares[name] = Share.own(rows)
            rows = len(self.shares[name])
        return nn.Parameter(torch.empty(rows, self.scoring.frame.dim))

    @property
    def numbers(self) -> int:
        """How many numbers it learns, in all processes."""
        own = sum(parameter.numel() for parameter in self.parameters())
        others = ((share.rows - len(share)) * getattr(self, name).shape[1] for name, share in self.shares.items())
        return own + sum(others)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the first weights, those of the tables first."""
        shares = {getattr(self, name): share for name, share in self.shares.items()}
        for table in self.tables():
            if table in shares:
                share = shares[table]
                bound = math.sqrt(3.0) * math.sqrt(2.0 / (share.rows + table.shape[1]))  # of xavier_uniform_
                share.draw(table.data, bound, generator)
            else:
                nn.init.xavier_uniform_(table.data, generator=generator)
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draws first weights of all parts but the tables, which the network draws itself."""
        for child in self.children():
            reset(child, generator)
        self.sequence_encoder.start(generator)

    sequence_encoder: Encoder
    transitions: Transitions | None

    @property
    def counted(self) -> TransitionGraph | None:
        """The transitions as counted in training."""
        return self._seen.counted

    @property
    def past(self) -> Past | None:
        """What the clock counts in training."""
        return self._seen.past

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Every move and change of type comes here: what was counted goes where the weights go."""
        super()._apply(fn, recurse)
        self._seen = self._seen.to(self.device)
        return self

    @abstractmethod
    def vectors(
        self, users: Tensor | None = None, items: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Vectors:
        """The vectors of distinct `users` and `items` (n,), or of all; of no users without `with_users`."""

    def look_up(self, table: str, rows: Tensor | None) -> Tensor:
        """Distinct rows (n,) of a table by its name, or all of them, of who keeps it where somebody does."""
        if table in self.kept:
            return self.kept[table].look_up(rows)
        whole: Tensor = getattr(self, table)
        return whole if rows is None else whole.index_select(0, rows)

    def catch_up(self) -> None:
        """Brings up all tables: who keeps one may have left for later what nobody asked for."""
        for kept in self.kept.values():
            kept.catch_up()

    def touched(self, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Which rows (r,) of its tables (.., d) get gradients where the vectors of these alone are asked for.

        By the parameter's name; a parameter that is not named has them in all rows, as tables under a graph.
        """
        return {}

    def sequence(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """Sequence vectors ẽ (B, d) of windows (B, m) of rows of `item_vectors`."""
        found: Tensor = self.sequence_encoder(item_vectors, window)
        return found

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Within it layers with a dropout or running means of their own behave as in scoring."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def now(self) -> Source:
        """What gives its vectors until its weights change; what several calls share it may compute once.

        It is asked for without gradients, and gives vectors with them as without.
        """
        return self

    def common(
        self, users: Tensor, items: Tensor, generator: torch.Generator | None = None, now: Source | None = None
    ) -> Common | None:
        """What the vectors of these `users` and `items` (n,) are made of at a cost that parts of a step can share.

        None, the default, where each part may as well ask for its own. All processes ask for the same, with like
        generators. `now` is what `now()` gave, if anything.
        """
        return None

    def decayed(self, over: str = "embeddings") -> list[Tensor]:
        """What the L2 term covers (specification, section 2): tables, positions and the like, or `all` parameters."""
        return list(self.parameters()) if over == "all" else [*self.tables(), *self.sequence_encoder.decayed()]

    @property
    def torch_on_one(self) -> bool:
        """Whether its training is to have one thread for operations of torch, all being for what is shared out.

        So where most of a step is in C, or in parts side by side (docs/performance.md, Threads). A network does not say
        so by itself, for its own operations may be large.
        """
        return False

    @abstractmethod
    def tables(self) -> list[Tensor]:
        """The tables of embeddings."""

    def rates(self) -> dict[str, float]:
        """Parameters that take steps of so many times the learning rate, by the beginning of their names."""
        parts = {"transitions.": self.settings.transitions, "clock.": self.settings.clock}
        return {prefix: part.rate for prefix, part in parts.items() if part.use}

    @torch.no_grad()
    def fitted(self, name: str) -> QueryModel:
        """The network as it now scores. Its tensors are the network's own: training on changes some of them."""
        self.eval()
        found = self.vectors()
        users = found.users.detach()
        if len(users) and self._seen.idle is not None:  # who has no training interactions has no vector
            users = users.clone()
            users[torch.from_numpy(self._seen.idle).to(users.device)] = 0
        scores = None
        if self.transitions is not None and self.counted is not None:
            matrix = self.counted.joined(self.transitions.forward_weight)
            scores = TransitionScores(self.transitions, matrix, self.counted.counts, self.scoring.frame.window)
        clock = None if self.clock is None or self.past is None else ClockScores(self.clock, self.past)
        weights = {PARAMETERS + key: value for key, value in self.state_dict().items()}
        of_items = found.items.detach()
        encoder = self.sequence_encoder
        return QueryModel(name, self.scoring, users, of_items, encoder, scores, clock, weights, self.numbers)

    @classmethod
    def restore(cls, settings: Any, stored: Stored) -> QueryModel:
        """The model that `fitted` made, out of its tensors; it needs no network and no data.

        Raises:
            ValueError: tensors that cannot be.
        """
        return restored(settings, stored)


def check_heads(dim: int, heads: int) -> None:
    """Raises ValueError where the vectors cannot be divided among the heads."""
    if dim % heads:
        raise ValueError(f"model.dim must be a multiple of model.heads, got {dim} and {heads}")
