"""The one exception that bad input raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HardGNNError(Exception):
    """Bad input, told in one sentence that a user can act on. The command line prints it and exits with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the valid name closest to `name`, or lists them all when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
