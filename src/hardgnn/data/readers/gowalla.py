"""Gowalla's check-ins: user, time, latitude, longitude and location id between tabs, no header.

Source: https://snap.stanford.edu/data/loc-gowalla.html.
"""

from __future__ import annotations

import re

from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.base import Fit, reader, text_sample
from hardgnn.data.readers.source import Source, split_lines

LINE = re.compile(r"[^\t]+\t\s*\d{4}-\d\d-\d\dT[^\t]+\t[^\t]*\t[^\t]*\t[^\t]+[\t ]*")


SAMPLE = ("0\t2010-10-19T23:55:27Z\t30.2\t-97.7\t22847", "0\t2010-10-18T22:17:43Z\t30.3\t-97.8\t420315")


def fits(raw: RawFile) -> Fit:
    """By the first line."""
    return Fit.SURE if LINE.fullmatch(raw.start()) else Fit.NO


@reader("gowalla", fits=fits, sample=text_sample(*SAMPLE))
def read_gowalla(raw: RawFile) -> Source:
    """loc-gowalla_totalCheckins.txt; the item is the location."""
    return split_lines(raw, "\t", [USER, TIMESTAMP, "_latitude", "_longitude", ITEM])
