"""Newer events of users, with or without times: who had what next."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl

from hardgnn.data.log import ITEM, TIMESTAMP, USER
from hardgnn.data.readers import explained, guess_format, read_log
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.tables import USUAL_NAMES, plain

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
    names = {plain(name) for name in column_names(raw, kind)} if kind in TABLES else set()
    untimed = not names.isdisjoint(USUAL_NAMES[USER]) and names.isdisjoint(USUAL_NAMES[TIMESTAMP])
    log = read_log(path, format="sequences" if untimed else kind)
    for sentence in log.reading.warnings:
        say(sentence)
    table = log.table if untimed else log.table.sort(TIMESTAMP, maintain_order=True)
    return table.select(pl.col(USER, ITEM).cast(pl.String))


def column_names(raw: RawFile, kind: str) -> list[str]:
    """The names of a table's columns."""
    with explained(raw, kind):
        if kind == "parquet":
            return pl.scan_parquet(raw.path, glob=False).collect_schema().names()
        return re.split(r"[\t,;|]", raw.first_line())
