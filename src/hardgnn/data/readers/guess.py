"""Which format a file has, from its content first and its name second."""

from __future__ import annotations

import re

from hardgnn.data.readers.amazon import looks_like_amazon
from hardgnn.data.readers.gowalla import looks_like_gowalla
from hardgnn.data.readers.movielens import looks_like_movielens
from hardgnn.data.readers.raw import HEAD_BYTES, RawFile
from hardgnn.data.readers.times import FIRST_YEAR, plausible_span
from hardgnn.data.readers.yelp import looks_like_yelp
from hardgnn.errors import HardGNNError

NAMES = {
    "parquet": (".parquet", ".pq"),
    "inter": (".inter",),
    "movielens": ("u.data", "ratings.dat"),
    "json": (".json", ".jsonl"),
}
HIGHEST_RATING = 10


def guess_format(raw: RawFile) -> str:
    """The format of a file.

    Raises:
        HardGNNError: it has four fields and no header, but its values are not those of a log of ratings.
    """
    if raw.head.startswith(b"PAR1"):
        return "parquet"
    lines = head_lines(raw)
    first = lines[0] if lines else ""
    if re.match(r"[^\t]+:(token|float|token_seq|float_seq)\s*(\t|$)", first):
        return "inter"
    if first.lstrip().startswith("{"):
        return "yelp" if looks_like_yelp(first) else "json"
    if looks_like_gowalla(first):
        return "gowalla"
    named = next((kind for kind, endings in NAMES.items() if raw.name.endswith(endings)), None)
    if raw.member is not None and raw.name == "ratings.csv":
        named = "movielens"
    for kind, fits in {"movielens": looks_like_movielens, "amazon": looks_like_amazon}.items():
        if fits(first):
            if named != kind:
                refuse_implausible(raw, lines)
            return kind
    return named or "csv"


def head_lines(raw: RawFile) -> list[str]:
    """The lines at the begin of a file that are whole and not blank; of one long line what there is."""
    lines = raw.head.decode("utf-8-sig", "replace").split("\n")
    whole = lines[:-1] if len(raw.head) >= HEAD_BYTES and len(lines) > 1 else lines
    return [line.rstrip("\r") for line in whole if line.strip()]


def refuse_implausible(raw: RawFile, lines: list[str]) -> None:
    """Refuses to take lines of four fields for user, item, rating, time where third and fourth are no such thing.

    One line in ten, or a single one, may be damaged: it is named when it is read.

    Raises:
        HardGNNError: names the first line with an implausible value.
    """
    odd = [(number, why) for number, line in enumerate(lines, 1) if (why := implausible(line))]
    if len(odd) > max(1, len(lines) // 10) or len(odd) == len(lines):
        number, why = odd[0]
        raise HardGNNError(
            f"{raw.label}: no header, and four fields that are not the user, item, rating and time of MovieLens' and "
            f"Amazon's files: on line {number} {why}; put a header such as user,item,timestamp in front, or name the "
            "format with --format (in Python format)"
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
