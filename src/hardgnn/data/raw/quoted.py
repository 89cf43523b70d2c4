"""Tables with quoted values as blocks of whole rows, which are counted apart from what parses them.

Polars takes every quote for the begin or the end of a quoted value, so that a stray one swallows rows. Here quotes are
checked first: as long as they stand where they must, polars parses; from the first block on where they do not, Python's
csv module, to which a quote inside a value is a character like any other.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.raw.file import BLOCK_BYTES, BOM, HEAD_BYTES, LONGEST_LINE, RawFile, not_unicode
from hardgnn.errors import HardGNNError, MachineError, machine_fault, reading, reason

QUOTE, LINE_END, RETURN = b'"', 10, 13
LOOSE_ROWS = 20_000
TIME = re.compile(rb'\s*"?\s*[-+]?\d[\d\s.:TZ+\-/eE]*"?\s*')
REMEDY = "double the quote, put the value in quotes, or take it out"
SWALLOWED = f"a quote opens in this row and swallows what looks like rows of their own; {REMEDY}"


@dataclass(frozen=True)
class Dialect:
    """How a table is written: what is between values, whether they may be quoted, which column is the time."""

    separator: str
    quoted: bool
    width: int = 0
    time: int | None = None


@dataclass(frozen=True)
class Block:
    """Whole rows as bytes: the number of their first line, and where each row ends, None where every line is one."""

    line: int
    data: bytes
    quoted: bool
    ends: NDArray[np.int64] | None

    @property
    def rows(self) -> int:
        """How many rows there are, blank lines among them."""
        return (self.data.count(b"\n") if self.ends is None else len(self.ends)) + (self.data[-1] != LINE_END)

    def line_of(self, row: int) -> int:
        """The line on which a row begins."""
        if self.ends is None or row == 0:
            return self.line + row
        return self.line + self.data.count(b"\n", 0, int(self.ends[row - 1]) + 1)


@dataclass(frozen=True)
class LooseBlock:
    """Rows that Python's csv module parsed, each with the line on which it begins."""

    values: list[list[str]]
    lines: list[int]

    @property
    def rows(self) -> int:
        """How many rows there are, blank lines among them."""
        return len(self.values)

    def line_of(self, row: int) -> int:
        """The line on which a row begins."""
        return self.lines[row]


def row_blocks(raw: RawFile, dialect: Dialect, skip: int) -> Iterator[Block | LooseBlock]:
    """The log in blocks of whole rows, from behind its first `skip` lines.

    Raises:
        HardGNNError: a row is longer than any log has, or a quote opens that is not closed; names the line.
    """
    if not dialect.quoted:
        for line, data in raw.blocks(skip):
            yield Block(line, data, False, None)
        return
    with reading(raw.label), raw.open(skip) as stream:
        line, rest = skip + 1, b""
        while True:
            chunk = stream.read(BLOCK_BYTES)
            data = rest + chunk
            if not data:
                return
            block = _block(raw, line, data, dialect, last=not chunk)
            cut = 0 if block is None else len(block.data)
            if block is None or (cut == 0 and len(data) > LONGEST_LINE):
                yield from _loose_blocks(raw, line, data, stream, dialect)
                return
            if cut:
                yield block
                line += block.data.count(b"\n")
            rest = data[cut:]


def _block(raw: RawFile, line: int, data: bytes, dialect: Dialect, last: bool) -> Block | None:
    """The whole rows at the begin of `data`; None where a quote stands where none may."""
    if QUOTE not in data:
        return Block(line, data if last else data[: data.rfind(b"\n") + 1], False, None)
    return _quoted_block(raw, line, data, dialect, last)


def _quoted_block(raw: RawFile, line: int, data: bytes, dialect: Dialect, last: bool) -> Block | None:
    """The whole rows at the begin of `data`; None where a quote stands where none may."""
    text = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(text == QUOTE[0])
    # every second quote opens a value or goes on after a doubled one, every other closes it or is doubled
    opening, closing = quotes[::2], quotes[1::2]
    before = text[np.maximum(opening - 1, 0)]
    starts = (opening == 0) | (before == ord(dialect.separator)) | (before == LINE_END)
    doubled = opening[1:] == closing[: len(opening) - 1] + 1
    starts[1:] |= doubled
    after = text[np.minimum(closing + 1, len(text) - 1)]
    stops = (closing == len(text) - 1) | (after == ord(dialect.separator)) | (after == LINE_END) | (after == RETURN)
    stops[: len(doubled)] |= doubled
    if not starts.all() or not stops.all() or (last and len(quotes) % 2):
        return None
    breaks = np.flatnonzero(text == LINE_END)
    outside = np.searchsorted(quotes, breaks) % 2 == 0
    ends = breaks[outside]
    cut = len(data) if last else int(ends[-1]) + 1 if len(ends) else 0
    block = Block(line, data[:cut], True, ends)
    _refuse_ragged(raw, block, quotes, dialect)
    if not outside.all() and cut:
        _refuse_swallowed(raw, block, breaks[breaks < cut], outside[breaks < cut], dialect)
    return block


def _refuse_ragged(raw: RawFile, block: Block, quotes: NDArray[np.int64], dialect: Dialect) -> None:
    """Refuses a row with too many values: of rows with quoted line breaks polars does not tell it."""
    assert block.ends is not None
    separators = np.flatnonzero(np.frombuffer(block.data, dtype=np.uint8) == ord(dialect.separator))
    between = separators[np.searchsorted(quotes, separators) % 2 == 0]
    begins = np.concatenate([[0], block.ends[block.ends < len(block.data)] + 1])
    counts = np.diff(np.searchsorted(between, np.append(begins, len(block.data)))) + 1
    if len(counts) and counts.max() > dialect.width:
        row = int(np.argmax(counts > dialect.width))
        raise HardGNNError(f"{raw.label}: line {block.line_of(row)}: {counts[row]} fields, expected {dialect.width}")


def _refuse_swallowed(
    raw: RawFile, block: Block, breaks: NDArray[np.int64], outside: NDArray[np.bool_], dialect: Dialect
) -> None:
    """Refuses a quoted value with whole rows in it: two stray quotes can look like one pair."""
    text = np.frombuffer(block.data, dtype=np.uint8)
    separators = np.flatnonzero(text == ord(dialect.separator))
    starts = np.concatenate([[0], breaks + 1])
    counts = np.diff(np.searchsorted(separators, np.append(starts, len(text))))
    fits = counts == dialect.width - 1
    inside = np.concatenate([[False], ~outside, [False]])  # whether a line begins inside a value
    number = np.arange(len(counts))
    first = np.maximum.accumulate(np.where(inside[:-1], 0, number))  # the line with which its row begins
    candidates = inside[:-1] & fits & (inside[1:] | fits[first])
    for begin in np.unique(first[candidates]):
        end = begin + 1 + int(np.argmin(inside[begin + 1 :]))  # the line that begins the next row
        until = starts[end] if end < len(starts) else len(text)
        if swallows(block.data[starts[begin] : until].removesuffix(b"\n").split(b"\n"), dialect):
            raise HardGNNError(f"{raw.label}: line {block.line + begin}: {SWALLOWED}")


def swallows(lines: list[bytes], dialect: Dialect) -> bool:
    """Whether the lines of one row look like rows by themselves: one inside a value, or the first and the last."""
    inner = any(QUOTE not in line and is_row(line, dialect) for line in lines[1:-1])
    return inner or (is_row(lines[0], dialect) and is_row(lines[-1], dialect))


def is_row(line: bytes, dialect: Dialect) -> bool:
    """Whether a line by itself looks like a row: the right number of values, the time like one."""
    values = line.split(dialect.separator.encode())
    if len(values) != dialect.width or dialect.time is None:
        return False
    return TIME.fullmatch(values[dialect.time]) is not None


def _loose_blocks(
    raw: RawFile, line: int, data: bytes, stream: IO[bytes], dialect: Dialect
) -> Iterator[Block | LooseBlock]:
    """The rest of the log, which begins with `data`, parsed by the csv module.

    Raises:
        HardGNNError: a quoted value does not end where its quote does, or swallows rows; a row has too many values.
    """
    taken: list[str] = []  # the lines of the row that is being parsed
    reader = csv.reader(_lines(raw, line, data, stream, taken), delimiter=dialect.separator, strict=True)
    block = LooseBlock([], [])
    begin = line
    try:
        for row in reader:
            where = f"{raw.label}: line {begin}"
            if len(row) > dialect.width:
                raise HardGNNError(f"{where}: {len(row)} fields, expected {dialect.width}")
            if len(taken) > 1 and swallows([one.encode() for one in taken], dialect):
                raise HardGNNError(f"{where}: {SWALLOWED}")
            block.values.append(row)
            block.lines.append(begin)
            begin += len(taken)
            taken.clear()
            if block.rows == LOOSE_ROWS:
                yield block
                block = LooseBlock([], [])
    except csv.Error as error:
        raise HardGNNError(f"{raw.label}: line {begin}: {_csv_words(error)}") from None
    if block.rows:
        yield block


def _csv_words(error: csv.Error) -> str:
    """What the csv module complains about, in words."""
    if re.search("expected after|unexpected end|field larger", str(error)):
        return f"a quote opens in this row and does not close at the end of its value ({error}); {REMEDY}"
    return f"not a row of a table ({reason(error)})"


def _lines(raw: RawFile, line: int, data: bytes, stream: IO[bytes], taken: list[str]) -> Iterator[str]:
    """The lines of `data` and of what follows it, each noted in `taken` too."""
    rest = b""
    while data or rest:
        whole = rest + data
        cut = whole.rfind(b"\n") + 1 if data else len(whole)
        if len(whole) - cut > LONGEST_LINE:
            raise HardGNNError(f"{raw.label}: line {line} is longer than {LONGEST_LINE >> 20} MiB")
        try:
            text = whole[:cut].decode()
        except UnicodeDecodeError:
            raise not_unicode(raw, whole[:cut], line) from None
        for one in io.StringIO(text, newline="\n"):
            taken.append(one)
            yield one
        line += text.count("\n")
        rest = whole[cut:]
        data = stream.read(BLOCK_BYTES)
        if not data and not rest:
            return


def read_header(raw: RawFile, separator: str, quoted: bool) -> tuple[list[str], int]:
    """The names in the first line that is not blank, and how many lines end with it.

    Raises:
        HardGNNError: there is no text table, or its header is longer than any log has.
    """
    raw.first_line()  # refuses what is no text
    head = raw.head.removeprefix(BOM)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(head.decode(errors="replace"), newline="\n"), delimiter=separator, quoting=quoting)
    try:
        names = next((row for row in reader if any(one.strip() for one in row)), [])
    except csv.Error as error:
        raise HardGNNError(f"{raw.label}: line {reader.line_num}: {_csv_words(error)}") from None
    if len(head) >= HEAD_BYTES - len(BOM) and head.count(b"\n") < reader.line_num:
        raise HardGNNError(f"{raw.label}: line 1: a header of more than {HEAD_BYTES >> 10} KiB")
    return names, reader.line_num


def parsed(raw: RawFile, block: Block | LooseBlock, dialect: Dialect, columns: Mapping[str, int]) -> pl.DataFrame:
    """The values of a block as text, null where there is none.

    Args:
        raw: named in errors.
        block: the rows.
        dialect: how they are written.
        columns: the places of the wanted values, from 0, by name.

    Raises:
        HardGNNError: a row has too many values, or is not UTF-8; names the line.
    """
    if isinstance(block, LooseBlock):
        values = {
            name: [row[place] or None if place < len(row) else None for row in block.values]
            for name, place in columns.items()
        }
        return pl.DataFrame(values, schema=dict.fromkeys(columns, pl.String))
    header = dialect.separator.join(map(str, range(dialect.width))) + "\n"
    # polars complains of too many values only where it reads the last one
    places = sorted({*columns.values(), dialect.width - 1})
    try:
        table = pl.read_csv(
            header.encode() + block.data,
            columns=list(map(str, places)),
            separator=dialect.separator,
            quote_char='"' if block.quoted else None,
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _wrong(raw, block, dialect, error) from None
    if table.height != block.rows:
        raise _wrong(raw, block, dialect, ValueError(f"{block.rows} rows, of which {table.height} can be parsed"))
    return table.select(pl.col(str(place)).alias(name) for name, place in columns.items())


def _wrong(raw: RawFile, block: Block, dialect: Dialect, error: BaseException) -> HardGNNError:
    """What is wrong with a block that polars cannot parse."""
    if machine_fault(error):
        return MachineError(f"{raw.label}: cannot be read: {machine_fault(error)}")
    try:
        text = block.data.decode()
    except UnicodeDecodeError:
        return not_unicode(raw, block.data, block.line)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if block.quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=dialect.separator, quoting=quoting)
    begin = block.line
    try:
        for row in reader:
            if len(row) > dialect.width:
                return HardGNNError(f"{raw.label}: line {begin}: {len(row)} fields, expected {dialect.width}")
            begin = block.line + reader.line_num
    except csv.Error as wrong:
        return HardGNNError(f"{raw.label}: line {begin}: {_csv_words(wrong)}")
    return HardGNNError(f"{raw.label}: lines {block.line} and more: not a table ({reason(error)})")
