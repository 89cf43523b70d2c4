"""What a caller gives for a data set: a prepared one, a table, a file or a log, which are prepared first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hardgnn.arguments import refuse
from hardgnn.data.dataset import MANIFEST, Dataset
from hardgnn.data.log import InteractionLog
from hardgnn.data.readers.frames import is_table
from hardgnn.data.readers.times import ROWS
from hardgnn.errors import HardGNNError
from hardgnn.prepare.pipeline import prepare_file
from hardgnn.wording import warn

SEQUENCES = "sequences"  # the format of files whose rows are in order
NAMED = ("table", "csv", "inter", "parquet", "json")  # the formats whose columns have names that can be asked for
EXPECTED = "a prepared Dataset, a log, a table of polars, pandas or Arrow, or the path of a log or a prepared folder"


@dataclass(frozen=True)
class Preparing:
    """How what is no prepared data set yet is made one: which columns mean what, and settings of preparing."""

    user: str | None = None
    item: str | None = None
    time: str | Literal[False] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            refuse("prepare", "settings by name, as in {'k_core': 3}", self.settings)

    @classmethod
    def as_before(cls, manifest: Mapping[str, Any]) -> Preparing:
        """How the data set of a manifest was prepared."""
        read, known = manifest.get("read") or {}, manifest.get("settings") or {}
        named: dict[str, Any] = {}
        if read.get("format") in NAMED:  # a .inter file has a type behind the name
            named = {name: str(read[name]).split(":")[0] for name in ("user", "item", "time") if read.get(name)}
        if read.get("time_unit") == ROWS:
            named["time"] = False
        return cls(**named, settings=known)

    def named_in(self, columns: Sequence[str]) -> bool:
        """Whether a table has all columns that are named."""
        return all(one in columns for one in (self.user, self.item, self.time) if isinstance(one, str))

    @property
    def given(self) -> list[str]:
        """The names of what is asked for."""
        named = {"user": self.user, "item": self.item, "time": self.time, "prepare": self.settings or None}
        return [name for name, value in named.items() if value is not None]


def data_of(value: object, how: Preparing, say: Callable[[str], None], name: str = "data") -> Dataset:
    """The prepared data set that `value` is or becomes.

    Args:
        value: what the caller gave.
        how: to prepare it, where it is not prepared.
        say: told what preparing left; what makes figures doubtful is a Python warning.
        name: of the argument.

    Raises:
        HardGNNError: it is nothing of the kind, cannot be read, or would be prepared twice.
    """
    if is_prepared(value):
        if how.given:
            raise HardGNNError(f"{how.given[0]}: the data set is prepared already, so this would do nothing")
        return value if isinstance(value, Dataset) else Dataset.load(value)  # type: ignore[arg-type]
    if isinstance(value, InteractionLog):
        if columns := [one for one in how.given if one != "prepare"]:
            raise HardGNNError(f"{columns[0]}: the log is read already, so this would do nothing")
        data = value.prepare(**how.settings)
    elif is_table(value):
        data = Dataset.from_frame(value, how.user, how.item, how.time, **how.settings)
    elif _is_path(value):
        data = _of_file(Path(value), how)  # type: ignore[arg-type]
    else:
        refuse(name, EXPECTED, value)
    say(_told(data))
    return data


def is_prepared(value: object) -> bool:
    """Whether it is a prepared data set, or the folder of one."""
    return isinstance(value, Dataset) or (_is_path(value) and (Path(value) / MANIFEST).exists())  # type: ignore[arg-type]


def folder_of(value: object) -> Path | None:
    """The prepared folder that is given, if it is one."""
    return Path(value) if is_prepared(value) and _is_path(value) else None  # type: ignore[arg-type]


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))


def _of_file(path: Path, how: Preparing) -> Dataset:
    settings = dict(how.settings)
    reading: dict[str, Any] = {"user_col": how.user, "item_col": how.item, "time_col": how.time or None}
    if settings.get("drop_missing"):
        reading["drop_missing"] = True
    kind = SEQUENCES if how.time is False else None
    data = prepare_file(path, settings.pop("preset", None), kind, reading, settings)
    for sentence in data.provenance.warnings:
        warn(sentence)
    return data


def _told(data: Dataset) -> str:
    """What preparing took and left."""
    before, counts = data.provenance.steps, data.counts
    was = f"{before[0].interactions:,} interactions read, " if before else ""
    core = data.provenance.settings.get("k_core")
    kept = f" (k_core={core})" if core and data.provenance.settings.get("thresholds") == "k_core" else ""
    return (
        f"{data.name}: {was}{counts['interactions']:,} kept{kept}, of {counts['users']:,} users and "
        f"{counts['items']:,} items; {counts['train']:,} to train, {counts['valid']:,} to validate, "
        f"{counts['test']:,} to test"
    )
