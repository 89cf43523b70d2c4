"""What a training says of itself, as `result.json` keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardgnn.metrics import in_order


@dataclass(frozen=True)
class TrainingResult:
    """A training that is at its end: the epoch that `metrics` chose on `split` under `protocol`, and what it took.

    `training_seconds` are without validation; `chosen` are the settings that a fit in one go chose itself.
    """

    dataset: str
    best_epoch: int
    epochs: int
    chosen_by: str
    split: str
    protocol: str
    metrics: Mapping[str, float]
    leaks: tuple[str, ...]
    parameters: int
    training_seconds: float
    seconds_per_epoch: float
    peak_memory_mb: float
    seed: int
    chosen: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `result.json` has it, the metrics under the split and the protocol."""
        return {
            "dataset": self.dataset,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "chosen_by": self.chosen_by,
            self.split: {self.protocol: dict(self.metrics)},
            "leaks": list(self.leaks),
            "parameters": self.parameters,
            "training_seconds": self.training_seconds,
            "seconds_per_epoch": self.seconds_per_epoch,
            "peak_memory_mb": self.peak_memory_mb,
            "seed": self.seed,
            "finished": True,
            **({} if self.chosen is None else {"chosen": dict(self.chosen)}),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TrainingResult:
        """Back from `result.json`, with what was evaluated on the same split since."""
        how, protocol = str(document["chosen_by"]).rsplit(", ", 1)
        split = how.rsplit(" ", 1)[-1]
        return cls(
            dataset=document["dataset"],
            best_epoch=document["best_epoch"],
            epochs=document["epochs"],
            chosen_by=document["chosen_by"],
            split=split,
            protocol=protocol,
            metrics=in_order(document[split][protocol]),
            leaks=tuple(document.get("leaks", ())),
            parameters=document["parameters"],
            training_seconds=document["training_seconds"],
            seconds_per_epoch=document["seconds_per_epoch"],
            peak_memory_mb=document["peak_memory_mb"],
            seed=document["seed"],
            chosen=document.get("chosen"),
        )
