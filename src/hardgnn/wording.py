"""Sentences that say what to do: as a command is typed, or as Python is written, whichever way the library is used."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOUSE = str(Path(__file__).parent) + os.sep

TYPED = "HARDGNN_TYPED"  # in the environment, so that the processes of a command know it too


@contextmanager
def typed() -> Iterator[None]:
    """While a command runs, sentences name options and commands; otherwise arguments and functions of Python."""
    before = os.environ.get(TYPED)
    os.environ[TYPED] = "1"
    try:
        yield
    finally:
        del os.environ[TYPED]
        if before is not None:
            os.environ[TYPED] = before


def said(command: str, python: str) -> str:
    """How it is said to who runs a command, and to who calls Python."""
    return command if TYPED in os.environ else python


def option(name: str, value: str = "") -> str:
    """An option of a command, or the argument that has its name: `--user-col`, `user_col`."""
    flag = f"--{name.replace('_', '-')}"
    if not value:
        return said(flag, name)
    return said(flag if value == "True" else f"{flag} {value}", f"{name}={value}")


def warn(sentence: str) -> None:
    """A Python warning at the line that called the library, however deep in it the sentence is said."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HOUSE):
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, stacklevel=level)


def corrected_over(count: int) -> str:
    """How many comparisons p-values are corrected over."""
    return "one comparison" if count == 1 else f"all {count:,} comparisons"
