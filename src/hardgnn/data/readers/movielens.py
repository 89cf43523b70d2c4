"""MovieLens: u.data (tabs) and ratings.dat (::) without a header, ratings.csv with one; also inside GroupLens' zip.

Source: the README of each archive at https://grouplens.org/datasets/movielens.
"""

from __future__ import annotations

import re

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.source import Columns, Source, refuse_columns, split_lines
from hardgnn.data.readers.tables import read_csv

NAMES = (USER, ITEM, RATING, TIMESTAMP)
LINE = re.compile(r"\s*\d+\t\d+\t[\d.]+\t\d+\s*|[^:]+::[^:]+::[\d.]+::\d+\s*")


def looks_like_movielens(line: str) -> bool:
    """Whether a file's first line is one of u.data or ratings.dat."""
    return LINE.fullmatch(line) is not None


def read_movielens(raw: RawFile, wanted: Columns) -> Source:
    """One of the three forms, told by the first line.

    Raises:
        HardGNNError: column names are given for a form without a header, or a column is missing.
    """
    line = raw.first_line()
    if "::" in line or looks_like_movielens(line):
        refuse_columns(raw, wanted, raw.name)
        return split_lines(raw, "::" if "::" in line else "\t", NAMES)
    return read_csv(raw, wanted)
