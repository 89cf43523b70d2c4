"""The next item at every position of the window, against candidates at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hardgnn.config.sections import Chosen, PartSettings, Section
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING
from hardgnn.errors import HardGNNError
from hardgnn.models.network import Network
from hardgnn.models.transitions import between
from hardgnn.ops.apart import at_once
from hardgnn.ops.candidates import top_products
from hardgnn.parts import ENCODERS, LOSSES
from hardgnn.training.losses import CandidateScores, contrast, unit
from hardgnn.training.objectives.base import (
    ContrastedObjective,
    HardSettings,
    cuts,
    eligible_users,
    objective,
    share_of,
)
from hardgnn.training.samplers import Distinct, WeightedSettings, sampler_settings
from hardgnn.training.windows import SequenceBatch, Windows


class HardCandidatesSettings(HardSettings):
    """Hard negatives among the candidates of a step."""

    share: float = Field(0.2, gt=0, le=1)
    """Share of all items that the hardest are searched among at most: a random part of them, where the very nearest,
    often false negatives, are mostly absent. On a small catalogue the nearest of most items would be what the user
    takes next."""


class NextItemSettings(PartSettings):
    """The next item at every position of the window against all candidates at once."""

    batch_positions: int = Field(2048, ge=1)
    """Positions per step, about."""
    recent_share: float = Field(0.5, ge=0, le=1)
    """Share of windows that end with the user's last training item where the history is longer than the window; the
    others end anywhere."""
    sampler: sampler_settings("candidates", "weighted") = WeightedSettings(kind="weighted")  # type: ignore[valid-type]
    loss: Chosen(LOSSES, "softmax") = PartSettings(kind="softmax")  # type: ignore[valid-type]
    hard: HardCandidatesSettings = HardCandidatesSettings()


@dataclass
class PositionStep:
    """What the terms of a step are functions of: P positions of B users, C candidates; `share` is the batch's.

    Shapes: `sequences` (P, d), `positive` (P, d), `negative` (C, d), `own` (B, C) bool, `owner` (P,), `users` (B,),
    `candidates` (C,).
    """

    scores: CandidateScores
    sequences: Tensor
    positive: Tensor
    negative: Tensor
    own: Tensor
    owner: Tensor
    users: Tensor
    candidates: Tensor
    generator: torch.Generator | None
    share: float = 1.0


@objective("next-item")
class NextItem(ContrastedObjective):
    """The loss is of the next item among it and the candidates that are not the user's own."""

    Settings = NextItemSettings
    settings: NextItemSettings

    def __init__(self, settings: NextItemSettings, network: Network, data: Dataset) -> None:
        super().__init__(settings, network, data)
        if network.auxiliary is not None:
            raise HardGNNError(
                f"objective.kind=next-item has no place for the network's own loss '{network.auxiliary.name}'; "
                "set objective.kind=pairwise"
            )
        users = eligible_users(data, data.train)
        frame = network.scoring.frame
        self._windows = Windows(
            data.train,
            users,
            frame.window,
            settings.batch_positions,
            settings.recent_share,
            self.sampler,
            None if network.clock is None else data.by_time,
        )
        counted = network.counted
        counts = torch.zeros(0) if counted is None else counted.counts
        self._counts = torch.cat([counts, counts.new_zeros(1)]).to(network.device)  # (I + 1,) the last for padding

    @classmethod
    def refuses(cls, objective: NextItemSettings, model: Section) -> str:
        kind = model.encoder.kind  # type: ignore[attr-defined]
        if not ENCODERS.find(kind).every_position:
            able = [name for name, encoder in ENCODERS.sound() if encoder.every_position]
            return f"objective.kind=next-item needs an encoder of every position: set encoder.kind={' or '.join(able)}"
        if getattr(getattr(model, "ssl", None), "weight", 0) > 0:
            return "objective.kind=next-item has no self-augmented loss: set ssl.weight=0"
        return ""

    def __len__(self) -> int:
        return len(self._windows)

    def batches(self, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """The batches of one epoch, in random order."""
        return self._windows.epoch(rng)

    def cut(self, batch: SequenceBatch, parts: int) -> list[SequenceBatch | None]:
        filled = min(parts, len(batch.users))
        return [*map(batch.cut, cuts(len(batch.users), filled)), *[None] * (parts - filled)]

    def touched(self, batch: SequenceBatch) -> dict[str, Tensor]:
        return self.network.touched(self.here(batch.users), self.here(self._items(batch).ids))

    def walked(self, parts: Sequence[SequenceBatch | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        nothing, ends = np.empty(0, np.int64), [self._ends(part) for part in parts if part is not None]
        rows, columns = ([one[which].ids for one in ends] for which in (0, 1))
        return Distinct(nothing, *rows).ids, Distinct(nothing, *columns).ids

    def step(self, batch: SequenceBatch, generator: torch.Generator | None) -> PositionStep:
        """Queries at all positions that an item follows, and what the next item and the candidates score there."""
        network, user_term = self.network, self.network.scoring.user_term
        windows, targets = self.here(batch.windows), self.here(batch.targets)  # (B, m)
        place = windows != PADDING  # (B, m)
        cells = place.flatten().nonzero()[:, 0]  # (P,), among B · m
        owner = cells // windows.shape[1]  # (P,)
        distinct = self._items(batch)
        users = self.here(batch.users)
        vectors = network.vectors(users if user_term else users[:0], self.here(distinct.ids), generator)

        local = torch.where(place, self.here(distinct.places(batch.windows)), PADDING)
        encoded, walked, clocked, own = at_once(
            lambda: network.sequence_encoder.every(vectors.items, local, generator),  # it alone draws numbers
            lambda: None if network.transitions is None else self._transitions(batch, windows, targets, cells),
            lambda: None if network.clock is None else self._moments(batch, cells.cpu().numpy()),
            lambda: self.here(self._own(batch)),  # (B, C)
            where=network.device,
        )
        sequences = _at(encoded, cells)  # (P, d)
        queries = network.scoring.query(vectors.users[owner] if user_term else None, sequences)
        target, candidates = targets[place], self.here(batch.candidates)  # (P,), (C,)
        of_targets = self.here(distinct.places(batch.targets[batch.windows != PADDING]))
        positive = vectors.items.index_select(0, of_targets)  # (P, d)
        negative = vectors.items.index_select(0, self.here(distinct.places(batch.candidates)))  # (C, d)
        positive_score = (queries * positive).sum(-1)  # (P,)
        offsets = -self.here(batch.inclusion).log()  # each stands for as many as it was likely to be drawn
        popularity = prior = None
        if walked is not None:
            reached, next_prior = walked
            module = network.transitions
            assert module is not None
            positive_score = positive_score + next_prior + module.offsets(self._counts[target] - 1)
            popularity = module.offsets(self._counts[candidates])
            prior = reached, module.strength, module.log_epsilon.exp()
        moment = None
        if clocked is not None:
            next_moment, moment = clocked
            positive_score = positive_score + next_moment
        scores = CandidateScores(positive_score, queries, negative, offsets, own, owner, popularity, prior, moment)
        return PositionStep(
            scores, sequences, positive, negative, own, owner, users, candidates, generator, batch.share
        )

    def _items(self, batch: SequenceBatch) -> Distinct:
        """The distinct items of a batch."""
        real = batch.windows != PADDING
        return Distinct(batch.windows[real], batch.targets[batch.targets != PADDING], batch.candidates)

    def _ends(self, batch: SequenceBatch) -> tuple[Distinct, Distinct]:
        """The items from which a batch asks for edges, and those to which."""
        real = batch.windows != PADDING
        return Distinct(batch.windows[real]), Distinct(batch.targets[real], batch.candidates)

    def recommendation(self, step: PositionStep) -> Tensor:
        return share_of(self.loss(step.scores, self.settings.loss), step.share, self.settings.loss)

    def contrast(self, step: PositionStep) -> Tensor:
        """InfoNCE with the K nearest by cosine of the candidates, or of a part of them (`hard.share`)."""
        hard = self.settings.hard
        pool = self._pool(len(step.candidates), step)
        anchors = unit(step.sequences)
        near = (anchors * unit(step.positive)).sum(-1)
        own = step.own[:, pool]
        far, index = top_products(anchors, unit(step.negative[pool]), own, step.owner, hard.k)  # (P, K)
        self.false.count(step.users[step.owner], step.candidates[pool][index], torch.isfinite(far))
        return share_of(contrast(near, far, hard.temperature), step.share)

    def _pool(self, candidates: int, step: PositionStep) -> Tensor | slice:
        """Which of the candidates are searched for the hardest: all, or a random part where they are too many."""
        most = math.ceil(self.settings.hard.share * self.data.n_items)
        if most >= candidates:
            return slice(None)
        return torch.randperm(candidates, generator=step.generator, device=step.candidates.device)[:most]

    def _own(self, batch: SequenceBatch) -> np.ndarray:
        """Which candidates are a user's own training items, and so no negatives: (B, C) bool."""
        histories = self.data.train.take(batch.users)
        owners = np.repeat(np.arange(len(batch.users)), histories.lengths)
        among, columns = Distinct(batch.candidates).found(histories.items)
        own = np.zeros((len(batch.users), len(batch.candidates)), dtype=bool)
        own[owners[among], columns] = True
        return own

    def _transitions(
        self, batch: SequenceBatch, windows: Tensor, targets: Tensor, cells: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the transitions reach of the candidates, x (P, C), and their part of the next items' scores (P,)."""
        module, counted = self.network.transitions, self.network.counted
        assert module is not None
        assert counted is not None
        rows, columns = self._ends(batch)
        local = torch.where(windows == PADDING, len(rows.ids), self.here(rows.places(batch.windows)))
        next_items = torch.where(targets == PADDING, PADDING, self.here(columns.places(batch.targets)))
        edges = counted.edges.among(rows.ids, columns.ids)
        counts, target_counts = self._counts[windows], self._counts[targets]  # index -1 is the last: padding
        next_reached = module.targets(*between(edges, local, next_items), counts, target_counts)
        reached = module.reached(edges, columns.places(batch.candidates), local)
        return reached, module.prior(_at(next_reached, cells))

    def _moments(self, batch: SequenceBatch, cells: NDArray[np.int64]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What the clock adds to the next items (P,), and to the candidates at each of its readings (R, C), (P,)."""
        clock, past = self.network.clock, self.network.past
        assert clock is not None
        assert past is not None
        assert batch.asked is not None
        readings, rows = np.unique(past.readings(batch.asked.ravel()[cells]), return_inverse=True)
        kernel, row = clock.kernel(self.here(past.ages(readings))), self.here(rows)
        targets, columns = np.unique(batch.targets.ravel()[cells], return_inverse=True)
        positive = clock.at(kernel, row, self.here(past.counts[:, targets].toarray()), self.here(columns))
        return positive, (clock.table(kernel, self.here(past.counts[:, batch.candidates].toarray())), row)


def _at(table: Tensor, cells: Tensor) -> Tensor:
    """The chosen of the B · m cells of (B, m, ...): (P, ...)."""
    flat = table.flatten(0, 1)
    return flat if len(cells) == len(flat) else flat.index_select(0, cells)
