"""The raw interaction log, as read and before anything is dropped."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from hardgnn.data.dataset import Dataset

USER, ITEM, TIMESTAMP, RATING, TITLE = "user", "item", "timestamp", "rating", "title"


@dataclass(frozen=True)
class Reading:
    """How a table was understood.

    `columns` tells what user, item, timestamp and rating are called in the source. `unit` is what its times were:
    seconds, milliseconds, microseconds, nanoseconds, dates, or some kind of order. `warnings` are sentences;
    `bad_rating` names the first rating that is no number, which counts as none.
    """

    format: str
    columns: Mapping[str, str]
    unit: str
    warnings: tuple[str, ...] = ()
    bad_rating: str | None = None

    @property
    def is_order(self) -> bool:
        """Whether times only tell what came first, and are no dates."""
        return self.unit.startswith("order")

    def told(self) -> dict[str, str | None]:
        """As the manifest has it."""
        named = {name.replace(TIMESTAMP, "time"): self.columns.get(name) for name in (USER, ITEM, TIMESTAMP, RATING)}
        return {"format": self.format, **named, "time_unit": self.unit}


@dataclass(frozen=True)
class InteractionLog:
    """Who interacted with what and when.

    `table` has the columns user and item (Categorical, for that keeps each text once), timestamp (Float64, seconds
    since 1970) and, where the source has it, rating (Float64), in the source's row order. A table of your own is
    checked and brought into this form by the rules for files, so its columns may have the usual other names, ids be
    text or whole numbers, times be numbers, texts or dates. `titles` maps item to title (both String). `name` is the
    source's short name, `sha256` the hash of its bytes, `reading` how it was understood.

    Raises:
        HardGNNError: as `hardgnn.data.readers.read_log`, naming the row.
    """

    table: pl.DataFrame
    name: str = "table"
    sha256: str = ""
    titles: pl.DataFrame | None = None
    checked: InitVar[Reading | None] = None
    reading: Reading = field(init=False)

    def __post_init__(self, checked: Reading | None) -> None:
        if checked is None:
            from hardgnn.data.readers.tables import checked_frame

            table, checked = checked_frame(self.table, self.name)
            object.__setattr__(self, "table", table)
        object.__setattr__(self, "reading", checked)

    @classmethod
    def read(cls, path: str | Path, **options: Any) -> InteractionLog:
        """Reads a raw log; see `hardgnn.data.readers.read_log` for the options."""
        from hardgnn.data.readers import read_log

        return read_log(path, **options)

    def prepare(self, preset: str | None = None, **settings: Any) -> Dataset:
        """Filters, splits and indexes the log; see `hardgnn.prepare.pipeline.PrepareConfig` for the settings.

        `preset` names settings that the others win over; see `hardgnn prepare --list-presets`. What makes the figures
        doubtful is told as Python warnings, and stands in the manifest.
        """
        from hardgnn.prepare.pipeline import PrepareConfig, prepare

        dataset = prepare(self, PrepareConfig.checked(preset, **settings))
        for sentence in dataset.manifest["warnings"]:
            warnings.warn(sentence, stacklevel=2)
        return dataset
