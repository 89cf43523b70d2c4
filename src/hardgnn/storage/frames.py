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


def write_frame(path: Path, table: pl.DataFrame, schema: Schema, note: str = "", group_rows: int | None = None) -> None:
    """Writes a table with this schema, sealed; `path` is a temporary name, as `hardgnn.storage.files` gives them.

    Args:
        path: the file.
        table: the columns of `schema`, in its order.
        schema: the declared types, which the values are cast to.
        note: kept with the table.
        group_rows: how many rows can be read without the others; as many as polars likes by default.
    """
    metadata = {KEY: f"hardgnn-seal={BLANK.decode()};{note}"}
    table.select(list(schema)).cast(pl.Schema(schema)).write_parquet(path, metadata=metadata, row_group_size=group_rows)
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
        _check_columns(path, wanted, table.columns, remedy)
        table = table.select(list(wanted)).cast(pl.Schema(wanted))
        _check_whole(path, table, schema, remedy)
        return table, note


def read_rows(
    path: Path, schema: Schema, remedy: str, optional: Schema | None = None, chosen: pl.Expr | slice | None = None
) -> pl.DataFrame:
    """Some rows of a table, without the others in memory: as `read_frame`, but the seal is not looked at.

    Args:
        path, schema, remedy, optional: as in `read_frame`.
        chosen: which rows; a condition on columns, or a stretch of the file. All by default.

    Raises:
        HardGNNError: as `read_frame`.
    """
    if not path.is_file():
        raise HardGNNError(f"{shown(path)}: missing; {remedy}")
    with reading(path, remedy):
        table = pl.scan_parquet(path, glob=False)
        present = table.collect_schema().names()
        wanted = dict(schema) | {name: kind for name, kind in (optional or {}).items() if name in present}
        _check_columns(path, wanted, present, remedy)
        if isinstance(chosen, slice):
            table = table.slice(chosen.start, chosen.stop - chosen.start)
        elif chosen is not None:
            table = table.filter(chosen)
        found = table.select(list(wanted)).collect(engine="streaming").cast(pl.Schema(wanted))
        _check_whole(path, found, schema, remedy)
        return found


def count_rows(path: Path, remedy: str) -> int:
    """How many rows a table has.

    Raises:
        HardGNNError: the file is missing or damaged.
    """
    if not path.is_file():
        raise HardGNNError(f"{shown(path)}: missing; {remedy}")
    with reading(path, remedy):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def _check_columns(path: Path, wanted: Schema, present: list[str], remedy: str) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise HardGNNError(f"{shown(path)}: damaged, no column '{missing[0]}'; {remedy}")


def _check_whole(path: Path, table: pl.DataFrame, schema: Schema, remedy: str) -> None:
    """Checks that nothing is missing in the columns that must be there."""
    for name in schema:
        if table[name].null_count():
            row = int(table[name].is_null().arg_max() or 0)
            raise HardGNNError(f"{shown(path)}: damaged, row {row + 1} has no {name}; {remedy}")


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
