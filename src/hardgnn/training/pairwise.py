"""The step of `train.objective = "pairs"`, SelfGNN's: one positive per user against negatives one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.config import Config
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.ops.graph import InteractionGraph
from hardgnn.training import losses
from hardgnn.training.pairwise_batches import Batch
from hardgnn.training.samplers import FalseNegatives, distinct_rows, hardest

LAST_ITEMS = 5  # that make the released code's query for hard negatives (specification, section 4)


@dataclass
class PairsStep:
    """What every step of a run shares: model, graph, training histories, settings."""

    model: SelfGNN
    graph: InteractionGraph
    data: Dataset
    config: Config

    @property
    def avoided(self) -> Histories:
        """What is never a user's negative."""
        return self.data.train if self.config.train.negatives_avoid == "train" else self.data.everything

    def __post_init__(self) -> None:
        self._mined: Tensor | None = None  # (I, d) item vectors in which hard negatives are searched
        self._age = 0
        self._false = FalseNegatives(self.data)

    def new_epoch(self) -> None:
        """Forgets what earlier epochs cached, so that a resumed run goes on as an unbroken one."""
        self._mined = None
        self._false.reset()

    def false_negatives(self) -> float | None:
        """The share of this epoch's hard negatives that are their user's validation item; None where there are none."""
        return self._false.share()

    def losses(self, batch: Batch, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The loss terms of one batch, without their coefficients; `generator` drives dropout.

        Only the users and items that a term needs pass the top graph layer and the interval level, which is exact.
        """
        model, config = self.model, self.config
        windows = torch.from_numpy(batch.windows)  # (B, m)
        mined = config.hard.active and config.hard.used_in != "none"
        hard, valid = self._hard_negatives(batch, windows) if mined else (None, None)
        if hard is not None and valid is not None:
            self._false.count(torch.from_numpy(batch.users), hard, valid)
        if hard is not None and valid is not None and config.hard.used_in == "hinge":
            batch = replace(batch, negatives=in_place_of_first(batch, hard.numpy(), valid.numpy()))
            hard = None

        edge_users = [users for users, _ in batch.edges]
        edge_items = [items for _, items in batch.edges]
        users, user_row = distinct_rows(model.n_users, batch.users, *edge_users)
        item_groups = [batch.windows[batch.windows != PADDING], batch.positives, batch.negatives, *edge_items]
        if hard is not None:
            item_groups.append(hard.numpy().ravel())
        items, item_row = distinct_rows(model.n_items, *item_groups)
        short = model.short_term(self.graph, generator, users, items)
        user_vectors = model.users(short, generator)  # (n_u, d)
        item_vectors = model.items(short, generator)  # (n_i, d)

        local = torch.where(windows == PADDING, PADDING, item_row[windows.clamp_min(0)])
        sequence = model.sequence(item_vectors, local)  # (B, d)
        asked = user_row[torch.from_numpy(batch.users)]
        own = user_vectors.index_select(0, asked) if config.model.user_term else None
        query = model.query_vector(config.model, own, sequence)
        positives = item_vectors.index_select(0, item_row[torch.from_numpy(batch.positives)])  # (B, d)
        rows = torch.from_numpy(batch.rows)  # (P,)
        negatives = item_vectors.index_select(0, item_row[torch.from_numpy(batch.negatives)])  # (P, d)
        negative_scores = (query.index_select(0, rows) * negatives).sum(-1)
        positive_scores = (query * positives).sum(-1).index_select(0, rows)
        terms = {"rec": losses.hinge(positive_scores, negative_scores, config.train.hinge)}

        if batch.edges:
            slope = config.model.leaky_slope
            terms["ssl"] = torch.zeros(())
            # Unbound once: each `short.items[interval]` would fill a whole gradient of its own with zeros.
            for edges, users_then, items_then in zip(
                batch.edges, short.users.unbind(), short.items.unbind(), strict=True
            ):
                if len(edges[0]) == 0:
                    continue
                u, v = user_row[torch.from_numpy(edges[0])], item_row[torch.from_numpy(edges[1])]
                short_u, short_v = users_then.index_select(0, u), items_then.index_select(0, v)
                long_u = user_vectors.index_select(0, u)
                with torch.no_grad():
                    long_v = item_vectors.index_select(0, v)
                    long_score = losses.edge_score(long_u, long_v, slope)
                weight = model.user_weight(long_u, short_u)
                short_score = losses.edge_score(short_u, short_v, slope)
                terms["ssl"] = terms["ssl"] + losses.self_augmented(weight, long_score, short_score)

        if hard is not None and valid is not None:
            near = item_vectors.index_select(0, item_row[hard].flatten()).view(*hard.shape, -1)  # (B, K, d)
            terms["infonce"] = losses.info_nce(sequence, positives, near, config.hard.temperature, valid)
        elif config.hard.active:
            drawn = torch.randperm(len(negatives), generator=generator)[: config.hard.shared_negatives]
            shared, pairs = negatives[drawn].unsqueeze(0), torch.bincount(rows, minlength=len(query))
            terms["infonce"] = losses.info_nce(sequence, positives, shared, config.hard.temperature, counts=pairs)
        return terms

    @torch.no_grad()
    def _hard_negatives(self, batch: Batch, windows: Tensor) -> tuple[Tensor, Tensor]:
        """The K hardest items of each user (B, K) and which of them are real; no gradient, no dropout."""
        config = self.config.hard
        if self._mined is None or self._age >= config.refresh:
            self._mined, self._age = self.model.all_items(self.graph), 0
        self._age += 1
        if config.rank_by == "positive":
            query = self._mined[torch.from_numpy(batch.positives)]
        elif config.query == "window":
            query = self.model.sequence(self._mined, windows)
        elif self._age == 1:
            recent = self.data.train.windows(batch.users, self.config.model.window)
            query = self.model.sequence(self._mined, torch.from_numpy(recent))
        else:
            query = mean_of_last(self._mined, self.data.train.windows(batch.users, LAST_ITEMS))
        return hardest(query, self._mined, self.avoided.take(batch.users), config.k)


def in_place_of_first(batch: Batch, hard: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The negatives (P,) of a batch with each user's first K replaced by the hardest ones (B, K), where valid (B, K).

    Source: the released code, specification, section 4, "K of its 40 pairs".
    """
    starts = np.searchsorted(batch.rows, np.arange(len(batch.users)))
    place = np.arange(len(batch.rows)) - starts[batch.rows]
    first = np.flatnonzero(place < hard.shape[1])
    first = first[valid[batch.rows[first], place[first]]]
    negatives = batch.negatives.copy()
    negatives[first] = hard[batch.rows[first], place[first]]
    return negatives


def mean_of_last(items: Tensor, windows: NDArray[np.int64]) -> Tensor:
    """The mean vector (B, d) of the item vectors (I, d) in windows (B, m) padded on the left."""
    window = torch.from_numpy(windows)
    real = (window != PADDING).unsqueeze(-1).to(items.dtype)
    return (items[window.clamp_min(0)] * real).sum(1) / real.sum(1).clamp_min(1)
