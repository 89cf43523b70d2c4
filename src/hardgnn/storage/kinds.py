"""What lies at a path: told where a command was given one thing for another."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from hardgnn.wording import said

DOWNLOAD = "download.json"
KINDS = {
    "study.json": "a study",
    "environment.json": "a run folder",
    "config.toml": "a run folder",  # of which a kill may have left no more
    "manifest.json": "a prepared folder",
    "export.json": "an exported folder",
    DOWNLOAD: "a download",
    "_shards.json": "recommendations in shards",
}
"""What a folder is, by a file in it."""
REMEDIES = {
    ("a file", "a prepared folder"): (
        "if it is a log, prepare it first: `hardgnn prepare {path} --out data/{stem}`",
        "if it is a log, prepare it first: Dataset.read({name}).prepare()",
    ),
    ("a file", "a run folder"): (
        "if it is a log, prepare it and train on it first: `hardgnn prepare {path} --out data/{stem}`, then "
        "`hardgnn train data/{stem} --out runs/{stem}`",
        "if it is a log, train on it first: HardGNN().fit({name})",
    ),
    ("a download", "a prepared folder"): (
        "prepare it first: `hardgnn prepare {log} --out data/{stem}`",
        "prepare it first: Dataset.read({name}).prepare()",
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
    words = {name: shlex.quote(str(one)) for name, one in (("path", path), ("log", _log_in(path)))}
    words |= {"name": repr(str(path)), "stem": shlex.quote(path.name.partition(".")[0] or "log")}
    return f"{path}: {found}, where {expected} is expected{'; ' + remedy.format(**words) if remedy else ''}"


def _log_in(folder: Path) -> Path:
    """The log of a download, where its record tells; otherwise the folder itself."""
    try:
        return folder / str(json.loads((folder / DOWNLOAD).read_text("utf-8"))["log"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder
