"""What callers pass in, checked in one place for Python and the command line; a sentence names the argument.

Numbers, texts and paths are here; ids, events and data sets, which must be known to be checked, in `data.arguments`.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import NoReturn

import numpy as np

from hardgnn.errors import HardGNNError


def whole(value: object, name: str, least: int = 1) -> int:
    """A whole number, as an int; 10.0 and numpy's numbers will do.

    Raises:
        HardGNNError: it is something else, or below `least`.
    """
    number = isinstance(value, (Integral, Real, np.number)) and not isinstance(value, (bool, np.bool_))
    if not number or not math.isfinite(value) or int(value) != value or value < least:  # type: ignore[arg-type,call-overload,operator]
        refuse(name, f"a whole number of at least {least}", value)
    return int(value)  # type: ignore[call-overload]


def cutoffs(value: object, name: str = "at") -> list[int]:
    """Cut-offs of metrics: one whole number or several, or text such as "10,20"; each once, in their order.

    Raises:
        HardGNNError: there are none, or one is no whole number of at least 1.
    """
    if isinstance(value, str):
        try:
            value = [int(part) for part in value.split(",")]
        except ValueError:
            refuse(name, "whole numbers such as 10,20", value)
    every = list(value) if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)) else [value]
    if not every:
        refuse(name, "one cut-off or more, as in (10, 20)", value)
    return list(dict.fromkeys(whole(one, name) for one in every))


def flag(value: object, name: str) -> bool:
    """True or False.

    Raises:
        HardGNNError: it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        refuse(name, "True or False", value)
    return bool(value)


def text(value: object, name: str) -> str:
    """A text.

    Raises:
        HardGNNError: it is none.
    """
    if not isinstance(value, str):
        refuse(name, "text", value)
    return value


def as_path(value: object, name: str) -> Path:
    """A path.

    Raises:
        HardGNNError: it is none.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        refuse(name, "a path", value)
    return Path(value)


def together(users: int, items: object, given: object) -> None:
    """Checks how many users are asked for (1 where it is nobody in particular) and whence their newer items come.

    Raises:
        HardGNNError: items and events at once, or items with several users.
    """
    if items is not None and given is not None:
        raise HardGNNError("newer items come from events or from items, not from both")
    if items is not None and users != 1:
        raise HardGNNError("items are those of one user; for more users give events")


def refuse(name: str, expected: str, got: object) -> NoReturn:
    """Says what an argument should be and what it is.

    Raises:
        HardGNNError: always.
    """
    short = repr(got) if isinstance(got, (str, int, float, type(None))) else reprlib.repr(got)
    raise HardGNNError(f"{name}: expected {expected}, got {short[:80]}")
