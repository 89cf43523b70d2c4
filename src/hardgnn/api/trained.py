"""A trained model with all that its run folder holds: in memory, or read from there; it pickles whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hardgnn.config import Config, build, known_preset
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.models.base import Model
from hardgnn.runs.fitting import Fitted
from hardgnn.runs.folder import FORMAT_VERSION, check_version, load_config, load_tables, read_metrics, read_result
from hardgnn.runs.models import load_model, model_of, own_tensors
from hardgnn.runs.results import TrainingResult
from hardgnn.runs.tables import RunTables, tables_of
from hardgnn.runs.train import write_run
from hardgnn.storage.texts import parsed_toml

PLAIN = ("preset", "tables", "manifest", "result", "lines", "warm_start", "data_path")
"""What of it is pickled as it is."""


@dataclass(frozen=True)
class Trained:
    """A fitted model, its ids and histories, and how it came about.

    `whole` is False where the model holds no more than scoring needs, as one that was read from a folder.
    """

    model: Model
    config: Config
    preset: str | None
    tables: RunTables
    manifest: dict[str, Any]
    result: dict[str, Any]
    lines: list[dict[str, Any]]
    warm_start: dict[str, Any] | None = None
    data_path: str | None = None
    """The prepared folder that it was trained on, where it was one."""
    whole: bool = True

    @classmethod
    def of(cls, fitted: Fitted, config: Config, preset: str | None, data: Dataset, path: Path | None = None) -> Trained:
        """A fit that was kept in memory; `path` is the prepared folder of `data`, where it has one."""
        assert fitted.model is not None
        how = tables_of(config, data), data.manifest, fitted.result.to_dict(), fitted.lines, fitted.warm_start
        return cls(fitted.model, config, preset, *how, None if path is None else str(path.resolve()))

    @classmethod
    def read(cls, folder: Path, whole: bool = False) -> Trained:
        """What a run folder holds.

        Raises:
            HardGNNError: it is no run folder, has no trained model yet, or is damaged.
        """
        model, record = load_model(folder, whole=whole), check_version(folder)
        result = read_result(folder)
        return cls(
            model,
            load_config(folder),
            known_preset(record.get("preset")),
            load_tables(folder),
            record["data"]["manifest"],
            result,
            read_metrics(folder) if result.get("finished") else [],
            record.get("warm_start"),
            record["data"]["path"],
            whole,
        )

    def write(self, folder: Path) -> None:
        """Writes it as a new run folder.

        Raises:
            HardGNNError: the folder holds something, or the training was not at its end.
        """
        if not self.result.get("finished"):
            raise HardGNNError("save: the training of this model is not at its end; go on with fit(data, resume=True)")
        fitted = Fitted(self.model, TrainingResult.from_dict(self.result), self.lines, self.warm_start)
        path = None if self.data_path is None else Path(self.data_path)
        write_run(folder, self.config, fitted, self.tables, self.manifest, self.preset, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a run folder has it: tensors on the processor and settings, whatever device the model is on."""
        plain = {name: getattr(self, name) for name in PLAIN}
        named = {"name": self.model.name, "seal": self.model.seal}
        return _restored, (FORMAT_VERSION, self.config.to_toml(), own_tensors(self.model), named, plain)


def _restored(version: int, config: str, tensors: Mapping[str, Tensor], named: dict[str, str], plain: Any) -> Trained:
    if version != FORMAT_VERSION:
        raise HardGNNError(
            f"pickled by another version (format {version}, this one reads {FORMAT_VERSION}); a folder that "
            "HardGNN.save writes is read by later versions too"
        )
    settings = build(parsed_toml(config, "the settings of a pickled model"), "a pickled model")
    model = model_of(settings, tensors, whole=True)
    model.name, model.seal = named["name"], named["seal"]
    return replace(Trained(model, settings, **plain), whole=True)
