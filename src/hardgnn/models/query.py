"""A fitted network: final vectors, the encoder of windows, transitions; no graph is needed any more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from hardgnn.data.histories import Everybody, Histories
from hardgnn.models.base import Abilities, Exported, Stored, checked_matrix, part_of
from hardgnn.models.clock import Clock, ClockScores
from hardgnn.models.encoders.base import Encoder, Frame
from hardgnn.models.past import Past
from hardgnn.models.transitions import Transitions, TransitionScores
from hardgnn.ops import scores
from hardgnn.ops.scores import LeftOut, Terms
from hardgnn.parts import ENCODERS

NOBODY = Histories(np.zeros(1, np.int64), np.empty(0, np.int32))
NEAREST_ROWS = 2**16  # item vectors compared at once
PARAMETERS, VECTORS, MATRIX, CLOCK, COUNT = "parameters/", "vectors/", "transitions/", "clock/", "count"


@dataclass(frozen=True)
class Scoring:
    """What the settings of a network say of its score."""

    frame: Frame
    slope: float | None = None
    """Of the LeakyReLU that the sequence vector passes before the score; None is no such thing."""
    user_term: bool = False
    """Whether the score has the user's own vector."""
    intervals: int | None = None
    """How many intervals time is cut into."""

    def query(self, users: Tensor | None, sequence: Tensor) -> Tensor:
        """The vector whose product with an item's is the score: ē^(u) + σ(ẽ^(u)), (B, d), or σ(ẽ^(u)) alone."""
        if self.slope is not None:
            sequence = F.leaky_relu(sequence, self.slope)
        return sequence if users is None else users + sequence


@dataclass
class QueryModel:
    """Everything that scoring needs of a network. It is a `hardgnn.models.base.Model`.

    Shapes: `user_vectors` (U, d), zero rows for users without training interactions, or (0, d) where nothing asks for
    them; `item_vectors` (I, d). `weights` are the network's own, kept to start from or to look into.
    """

    name: str
    scoring: Scoring
    user_vectors: Tensor
    item_vectors: Tensor
    encoder: Encoder
    transitions: TransitionScores | None = None
    clock: ClockScores | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    parameters: int = 0
    """How many numbers the network has learnt."""
    seal: str = ""

    def to(self, device: torch.device) -> QueryModel:
        """Moves it to a device; what it answers is of numpy all the same."""
        self.user_vectors, self.item_vectors = self.user_vectors.to(device), self.item_vectors.to(device)
        self.encoder.to(device)
        if self.transitions is not None:
            self.transitions.module.to(device)
        if self.clock is not None:
            self.clock.module.to(device)
        return self

    def knowing(self, histories: Everybody) -> QueryModel:
        """See `hardgnn.models.base.Model.knowing`."""
        if self.clock is None or not histories.timed:
            return self
        return replace(self, clock=self.clock.knowing(histories))

    @property
    def window(self) -> int | None:
        """How many of a user's last items it looks at."""
        return self.scoring.frame.window

    @property
    def n_items(self) -> int:
        """How many items it scores."""
        return len(self.item_vectors)

    @property
    def abilities(self) -> Abilities:
        """What it can do."""
        return Abilities(
            known_users=self.scoring.user_term,
            histories=not self.encoder.silent,
            vectors=self.transitions is None and self.clock is None,
            similar=True,
            attention=self.encoder.attends,
        )

    @torch.no_grad()
    def queries(self, users: NDArray[np.integer] | None, histories: Histories) -> Tensor:
        """The query vectors ē^(u) + σ(ẽ^(u)), (B, d); without `users` σ(ẽ) alone (specification, section 2, Score)."""
        rows = np.arange(len(histories.offsets) - 1)
        device = self.item_vectors.device
        own = None
        if users is not None and self.scoring.user_term:
            own = self.user_vectors[torch.from_numpy(users).long().to(device)]
        if self.encoder.silent:
            return self.item_vectors.new_zeros(len(rows), self.item_vectors.shape[1]) if own is None else own
        window = torch.from_numpy(histories.windows(rows, self.scoring.frame.window)).to(device)
        return self.scoring.query(own, self.encoder(self.item_vectors, window))

    def _terms(self, users: NDArray[np.integer] | None, histories: Histories) -> Terms:
        return self.terms(self.queries(users, histories), histories)

    @torch.no_grad()
    def terms(self, queries: Tensor, histories: Histories) -> Terms:
        """What the scores of all items are made of, given `queries` (B, d)."""
        reach, moments = None, None
        base = queries.new_zeros(self.n_items)
        if self.transitions is not None:
            base, reach = self.transitions.base(), self.transitions.reach(histories)
        if self.clock is not None:
            moments = self.clock.moments(histories)
        return Terms(queries, self.item_vectors, base, reach, moments)

    @torch.no_grad()
    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        """The scores of all items for these users, (B, I)."""
        return scores.scores(self._terms(users, histories)).cpu().numpy()

    @torch.no_grad()
    def candidate_scores(
        self, users: NDArray[np.integer], histories: Histories, items: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The scores of `items` (B, C) for these users, (B, C): a gather of C vectors instead of a product with all."""
        return scores.candidate_scores(self._terms(users, histories), items.astype(np.int32, copy=False)).cpu().numpy()

    @property
    def direct(self) -> bool:
        """Whether `above` and `best` serve here: in C."""
        return scores.direct(self.item_vectors)

    in_turn = False

    def above(
        self, users: NDArray[np.integer], histories: Histories, targets: NDArray[np.int32], without: LeftOut
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """See `hardgnn.evaluation.protocols.Direct.above`."""
        return scores.above(self._terms(users, histories), targets, without)

    def best(
        self,
        users: NDArray[np.integer] | None,
        histories: Histories,
        n: int,
        without: LeftOut,
        blocked: NDArray[np.integer] | None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
        """See `hardgnn.evaluation.topn.Lister.best`."""
        asked = self._terms(users, histories)
        if blocked is not None:
            base = asked.base.clone()
            base[torch.from_numpy(blocked)] = -torch.inf
            asked = replace(asked, base=base)
        return scores.best(asked, n, without)

    @torch.no_grad()
    def similarity(self, item: int) -> NDArray[np.float32]:
        """The cosine of each item (I,) to one."""
        wanted = F.normalize(self.item_vectors[item], dim=-1, eps=1e-6)
        parts = [F.normalize(part, dim=-1, eps=1e-6) @ wanted for part in self.item_vectors.split(NEAREST_ROWS)]
        return torch.cat(parts).cpu().numpy()

    @torch.no_grad()
    def reasons(self, history: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """The cosine of each item of a history (m,) to each of `items` (K,): (K, m)."""
        device = self.item_vectors.device
        first, second = (
            F.normalize(self.item_vectors[torch.from_numpy(rows.astype(np.int64)).to(device)], dim=-1, eps=1e-6)
            for rows in (items, history)
        )
        return (first @ second.T).cpu().numpy()

    @torch.no_grad()
    def attention(self, window: NDArray[np.integer]) -> list[list[float]]:
        """The weight of each item of a window (m,) in each layer, the mean over heads: L lists of m, each sums to 1."""
        rows = torch.from_numpy(window.astype(np.int64))[None].to(self.item_vectors.device)
        found: list[list[float]] = self.encoder.attention(self.item_vectors, rows)[:, 0].tolist()
        return found

    def exported(self) -> Exported:
        """Vectors, and the transitions with their numbers."""
        vectors = np.ascontiguousarray(self.item_vectors.cpu().numpy(), dtype=np.float32)
        if self.transitions is None and self.clock is None:
            return Exported("inner product of the user's and the item's vector", {}, vectors)
        formula, matrix, moment = "product of the vectors", None, None
        numbers: dict[str, float] = {}
        if self.transitions is not None:
            formula += (
                " + strength * log(epsilon + sum over the last `window` items, newest first, of decay^age * similarity)"
                " + popularity * log(1 + train_interactions)"
            )
            numbers |= self.transitions.numbers() | {"window": float(self.scoring.frame.window)}
            matrix = self.transitions.matrix
        if self.clock is not None:
            formula += " + moment of the item, what its recent events add at the end of the log"
            numbers |= self.clock.numbers()
            moment = self.clock.moments(NOBODY)[0][0].cpu().numpy()
        return Exported(formula, numbers, vectors, matrix, moment)

    def tensors(self) -> dict[str, Tensor]:
        """The network's own weights, the final vectors and the matrix of transitions, on the processor."""
        found = {f"{PARAMETERS}sequence_encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        if self.transitions is not None:
            numbers = self.transitions.module.state_dict()
            found |= {f"{PARAMETERS}transitions.{name}": value for name, value in numbers.items()}
        if self.clock is not None:
            found |= {f"{PARAMETERS}clock.{name}": value for name, value in self.clock.module.state_dict().items()}
            found |= {CLOCK + name: value for name, value in self.clock.past.tensors().items()}
        found |= self.weights | {f"{VECTORS}users": self.user_vectors, f"{VECTORS}items": self.item_vectors}
        found[COUNT] = torch.tensor([self.parameters])
        if self.transitions is not None:
            matrix = self.transitions.matrix
            parts = {"offsets": matrix.indptr.astype(np.int64), "columns": matrix.indices, "values": matrix.data}
            found |= {MATRIX + name: torch.from_numpy(part) for name, part in parts.items()}
            found[MATRIX + "counts"] = self.transitions.counts
        return {name: tensor.cpu() for name, tensor in found.items()}


def restored(settings: Any, stored: Stored) -> QueryModel:
    """The model out of its tensors, without its network's weights.

    Raises:
        ValueError: tensors that cannot be.
    """
    scoring: Scoring = settings.scoring()
    users, items = stored[f"{VECTORS}users"], stored[f"{VECTORS}items"]
    for name, vectors in (("users", users), ("items", items)):
        if vectors.dim() != 2 or vectors.shape[1] != scoring.frame.dim:
            raise ValueError(
                f"vectors of {name} have shape {tuple(vectors.shape)}, expected {scoring.frame.dim} numbers"
            )
        finite = (bool(part.isfinite().all()) for part in vectors.split(NEAREST_ROWS))
        if vectors.dtype != torch.float32 or not all(finite):
            raise ValueError(f"vectors of {name} are not all finite numbers")
    encoder = ENCODERS.find(settings.encoder.kind)(settings.encoder, scoring.frame)
    encoder.load_state_dict(part_of(stored, f"{PARAMETERS}sequence_encoder."))
    encoder.eval()
    transitions = None
    if settings.transitions.use:
        module = Transitions(settings.transitions)
        module.load_state_dict(part_of(stored, f"{PARAMETERS}transitions."))
        parts = part_of(stored, MATRIX)
        matrix = _checked_matrix(parts, len(items))
        transitions = TransitionScores(module, matrix, parts["counts"], scoring.frame.window)
    clock = None
    if settings.clock.use and CLOCK + "edges" in stored:  # a log without times has none
        ticking = Clock(settings.clock)
        ticking.load_state_dict(part_of(stored, f"{PARAMETERS}clock."))
        clock = ClockScores(ticking, Past.restored(part_of(stored, CLOCK), len(items)))
    if COUNT in stored:
        count = int(stored[COUNT])
    else:  # of an earlier version
        count = sum(stored[name].numel() for name in stored if name.startswith(PARAMETERS))
    return QueryModel("", scoring, users, items, encoder, transitions, clock, parameters=count)


def _checked_matrix(parts: dict[str, Tensor], n_items: int) -> sparse.csr_array:
    """The matrix of transitions (I, I): a column out of bounds would make SciPy write anywhere.

    Raises:
        ValueError: its parts cannot be those of such a matrix.
    """
    counts = parts["counts"]
    if counts.shape != (n_items,) or not bool((torch.isfinite(counts) & (counts >= 0)).all()):
        raise ValueError("the items' counts cannot be")
    return checked_matrix(parts, n_items)
