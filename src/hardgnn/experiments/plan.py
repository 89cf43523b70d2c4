"""What a command asks of many runs: data sets × variants × seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.storage.documents import Document, called


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

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Variant:
        """Back from study.json."""
        chosen = {data: tuple(words) for data, words in document["chosen"].items()}
        return cls(**document | {"settings": tuple(document["settings"]), "chosen": chosen})


@dataclass(frozen=True)
class Plan(Document):
    """What one command asks for: every variant on every data set with every seed.

    `kind` says which question it answers. `test` is False where the runs only serve a choice: their test part is
    never read. `with_baselines` asks for the baselines that need no gradient, too. `more` holds what belongs to the
    kind, such as a sweep's grid.
    """

    kind: str
    data: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    test: bool = True
    allow_leaks: bool = False
    with_baselines: bool = field(default=False, metadata=called("floors"))
    command: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Plan:
        """Back from study.json."""
        variants = tuple(Variant.from_dict(one) for one in document["variants"])
        fields = {name: value for name, value in document.items() if name != "floors"}
        fields |= {name: tuple(document[name]) for name in ("data", "seeds")}
        return cls(**fields | {"variants": variants, "with_baselines": document["floors"]})

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
