"""What a command asks of many runs: data sets × variants × seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hardgnn import config as settings
from hardgnn.config import Config, TrainSettings
from hardgnn.evaluation.stats import OverSeeds
from hardgnn.storage.documents import OPTIONAL, Document, called


@dataclass(frozen=True)
class Variant(Document):
    """A named difference of config, compared with the variant `reference` where it has one."""

    name: str
    preset: str
    settings: tuple[str, ...] = ()
    noise: float = 0.0
    reference: str = ""
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further settings on a data set, as a search chose them there."""

    def config(self, seed: int, data: str = "") -> Config:
        """The config of its run with this seed on this data set.

        Raises:
            HardGNNError: an unknown preset or setting.
        """
        return settings.resolve(self.preset, settings=(*self.settings, *self.chosen.get(data, ())), seed=seed)

    @property
    def validation(self) -> TrainSettings:
        """How its epochs are evaluated on validation; the usual way, where it is fitted in one go."""
        return self.config(0).train or TrainSettings()

    @property
    def protocol(self) -> str:
        """What its choices are judged under."""
        return self.config(0).run.protocol

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Variant:
        """Back from study.json."""
        chosen = {data: tuple(words) for data, words in document["chosen"].items()}
        return cls(**document | {"settings": tuple(document["settings"]), "chosen": chosen})


@dataclass(frozen=True)
class Point(Document):
    """Settings that were tried, and their validation figures over seeds.

    A search's points also have the number, state and variant of their trial; of one that was pruned there are no
    figures.
    """

    number: int | None = field(default=None, metadata=OPTIONAL)
    state: str | None = field(default=None, metadata=OPTIONAL)
    variant: str | None = field(default=None, metadata=OPTIONAL)
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = field(default=None, metadata=OPTIONAL)
    valid: dict[str, OverSeeds] | None = field(default=None, metadata=OPTIONAL)

    @property
    def figures(self) -> dict[str, OverSeeds]:
        """The validation figures, none where it was pruned."""
        return self.valid or {}

    @property
    def values(self) -> dict[str, str]:
        """What it sets, by key."""
        return dict(word.split("=", 1) for word in self.settings)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Point:
        """Back from study.json."""
        found = dict(document)
        for name in ("settings", "seeds"):
            if name in found:
                found[name] = tuple(found[name])
        if "valid" in found:
            found["valid"] = {metric: OverSeeds.from_dict(one) for metric, one in found["valid"].items()}
        return cls(**found)


@dataclass(frozen=True)
class Grid(Document):
    """What a sweep over a grid tries: values by key, over a preset."""

    grid: dict[str, list[str]]
    preset: str


@dataclass(frozen=True)
class Trials(Document):
    """What a search tries: ranges by key over a preset with `shared` settings, and the trials that ended, by data set.

    `storage` is where Optuna keeps them.
    """

    preset: str
    space: dict[str, dict[str, Any]]
    storage: str
    shared: tuple[str, ...]
    trials: dict[str, tuple[Point, ...]]

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Trials:
        """Back from study.json."""
        trials = {data: tuple(map(Point.from_dict, points)) for data, points in document["trials"].items()}
        return cls(**document | {"shared": tuple(document["shared"]), "trials": trials})


@dataclass(frozen=True)
class Beside(Document):
    """Others' models by name, and run folders of ours that they stand beside."""

    peers: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan(Document):
    """What one command asks for: every variant on every data set with every seed.

    `kind` says which question it answers. `test` is False where the runs only serve a choice: their test part is
    never read. `with_baselines` asks for the baselines that need no gradient, too. `more` is what belongs to the
    kind: what a sweep tries, or which peers.
    """

    kind: str
    data: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    test: bool = True
    allow_leaks: bool = False
    with_baselines: bool = field(default=False, metadata=called("floors"))
    command: str = ""
    more: Grid | Trials | Beside | None = None

    def to_dict(self) -> dict[str, Any]:
        """As study.json keeps it."""
        return super().to_dict() | {"more": {} if self.more is None else self.more.to_dict()}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Plan:
        """Back from study.json."""
        variants = tuple(Variant.from_dict(one) for one in document["variants"])
        fields = {name: value for name, value in document.items() if name != "floors"}
        fields |= {name: tuple(document[name]) for name in ("data", "seeds")}
        more = _more(document["more"])
        return cls(**fields | {"variants": variants, "with_baselines": document["floors"], "more": more})

    def runs(self) -> list[Run]:
        """All runs, seed by seed, so that a study stopped early has something of everything."""
        return [Run(data, variant, seed) for seed in self.seeds for data in self.data for variant in self.variants]


@dataclass(frozen=True)
class Run:
    """One model of a plan."""

    data: str
    variant: Variant
    seed: int

    @property
    def config(self) -> Config:
        """Its settings."""
        return self.variant.config(self.seed, self.data)

    @property
    def name(self) -> str:
        """Data set, variant and seed; also its place in the study's folder of runs."""
        return f"{self.data}/{self.variant.name}-{self.seed}"


def _more(document: dict[str, Any]) -> Grid | Trials | Beside | None:
    """Back from study.json."""
    if "trials" in document:
        return Trials.from_dict(document)
    if "grid" in document:
        return Grid(**document)
    return Beside(tuple(document["peers"]), tuple(document["runs"])) if "peers" in document else None
