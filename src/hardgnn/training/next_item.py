"""The step of `train.objective = "positions"`: the next item at every position, against candidates at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hardgnn.config import Config
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING
from hardgnn.models.encoders.causal import CausalEncoder
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.models.transitions import TransitionGraph, between
from hardgnn.ops.candidates import sampled_softmax, top_products
from hardgnn.ops.graph import InteractionGraph
from hardgnn.training import losses
from hardgnn.training.next_item_batches import SequenceBatch
from hardgnn.training.samplers import FalseNegatives, distinct_rows


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
        counts = torch.zeros(0) if self.transitions is None else self.transitions.counts
        self._counts = torch.cat([counts, torch.zeros(1)])  # (I + 1,) the last for padding

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
        cells = place.flatten().nonzero()[:, 0]  # (P,), among B · m
        owner = cells // windows.shape[1]  # (P,)
        groups = [batch.windows[batch.windows != PADDING], batch.targets[batch.targets != PADDING], batch.candidates]
        items, item_row = distinct_rows(model.n_items, *groups)
        users = torch.from_numpy(batch.users)
        asked = users if config.model.user_term else users[:0]
        short = model.short_term(self.graph, generator, asked, items)
        item_vectors = model.items(short, generator)  # (n_i, d)

        local = torch.where(place, item_row[windows.clamp_min(0)], PADDING)
        assert isinstance(model.sequence_encoder, CausalEncoder)
        queries = _at(model.sequence_encoder.every(item_vectors, local, generator), cells)  # (P, d)
        sequences = queries
        of_users = model.users(short, generator)[owner] if config.model.user_term else None
        queries = model.query_vector(config.model, of_users, queries)
        target = targets[place]  # (P,)
        candidates = torch.from_numpy(batch.candidates)  # (C,)
        positive = item_vectors.index_select(0, item_row[target])  # (P, d)
        negative = item_vectors.index_select(0, item_row[candidates])  # (C, d)
        positive_score = (queries * positive).sum(-1)  # (P,)
        offsets = -torch.from_numpy(batch.inclusion).log()  # each stands for as many as it was likely to be drawn
        prior = None
        if self.transitions is not None:
            reached, next_prior = self._transitions(batch, cells)
            positive_score = positive_score + next_prior + model.transitions.offsets(self._counts[target] - 1)
            offsets = offsets + model.transitions.offsets(self._counts[candidates])
            prior = reached, model.transitions.strength, model.transitions.log_epsilon.exp()
        own = self._own(batch)  # (B, C)
        terms = {"rec": sampled_softmax(queries, negative, offsets, positive_score, own, owner, prior)}

        if config.hard.active:
            pool = self._pool(len(candidates), generator)
            unit = losses.unit(sequences)
            near = (unit * losses.unit(positive)).sum(-1)
            hard, index = top_products(unit, losses.unit(negative[pool]), own[:, pool], owner, config.hard.k)
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

    def _transitions(self, batch: SequenceBatch, cells: Tensor) -> tuple[Tensor, Tensor]:
        """What the transitions reach of the candidates, x (P, C), and their part of the next items' scores (P,)."""
        assert self.transitions is not None
        module = self.model.transitions
        windows, targets = torch.from_numpy(batch.windows), torch.from_numpy(batch.targets)
        rows, row = distinct_rows(self.data.n_items, batch.windows[batch.windows != PADDING])
        local = torch.where(windows == PADDING, len(rows), row[windows.clamp_min(0)])
        edges = self.transitions.edges[rows.numpy()]
        counts, target_counts = self._counts[windows], self._counts[targets]  # index -1 is the last: padding
        next_reached = module.targets(*between(edges, local, batch.targets), counts, target_counts)
        reached = module.candidates(module.block(edges, batch.candidates), local)
        return _at(reached, cells), module.prior(_at(next_reached, cells))


def _at(table: Tensor, cells: Tensor) -> Tensor:
    """The chosen of the B · m cells of (B, m, ...): (P, ...)."""
    flat = table.flatten(0, 1)
    return flat if len(cells) == len(flat) else flat.index_select(0, cells)
