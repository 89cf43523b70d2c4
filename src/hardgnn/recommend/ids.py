"""Raw ids of users or items out of a file: text with one in each line, or a column of a Parquet file."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from hardgnn.data import arguments as given
from hardgnn.data.readers.tables import USUAL_NAMES, plain
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.storage.texts import read_text

PARQUET = ".parquet"


def read_ids_file(path: Path, kind: str) -> pl.Series:
    """Raw ids of a `kind` (user or item), String (n,): of a text one per line, without blanks around it and empty
    lines; of a `.parquet` the column of that name, or the only one.

    Raises:
        HardGNNError: the file is missing, neither Parquet nor text in UTF-8, or empty.
    """
    found = _column(path, kind) if path.suffix == PARQUET else _lines(path, kind)
    if not len(found):
        raise HardGNNError(f"{shown(path)}: no {kind} ids in it")
    return found


def _lines(path: Path, kind: str) -> pl.Series:
    text = read_text(path, f"a file of {kind} ids, one per line")
    if "\0" in text:
        raise HardGNNError(f"{shown(path)}: binary data, expected {kind} ids as text, one per line")
    return pl.Series(kind, [one for one in map(str.strip, re.split(r"\r\n?|\n", text)) if one], dtype=pl.String)


def _column(path: Path, kind: str) -> pl.Series:
    if not path.is_file():
        raise HardGNNError(f"{shown(path)}: no such file")
    with reading(path):
        table = pl.scan_parquet(path, glob=False)
        names = table.collect_schema().names()
        usual = [name for name in names if plain(name) in USUAL_NAMES[kind]]
        if not usual and len(names) != 1:
            raise HardGNNError(
                f"{shown(path)}: no column '{kind}'; columns found: {', '.join(map(shown, names))[:300]}"
            )
        return given.ids(table.select((usual or names)[0]).collect().to_series(), f"{shown(path)}: {kind}").alias(kind)
