"""Logs of one JSON object a line, plain or gzipped: fields are columns, found by their usual names.

Amazon's reviews among them: reviewerID, asin, overall, unixReviewTime; since 2023 user_id, parent_asin, rating,
timestamp. Source: https://amazon-reviews-2023.github.io.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.base import Fit, named, reader, text_sample
from hardgnn.data.readers.source import Columns, Source, streamed
from hardgnn.data.readers.tables import chosen_names
from hardgnn.errors import HardGNNError, reason

SAMPLE = (
    '{"reviewerID": "ann", "asin": "x", "overall": 5.0, "unixReviewTime": 1400000000}',
    '{"reviewerID": "bob", "asin": "y", "overall": 3.0, "unixReviewTime": 1400000100}',
)


def fits(raw: RawFile) -> Fit:
    """By the first line, an object, or by the name."""
    return Fit.CONTENT if raw.start().lstrip().startswith("{") else named(".json", ".jsonl")(raw)


@reader("json", columns=True, fits=fits, sample=text_sample(*SAMPLE))
def read_json(raw: RawFile, wanted: Columns) -> Source:
    """An object a line; of each only the fields that mean something are kept.

    Raises:
        HardGNNError: a field is missing; while it is read, a line is no JSON, or a field holds a list or an object.
    """
    first = json_object(first_text(raw), raw, 1)
    columns = chosen_names(list(first), wanted, raw.label)
    return json_lines(raw, columns)


def first_text(raw: RawFile) -> str:
    """The first line that is not blank, whole."""
    _, block = next(raw.blocks())
    return block.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")


def json_lines(raw: RawFile, columns: Mapping[str, str]) -> Source:
    """The fields `columns` (by what they mean) of each object, as text; null where one has none.

    Raises:
        HardGNNError: while the table is read, a line is no JSON object, or a field a list or an object.
    """
    renamed = {name: meaning for meaning, name in columns.items()}
    schema = dict.fromkeys(renamed, pl.String())

    def parse(line: int, block: bytes) -> pl.DataFrame:
        if not block.strip():
            return pl.DataFrame(schema=schema).rename(renamed)
        try:
            table = pl.read_ndjson(block, schema=schema)
        except pl.exceptions.PolarsError as error:
            raise HardGNNError(f"{raw.label}: {wrong_line(line, block, raw, list(schema), reason(error))}") from None
        if strange := [name for name in schema if table[name].str.contains(r"^[\[{]").any()]:
            refuse_nested(line, block, raw, strange)
        return table.rename(renamed)

    def place(row: int) -> str:
        with raw.open() as stream:  # blank lines are no rows
            numbers = (number for number, text in enumerate(stream, 1) if text.strip())
            return f"line {next(number for count, number in enumerate(numbers) if count == row)}"

    table = streamed(lambda: (parse(line, block) for line, block in raw.blocks()), dict.fromkeys(columns, pl.String()))
    return Source(table, place, names=columns)


def wrong_line(line: int, block: bytes, raw: RawFile, names: list[str], why: str) -> str:
    """Names the first line of a block that polars cannot read, and why.

    Raises:
        HardGNNError: that line is no JSON object.
    """
    for number, text in enumerate(block.split(b"\n"), line):
        if text.strip():
            json_object(text, raw, number)
            try:
                pl.read_ndjson(text, schema=dict.fromkeys(names, pl.String()))
            except pl.exceptions.PolarsError as error:
                return f"line {number}: not valid JSON ({reason(error)})"
    return f"lines {line} and more: not valid JSON ({why})"


def refuse_nested(line: int, block: bytes, raw: RawFile, names: list[str]) -> None:
    """Refuses a list or an object where an id, a date or a number of stars is expected.

    Raises:
        HardGNNError: there is one; names the line.
    """
    for number, text in enumerate(block.split(b"\n"), line):
        found = json_object(text, raw, number) if text.strip() else {}
        if bad := next((name for name in names if isinstance(found.get(name), (list, dict))), None):
            kind = "a list" if isinstance(found[bad], list) else "an object"
            raise HardGNNError(f"{raw.label}: line {number}: {bad} is {kind}, expected a string or a number")


def json_object(text: str | bytes, raw: RawFile, line: int) -> dict[str, Any]:
    """The object on one line.

    Raises:
        HardGNNError: it is none; names the line.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HardGNNError(f"{raw.label}: line {line}: not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise HardGNNError(f"{raw.label}: line {line}: expected a JSON object, found {type(found).__name__}")
    return found
