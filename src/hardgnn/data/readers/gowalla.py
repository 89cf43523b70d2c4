"""Gowalla's check-ins: user, time, latitude, longitude and location id between tabs, no header.

Source: https://snap.stanford.edu/data/loc-gowalla.html.
"""

from __future__ import annotations

import re

from hardgnn.data.log import ITEM, TIMESTAMP, USER
from hardgnn.data.readers.raw import RawFile
from hardgnn.data.readers.source import Columns, Source, refuse_columns, split_lines

LINE = re.compile(r"[^\t]+\t\s*\d{4}-\d\d-\d\dT[^\t]+\t[^\t]*\t[^\t]*\t[^\t]+[\t ]*")


def looks_like_gowalla(line: str) -> bool:
    """Whether a file's first line is one of these."""
    return LINE.fullmatch(line) is not None


def read_gowalla(raw: RawFile, wanted: Columns) -> Source:
    """loc-gowalla_totalCheckins.txt; the item is the location.

    Raises:
        HardGNNError: column names are given.
    """
    refuse_columns(raw, wanted, "gowalla")
    return split_lines(raw, "\t", [USER, TIMESTAMP, "_latitude", "_longitude", ITEM])
