"""MovieLens: u.data (tabs) and ratings.dat (::) without a header, ratings.csv with one; also inside GroupLens' zip.

Source: the README of each archive at https://grouplens.org/datasets/movielens.
"""

from __future__ import annotations

import re
from dataclasses import replace

from hardgnn.data.log import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.source import Columns, Source, refuse_columns, split_lines
from hardgnn.data.readers.tables import chosen_names, read_csv

NAMES = (USER, ITEM, RATING, TIMESTAMP)
LINE = re.compile(r"\s*\d+(\t|::)\d+\1[\d.]+\1\d+\s*")


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
    if raw.member is None:
        return read_csv(raw, wanted)
    names = line.split(",")
    columns = chosen_names(names, wanted, raw.label)
    meanings = {name: meaning for meaning, name in columns.items()}
    source = split_lines(raw, ",", [meanings.get(name, f"_{name}") for name in names], header=True)
    return replace(source, names=columns)
