"""Parquet files of ours: one declared schema, written and read, and a seal over the whole file that shows damage."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.storage.columns import BLOCK, Shelf

Schema = Mapping[str, Any]
"""Column names and their polars types, in order."""

KEY = "hardgnn"
SEAL = re.compile(rb"hardgnn-seal=(.{64});", re.DOTALL)
BLANK = b"0" * 64
GROUP_ROWS = 122_880  # of a row group, about


def write_frame(path: Path, table: pl.DataFrame, schema: Schema, note: str = "") -> None:
    """Writes a table with this schema, sealed; `path` is a temporary name, as `hardgnn.storage.files` gives them.

    Args:
        path: the file.
        table: the columns of `schema`, in its order.
        schema: the declared types, which the values are cast to.
        note: kept with the table.
    """
    write_parts(path, lambda first, end: table[first:end], table.height, schema, note)


def write_parts(
    path: Path,
    part: Callable[[int, int], pl.DataFrame],
    rows: int,
    schema: Schema,
    note: str = "",
    group_rows: int | None = None,
) -> None:
    """As `write_frame`, a table of which few row groups are in memory at a time.

    Args:
        path: the file.
        part: makes the rows from the first to before the second number, with the columns of `schema`.
        rows: of the whole table.
        schema: the declared types.
        note: kept with the table.
        group_rows: how many rows, about, can be read without the others; as many as polars likes by default.
    """
    wanted = pl.Schema(schema)

    def groups(columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        assert columns is None  # all are written
        for first, end in row_groups(rows, group_rows or GROUP_ROWS):
            yield part(first, end).select(list(schema)).cast(wanted)

    metadata = {KEY: f"hardgnn-seal={BLANK.decode()};{note}"}
    register_io_source(groups, schema=wanted).sink_parquet(path, metadata=metadata, row_group_size=group_rows)
    with path.open("r+b") as handle:
        content = _footer(handle)
        size = handle.tell()
        found = SEAL.search(content)
        assert found is not None  # just written
        handle.seek(0)
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        handle.seek(size - len(content) + found.start(1))
        handle.write(digest.encode())


def row_groups(rows: int, size: int = GROUP_ROWS) -> list[tuple[int, int]]:
    """Where the row groups of so many rows begin and end: alike, and as near to `size` as they can be.

    Polars cuts a table in memory in the same way, so that the same rows make the same file however they come.
    """
    fewer = max(1, rows // size)
    count = min(fewer, fewer + 1, key=lambda count: abs(rows / count - size))
    ends = [group * (rows // count) + min(group, rows % count) for group in range(count + 1)]
    return list(itertools.pairwise(ends))


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
    with opened(path, schema, remedy, optional) as (table, note), reading(path, remedy):
        found = table.collect()
        _refuse_nothing(found, schema, path, remedy)
        return found, note


@contextmanager
def opened(
    path: Path, schema: Schema, remedy: str, optional: Schema | None = None
) -> Iterator[tuple[pl.LazyFrame, str]]:
    """As `read_frame`, a table that is not read yet; instead of the file there may be a folder of Parquet files.

    Those are read in the order of their names, as Spark and others write them.
    """
    with ExitStack() as handles:
        tables, notes = [], []
        for file in files_of(path, remedy):
            with reading(file, remedy):
                # Unbuffered: polars reads on where the system's handle is, which a buffer would leave behind.
                handle = handles.enter_context(file.open("rb", buffering=0))
                note = _checked_note(handle)
                if note is None:
                    raise HardGNNError(f"{shown(file)}: damaged, its content is not what was written; {remedy}")
                handle.seek(0)
                table = pl.scan_parquet(handle)
                there = table.collect_schema().names()
            wanted = dict(schema) | {name: kind for name, kind in (optional or {}).items() if name in there}
            if missing := [name for name in wanted if name not in there]:
                raise HardGNNError(f"{shown(file)}: damaged, no column '{missing[0]}'; {remedy}")
            tables.append(table.select(list(wanted)).cast(pl.Schema(wanted)))
            notes.append(note)
        yield pl.concat(tables), notes[0]


def files_of(path: Path, remedy: str) -> list[Path]:
    """The file, or those of a folder in the order of their names.

    Raises:
        HardGNNError: there is none.
    """
    if not path.exists():
        raise HardGNNError(f"{shown(path)}: missing; {remedy}")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise HardGNNError(f"{shown(path)}: a folder without a .parquet file; {remedy}")
    return files


def read_columns(path: Path, schema: Schema, remedy: str, shelf: Callable[[int], Shelf]) -> dict[str, NDArray[Any]]:
    """The columns of a table of numbers by their names, (N,) each.

    Args:
        path: a file, or a folder of files in order.
        schema: the columns, none of which has missing values.
        remedy: as of `read_frame`.
        shelf: where to keep them, by the number of rows.

    Raises:
        HardGNNError: as `read_frame`.
    """
    files, rows = files_of(path, remedy), 0
    for file in files:
        with reading(file, remedy), file.open("rb", buffering=0) as handle:
            rows += int(pl.scan_parquet(handle).select(pl.len()).collect().item())
    where = shelf(rows)
    columns = {name: where.column(_numpy(kind)) for name, kind in schema.items()}
    for file in files:  # one after the other, for a table of polars has 2^32 rows at most, and a folder may have more
        with opened(file, schema, remedy) as (table, _), reading(file, remedy):
            before = len(columns[next(iter(columns))])
            for frame in table.collect_batches(chunk_size=BLOCK, maintain_order=True, engine="streaming"):
                _refuse_nothing(frame, schema, file, remedy, len(columns[next(iter(columns))]) - before)
                for name, column in columns.items():
                    column.add(frame[name].to_numpy())
    return {name: column.done() for name, column in columns.items()}


def _numpy(kind: Any) -> np.dtype[Any]:
    return pl.Series([], dtype=kind).to_numpy().dtype


def _refuse_nothing(table: pl.DataFrame, schema: Schema, path: Path, remedy: str, before: int = 0) -> None:
    """Refuses missing values in a table that stands after so many rows.

    Raises:
        HardGNNError: there is one; names the row.
    """
    for name in schema:
        if table[name].null_count():
            row = before + int(table[name].is_null().arg_max() or 0)
            raise HardGNNError(f"{shown(path)}: damaged, row {row + 1} has no {name}; {remedy}")


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
        if missing := [name for name in wanted if name not in present]:
            raise HardGNNError(f"{shown(path)}: damaged, no column '{missing[0]}'; {remedy}")
        if isinstance(chosen, slice):
            table = table.slice(chosen.start, chosen.stop - chosen.start)
        elif chosen is not None:
            table = table.filter(chosen)
        found = table.select(list(wanted)).collect(engine="streaming").cast(pl.Schema(wanted))
        _refuse_nothing(found, schema, path, remedy)
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


def check_index(values: pl.Series, size: int, path: Path, remedy: str, first: int = 0, before: int = 0) -> None:
    """Checks that whole numbers, which stand after so many rows, lie in `first` to `size` - 1.

    Raises:
        HardGNNError: one does not; names its row.
    """
    wrong = (values < first) | (values >= size)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise HardGNNError(
            f"{shown(path)}: row {before + row + 1}: {values.name} {values[row]} is not one of {first} to {size - 1}; "
            f"{remedy}"
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
