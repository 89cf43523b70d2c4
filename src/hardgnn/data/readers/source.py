"""What every reader answers, and how a log without quoting is read line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from polars.io.plugins import register_io_source

from hardgnn.data.readers.raw import RawFile
from hardgnn.errors import HardGNNError

Columns = Mapping[str, str | None]
"""The column names that the user gave, by what they mean."""


@dataclass(frozen=True)
class Source:
    """A file ready to be read: `table` holds the columns user, item, timestamp and perhaps rating, in file order.

    Without a timestamp, each user's rows are oldest first. `place` names the row with a 0-based number as the user
    finds it in the file ("line 7"). `text` says that rows without any value are blank lines. `names` tells what each
    column is called there.
    """

    table: pl.LazyFrame
    place: Callable[[int], str]
    text: bool = True
    names: Mapping[str, str] = field(default_factory=dict)


def streamed(
    raw: RawFile, schema: Mapping[str, pl.DataType], parse: Callable[[int, bytes], pl.DataFrame]
) -> pl.LazyFrame:
    """A lazy table out of blocks of lines, of which only a few are in memory at a time.

    `parse` makes a table with `schema` of a block, and is told the number of the block's first line.
    """

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        for line, block in raw.blocks():
            frame = parse(line, block)
            if n_rows is not None:
                frame, n_rows = frame.head(n_rows), n_rows - min(n_rows, frame.height)
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame if with_columns is None else frame.select(with_columns)
            if n_rows == 0:
                return

    return register_io_source(frames, schema=dict(schema))


def split_lines(raw: RawFile, separator: str, names: Sequence[str], header: bool = False) -> Source:
    """A table of unquoted lines with fields of known order; names that start with _ are left out.

    Fields after the last one must be blank.

    Raises:
        HardGNNError: while the table is read, a line has too many fields, or is not UTF-8.
    """
    fields = [*names, "_rest"]
    kept = [name for name in names if not name.startswith("_")]
    schema = dict.fromkeys(kept, pl.String())

    def parse(line: int, block: bytes) -> pl.DataFrame:
        if header and line == 1:
            block = block.partition(b"\n")[2]
        lines = text_lines(raw, line, block)
        whole = pl.col("line").str.strip_chars_end("\r")
        blank = whole.str.strip_chars() == ""
        split = pl.when(~blank).then(whole).str.splitn(separator, len(fields)).struct.rename_fields(fields)
        table = lines.to_frame().select(split.alias("line")).unnest("line")
        over = table["_rest"].str.strip_chars(f" \t\r{separator}").fill_null("") != ""
        if over.any():
            row = over.arg_true()[0]
            found = lines[row].count(separator) + 1
            at = line + row + (header and line == 1)
            raise HardGNNError(f"{raw.label}: line {at}: {found} fields, expected {len(names)}")
        return table.select(kept)

    told = {name: f"field {place}" for place, name in enumerate(names, 1) if name in kept}
    return Source(streamed(raw, schema, parse), lambda row: f"line {row + 1 + header}", names=told)


def text_lines(raw: RawFile, line: int, block: bytes) -> pl.Series:
    """The lines of a block, the first of which is numbered `line`.

    Raises:
        HardGNNError: they are not UTF-8; names the line.
    """
    try:
        text = block.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        at = line + block.count(b"\n", 0, error.start)
        raise HardGNNError(f"{raw.label}: line {at}: binary data or another encoding, expected UTF-8") from None
    return pl.Series("line", [text]).str.split("\n").explode()


def refuse_columns(raw: RawFile, wanted: Columns, kind: str) -> None:
    """Refuses column names for a format whose columns are fixed.

    Raises:
        HardGNNError: one is given.
    """
    if given := next((name for name in wanted.values() if name is not None), None):
        raise HardGNNError(f"{raw.label}: the columns of {kind} are fixed, so '{given}' cannot be chosen; try csv")
