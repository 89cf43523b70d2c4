"""Where a data set comes from and what was done to it: the manifest of a prepared folder, with types.

The manifest itself, as a document, is in the folder and in every run that was trained on the data.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from hardgnn.data.columns import ORDER
from hardgnn.errors import HardGNNError, reason
from hardgnn.version import __version__

FORMAT_VERSION = 2
FILES = "files"  # the manifest's key of sizes and hashes
AGAIN = "prepare it again"  # what mends a folder that is damaged


@dataclass(frozen=True)
class Step:
    """What a step of preparation left."""

    step: str
    interactions: int
    users: int
    items: int


@dataclass(frozen=True)
class Noise:
    """A share in [0, 1] of the training interactions, replaced by random items drawn with a seed."""

    share: float
    seed: int


@dataclass(frozen=True)
class Provenance:
    """Where a data set comes from and what was done to it.

    `source_sha256` is the hash of the source's bytes, `settings` those of the preparation and `steps` what each left.
    `read` tells how the log was understood (None for pickles), `counts` how many users, items and interactions there
    are, and how many of each part. `warnings` make figures doubtful; `leaks` are ways in which the test part stands in
    what is trained on. Times are in seconds since 1970: `cut_times_s` are those at which validation and test begin,
    where the split has such, and `time_span_s` those between which intervals are cut, where the source tells.
    `released` is what was found in released pickles. `noise` was put into the training part.
    """

    name: str = "data"
    source_sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    read: Mapping[str, str | None] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    cut_times_s: Mapping[str, float] | None = None
    time_span_s: tuple[float, float] | None = None
    released: Mapping[str, int] | None = None
    noise: Noise | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def dated(self) -> bool:
        """Whether its times are times, and not only an order."""
        return not str((self.read or {}).get("time_unit")).startswith(ORDER)

    @classmethod
    def of(cls, manifest: Mapping[str, Any], label: str = "the manifest of a data set") -> Provenance:
        """From a manifest, which an earlier version may have written; what it lacks is as by default.

        Raises:
            HardGNNError: a value is of another kind than it should; names `label`.
        """
        try:
            known = {key: kind(manifest[key]) for key, kind in KINDS.items() if manifest.get(key) is not None}
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise HardGNNError(f"{label}: damaged ({reason(error)}); prepare it again") from None
        return cls(**known)

    def manifest(self) -> dict[str, Any]:
        """The document that is written; what is None is left out."""
        document: dict[str, Any] = {"format_version": FORMAT_VERSION}
        for key in KINDS:
            value = getattr(self, key)
            if value is not None and not (key == "leaks" and self.released is None):
                document[key] = _plain(value)
        return document


def versions() -> dict[str, str]:
    """The versions that a preparation depends on."""
    return {
        "hardgnn": __version__,
        "polars": pl.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def same_data(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two manifests are of one data set, which may have been written by different versions, or never."""
    loose = {FILES, "format_version", "warnings"}
    if FILES in one and FILES in other:
        if one[FILES] != other[FILES]:
            return False
        loose |= {"versions", "read"}  # what wrote the same bytes does not matter
    return {k: v for k, v in one.items() if k not in loose} == {k: v for k, v in other.items() if k not in loose}


def _plain(value: Any) -> Any:
    """A field as JSON has it."""
    if isinstance(value, (Step, Noise)):
        return vars(value) | {}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


def _step(step: Any, interactions: Any, users: Any, items: Any, **_: Any) -> Step:
    return Step(str(step), int(interactions), int(users), int(items))


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in list(values))


def _counts(values: Any) -> dict[str, int]:
    return {str(name): int(count) for name, count in dict(values).items()}


def _span(values: Any) -> tuple[float, float]:
    first, last = values
    return float(first), float(last)


KINDS: Mapping[str, Any] = {
    "name": str,
    "source_sha256": str,
    "settings": dict,
    "steps": lambda steps: tuple(_step(**one) for one in steps),
    "read": dict,
    "counts": _counts,
    "warnings": _texts,
    "leaks": _texts,
    "cut_times_s": dict,
    "time_span_s": _span,
    "released": _counts,
    "noise": lambda noise: Noise(float(noise["share"]), int(noise["seed"])),
    "versions": dict,
}
"""The keys of a manifest, each with what makes the field out of its value."""
