"""From a raw log to a data set: filter, split, candidates; download and simulation."""

from __future__ import annotations

from typing import Any

from hardgnn.data.dataset import Dataset
from hardgnn.data.log import InteractionLog, prepares
from hardgnn.wording import warn

__all__ = ["Dataset", "InteractionLog"]


@prepares
def _prepare(log: InteractionLog, preset: str | None, settings: dict[str, Any]) -> Dataset:
    """`InteractionLog.prepare`: the data set, what makes its figures doubtful told as Python warnings."""
    from hardgnn.prepare.pipeline import prepare  # its libraries are loaded where something is to be prepared
    from hardgnn.prepare.settings import PrepareConfig

    data = prepare(log, PrepareConfig.checked(preset, **settings))
    for sentence in data.provenance.warnings:
        warn(sentence)
    return data
