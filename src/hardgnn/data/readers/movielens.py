"""MovieLens: u.data (tabs) and ratings.dat (::) without a header, ratings.csv with one; also inside GroupLens' zip.

Source: the README of each archive at https://grouplens.org/datasets/movielens.
"""

from __future__ import annotations

import re

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.base import Fit, named, reader, text_sample
from hardgnn.data.readers.ratings import refuse_implausible
from hardgnn.data.readers.source import Columns, Source, refuse_columns, split_lines
from hardgnn.data.readers.tables import read_csv

NAMES = (USER, ITEM, RATING, TIMESTAMP)
LINE = re.compile(r"\s*\d+\t\d+\t[\d.]+\t\d+\s*|[^:]+::[^:]+::[\d.]+::\d+\s*")


SAMPLE = ("196\t242\t3\t881250949", "186\t302\t3\t891717742")


def fits(raw: RawFile) -> Fit:
    """By the first line, one of u.data or ratings.dat, or by the name: ratings.csv is so only in an archive.

    Raises:
        HardGNNError: such a line in a file of another name, with values that are no ratings and times.
    """
    name = Fit.NAME if raw.member and raw.name == "ratings.csv" else named("u.data", "ratings.dat")(raw)
    if not LINE.fullmatch(raw.start()):
        return name
    if not name:
        refuse_implausible(raw)
    return Fit.CONTENT


@reader("movielens", columns=True, fits=fits, sample=text_sample(*SAMPLE))
def read_movielens(raw: RawFile, wanted: Columns) -> Source:
    """One of the three forms, told by the first line.

    Raises:
        HardGNNError: column names are given for a form without a header, or a column is missing.
    """
    line = raw.first_line()
    if "::" in line or LINE.fullmatch(line):
        refuse_columns(raw, wanted, raw.name)
        return split_lines(raw, "::" if "::" in line else "\t", NAMES)
    return read_csv(raw, wanted)
