"""Pairs, SelfGNN's objective: one positive per user and epoch against negatives one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hardgnn.config.sections import Chosen, PartSettings, Section, search
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING
from hardgnn.models.network import Common, Network, Source, Vectors
from hardgnn.ops.pairs import pair_products
from hardgnn.parts import LOSSES
from hardgnn.processes.group import processes
from hardgnn.training.losses import HingeSettings, Scores, info_nce
from hardgnn.training.objectives.base import (
    ContrastedObjective,
    HardSettings,
    Term,
    cuts,
    eligible_users,
    objective,
    share_of,
)
from hardgnn.training.samplers import UniformSettings, distinct_rows, hardest, sampler_settings

LAST_ITEMS = 5  # that make the released code's query for hard negatives (specification, section 4)


class HardItemsSettings(HardSettings):
    """Hard negatives among all items; without them the objective is SelfGNN's."""

    rank_by: Literal["user", "positive"] = "user"
    """Hardest by cosine to the user's sequence vector, or to the positive item."""
    query: Literal["window", "recent"] = "window"
    """The user's vector of `rank_by` = user: of this step's window, or the released code's: of the last M training
    items (the positive among them) in the steps that `refresh`, the mean of the last five items' vectors in others."""
    refresh: int = Field(1, ge=1)
    """Steps between two computations of the item vectors that the negatives are searched in; each epoch starts with
    one. The released code's 50 is more than its epochs have steps, so that it searches in stale vectors."""
    used_in: Literal["infonce", "hinge", "none"] = "infonce"
    """The loss that the hardest negatives enter: InfoNCE, or (the released code) the hinge, in the place of K of each
    user's pairs, while InfoNCE has `shared_negatives`: then the contrast never sees a hard negative. With `none`
    InfoNCE has those and nothing is hard: the ablation without hard negatives."""
    shared_negatives: int = Field(50, ge=1)
    """Negatives of the whole batch, drawn at random and shared by all its users (`used_in` = hinge or none)."""

    @property
    def mined(self) -> bool:
        """Whether hard negatives are searched."""
        return self.active and self.used_in != "none"


class PairwiseSettings(PartSettings):
    """One positive per user and epoch against negatives one by one."""

    batch_users: int = Field(512, ge=1)
    """Users per step."""
    users_per_epoch: int = Field(10_000, ge=1)
    """Users drawn per epoch at most."""
    pairs_per_user: int = Field(40, ge=1)
    """(positive, negative) pairs per user and epoch; fewer for users with fewer training items."""
    pred_num: int = Field(5, ge=0, json_schema_extra=search(low=0, high=20))
    """The positive is one of the last pred_num + 1 training items, never one of the first three."""
    sampler: sampler_settings("pairs", "uniform") = UniformSettings(kind="uniform")  # type: ignore[valid-type]
    loss: Chosen(LOSSES, "hinge") = HingeSettings(kind="hinge")  # type: ignore[valid-type]
    hard: HardItemsSettings = HardItemsSettings()


@dataclass(frozen=True)
class Batch:
    """One step's users.

    Shapes: `users`, `positives` (B,), `windows` (B, m); `rows`, `negatives` (P,): pair p is
    (positives[rows[p]], negatives[p]); `drawn` is for the network's own term. The `hard` negatives (B, K), where they
    have been searched, are real where `valid` (B, K). A part of a step (`Pairwise.cut`) has its share of the step's
    users and pairs.
    """

    users: NDArray[np.int64]
    windows: NDArray[np.int64]
    positives: NDArray[np.int64]
    rows: NDArray[np.int64]
    negatives: NDArray[np.int64]
    drawn: Any = None
    users_share: float = 1.0
    pairs_share: float = 1.0
    hard: Tensor | None = None
    valid: Tensor | None = None
    part: bool = False

    def cut(self, rows: slice, drawn: Any) -> Batch:
        """The part of these users."""
        pairs = slice(*np.searchsorted(self.rows, [rows.start, rows.stop]))
        return Batch(
            users=self.users[rows],
            windows=self.windows[rows],
            positives=self.positives[rows],
            rows=self.rows[pairs] - rows.start,
            negatives=self.negatives[pairs],
            drawn=drawn,
            users_share=(rows.stop - rows.start) / len(self.users),
            pairs_share=(pairs.stop - pairs.start) / len(self.rows),
            part=True,
        )


@dataclass
class PairStep:
    """What the terms of a step are functions of.

    Shapes: `sequence`, `query`, `positives` (B, d); `rows` and `negatives` (P,), pair p being of these rows of `query`
    and of the items' vectors; `near` (B, K, d), the hard negatives' vectors, of which `valid` (B, K) are real, or None.
    """

    batch: Batch
    vectors: Vectors
    user_row: Tensor
    item_row: Tensor
    sequence: Tensor
    query: Tensor
    positives: Tensor
    negatives: Tensor
    rows: Tensor
    near: Tensor | None
    valid: Tensor | None
    generator: torch.Generator | None


@objective("pairwise")
class Pairwise(ContrastedObjective):
    """Draws users, and compares each one's positive with negatives; hard negatives come in by a term of their own."""

    Settings = PairwiseSettings
    settings: PairwiseSettings

    def __init__(self, settings: PairwiseSettings, network: Network, data: Dataset) -> None:
        super().__init__(settings, network, data)
        self.train = data.train
        self._eligible = eligible_users(data, self.sampler.avoided)
        self._mined: Tensor | None = None  # (I, d) item vectors in which hard negatives are searched
        self._age = 0
        self._now: Source = network  # with the weights of this step
        if network.auxiliary is not None:
            own = Term(network.auxiliary.name, network.auxiliary.weight, self._auxiliary)
            self.terms.insert(1, own)  # the losses are added up in this order

    @classmethod
    def refuses(cls, objective: PairwiseSettings, model: Section) -> str:
        if getattr(getattr(model, "transitions", None), "use", False):
            return "transitions.use=true needs objective.kind=next-item: pairs cannot leave a step's own count out"
        if getattr(getattr(model, "clock", None), "use", False):
            return "clock.use=true needs objective.kind=next-item: pairs have no moment of asking"
        return ""

    def __len__(self) -> int:
        users = min(len(self._eligible), self.settings.users_per_epoch)
        return -(-users // self.settings.batch_users)

    def new_epoch(self) -> None:
        """See `Objective.new_epoch`."""
        super().new_epoch()
        self._mined, self._now = None, self.network

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of one epoch, in random order, each user at most once."""
        users = rng.permutation(self._eligible)[: self.settings.users_per_epoch]
        for start in range(0, len(users), self.settings.batch_users):
            yield self.batch(users[start : start + self.settings.batch_users], rng)

    def batch(self, users: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """A batch of the given users.

        The positive is one of the last pred_num + 1 training items, never one of the first three unless the user
        has no more; the window is what came before it (specification, section 2).
        """
        lengths = self.train.lengths[users]
        choices = np.clip(lengths - 3, 1, self.settings.pred_num + 1)
        back = rng.integers(1, choices + 1)  # (B,) 1 is the last training item
        positives = self.train.items[self.train.offsets[users + 1] - back].astype(np.int64)
        rows = np.repeat(np.arange(len(users)), np.minimum(self.settings.pairs_per_user, lengths))
        windows = self.train.windows(users, self.network.scoring.frame.window, drop_last=back)
        negatives = self.sampler.sample(users[rows], rng)
        own = self.network.auxiliary
        return Batch(users, windows, positives, rows, negatives, None if own is None else own.draw(users, rng))

    def cut(self, batch: Batch, parts: int) -> list[Batch | None]:
        slices = cuts(len(batch.users), min(parts, len(batch.users)))
        own = self.network.auxiliary
        drawn = [None] * len(slices) if own is None else own.cut(batch.drawn, len(slices))
        found = [batch.cut(rows, of_part) for rows, of_part in zip(slices, drawn)]
        return [*found, *[None] * (parts - len(slices))]

    def common(
        self, parts: list[Batch | None], mine: range, generator: torch.Generator
    ) -> tuple[list[Batch | None], Common | None]:
        """See `TermedObjective.common`. Each process searches for its own parts, and is told what others have found."""
        network, device = self.network, self.network.device
        self._begin()
        met = [self._met(part) for part in parts if part]  # before the search, which changes one's own parts alone
        parts = [self._searched(part) if part and number in mine else part for number, part in enumerate(parts)]
        users = [rows for of_part, _ in met for rows in of_part]
        items = [rows for _, of_part in met for rows in of_part]
        if self.hard.mined:
            found = [part.hard.cpu().numpy().ravel() for part in parts if part and part.hard is not None]
            items += [rows for of_process in processes().gathered(found) for rows in of_process]
        common = network.common(
            distinct_rows(network.n_users, *users, device=device)[0],
            distinct_rows(network.n_items, *items, device=device)[0],
            generator,
            self._now,
        )
        if common is not None:
            self._now = common
        return parts, common

    def touched(self, batch: Batch) -> dict[str, Tensor]:
        """See `TermedObjective.touched`; what hard negatives a step has is known only after the search."""
        if self.hard.mined:
            return {}
        users, items = self._met(batch)
        of_users, _ = distinct_rows(self.network.n_users, *users, device=self.network.device)
        of_items, _ = distinct_rows(self.network.n_items, *items, device=self.network.device)
        return self.network.touched(of_users, of_items)

    def _met(self, batch: Batch) -> tuple[list[NDArray[np.integer]], list[NDArray[np.integer]]]:
        """The users and the items that the terms of a batch are of, the hard negatives among these once searched."""
        own = self.network.auxiliary
        more_users, more_items = ([], []) if own is None else own.rows(batch.drawn)
        items = [batch.windows[batch.windows != PADDING], batch.positives, batch.negatives, *more_items]
        if batch.hard is not None and self.settings.hard.used_in == "infonce":
            items.append(batch.hard.cpu().numpy().ravel())
        return [batch.users, *more_users], items

    def step(self, batch: Batch, generator: torch.Generator | None) -> PairStep:
        """Only the users and items that a term needs pass the top graph layer and the interval level; it is exact."""
        network = self.network
        if not batch.part:
            self._begin()
            batch = self._searched(batch)
        assert (batch.hard is not None) == self.hard.mined, "a part is searched for in `common`"
        if batch.hard is not None and batch.valid is not None:
            self.false.count(self.here(batch.users), batch.hard, batch.valid)
        asked_users, asked_items = self._met(batch)
        users, user_row = distinct_rows(network.n_users, *asked_users, device=network.device)
        items, item_row = distinct_rows(network.n_items, *asked_items, device=network.device)
        vectors = self._now.vectors(users, items, generator)
        if not batch.part:
            self._now = network  # frees what only parts of a step would share

        windows = self.here(batch.windows)  # (B, m)
        local = torch.where(windows == PADDING, PADDING, item_row[windows.clamp_min(0)])
        sequence = network.sequence(vectors.items, local)  # (B, d)
        asked = user_row[self.here(batch.users)]
        of_users = vectors.users.index_select(0, asked) if network.scoring.user_term else None
        query = network.scoring.query(of_users, sequence)
        positives = vectors.items.index_select(0, item_row[self.here(batch.positives)])
        near = None  # after the others: gradients add up in the order of what they are of, last first
        hard = batch.hard if self.settings.hard.used_in == "infonce" else None
        if hard is not None:
            flat = vectors.items.index_select(0, item_row[hard].flatten())
            near = flat.view(*hard.shape, -1)  # (B, K, d)
        return PairStep(
            batch=batch,
            vectors=vectors,
            user_row=user_row,
            item_row=item_row,
            sequence=sequence,
            query=query,
            positives=positives,
            negatives=item_row[self.here(batch.negatives)],
            rows=self.here(batch.rows),
            near=near,
            valid=batch.valid,
            generator=generator,
        )

    def recommendation(self, step: PairStep) -> Tensor:
        negative = pair_products(step.query, step.vectors.items, step.rows, step.negatives)
        positive = (step.query * step.positives).sum(-1).index_select(0, step.rows)
        found = self.loss(Scores(positive, negative.unsqueeze(1)), self.settings.loss)
        return share_of(found, step.batch.pairs_share, self.settings.loss)

    def _auxiliary(self, step: PairStep) -> Tensor:
        own = self.network.auxiliary
        assert own is not None
        return own.loss(self.network, step.batch.drawn, step.vectors, step.user_row, step.item_row)

    def contrast(self, step: PairStep) -> Tensor:
        hard = self.settings.hard
        if step.near is not None:
            found = info_nce(step.sequence, step.positives, step.near, hard.temperature, step.valid)
            return share_of(found, step.batch.users_share)
        drawn = torch.randperm(len(step.negatives), generator=step.generator, device=step.negatives.device)
        shared = step.vectors.items.index_select(0, step.negatives[drawn[: hard.shared_negatives]]).unsqueeze(0)
        pairs = torch.bincount(step.rows, minlength=len(step.query))
        found = info_nce(step.sequence, step.positives, shared, hard.temperature, counts=pairs)
        return share_of(found, step.batch.pairs_share)

    @torch.no_grad()
    def _begin(self) -> None:
        """At a step: the item vectors that its hard negatives are searched in, those of an earlier one or new ones."""
        self._now = self.network  # before there is another: what it shares is large
        if not self.hard.mined:
            return
        if self._mined is None or self._age >= self.settings.hard.refresh:
            nobody = torch.empty(0, dtype=torch.int64, device=self.network.device)
            with self.network.at_rest():
                self._now = self.network.now()
                self._mined, self._age = self._now.vectors(nobody).items, 0
        self._age += 1

    @torch.no_grad()
    def _searched(self, batch: Batch) -> Batch:
        """The batch with the K hardest items of each user, where it is to have them; no gradient, no dropout."""
        if not self.hard.mined:
            return batch
        with self.network.at_rest():
            found, valid = self._mine(batch, self.here(batch.windows))
        negatives = batch.negatives
        if self.settings.hard.used_in == "hinge":
            negatives = in_place_of_first(batch, found.cpu().numpy(), valid.cpu().numpy())
        return replace(batch, negatives=negatives, hard=found, valid=valid)

    def _mine(self, batch: Batch, windows: Tensor) -> tuple[Tensor, Tensor]:
        hard, window = self.settings.hard, self.network.scoring.frame.window
        assert self._mined is not None
        if hard.rank_by == "positive":
            query = self._mined[self.here(batch.positives)]
        elif hard.query == "window":
            query = self.network.sequence(self._mined, windows)
        elif self._age == 1:
            query = self.network.sequence(self._mined, self.here(self.train.windows(batch.users, window)))
        else:
            query = mean_of_last(self._mined, self.here(self.train.windows(batch.users, LAST_ITEMS)))
        return hardest(query, self._mined, self.sampler.avoided.take(batch.users), hard.k)


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


def mean_of_last(items: Tensor, window: Tensor) -> Tensor:
    """The mean vector (B, d) of the item vectors (I, d) in windows (B, m) padded on the left."""
    real = (window != PADDING).unsqueeze(-1).to(items.dtype)
    return (items[window.clamp_min(0)] * real).sum(1) / real.sum(1).clamp_min(1)
