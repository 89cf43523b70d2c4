"""Yelp's reviews: one JSON object per line, as a file, gzipped, or inside the official archive.

Source: https://www.yelp.com/dataset/documentation/main, review.json.
"""

from __future__ import annotations

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers.json_lines import first_text, json_lines, json_object
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.source import Columns, Source, listed, refuse_columns
from hardgnn.errors import HardGNNError

COLUMNS = {USER: "user_id", ITEM: "business_id", TIMESTAMP: "date", RATING: "stars"}


def looks_like_yelp(line: str) -> bool:
    """Whether a file's first line is an object of Yelp's."""
    return '"business_id"' in line


def read_yelp(raw: RawFile, wanted: Columns) -> Source:
    """yelp_academic_dataset_review.json; only four fields of each review are kept, the text never.

    Raises:
        HardGNNError: column names are given, or the first line is no review; while it is read, a line is no JSON.
    """
    refuse_columns(raw, wanted, "yelp")
    found = json_object(first_text(raw), raw, 1)
    if missing := [name for meaning, name in COLUMNS.items() if name not in found and meaning != RATING]:
        raise HardGNNError(
            f"{raw.label}: line 1: no {missing[0]}; fields found: {listed(found)}; the interactions are "
            "in yelp_academic_dataset_review.json"
        )
    return json_lines(raw, COLUMNS)
