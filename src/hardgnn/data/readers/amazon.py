"""Amazon's ratings-only files of 2014: `user,item,rating,timestamp`, no header, repeated ratings among them.

Source: https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html, "ratings only".
"""

from __future__ import annotations

import re

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.base import Fit, reader, text_sample
from hardgnn.data.readers.json_lines import read_json
from hardgnn.data.readers.ratings import refuse_implausible
from hardgnn.data.readers.source import Columns, Source, refuse_columns, split_lines
from hardgnn.errors import HardGNNError

PRODUCT = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")  # an ASIN, or a book's ISBN
REVIEWER = re.compile(r"A[0-9A-Z]{9,20}")
LINE = re.compile(r"[^,]+,[^,]+,\s*[0-9.]+\s*,\s*[0-9]+\s*")


SAMPLE = ("A1BHRNIMZYDW0A,B00004RAVN,5.0,1378425600", "A2UGAGY6IWHYGS,B00004RAVN,3.0,1378512000")


def fits(raw: RawFile) -> Fit:
    """By the first line.

    Raises:
        HardGNNError: such a line, with values that are no ratings and times.
    """
    if not LINE.fullmatch(raw.start()):
        return Fit.NO
    refuse_implausible(raw)
    return Fit.CONTENT


@reader("amazon", columns=True, fits=fits, sample=text_sample(*SAMPLE))
def read_amazon(raw: RawFile, wanted: Columns) -> Source:
    """Amazon's ratings CSV of 2014.

    Raises:
        HardGNNError: column names are given, or item and user stand in the other order, as in the files of 2018.
    """
    if raw.first_line().lstrip().startswith("{"):  # the reviews themselves
        return read_json(raw, wanted)
    refuse_columns(raw, wanted, "amazon")
    first, second, *_ = [*raw.first_line().split(","), "", ""]
    if PRODUCT.fullmatch(first.strip()) and REVIEWER.fullmatch(second.strip()):
        raise HardGNNError(
            f"{raw.label}: line 1: item and user stand in the order of the 2018 files, expected user,item,rating,"
            "timestamp; put a header item,user,rating,timestamp in front and read it as csv"
        )
    return split_lines(raw, ",", [USER, ITEM, RATING, TIMESTAMP])
