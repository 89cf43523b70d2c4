"""Parquet files of ours: one declared schema, written and read, and a seal over the whole file that shows damage."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn.errors import HardGNNError, reading, shown

Schema = Mapping[str, Any]
"""Column names and their polars types, in order."""

KEY = "hardgnn"
SEAL = re.compile(rb"hardgnn-seal=(.{64});", re.DOTALL)
BLANK = b"0" * 64


def write_frame(path: Path, table: pl.DataFrame, schema: Schema, note: str = "") -> None:
    """Writes a table with this schema, sealed; `path` is a temporary name, as `hardgnn.storage.files` gives them.

    Args:
        path: the file.
        table: the columns of `schema`, in its order.
        schema: the declared types, which the values are cast to.
        note: kept with the table.
    """
    metadata = {KEY: f"hardgnn-seal={BLANK.decode()};{note}"}
    table.select(list(schema)).cast(pl.Schema(schema)).write_parquet(path, metadata=metadata)
    with path.open("r+b") as handle:
        content = _footer(handle)
        size = handle.tell()
        found = SEAL.search(content)
        assert found is not None  # just written
        handle.seek(0)
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        handle.seek(size - len(content) + found.start(1))
        handle.write(digest.encode())


def read_frame(path: Path, schema: Schema, remedy: str, optional: Schema | None = None) -> tuple[pl.DataFrame, str]:
    """A table and its note, once the seal is checked; a file of an earlier version has none.

    Args:
        path: the file.
        schema: the columns that must be there.
        remedy: what to do about a damaged file, for the sentence.
        optional: columns that may be there.

    Returns:
        The columns of `schema`, then those of `optional` that there are, without missing values in the former; the
        note, empty in a file without seal.

    Raises:
        HardGNNError: the file is missing, damaged, or has other columns.
    """
    if not path.is_file():
        raise HardGNNError(f"{shown(path)}: missing; {remedy}")
    # Unbuffered: polars reads on where the system's handle is, which a buffer would leave behind.
    with reading(path, remedy), path.open("rb", buffering=0) as handle:
        note = _checked_note(handle)
        if note is None:
            raise HardGNNError(f"{shown(path)}: damaged, its content is not what was written; {remedy}")
        handle.seek(0)
        table = pl.read_parquet(handle)
        wanted = dict(schema) | {name: kind for name, kind in (optional or {}).items() if name in table.columns}
        missing = [name for name in wanted if name not in table.columns]
        if missing:
            raise HardGNNError(f"{shown(path)}: damaged, no column '{missing[0]}'; {remedy}")
        table = table.select(list(wanted)).cast(pl.Schema(wanted))
        for name in schema:
            if table[name].null_count():
                row = int(table[name].is_null().arg_max() or 0)
                raise HardGNNError(f"{shown(path)}: damaged, row {row + 1} has no {name}; {remedy}")
        return table, note


def _footer(handle: Any) -> bytes:
    """The end of a Parquet file from its footer on; the handle is then at the end."""
    size = handle.seek(0, 2)
    handle.seek(max(0, size - 8))
    length = int.from_bytes(handle.read(4), "little") + 8
    handle.seek(max(0, size - length))
    content: bytes = handle.read()
    return content


def _checked_note(handle: Any) -> str | None:
    """The note; empty where there was never a seal, None where the seal is broken."""
    content = _footer(handle)
    size = handle.tell()
    found = SEAL.search(content)
    if found is None:
        return None if KEY.encode() in content else ""
    handle.seek(0)
    digest, left = hashlib.sha256(), size - len(content)
    while left > 0 and (part := handle.read(min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    digest.update(content[: found.start(1)] + BLANK + content[found.end(1) :])
    if digest.hexdigest().encode() != found.group(1):
        return None
    handle.seek(0)
    return pl.read_parquet_metadata(handle)[KEY].partition(";")[2]


def check_index(values: pl.Series, size: int, path: Path, remedy: str, first: int = 0) -> None:
    """Checks that whole numbers lie in `first` to `size` - 1.

    Raises:
        HardGNNError: one does not; names its row.
    """
    wrong = (values < first) | (values >= size)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise HardGNNError(
            f"{shown(path)}: row {row + 1}: {values.name} {values[row]} is not one of {first} to {size - 1}; {remedy}"
        )


def read_index(path: Path, schema: Schema, remedy: str, optional: Schema | None = None) -> pl.DataFrame:
    """A table of raw ids (columns raw_id and index) sorted by index, which counts from 0 without gaps.

    Raises:
        HardGNNError: as `read_frame`, an index that is missing or twice there, or a raw id that is.
    """
    table, _ = read_frame(path, schema, remedy, optional)
    table = table.sort("index")
    if not (table["index"] == pl.int_range(table.height, eager=True)).all():
        raise HardGNNError(f"{shown(path)}: damaged, its index does not count 0 to {table.height - 1}; {remedy}")
    if table["raw_id"].n_unique() < table.height:
        raise HardGNNError(f"{shown(path)}: damaged, a raw id stands there twice; {remedy}")
    return table
