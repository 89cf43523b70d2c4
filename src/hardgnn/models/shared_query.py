"""A fitted network whose items' vectors several processes share out: it ranks, and is written, by all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.data.histories import PADDING, Everybody, Histories
from hardgnn.models.clock import ClockScores
from hardgnn.models.query import MATRIX, PARAMETERS, VECTORS, QueryModel
from hardgnn.models.shared_edges import merged
from hardgnn.models.transitions import TransitionScores
from hardgnn.ops import scores
from hardgnn.ops.scores import LeftOut, Terms
from hardgnn.processes.group import processes
from hardgnn.processes.share import Share, Stretch
from hardgnn.storage.tensors import Streamed


class SharedQuery:
    """Each process scores its stretch of the items, and what they find is added up.

    All processes call each method at once, with the same users and items. It is a
    `hardgnn.evaluation.protocols.Direct`; for lists of the best items one process reads the run.

    Args:
        model: whose item vectors (I / W, d) and transitions (I, I / W) are this process's; all else is whole.
        shares: which rows this process has, of each table of the network by its name; all are of the items.
    """

    direct = True
    in_turn = True

    def __init__(self, model: QueryModel, shares: Mapping[str, Share]) -> None:
        self.model, self.shares, self.name = model, shares, model.name
        self.share = next(iter(shares.values()))
        mine, transitions, clock = self.share.mine, model.transitions, model.clock
        if transitions is not None:
            transitions = TransitionScores(
                transitions.module, transitions.matrix, transitions.counts[mine], transitions.window
            )
        if clock is not None:
            clock = ClockScores(clock.module, replace(clock.past, counts=clock.past.counts[:, mine]))
        self._here = replace(model, transitions=transitions, clock=clock)

    def knowing(self, histories: Everybody) -> SharedQuery:
        """See `hardgnn.models.base.Model.knowing`."""
        return SharedQuery(self.model.knowing(histories), self.shares)

    @torch.no_grad()
    def _terms(self, users: NDArray[np.integer], histories: Histories) -> Terms:
        """What the scores of this process's items are made of; the windows are encoded out of rows of all."""
        rows, model, frame = np.arange(len(users)), self.model, self.model.scoring.frame
        windows = histories.windows(rows, frame.window)  # (B, m)
        real = windows != PADDING
        items, places = np.unique(windows[real], return_inverse=True)
        windows[real] = places
        device, own = model.item_vectors.device, model.item_vectors
        vectors = self.share.joined(torch.from_numpy(items).to(device), lambda where: own.index_select(0, where), own)
        sequence = model.encoder(vectors, torch.from_numpy(windows).to(device))
        of_users = model.user_vectors[torch.from_numpy(users).long().to(device)] if model.scoring.user_term else None
        return self._here.terms(model.scoring.query(of_users, sequence), histories)

    def above(
        self, users: NDArray[np.integer], histories: Histories, targets: NDArray[np.int32], without: LeftOut
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """See `hardgnn.evaluation.protocols.Direct.above`: owners tell the targets' scores, counts add up."""
        terms, mine = self._terms(users, histories), self.share.mine
        here = (targets >= mine.start) & (targets < mine.stop)
        limits = scores.of_targets(terms, np.where(here, targets - mine.start, -1).astype(np.int32))
        processes().summed(limits)
        counts, odd = scores.reaching(terms, limits, _within(without, mine))
        found = torch.from_numpy(np.stack([counts, odd]).astype(np.int32))
        processes().summed(found)
        return found[0].numpy() - 1, found[1].numpy() > 0  # the target itself is counted once

    def candidate_scores(
        self, users: NDArray[np.integer], histories: Histories, items: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The scores of `items` (B, C) for these users, (B, C), each told by its owner."""
        terms, mine = self._terms(users, histories), self.share.mine
        here = (items >= mine.start) & (items < mine.stop)
        found = scores.candidate_scores(terms, np.where(here, items - mine.start, 0).astype(np.int32))
        found[~torch.from_numpy(here).to(found.device)] = 0
        processes().summed(found)
        return found.cpu().numpy()

    def tensors(self) -> dict[str, Tensor | Streamed]:
        """As of `QueryModel`, for all processes to write: those that are shared out block by block."""
        found: dict[str, Tensor | Streamed] = dict(self.model.tensors())
        found[f"{VECTORS}items"] = Stretch(self.share, self.model.item_vectors)
        found |= {name: Stretch(share, self.model.weights[name]) for name, share in self._weights()}
        if self.model.transitions is not None:
            parts = merged(self.model.transitions.matrix, self.share)
            found |= {MATRIX + name: part for name, part in parts.items()}
        return found

    def _weights(self) -> list[tuple[str, Share]]:
        return [(PARAMETERS + name, share) for name, share in self.shares.items()]


def _within(without: LeftOut, mine: slice) -> LeftOut:
    """What is left out of these items, counted from the first of them."""
    offsets, items = without
    here = (items >= mine.start) & (items < mine.stop)
    before = np.concatenate([[0], np.cumsum(here)]).astype(np.int64)
    return before[offsets], (items[here] - mine.start).astype(np.int32)
