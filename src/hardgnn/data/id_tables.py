"""The tables of raw ids in a prepared folder: which index stands for which user or item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hardgnn.data.provenance import AGAIN
from hardgnn.storage.frames import count_rows, files_of, read_index, write_frame

IDS = {"raw_id": pl.String, "index": pl.Int32}
TITLES = {"title": pl.String}


def write_ids(path: Path, raw: pl.Series, titles: pl.Series | None = None) -> None:
    """Writes the map from raw id to index, with titles where there are any."""
    columns: dict[str, Any] = {"raw_id": raw, "index": np.arange(len(raw), dtype=np.int32)}
    schema = IDS
    if titles is not None:
        columns["title"], schema = titles, IDS | TITLES
    write_frame(path, pl.DataFrame(columns), schema)


def read_ids(path: Path) -> tuple[pl.Series, pl.Series | None]:
    """The raw ids, by index, and the titles if the file has them."""
    table = read_index(path, IDS, AGAIN, TITLES)
    return table["raw_id"], table["title"] if "title" in table.columns else None


def unread_ids(path: Path) -> tuple[pl.Series, None]:
    """As `read_ids` where nobody asks for them: as many, and all are missing."""
    count = sum(count_rows(file, AGAIN) for file in files_of(path, AGAIN))
    return pl.Series("raw_id", [], pl.Null).extend_constant(None, count), None
