"""Yelp's reviews: one JSON object per line, as a file, gzipped, or inside the official archive.

Source: https://www.yelp.com/dataset/documentation/main, review.json.
"""

from __future__ import annotations

import json

import polars as pl

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers.raw import HEAD_BYTES, RawFile
from hardgnn.data.readers.source import Columns, Source, listed, refuse_columns, streamed
from hardgnn.errors import HardGNNError, reason

FIELDS = {"user_id": USER, "business_id": ITEM, "date": TIMESTAMP, "stars": RATING}


def looks_like_yelp(line: str) -> bool:
    """Whether a file's first line is a JSON object."""
    return line.lstrip().startswith("{")


def read_yelp(raw: RawFile, wanted: Columns) -> Source:
    """yelp_academic_dataset_review.json; only four fields of each review are kept, the text never.

    Raises:
        HardGNNError: column names are given, or the first line is no review; while it is read, a line is no JSON.
    """
    refuse_columns(raw, wanted, "yelp")
    first = raw.first_line()
    if len(raw.head) < HEAD_BYTES or b"\n" in raw.head.strip():  # else the line goes on beyond the head
        found = json_object(first, raw, 1)
        if missing := [name for name in FIELDS if name not in found and name != "stars"]:
            raise HardGNNError(
                f"{raw.label}: line 1: no {missing[0]}; fields found: {listed(found)}; the interactions are "
                "in yelp_academic_dataset_review.json"
            )

    def parse(line: int, block: bytes) -> pl.DataFrame:
        schema = dict.fromkeys(FIELDS, pl.String())
        if not block.strip():
            return pl.DataFrame(schema=schema).rename(FIELDS)
        try:
            table = pl.read_ndjson(block, schema=schema)
        except pl.exceptions.PolarsError as error:
            raise HardGNNError(f"{raw.label}: {wrong_line(line, block, raw, reason(error))}") from None
        if strange := [name for name in FIELDS if table[name].str.contains(r"^[\[{]").any()]:
            refuse_nested(line, block, raw, strange)
        return table.rename(FIELDS)

    def place(row: int) -> str:
        with raw.open() as stream:  # blank lines are no rows
            numbers = (number for number, text in enumerate(stream, 1) if text.strip())
            return f"line {next(number for count, number in enumerate(numbers) if count == row)}"

    schema = dict.fromkeys(FIELDS.values(), pl.String())
    table = streamed(lambda: (parse(line, block) for line, block in raw.blocks()), schema)
    return Source(table, place)


def wrong_line(line: int, block: bytes, raw: RawFile, why: str) -> str:
    """Names the first line of a block that polars cannot read, and why.

    Raises:
        HardGNNError: that line is no JSON object.
    """
    for number, text in enumerate(block.split(b"\n"), line):
        if text.strip():
            json_object(text, raw, number)
            try:
                pl.read_ndjson(text, schema=dict.fromkeys(FIELDS, pl.String()))
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


def json_object(text: str | bytes, raw: RawFile, line: int) -> dict[str, object]:
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
