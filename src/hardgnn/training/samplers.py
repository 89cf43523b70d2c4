"""Negatives: samplers by name (docs/extending.md), and the hardest by cosine. They know only the training part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from hardgnn.config.sections import Chosen, PartSettings, search
from hardgnn.data.dataset import VALID, Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.data.negatives import UniformNegatives
from hardgnn.errors import HardGNNError
from hardgnn.ops.nearest import nearest
from hardgnn.parts import SAMPLERS, blamed, home_of
from hardgnn.processes.group import processes
from hardgnn.processes.share import Share

BLOCKS = 2**14  # of items, which a sampler draws from in random order


@dataclass(frozen=True)
class Sampler:
    """A registered sampler. It draws `pairs` (`sample`: a negative for each user named) or `candidates` (`draw`)."""

    name: str
    Settings: type[PartSettings]
    draws: Literal["pairs", "candidates"]
    made: Callable[[Any, Dataset], Any]

    def make(self, settings: Any, data: Dataset, shared: bool = False) -> Any:
        """The sampler of a data set, whose answers are checked; `shared` where processes share out what is of items."""
        whose = f"sampler '{self.name}' ({home_of(self.made)})"
        with blamed(whose):
            found = self.made(settings, data)
            if shared and hasattr(found, "share_out"):
                found.share_out()
        return (Pairs if self.draws == "pairs" else Candidates)(found, data.n_items, whose)


@dataclass(frozen=True)
class Checked:
    """A sampler around which its answers are checked: an item that is none would be trained on as another."""

    sampler: Any
    n_items: int
    whose: str

    def items(self, found: Any, shape: tuple[int, ...]) -> None:
        """Raises HardGNNError where `found` is no array of items of this shape."""
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iu" or found.shape != shape:
            got = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else f"a {type(found).__name__}"
            raise HardGNNError(f"{self.whose}: expected an array of item numbers of shape {shape}, got {got}")
        if found.size and (found.min() < 0 or found.max() >= self.n_items):
            raise HardGNNError(f"{self.whose}: an item that it draws is none of the {self.n_items:,} items")


class Pairs(Checked):
    """Of a sampler that draws negatives one by one."""

    @property
    def avoided(self) -> Histories:
        """The histories that its negatives lie outside of."""
        found: Histories = self.sampler.avoided
        return found

    def sample(self, users: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
        """One negative for each entry of `users` (P,) -> (P,).

        Raises:
            HardGNNError: the sampler fails or answers what are no items.
        """
        with blamed(self.whose):
            found = self.sampler.sample(users, rng)
        self.items(found, users.shape)
        return found.astype(np.int64, copy=False)


class Candidates(Checked):
    """Of a sampler that draws what a whole step shares."""

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The candidates (C,), sorted, and the probability with which each was among them (C,).

        Raises:
            HardGNNError: the sampler fails, or answers something else.
        """
        with blamed(self.whose):
            found, inclusion = self.sampler.draw(rng)
            chance = np.asarray(inclusion, dtype=np.float32)
        self.items(found, found.shape[:1] if isinstance(found, np.ndarray) else ())
        if not found.size or (np.diff(found) <= 0).any():
            raise HardGNNError(f"{self.whose}: expected candidates in ascending order, each once, and one at least")
        if chance.shape != found.shape or not ((chance > 0) & (chance <= 1)).all():
            raise HardGNNError(f"{self.whose}: expected a probability above 0 and at most 1 for each candidate")
        return found.astype(np.int64, copy=False), chance


def sampler(
    name: str, draws: Literal["pairs", "candidates"], settings: type[PartSettings] = PartSettings
) -> Callable[[type], type]:
    """Registers a class, made of its settings and the data set, as the sampler of that name (docs/extending.md).

    One that draws pairs has `sample(users (P,), rng) -> (P,)`, and `avoided`, the histories that negatives lie outside
    of; one that draws candidates has `draw(rng) -> (candidates (C,) sorted, probability of each (C,))`. It learns
    from the training part alone. One with `share_out()` is told so where processes share out tables: they then draw
    all at once with like `rng`, so that each need keep a part only.

    Raises:
        HardGNNError: the name cannot be, or is taken.
    """

    def register(found: type) -> type:
        SAMPLERS.add(name, Sampler(name, settings, draws, found), found)
        return found

    return register


def sampler_settings(draws: Literal["pairs", "candidates"], default: str) -> Any:
    """The type of a field that holds the settings of a sampler that draws so."""
    return Chosen(SAMPLERS, default, suits=lambda part: part.draws == draws)


@torch.no_grad()
def hardest(query: Tensor, items: Tensor, avoided: Histories, k: int) -> tuple[Tensor, Tensor]:
    """The k items most similar (cosine) to each query among those not avoided.

    No gradient flows through the choice (specification, section 3).

    Shapes: query (B, d), items (I, d), avoided: B histories -> items (B, k) int64 and whether each is a real one
    (B, k) bool, False where fewer than k are left.
    """
    keys, query = (F.normalize(one, dim=-1, eps=1e-6) for one in (items, query))
    values, found = nearest(query, keys, avoided.offsets, avoided.items, min(k, len(items)))
    return found, torch.isfinite(values)


class FalseNegatives:
    """Counts hard negatives that are their user's validation item; it serves the log and nothing else."""

    def __init__(self, data: Dataset) -> None:
        users, targets = data.targets(VALID)
        self._valid_item = torch.full((data.n_users,), PADDING)  # (U,)
        self._valid_item[torch.from_numpy(users).long()] = torch.from_numpy(targets).long()
        self._counts = torch.zeros(2)  # false ones, all

    def reset(self) -> None:
        """Forgets what was counted."""
        self._counts.zero_()

    def count(self, users: Tensor, hard: Tensor, valid: Tensor) -> None:
        """Counts the hard negatives (B, K), where valid (B, K), of `users` (B,), on whatever device these are."""
        self._valid_item, self._counts = self._valid_item.to(hard.device), self._counts.to(hard.device)
        false = (hard == self._valid_item[users].unsqueeze(1)) & valid
        self._counts += torch.stack([false.sum(), valid.sum()])

    def share(self) -> float | None:
        """The share of false ones since `reset`, of all processes; None where nothing was counted."""
        false, drawn = np.sum(processes().gathered(self._counts.tolist()), axis=0).tolist()
        return false / drawn if drawn else None


class Distinct:
    """The distinct ids of some groups, `ids` (n,), sorted, and the place of each among them."""

    def __init__(self, *groups: NDArray[np.integer]) -> None:
        self.ids = np.unique(np.concatenate([group.ravel() for group in groups])).astype(np.int64, copy=False)

    def places(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where ids that are among them stand, any shape."""
        return np.searchsorted(self.ids, ids)

    def found(self, ids: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Which of these ids (N,) are among them, and where they stand: (M,) each."""
        place = np.minimum(self.places(ids), len(self.ids) - 1)
        among = np.flatnonzero(self.ids[place] == ids)
        return among, place[among]


def distinct_rows(size: int, *groups: NDArray[np.integer], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The distinct ids of all groups, sorted (n,), and the row of each id among them (size,), on a device."""
    present = np.zeros(size, dtype=bool)
    for group in groups:
        present[group] = True
    distinct = np.flatnonzero(present)
    row = np.zeros(size, dtype=np.int64)
    row[distinct] = np.arange(len(distinct))
    return torch.from_numpy(distinct).to(device), torch.from_numpy(row).to(device)


class UniformSettings(PartSettings):
    """Any item outside the user's history, each alike."""

    avoid: Literal["train", "all"] = "train"
    """Items that are never a user's negative: those of the training part, or of all parts. The latter LEAKS: what is
    never pushed down is the target. It is the released code's, and needs --allow-leaks."""

    def leaks(self) -> list[str]:
        """Whether negatives avoid what is to be predicted."""
        if self.avoid == "train":
            return []
        return ["negatives avoid the validation and test items (sampler.avoid=all)"]


@sampler("uniform", "pairs", UniformSettings)
class UniformSampler:
    """Negatives one by one, uniformly."""

    def __init__(self, settings: UniformSettings, data: Dataset) -> None:
        self.avoided = data.train if settings.avoid == "train" else data.everything
        self._uniform = UniformNegatives(self.avoided, data.n_items)

    def sample(self, users: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
        """One negative for each entry of `users` (P,), none of whom has interacted with every item -> (P,)."""
        return self._uniform.sample(users, rng)


class WeightedSettings(PartSettings):
    """Random items that a whole step shares."""

    candidates: int = Field(1024, ge=1)
    """How many; from as many as there are items on, all."""
    popularity: float = Field(0.5, ge=0, le=1, json_schema_extra=search(low=0.0, high=1.0))
    """They are drawn in proportion to their training count to this power; 0 draws all alike. The loss takes it back
    (log-Q correction)."""


@sampler("weighted", "candidates", WeightedSettings)
class WeightedSampler:
    """Different items, each with a known probability, the same for all users of a step."""

    def __init__(self, settings: WeightedSettings, data: Dataset) -> None:
        counts = np.maximum(data.train.item_counts(data.n_items), 1)
        self._sample = SystematicSample(inclusion_probabilities(counts**settings.popularity, settings.candidates))

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The candidates (C,), sorted, and the probability with which each was among them (C,)."""
        found, chance = self._sample.draw(rng)
        return found, chance.astype(np.float32)

    def share_out(self) -> None:
        """Keeps what this process tells of each draw."""
        self._sample.share_out()


def inclusion_probabilities(weights: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Probabilities `min(1, c · weight)` of being drawn, with c such that `size` items are: (I,).

    `weights` (I,), above 0; where there are no more items than `size`, all are certain.
    """
    if size >= len(weights):
        return np.ones(len(weights))
    falling = np.sort(weights)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # the sum of a weight and all below it
    # The k heaviest are certain, for the smallest k that leaves the next one a probability of at most 1.
    k = int(np.argmax((size - np.arange(size)) * falling[:size] <= rest[:size]))
    return np.minimum(1, (size - k) / rest[k] * weights)


class SystematicSample:
    """Draws different items, each with exactly its probability: as many as the probabilities' sum (rounded).

    Equal steps over the probabilities laid end to end, in random order (Madow 1949). Of more items than `BLOCKS` the
    order is that of so many random blocks of them, the same in all draws, so that a draw need not pass over all items;
    two of a block are then hardly ever drawn together. 20 bytes an item.
    """

    def __init__(self, probabilities: NDArray[np.float64]) -> None:
        size = len(probabilities)
        self._items = np.arange(size, dtype=np.int32)
        if size > BLOCKS:
            np.random.default_rng(0).shuffle(self._items)
        self._first = np.linspace(0, size, min(size, BLOCKS) + 1).astype(np.int64)  # of each block (n + 1,)
        self._laid = probabilities[self._items]  # (I,) in the order of the items
        self._ends = np.cumsum(self._laid)  # (I,)
        self._shares = np.add.reduceat(self._laid, self._first[:-1])  # (n,)
        self._own = Share(len(self._shares), 0, 1)  # the blocks whose items are here

    def share_out(self) -> None:
        """Keeps the items of this process's blocks alone; all processes then draw at once, in one exchange."""
        self._own = Share.own(len(self._shares))
        here = slice(self._first[self._own.mine.start], self._first[self._own.mine.stop])
        self._items, self._laid, self._ends = self._items[here].copy(), self._laid[here].copy(), self._ends[here].copy()

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """One sample, sorted, and the probability of each."""
        order = rng.permutation(len(self._shares))
        ends = np.cumsum(self._shares[order])
        start = rng.random()
        marks = np.floor(ends + start).astype(np.int64)  # so many up to the end of each block
        place = np.repeat(np.arange(len(order)), np.diff(marks, prepend=0))
        block = order[place]
        inside = np.arange(1, len(block) + 1) - start - (ends - self._shares[order])[place]
        drawn = np.zeros((len(block), 2))  # item, probability
        mine = self._own.mine
        here = (block >= mine.start) & (block < mine.stop)
        drawn[here] = self._inside(block[here], inside[here])
        if self._own.world > 1:
            processes().summed(torch.from_numpy(drawn))
        items, place = np.unique(drawn[:, 0].astype(np.int64), return_index=True)
        return items, drawn[place, 1]

    def _inside(self, block: NDArray[np.int64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
        """The item of each block (n,) so far inside, and its probability: (n, 2)."""
        first, last = (one - self._first[self._own.mine.start] for one in (self._first[block], self._first[block + 1]))
        before = self._ends[first] - self._laid[first]
        found = np.clip(np.searchsorted(self._ends, before + inside), first, last - 1)
        return np.stack([self._items[found], self._laid[found]], axis=1)
