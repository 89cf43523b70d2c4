"""Logs without times: users and their items, oldest first, as SASRec and S3-Rec publish theirs.

A line is a user and one item, or a user and all items, between blanks, tabs or commas: `1 17` or `1 17 4 23`.
Sources: https://github.com/kang205/SASRec (data), https://github.com/RUCAIBox/CIKM2020-S3Rec (data).
"""

from __future__ import annotations

import re
from collections import Counter

import polars as pl

from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.base import reader, text_sample
from hardgnn.data.readers.source import Columns, Source, refuse_columns, streamed, text_lines
from hardgnn.data.readers.tables import USUAL_NAMES, plain, read_csv, read_inter, read_parquet
from hardgnn.errors import HardGNNError
from hardgnn.wording import option, said

BETWEEN = r"[ \t,]+"
EMPTY = r"^[ \t]*,|,[ \t]*,"  # nothing in front of a comma
SCHEMA = {USER: pl.String(), ITEM: pl.String()}


@reader("sequences", columns=True, sample=text_sample("ann x y z", "bob y x"))
def read_sequences(raw: RawFile, wanted: Columns) -> Source:
    """Lines of a user and one or more items, or a table with a header whose rows are oldest first.

    Raises:
        HardGNNError: a time column is given, or lines are no sequences; while they are read, one has no item.
    """
    if wanted.get(TIMESTAMP) is not None:
        raise HardGNNError(f"{raw.label}: sequences take the order of the rows for time, so a time column does nothing")
    untimed = {meaning: name for meaning, name in wanted.items() if meaning != TIMESTAMP}
    if raw.head.startswith(b"PAR1"):
        return read_parquet(raw, untimed)
    header = raw.first_line()
    header_names = re.split(r"[\t,;|]", header)
    if wanted.get(USER) in header_names or any(plain(name) in USUAL_NAMES[USER] for name in header_names):
        return (read_inter if ":" in header and "\t" in header else read_csv)(raw, untimed)
    refuse_columns(raw, wanted, "sequences")
    refuse_tables(raw)

    def parse(line: int, block: bytes) -> pl.DataFrame:
        text = pl.col("line").str.strip_chars(" \t\r")
        table = pl.DataFrame({"line": text_lines(raw, line, block)}).with_row_index("number", line).filter(text != "")
        empty = table.filter(text.str.contains(EMPTY))
        fields = text.str.strip_chars(" \t\r,").str.replace_all(BETWEEN, " ").str.split(" ")
        split = table.select("number", fields.list.first().alias(USER), fields.list.slice(1).alias(ITEM))
        short = split.filter(pl.col(ITEM).list.len() == 0)
        for some, what in ((empty, "an id is empty"), (short, "one field, expected a user and items")):
            if not some.is_empty():
                raise HardGNNError(f"{raw.label}: line {some['number'][0]}: {what}")
        return split.select(USER, ITEM).explode(ITEM)

    names = {USER: "first field", ITEM: "the others"}
    table = streamed(lambda: (parse(line, block) for line, block in raw.blocks()), SCHEMA)
    return Source(table, lambda row: place(raw, row), names=names)


def refuse_tables(raw: RawFile) -> None:
    """Refuses lines of several fields in which a user comes again: their other fields are no items.

    Raises:
        HardGNNError: names the second line of such a user.
    """
    fields = [re.split(BETWEEN, line.strip(" \t\r,")) for line in raw.head_lines()]
    if any(len(one) > 2 for one in fields):
        seen: Counter[str] = Counter()
        for number, (user, *_) in enumerate(fields, 1):
            seen[user] += 1
            if seen[user] > 1:
                raise HardGNNError(
                    f"{raw.label}: line {number}: user '{user}' has a line already; expected all items of a user on "
                    "one line, or one item on each; a table with other columns needs a header and "
                    f"{option('format', said('csv', repr('csv')))}"
                )


def place(raw: RawFile, row: int) -> str:
    """The line of a row."""
    with raw.open() as lines:
        for number, data in enumerate(lines, 1):
            line = data.decode()
            row -= max(0, len(re.split(BETWEEN, line.strip(" \t\r\n,"))) - 1)
            if row < 0:
                return f"line {number}"
    return "the last line"
