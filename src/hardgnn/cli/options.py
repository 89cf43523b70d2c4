"""What options of several commands have in common."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hardgnn.errors import HardGNNError

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Metrics = Annotated[
    str | None,
    typer.Option(help="Names of metrics, as in hr,ndcg,mrr,coverage,gini (docs/metrics.md); hr,ndcg by default."),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes at a time; they share the cores.")]


def whole_numbers(text: str, option: str, least: int) -> list[int]:
    """Different whole numbers from "10,20".

    Raises:
        HardGNNError: something else, named with its option.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise HardGNNError(f"{option} {text}: expected whole numbers such as {least},{least + 1}") from None
    if min(numbers) < least or len(set(numbers)) < len(numbers):
        raise HardGNNError(f"{option} {text}: expected different numbers of at least {least}")
    return numbers


def chosen_metrics(text: str | None) -> Sequence[str]:
    """The metrics that `--metrics` names, or the usual ones.

    Raises:
        HardGNNError: an unknown name; tells the nearest.
    """
    from hardgnn.metrics import DEFAULT, named

    return DEFAULT if text is None else named(text, "--metrics")


def command_line() -> str:
    """What the user typed, to be kept with what came of it."""
    return shlex.join(["hardgnn", *sys.argv[1:]])
