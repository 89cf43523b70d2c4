"""The step of `train.objective = "positions"`: the next item at every position, against candidates at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hardgnn import losses
from hardgnn.config import Config
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING
from hardgnn.data.sequences import SequenceBatch
from hardgnn.model.causal import CausalEncoder
from hardgnn.model.graph import InteractionGraph
from hardgnn.model.selfgnn import SelfGNN
from hardgnn.model.transitions import TransitionGraph, inverse_root_counts
from hardgnn.negatives import FalseNegatives, distinct_rows


@dataclass
class PositionsStep:
    """What every step of a run shares: model, graph, transitions, training histories, settings."""

    model: SelfGNN
    graph: InteractionGraph
    data: Dataset
    config: Config
    transitions: TransitionGraph | None

    def __post_init__(self) -> None:
        self._false = FalseNegatives(self.data)
        self._scale = torch.cat([inverse_root_counts(self.data), torch.zeros(1)])  # (I + 1,) the last for padding

    def new_epoch(self) -> None:
        """Begins to count anew."""
        self._false.reset()

    def false_negatives(self) -> float | None:
        """The share of this epoch's hard negatives that are their user's validation item; None where there are none."""
        return self._false.share()

    def losses(self, batch: SequenceBatch, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The loss terms of one batch, without their coefficients; `generator` drives dropout.

        `rec` is the cross-entropy of the next item among it and the candidates that are not the user's own (P
        positions), whose sum stands for all items; `infonce` contrasts with the K nearest by cosine of the candidates,
        or of a part of them (`hard.share`).
        """
        model, config = self.model, self.config
        windows, targets = torch.from_numpy(batch.windows), torch.from_numpy(batch.targets)  # (B, m)
        place = windows != PADDING  # (B, m)
        owner = place.nonzero()[:, 0]  # (P,)
        groups = [batch.windows[batch.windows != PADDING], batch.targets[batch.targets != PADDING], batch.candidates]
        items, item_row = distinct_rows(model.n_items, *groups)
        users = torch.from_numpy(batch.users)
        asked = users if config.model.user_term else users[:0]
        short = model.short_term(self.graph, generator, asked, items)
        item_vectors = model.items(short, generator)  # (n_i, d)

        local = torch.where(place, item_row[windows.clamp_min(0)], PADDING)
        assert isinstance(model.sequence_encoder, CausalEncoder)
        queries = model.sequence_encoder.every(item_vectors, local, generator)[place]  # (P, d)
        sequences = queries
        if config.model.user_term:
            queries = model.query_vector(config.model, model.users(short, generator)[owner], queries)
        target = targets[place]  # (P,)
        candidates = torch.from_numpy(batch.candidates)  # (C,)
        positive = item_vectors.index_select(0, item_row[target])  # (P, d)
        negative = item_vectors.index_select(0, item_row[candidates])  # (C, d)
        positive_score = (queries * positive).sum(-1)  # (P,)
        scores = queries @ negative.T  # (P, C)
        if config.model.item_bias:
            positive_score = positive_score + model.item_bias[target]
            scores = scores + model.item_bias[candidates]
        if self.transitions is not None:
            prior, positive_prior = self._transitions(batch, place)
            scores, positive_score = scores + prior, positive_score + positive_prior
        own = self._own(batch).index_select(0, owner)  # (P, C)
        # C of the I items were drawn, so each stands for I / C.
        scores = scores.masked_fill(own, -torch.inf) + math.log(model.n_items / len(candidates))
        terms = {"rec": losses.next_item(positive_score, scores)}

        if config.hard.active:
            pool = self._pool(len(candidates), generator)
            near, far = losses.similarities(sequences, positive, negative[pool])
            hard, index = far.masked_fill(own[:, pool], -torch.inf).topk(min(config.hard.k, far.shape[1]), dim=1)
            terms["infonce"] = losses.contrast(near, hard, config.hard.temperature)  # hard (P, K)
            self._false.count(users[owner], candidates[pool][index], torch.isfinite(hard))
        return terms

    def _pool(self, candidates: int, generator: torch.Generator | None) -> Tensor | slice:
        """Which of the candidates are searched for the hardest: all, or a random part where they are too many."""
        most = math.ceil(self.config.hard.share * self.data.n_items)
        if most >= candidates:
            return slice(None)
        return torch.randperm(candidates, generator=generator)[:most]

    def _own(self, batch: SequenceBatch) -> Tensor:
        """Which candidates are a user's own training items, and so no negatives: (B, C) bool."""
        column = np.full(self.data.n_items, PADDING)
        column[batch.candidates] = np.arange(len(batch.candidates))
        histories = self.data.train.take(batch.users)
        owners, columns = np.repeat(np.arange(len(batch.users)), histories.lengths), column[histories.items]
        own = torch.zeros(len(batch.users), len(batch.candidates), dtype=torch.bool)
        own[torch.from_numpy(owners[columns != PADDING]), torch.from_numpy(columns[columns != PADDING])] = True
        return own

    def _transitions(self, batch: SequenceBatch, place: Tensor) -> tuple[Tensor, Tensor]:
        """The transitions' part of the scores: of the candidates (P, C), and of the next items (P,)."""
        assert self.transitions is not None
        module = self.model.transitions
        windows, targets = torch.from_numpy(batch.windows), torch.from_numpy(batch.targets)
        rows, row = distinct_rows(self.data.n_items, batch.windows[batch.windows != PADDING])
        columns, column = distinct_rows(self.data.n_items, batch.targets[batch.targets != PADDING])
        both = np.concatenate([batch.candidates, columns.numpy()])
        block = module.block(self.transitions, rows.numpy(), both)
        local = torch.where(windows == PADDING, len(rows), row[windows.clamp_min(0)])
        ahead = column[targets.clamp_min(0)]
        reached = module.candidates(block[:, : len(batch.candidates)], local)[place]
        scale, target_scale = self._scale[windows], self._scale[targets]  # index -1 is the last: padding
        next_reached = module.targets(block[:, len(batch.candidates) :], local, ahead, scale, target_scale)[place]
        return module.prior(reached), module.prior(next_reached)
