"""Files of ratings without a header: whether four fields can be user, item, rating and time."""

from __future__ import annotations

import re

from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.times import FIRST_YEAR, plausible_span
from hardgnn.errors import HardGNNError
from hardgnn.wording import option

HIGHEST_RATING = 10


def refuse_implausible(raw: RawFile) -> None:
    """Refuses to take lines of four fields for user, item, rating, time where third and fourth are no such thing.

    One line in ten, or a single one, may be damaged: it is named when it is read.

    Raises:
        HardGNNError: names the first line with an implausible value.
    """
    lines = raw.head_lines()
    odd = [(number, why) for number, line in enumerate(lines, 1) if (why := implausible(line))]
    if len(odd) > max(1, len(lines) // 10) or len(odd) == len(lines):
        number, why = odd[0]
        raise HardGNNError(
            f"{raw.label}: no header, and four fields that are not the user, item, rating and time of MovieLens' and "
            f"Amazon's files: on line {number} {why}; put a header such as user,item,timestamp in front, or name the "
            f"format with {option('format')}"
        )


def implausible(line: str) -> str | None:
    """What speaks against a line being user, item, rating, time; None if nothing does."""
    fields = re.split(r"::|\t|,", line)
    try:
        rating, time = (float(field) for field in fields[2:4])
    except ValueError:
        return "the third and the fourth are not both numbers"
    if not 0 <= rating <= HIGHEST_RATING:
        return f"the third, '{fields[2].strip()}', is no rating from 0 to {HIGHEST_RATING}"
    start, end = plausible_span()
    if not (start <= time < end or start <= time / 1000 < end):
        return f"the fourth, '{fields[3].strip()}', is no time between {FIRST_YEAR} and next year"
    return None
