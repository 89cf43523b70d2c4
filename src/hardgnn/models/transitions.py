"""Item-to-item transitions and popularity in the score: `β log(ε + x) + κ log(1 + n)` (docs/model.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from hardgnn.config.sections import Section, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.models.shared_edges import SharedEdges
from hardgnn.models.similarity import blocks_of, cosines, decayed_history, followers
from hardgnn.ops.edges import Edges
from hardgnn.ops.form import fast
from hardgnn.ops.native.library import native
from hardgnn.ops.native.transitions import NativeWalk
from hardgnn.ops.scores import Reach, Reachable
from hardgnn.ops.sparse import index_type
from hardgnn.processes.share import Share


class NoTransitions(Section):
    """The score is a product alone."""

    use: Literal[False] = False
    """Whether `β log(ε + x)` is added to the score, x the transitions from the user's items to the one scored."""


class TransitionsSettings(Section):
    """Item-to-item transitions in the score (docs/model.md); they are learned for the next item at every position."""

    use: Literal[True] = True
    """Whether `β log(ε + x)` is added to the score, x the transitions from the user's items to the one scored."""
    forward: float = Field(1.0, gt=0)
    """First value of the weight of the directed co-occurrence beside the cosine similarity of items; learned."""
    steps: int = Field(5, ge=1)
    """Distance up to which an item that comes after another counts as following it, with weight 1 / distance."""
    backward: float = Field(0.5, ge=0, json_schema_extra=search(low=0.0, high=1.0))
    """Weight of an item that comes before another, relative to one that follows it at the same distance."""
    neighbours: int = Field(2000, ge=1)
    """Most similar items that the cosine keeps per item; bounds the memory of large catalogues."""
    decay: float = Field(0.8, gt=0, lt=1)
    """First value of the weight of an item relative to the one after it in the user's history; learned."""
    epsilon: float = Field(0.03, gt=0)
    """First value of ε, what an item without transitions has; learned."""
    popularity: float = Field(0.5, ge=0)
    """First value of the power of an item's training count; learned. Transitions are divided by the root of the count,
    so a half gives that back."""
    rate: float = Field(10.0, gt=0, json_schema_extra=search(low=1, high=30, log=True))
    """The five learned numbers take steps of so many times `train.lr`. Adam's steps are about as long whatever the
    gradient, and these have further to go than the entries of a table."""


EDGES_TOGETHER = 2**20  # of both kinds, joined at once
TRANSITIONS = {False: NoTransitions, True: TransitionsSettings}


@dataclass(frozen=True)
class TransitionGraph:
    """Both kinds of edges, from an item of the history (row) to the one scored, and the items' training counts.

    `edges` (I, I): the first value is the cosine, the second tells who follows whom; `counts` (I,) float32.
    """

    edges: Edges | SharedEdges
    counts: Tensor

    @staticmethod
    def of(data: Dataset, config: TransitionsSettings, share: Share | None = None) -> TransitionGraph:
        """Counted in the training part: all, or where processes share them out this one's, the edges into its items."""
        counts = data.train.item_counts(data.n_items)
        mine = slice(0, data.n_items) if share is None else share.mine

        def blocks() -> Iterator[tuple[sparse.csr_array, sparse.csr_array]]:  # whose matrices go when it has ended
            cosine, pairs = cosines(data, config.neighbours, mine)
            follows, near = followers(data, config.steps, config.backward, mine), 2 * config.steps * counts[mine]
            for first, last in blocks_of(pairs):
                columns = cosine(first, last)
                for start, stop in blocks_of(np.diff(columns.indptr) + near[first:last], EDGES_TOGETHER):
                    yield columns[start:stop], follows(first + start, first + stop)

        edges = Edges.of_columns(data.n_items, blocks())
        shared = edges if share is None else SharedEdges(edges, share)
        return TransitionGraph(shared, torch.from_numpy(counts.astype(np.float32)))

    def to(self, device: torch.device) -> TransitionGraph:
        """The same on a device."""
        return TransitionGraph(self.edges.to(device), self.counts.to(device))

    def joined(self, forward: float) -> sparse.csr_array:
        """`S = cosine + forward · follows`; where processes share it out this one's columns."""
        cosine, follows = self.edges.matrices
        values = cosine.data + np.float32(forward) * follows.data
        return sparse.csr_array((values, cosine.indices, cosine.indptr), shape=cosine.shape)


class Transitions(nn.Module):
    """What is added to the score of item v after items i_1 .. i_p: `β log(ε + Σ_s γ^(p-s) S[i_s, v]) + κ log(1 + n_v)`.

    `S = cosine + forward · follows`, n_v the training count; forward, β, ε, γ and κ are learned. S and n_v count the
    training sequences, and so the very step that training asks for. That is taken out, as if they had been counted
    without the user: `targets`. Backward edges need no such care: a next item that has come before is known at test
    time too.
    """

    def __init__(self, config: TransitionsSettings) -> None:
        super().__init__()
        self.config = config
        self.log_forward = nn.Parameter(torch.tensor(math.log(config.forward)))
        self.strength = nn.Parameter(torch.tensor(1.0))  # β
        self.log_epsilon = nn.Parameter(torch.tensor(math.log(config.epsilon)))
        self.popularity = nn.Parameter(torch.tensor(config.popularity))  # κ
        self.decay_logit = nn.Parameter(torch.tensor(math.log(config.decay / (1 - config.decay))))

    def prior(self, reached: Tensor) -> Tensor:
        """`β log(ε + x)` of x, any shape."""
        return self.strength * torch.log(reached + self.log_epsilon.exp())

    def offsets(self, counts: Tensor) -> Tensor:
        """`κ log(1 + n)` of training counts n, any shape; of a next item n is one less while training."""
        return self.popularity * torch.log1p(counts)

    def weights(self, width: int) -> Tensor:
        """`γ^(p-s)` for s ≤ p, else 0: (m, m)."""
        place = torch.arange(width, device=self.decay_logit.device)
        age = place[:, None] - place
        return torch.where(age >= 0, torch.sigmoid(self.decay_logit) ** age.clamp_min(0), 0.0)

    @property
    def forward_weight(self) -> float:
        """The weight of the directed co-occurrence."""
        return float(self.log_forward.detach().exp())

    def block(self, edges: Edges, columns: Tensor | NDArray[np.integer]) -> Tensor:
        """The chosen columns of these rows of S, dense, and a last row of zeros for padding: (n + 1, c)."""
        cosine, follows = edges.dense(torch.as_tensor(columns, device=edges.columns.device))
        return torch.addcmul(cosine, follows, self.log_forward.exp())

    def reached(self, edges: Edges, columns: Tensor | NDArray[np.integer], windows: Tensor) -> Tensor:
        """x of every candidate, a column of these rows of S, after every item of the windows in turn: (P, C).

        Shapes: edges (n, I); columns (C,); windows (B, m) of row numbers, n for padding.
        """
        columns = torch.as_tensor(columns, device=edges.columns.device)
        functions = native(edges.first) if edges.columns.dtype == torch.int32 else None
        if functions is not None:
            place = torch.full((edges.width,), -1, dtype=torch.int32)
            place[columns] = torch.arange(len(columns), dtype=torch.int32)
            parts = edges.offsets.int(), edges.columns, edges.first, edges.second
            given = torch.sigmoid(self.decay_logit), self.log_forward.exp(), functions, parts, place, len(columns)
            found: Tensor = NativeWalk.apply(*given, windows)
            return found
        table = self.candidates(self.block(edges, columns), windows)
        real = (windows < len(edges)).flatten()
        return table.flatten(0, 1) if bool(real.all()) else table.flatten(0, 1)[real]

    def candidates(self, block: Tensor, windows: Tensor) -> Tensor:
        """x of every candidate after every position, (B, m, C).

        Shapes: block (n + 1, C): rows of S, the last one zeros; windows (B, m) of row numbers, n for padding.
        """
        rows = block.index_select(0, windows.flatten()).view(*windows.shape, -1)  # (B, m, C)
        return self.weights(windows.shape[1]) @ rows

    def targets(self, cosine: Tensor, follows: Tensor, counts: Tensor, target_counts: Tensor) -> Tensor:
        """x of the item that comes next at every position, without what the user's own sequence put into S: (B, m).

        The user counts 1 in the cosine of every pair, and forward / distance among those that follow.

        Shapes: cosine, follows (B, m, m), as `between` gives them; counts, target_counts (B, m): the training counts
        of the window's items and of those that come next, 0 for padding.
        """
        width = counts.shape[1]
        scale, target_scale = (torch.where(n > 0, n.clamp_min(1).rsqrt(), 0.0) for n in (counts, target_counts))
        place = torch.arange(width, device=counts.device)
        distance = place[:, None] + 1 - place  # of the item after p from that at s
        near = torch.where((distance > 0) & (distance <= self.config.steps), 1 / distance, 0.0)
        own = scale[:, None, :] * target_scale[:, :, None]  # (B, p, s)
        without = (cosine - own) + self.log_forward.exp() * (follows - near * own)
        others = target_counts.clamp_min(1).div((target_counts - 1).clamp_min(1)).sqrt()  # the next item's root too
        return (self.weights(width) * without).sum(-1).clamp_min(0) * others


class TransitionScores:
    """The trained transitions: x for whole histories, then `β log(ε + x) + κ log(1 + n)`."""

    def __init__(self, module: Transitions, matrix: sparse.csr_array, counts: Tensor, window: int) -> None:
        self.module, self.edges, self.counts, self.window = module, Reachable(narrow(matrix)), counts, window

    @property
    def matrix(self) -> sparse.csr_array:
        """S, (I, I)."""
        return self.edges.matrix

    @torch.no_grad()
    def numbers(self) -> dict[str, float]:
        """The learned numbers as the score has them."""
        module = self.module
        return {
            "strength": float(module.strength),
            "epsilon": float(module.log_epsilon.exp()),
            "decay": float(torch.sigmoid(module.decay_logit)),
            "popularity": float(module.popularity),
        }

    @torch.no_grad()
    def base(self) -> Tensor:
        """What each item has that is not reached, `β log ε + κ log(1 + n)`: (I,), on the module's device."""
        module = self.module
        return module.offsets(self.counts.to(module.strength.device)) + module.strength * module.log_epsilon

    def reach(self, histories: Histories) -> Reach:
        """What the others have more: `β log(1 + x / ε)`."""
        numbers = self.numbers()
        history = decayed_history(histories, numbers["decay"], self.window, self.matrix.shape[0])
        return Reach(history, self.edges, numbers["strength"], numbers["epsilon"])


def narrow(matrix: sparse.csr_array) -> sparse.csr_array:
    """The same matrix with indices of 32 bits, where they are enough; scipy widens them here and there."""
    kind = index_type(max(matrix.nnz, *matrix.shape))
    parts = matrix.data, matrix.indices.astype(kind, copy=False), matrix.indptr.astype(kind, copy=False)
    return sparse.csr_array(parts, shape=matrix.shape)


def between(edges: Edges, windows: Tensor, targets: Tensor | NDArray[np.integer]) -> tuple[Tensor, Tensor]:
    """Cosine and follows from the items up to a position to the one after it: (B, m, m) each, 0 for padding.

    At [b, p, s] from windows[b, s] to targets[b, p], s ≤ p.

    Shapes: edges (n, I); windows (B, m) of its row numbers, n for padding; targets (B, m), `PADDING` likewise.
    """
    targets = torch.as_tensor(targets, device=windows.device)
    real = (windows < len(edges)).unsqueeze(1) & (targets != PADDING).unsqueeze(2)
    real = real.tril()  # (B, p, s)
    if not fast(edges.first):
        found = edges.at(windows.clamp_max(len(edges) - 1).unsqueeze(1), targets.clamp_min(0).unsqueeze(2))
        return torch.where(real, found[0], 0), torch.where(real, found[1], 0)
    row, ahead, place = real.nonzero(as_tuple=True)
    values = edges.at(windows[row, place], targets[row, ahead])
    cosine, follows = torch.zeros(2, *real.shape).unbind()
    cosine[row, ahead, place], follows[row, ahead, place] = values
    return cosine, follows
