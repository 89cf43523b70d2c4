"""What every reader answers, and how a log without quoting is read line by line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import polars as pl
from polars.io.plugins import register_io_source

from hardgnn.data.raw.file import RawFile, not_unicode
from hardgnn.errors import HardGNNError, machine_fault, reading, reason, shown

Columns = Mapping[str, str | None]
"""The column names that the user gave, by what they mean."""


@dataclass(frozen=True)
class Source:
    """A file ready to be read: `table` holds the columns user, item, timestamp and perhaps rating, in file order.

    Without a timestamp, each user's rows are oldest first. `place` names the row with a 0-based number as the user
    finds it in the file ("line 7"). `text` says that rows without any value are blank lines. `rows` is their number
    where the file declares it. `names` tells what each column is called there.
    """

    table: pl.LazyFrame
    place: Callable[[int], str]
    text: bool = True
    rows: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def streamed(parts: Callable[[], Iterator[pl.DataFrame]], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """A lazy table out of smaller ones, which each call of `parts` reads anew; few are in memory at a time."""

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        for frame in parts():
            if n_rows is not None:
                frame, n_rows = frame.head(n_rows), n_rows - min(n_rows, frame.height)
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame if with_columns is None else frame.select(with_columns)
            if n_rows == 0:
                return

    return register_io_source(frames, schema=dict(schema))


def joined(sources: Sequence[Source], labels: Sequence[str]) -> Source:
    """Several files as one log, in this order.

    Raises:
        HardGNNError: they have not the same columns; names the file.
    """
    schemas = [source.table.collect_schema() for source in sources]
    for label, schema in zip(labels, schemas):
        if schema != schemas[0]:
            there, first = (", ".join(f"{name} ({kind})" for name, kind in one.items()) for one in (schema, schemas[0]))
            raise HardGNNError(f"{label}: its columns are {there}, but in {labels[0]} they are {first}")

    def place(row: int) -> str:
        for label, source in zip(labels, sources):
            rows = int(source.table.select(pl.len()).collect(engine="streaming").item())
            if row < rows:
                return f"{label}: {source.place(row)}"
            row -= rows
        raise AssertionError("a row behind the last one")

    rows = [source.rows for source in sources]
    total = None if None in rows else sum(one for one in rows if one is not None)
    table = pl.concat([source.table for source in sources])
    return Source(table, place, any(source.text for source in sources), total, sources[0].names)


def listed(names: Iterable[str]) -> str:
    """Names found in a file, on one line that is not too long."""
    text = ", ".join(names)
    return shown(text[:300]) + ("…" if len(text) > 300 else "")


@contextmanager
def parsing(label: str, kind: str) -> Iterator[None]:
    """Turns what goes wrong while a file is parsed into one sentence.

    Raises:
        MachineError: a fault of the machine.
        HardGNNError: anything else.
    """
    with reading(label):
        try:
            with unheard() if kind == "parquet" else nullcontext():
                yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            if machine_fault(error):
                raise
            raise HardGNNError(f"{label}: cannot be read as {kind} ({reason(error)})") from None


@contextmanager
def unheard() -> Iterator[None]:
    """Keeps from the user what polars prints beside the error when its decoder of Parquet panics."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        panicked = False
        try:
            yield
        except pl.exceptions.PanicException:
            panicked = True
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            if not panicked and (words := said.read()):
                os.write(2, words)


def split_lines(raw: RawFile, separator: str, names: Sequence[str]) -> Source:
    """A table of unquoted lines with fields of known order; names that start with _ are left out.

    Fields after the last one must be blank.

    Raises:
        HardGNNError: while the table is read, a line has too many fields, or is not UTF-8.
    """
    fields = [*names, "_rest"]
    kept = [name for name in names if not name.startswith("_")]
    schema = dict.fromkeys(kept, pl.String())

    def parse(line: int, block: bytes) -> pl.DataFrame:
        lines = text_lines(raw, line, block)
        whole = pl.col("line").str.strip_chars_end("\r")
        blank = whole.str.strip_chars() == ""
        split = pl.when(~blank).then(whole).str.splitn(separator, len(fields)).struct.rename_fields(fields)
        table = lines.to_frame().select(split.alias("line")).unnest("line")
        over = table["_rest"].str.strip_chars(f" \t\r{separator}").fill_null("") != ""
        if over.any():
            row = over.arg_true()[0]
            found = lines[row].count(separator) + 1
            raise HardGNNError(f"{raw.label}: line {line + row}: {found} fields, expected {len(names)}")
        return table.select(kept)

    table = streamed(lambda: (parse(line, block) for line, block in raw.blocks()), schema)
    told = {name: f"field {place}" for place, name in enumerate(names, 1) if name in kept}
    return Source(table, lambda row: f"line {row + 1}", names=told)


def text_lines(raw: RawFile, line: int, block: bytes) -> pl.Series:
    """The lines of a block, the first of which is numbered `line`.

    Raises:
        HardGNNError: they are not UTF-8; names the line.
    """
    try:
        text = block.removesuffix(b"\n").decode()
    except UnicodeDecodeError:
        raise not_unicode(raw, block, line) from None
    return pl.Series("line", [text]).str.split("\n").explode()


def refuse_columns(raw: RawFile, wanted: Columns, kind: str) -> None:
    """Refuses column names for a format whose columns are fixed.

    Raises:
        HardGNNError: one is given.
    """
    if given := next((name for name in wanted.values() if name is not None), None):
        raise HardGNNError(f"{raw.label}: the columns of {kind} are fixed, so '{given}' cannot be chosen; try csv")
