"""Yelp's reviews: one JSON object per line, as a file, gzipped, or inside the official archive.

Source: https://www.yelp.com/dataset/documentation/main, review.json.
"""

from __future__ import annotations

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.base import Fit, reader, text_sample
from hardgnn.data.readers.json_lines import first_text, json_lines, json_object
from hardgnn.data.readers.source import Source, listed
from hardgnn.errors import HardGNNError

COLUMNS = {USER: "user_id", ITEM: "business_id", TIMESTAMP: "date", RATING: "stars"}


SAMPLE = (
    '{"user_id": "u", "business_id": "b", "stars": 4.0, "date": "2016-03-09 00:00:00"}',
    '{"user_id": "u", "business_id": "c", "stars": 2.0, "date": "2017-01-02 10:20:30"}',
)


def fits(raw: RawFile) -> Fit:
    """By the first line, an object of Yelp's."""
    line = raw.start()
    return Fit.SURE if line.lstrip().startswith("{") and '"business_id"' in line else Fit.NO


@reader("yelp", fits=fits, sample=text_sample(*SAMPLE))
def read_yelp(raw: RawFile) -> Source:
    """yelp_academic_dataset_review.json; only four fields of each review are kept, the text never.

    Raises:
        HardGNNError: the first line is no review; while it is read, a line is no JSON.
    """
    found = json_object(first_text(raw), raw, 1)
    if missing := [name for meaning, name in COLUMNS.items() if name not in found and meaning != RATING]:
        raise HardGNNError(
            f"{raw.label}: line 1: no {missing[0]}; fields found: {listed(found)}; the interactions are "
            "in yelp_academic_dataset_review.json"
        )
    return json_lines(raw, COLUMNS)
