"""Newer events of users, with or without times: who had what next."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.log import log_of
from hardgnn.data.readers import RawFile, guess_format
from hardgnn.data.readers.source import parsing
from hardgnn.data.readers.tables import USUAL_NAMES, column_names, plain

TABLES = ("csv", "inter", "parquet")


def read_events(path: str | Path, say: Callable[[str], None] = warnings.warn) -> pl.DataFrame:
    """The columns user and item (both String) of a log, oldest first; without a time column in the file's order.

    Args:
        path: the file.
        say: told what a reader of the log would be warned of; a Python warning by default.

    Raises:
        HardGNNError: as `read_log`, but for missing times.
    """
    raw = RawFile.find(Path(path))
    kind = guess_format(raw)
    with parsing(raw.label, kind):
        names = {plain(name) for name in column_names(raw, kind)} if kind in TABLES else set()
    untimed = not names.isdisjoint(USUAL_NAMES[USER]) and names.isdisjoint(USUAL_NAMES[TIMESTAMP])
    log = log_of(raw, "sequences" if untimed else kind, dict.fromkeys((USER, ITEM, TIMESTAMP, RATING)))
    for sentence in log.reading.warnings:
        say(sentence)
    table = log.table if untimed else log.table.sort(TIMESTAMP, maintain_order=True)
    return table.select(pl.col(USER, ITEM).cast(pl.String))
