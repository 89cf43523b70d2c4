"""What the folders of peers hold: the choice of a setting, and the result of each fit."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from hardgnn.errors import reading
from hardgnn.evaluation.results import Metrics
from hardgnn.experiments.peers.light import Setting
from hardgnn.runs.folder import FORMAT_VERSION, RESULT
from hardgnn.storage.documents import OPTIONAL, Document
from hardgnn.storage.records import read_json

CHOSEN = "chosen.json"


@dataclass(frozen=True)
class PeerPoint(Document):
    """A setting that was tried, with its NDCG@10 on validation; None where its trial was pruned before any."""

    number: int
    state: str
    setting: Setting
    valid: float | None


@dataclass(frozen=True, kw_only=True)
class Chosen(Document):
    """What chosen.json holds: the best setting and its NDCG@10 on validation, of all `points` that were tried.

    `tuning` is what the choice depends on (`Tuning.record`), `seconds` the time of all trials.
    """

    format_version: int = FORMAT_VERSION
    setting: Setting
    valid: float
    tuning: dict[str, int | float | None]
    seconds: float
    points: tuple[PeerPoint, ...]

    @classmethod
    def read(cls, folder: Path) -> Chosen:
        """The choice that a peer's folder keeps.

        Raises:
            HardGNNError: it is missing or damaged.
        """
        document = read_json(folder / CHOSEN)
        with reading(folder / CHOSEN, "remove the folder, and the peer is tuned again"):
            names = [one.name for one in fields(PeerPoint)]
            points = tuple(PeerPoint(**{name: point[name] for name in names}) for point in document["points"])
            found = {one.name: document[one.name] for one in fields(cls)}
            return cls(**found | {"points": points})


@dataclass(frozen=True, kw_only=True)
class PeerResult(Document):
    """What result.json holds of a peer's fit with one seed; `test` once that split is ranked."""

    format_version: int = FORMAT_VERSION
    dataset: str
    peer: str
    setting: Setting
    seed: int
    valid: dict[str, Metrics]
    leaks: tuple[str, ...]
    parameters: int
    training_seconds: float
    finished: bool = True
    best_epoch: int | None = field(default=None, metadata=OPTIONAL)
    epochs: int | None = field(default=None, metadata=OPTIONAL)
    stopped: str | None = field(default=None, metadata=OPTIONAL)
    test: dict[str, Metrics] | None = field(default=None, metadata=OPTIONAL)

    @classmethod
    def read(cls, folder: Path) -> PeerResult:
        """The result that a fit's folder keeps.

        Raises:
            HardGNNError: it is missing or damaged.
        """
        document = read_json(folder / RESULT)
        with reading(folder / RESULT, "remove the folder, and the peer is fitted again"):
            found = {one.name: document[one.name] for one in fields(cls) if one.name in document}
            return cls(**found | {"leaks": tuple(found["leaks"])})
