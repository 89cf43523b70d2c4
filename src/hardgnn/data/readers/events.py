"""Newer events of users, with or without times: who had what next."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers import FORMATS, explained, guess_format, log_of
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.tables import USUAL_NAMES, column_names
from hardgnn.errors import HardGNNError

TABLES = ("csv", "inter", "parquet")


def read_events(path: str | Path) -> pl.DataFrame:
    """The columns user and item (both String) of a log, oldest first; without a time column in the file's order.

    Raises:
        HardGNNError: as `read_log`, but for missing times.
    """
    path = Path(path)
    raw = RawFile.find(path)
    kind = guess_format(raw)
    if kind in TABLES and not _has_times(raw, kind):
        with explained(raw, kind):
            named = FORMATS[kind](raw, {USER: None, ITEM: None}).table
            table = named.select(pl.col(USER, ITEM).cast(pl.String).str.strip_chars()).collect()
        empty = table.select((pl.col(name).is_null() | (pl.col(name) == "")).arg_max() for name in (USER, ITEM))
        for name in (USER, ITEM):
            if table.height and (table[name].fill_null("") == "").any():
                raise HardGNNError(f"{raw.label}: row {empty[name][0] + 1}: the {name} id is empty")
    else:
        log = log_of(raw, kind, dict.fromkeys((USER, ITEM, TIMESTAMP, RATING)))
        table = log.table.sort(TIMESTAMP, maintain_order=True).select(pl.col(USER, ITEM).cast(pl.String))
    if table.is_empty():
        raise HardGNNError(f"{raw.label}: no events in it")
    return table


def _has_times(raw: RawFile, kind: str) -> bool:
    with explained(raw, kind):
        names = column_names(raw, kind)
    plain = {"".join(filter(str.isalnum, name.split(":")[0].lower())) for name in names}
    return not plain.isdisjoint(USUAL_NAMES[TIMESTAMP])
