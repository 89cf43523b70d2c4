"""Yelp's reviews: one JSON object per line, as a file, gzipped, or inside the official archive.

Source: https://www.yelp.com/dataset/documentation/main, review.json.
"""

from __future__ import annotations

import json

import polars as pl

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers.raw import HEAD_BYTES, RawFile
from hardgnn.data.readers.source import Columns, Source, refuse_columns, streamed
from hardgnn.errors import HardGNNError

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
                f"{raw.label}: line 1: no {missing[0]}; fields found: {', '.join(found)[:200]}; the interactions are "
                "in yelp_academic_dataset_review.json"
            )

    def parse(line: int, block: bytes) -> pl.DataFrame:
        schema = dict.fromkeys(FIELDS, pl.String())
        if not block.strip():
            return pl.DataFrame(schema=schema).rename(FIELDS)
        try:
            return pl.read_ndjson(block, schema=schema).rename(FIELDS)
        except pl.exceptions.PolarsError:
            for number, text in enumerate(block.split(b"\n"), line):
                if text.strip():
                    json_object(text, raw, number)
            raise

    def place(row: int) -> str:
        with raw.open() as stream:  # blank lines are no rows
            numbers = (number for number, text in enumerate(stream, 1) if text.strip())
            return f"line {next(number for count, number in enumerate(numbers) if count == row)}"

    schema = dict.fromkeys(FIELDS.values(), pl.String())
    table = streamed(lambda: (parse(line, block) for line, block in raw.blocks()), schema)
    return Source(table, place)


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
