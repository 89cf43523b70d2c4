"""The raw interaction log, as read and before anything is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from hardgnn.data.dataset import Dataset

USER, ITEM, TIMESTAMP, RATING, TITLE = "user", "item", "timestamp", "rating", "title"


@dataclass(frozen=True)
class InteractionLog:
    """Who interacted with what and when.

    `table` has the columns user and item (Categorical as read, for that keeps each text once; String will do),
    timestamp (Float64, seconds since 1970) and, where the source has it, rating (Float64), in the source's row order.
    `titles` maps item to title (both String). `name` is the source's short name, `sha256` the hash of its bytes.
    """

    table: pl.DataFrame
    name: str
    sha256: str
    titles: pl.DataFrame | None = None

    @classmethod
    def read(cls, path: str | Path, **options: Any) -> InteractionLog:
        """Reads a raw log; see `hardgnn.data.readers.read_log` for the options."""
        from hardgnn.data.readers import read_log

        return read_log(path, **options)

    def prepare(self, preset: str | None = None, **settings: Any) -> Dataset:
        """Filters, splits and indexes the log; see `hardgnn.data.prepare.PrepareConfig` for the settings.

        `preset` names settings that the others win over; see `hardgnn prepare --list-presets`.
        """
        from hardgnn.data.prepare import PrepareConfig, prepare

        return prepare(self, PrepareConfig.checked(preset, **settings))
