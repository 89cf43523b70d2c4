"""Logs of one JSON object a line, plain or gzipped: fields are columns, found by their usual names.

Amazon's reviews among them: reviewerID, asin, overall, unixReviewTime; since 2023 user_id, parent_asin, rating,
timestamp. Source: https://amazon-reviews-2023.github.io.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.source import Columns, Source, streamed
from hardgnn.data.readers.tables import chosen_names
from hardgnn.errors import HardGNNError


def read_json(raw: RawFile, wanted: Columns) -> Source:
    """An object a line; of each only the fields that mean something are kept.

    Raises:
        HardGNNError: a field is missing or holds no plain value; while it is read, a line is no JSON.
    """
    first = json_object(first_text(raw), raw, 1)
    columns = chosen_names(list(first), wanted, raw.label)
    for meaning, name in columns.items():
        if isinstance(first[name], (dict, list)):
            kind = "a list" if isinstance(first[name], list) else "an object"
            raise HardGNNError(f"{raw.label}: line 1: the field '{name}' cannot be the {meaning}: it holds {kind}")
    return json_lines(raw, columns)


def first_text(raw: RawFile) -> str:
    """The first line that is not blank, whole."""
    _, block = next(raw.blocks())
    return block.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")


def json_lines(raw: RawFile, columns: Mapping[str, str]) -> Source:
    """The fields `columns` (by what they mean) of each object, as text; null where one has none."""
    renamed = {name: meaning for meaning, name in columns.items()}
    schema = dict.fromkeys(renamed, pl.String())

    def parse(line: int, block: bytes) -> pl.DataFrame:
        if not block.strip():
            return pl.DataFrame(schema=schema).rename(renamed)
        try:
            return pl.read_ndjson(block, schema=schema).rename(renamed)
        except pl.exceptions.PolarsError:
            for number, text in enumerate(block.split(b"\n"), line):
                if text.strip():
                    json_object(text, raw, number)
            raise

    def place(row: int) -> str:
        with raw.open() as stream:  # blank lines are no rows
            numbers = (number for number, text in enumerate(stream, 1) if text.strip())
            return f"line {next(number for count, number in enumerate(numbers) if count == row)}"

    return Source(streamed(raw, dict.fromkeys(columns, pl.String()), parse), place, names=columns)


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
