"""What lies at a path: told where a command was given one thing for another."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from hardgnn.wording import said

KINDS = {
    "study.json": "a study",
    "environment.json": "a run folder",
    "config.toml": "a run folder",  # of which a kill may have left no more
    "manifest.json": "a prepared folder",
    "export.json": "an exported folder",
    "download.json": "a download",
}
"""What a folder is, by a file in it."""
REMEDIES = {
    ("a file", "a prepared folder"): (
        "if it is a log, prepare it first: `hardgnn prepare {path} --out data/{stem}`",
        "if it is a log, prepare it first: Dataset.read({name}).prepare()",
    ),
    ("a run folder", "a prepared folder"): (
        "name the folder that `hardgnn prepare` wrote",
        "name the folder that Dataset.save wrote",
    ),
    ("a prepared folder", "a run folder"): (
        "train on it first: `hardgnn train {path} --out runs/{stem}`",
        "train on it first: HardGNN().fit({name})",
    ),
    ("a study", "a run folder"): ("name one of the folders in its runs/",) * 2,
}


def kind_of(path: Path) -> str | None:
    """What of ours lies there, in words; None where it is nothing of ours."""
    if path.is_file():
        return "a file"
    return next((kind for marker, kind in KINDS.items() if os.path.lexists(path / marker)), None)


def mistaken(path: Path, expected: str) -> str | None:
    """The sentence for a path that holds another thing than `expected`, as `KINDS` has it; None for nothing of ours."""
    found = kind_of(path)
    if found in (None, expected):
        return None
    remedy = said(*REMEDIES.get((str(found), expected), ("", "")))
    words = {
        "name": repr(str(path)),
        "path": shlex.quote(str(path)),
        "stem": shlex.quote(path.name.partition(".")[0] or "log"),
    }
    return f"{path}: {found}, where {expected} is expected{'; ' + remedy.format(**words) if remedy else ''}"
