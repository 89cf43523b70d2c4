"""What loggers share: the library that they need, the figures of an epoch by name, and the run that they go on with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hardgnn.errors import HardGNNError
from hardgnn.parts import blamed
from hardgnn.storage.records import read_json, write_json
from hardgnn.training.callbacks import Callback

if TYPE_CHECKING:
    from hardgnn.training.trainer import Trainer


class Logger(Callback):
    """Takes what training tells to a library, `library` by its module, which the extra of that name has.

    Where the library fails, training ends with a sentence that names it.
    """

    library: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()
    """Other modules of the extra that are needed."""

    def __init__(self, folder: Path | None = None) -> None:
        self.check()
        self.folder = folder
        self.name, self.settings = "", dict[str, Any]()
        self.opened = self.whole = False

    @abstractmethod
    def open(self) -> None:
        """Begins a run of the library, or goes on with the one of a resumed training."""

    @abstractmethod
    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes the figures of an epoch."""

    @abstractmethod
    def conclude(self, best: Mapping[str, float]) -> None:
        """Writes which epoch is kept, after the last one."""

    @abstractmethod
    def shut(self) -> None:
        """Ends the run of the library; `whole` says whether training came to its end."""

    @classmethod
    def check(cls) -> None:
        """Raises HardGNNError where the library is not installed."""
        if any(find_spec(module) is None for module in (cls.library, *cls.modules)):
            raise HardGNNError(f"logging to {cls.library} needs an extra: pip install 'hardgnn[{cls.library}]'")

    def fits(self, name: str, settings: Mapping[str, Any]) -> None:
        """Keeps what is told."""
        self.name, self.settings = name, dict(settings)

    def begin(self, trainer: Trainer) -> None:
        """Opens."""
        super().begin(trainer)
        with self._blamed():
            self.open()
        self.opened = True

    def epoch(self, line: dict[str, Any]) -> None:
        """Writes the figures."""
        with self._blamed():
            self.write(figures_of(line), line["epoch"])

    def end(self) -> None:
        """Concludes."""
        self.whole = True
        progress = self.trainer.progress
        best = {"best_epoch": float(progress.best_epoch)}
        if progress.best_metric >= 0:  # of a training that is judged
            best["best_metric"] = progress.best_metric
        with self._blamed():
            self.conclude(best)

    def close(self) -> None:
        """Shuts, once."""
        if self.opened:
            self.opened = False
            with self._blamed():
                self.shut()

    def earlier(self) -> str | None:
        """What the library calls the run of a training that is resumed in its folder."""
        record = self._record()
        return None if record is None or not record.is_file() else str(read_json(record)["run"])

    def keep(self, run: str) -> None:
        """Notes what the library calls the run, so that a resumed training goes on in the same."""
        if (record := self._record()) is not None:
            write_json(record, {"run": run}, sealed=True, make_parent=False)

    def _record(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.library}.json"

    def _blamed(self) -> AbstractContextManager[None]:
        return blamed(f"callback '{self.library}'")


def figures_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an epoch's line: `train/loss_rec` of a number, `valid/ndcg@10` of those of a part."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            found |= {f"{key}/{name}": float(figure) for name, figure in value.items()}
        elif isinstance(value, float):
            found[f"train/{key}"] = value
    return found
