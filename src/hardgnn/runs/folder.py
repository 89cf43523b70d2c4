"""The run folder: what a run begins with, where it stands, its results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.data.dataset import Dataset, same_data
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.evaluation.noise import NOISE
from hardgnn.runs.tables import ITEMS, USERS, RunTables, read_tables, write_tables
from hardgnn.storage.files import atomic_path, is_leftover
from hardgnn.storage.kinds import mistaken
from hardgnn.storage.locks import LOCK, is_locked, locked
from hardgnn.storage.records import check_file, digest, read_json, recorded, write_json
from hardgnn.wording import option, said

FORMAT_VERSION = 3
READABLE = (1, 2, FORMAT_VERSION)  # 1 has no hashes; 1 and 2 name their settings as earlier versions did
CONFIG, METRICS, MODEL, RESULT, ENVIRONMENT, FAILURE = (
    "config.toml",
    "metrics.jsonl",
    "model.safetensors",
    "result.json",
    "environment.json",
    "failure.json",
)
BEGUN = (CONFIG, USERS, ITEMS)  # what is written before environment.json, whose presence says that a run is there
RESULT_LOCK = ".result.lock"
RESULT_PATIENCE_S = 20.0
AGAIN = "train it again"


def load_config(folder: Path) -> Config:
    """A run's settings.

    Raises:
        HardGNNError: they are missing, changed since, or of another version.
    """
    if not (folder / CONFIG).exists():
        raise HardGNNError(f"{shown(folder)}: not a run folder, {CONFIG} is missing")
    check_file(folder / CONFIG, check_version(folder).get("files", {}).get(CONFIG), AGAIN)
    return settings.load(folder / CONFIG)


def run_name(folder: Path) -> str:
    """A run is called by its folder."""
    return folder.resolve().name


def is_started(folder: Path) -> bool:
    """Whether the folder holds a run: the record of its start is the last file that a start writes."""
    if not os.path.lexists(folder / ENVIRONMENT):
        return False
    # Earlier versions wrote the ids after it: a kill between leaves what no resuming can mend.
    return (folder / ITEMS).exists() or (folder / MODEL).exists()


def check_free(folder: Path) -> None:
    """Makes sure that a run may begin in the folder: it is new, empty, or holds what a kill left of a start.

    Raises:
        HardGNNError: it holds something else.
    """
    if not folder.exists():
        return
    known = {*BEGUN, ENVIRONMENT, LOCK, RESULT_LOCK, FAILURE, "checkpoint"}
    if not folder.is_dir() or any(path.name not in known and not is_leftover(path) for path in folder.iterdir()):
        raise HardGNNError(f"{shown(folder)}: neither an empty folder nor a run folder, so it is left alone")


def start(
    folder: Path,
    config: Config,
    tables: RunTables,
    manifest: dict[str, Any],
    *,
    data_path: Path | None = None,
    preset: str | None = None,
    warm_start: dict[str, Any] | None = None,
) -> None:
    """Writes what a run folder holds before the first epoch: config, ids, histories, and last the record of all that.

    `warm_start` tells of the older run whose weights this one starts from.
    """
    from hardgnn.ops.native.library import described as operations
    from hardgnn.runs.precision import computing
    from hardgnn.runtime import environment

    with atomic_path(folder / CONFIG, make_parent=False) as temporary:
        temporary.write_text(config.to_toml(), "utf-8")
    write_tables(folder, tables)
    described: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "preset": preset,
        "data": {"path": None if data_path is None else str(data_path.resolve()), "manifest": manifest},
        "files": recorded(folder, list(BEGUN)),
    }
    if warm_start is not None:
        described["warm_start"] = warm_start
    with computing(config):
        described = environment() | {"operations": operations()} | described
    write_json(folder / ENVIRONMENT, described, sealed=True, make_parent=False)


def check_version(folder: Path) -> dict[str, Any]:
    """The record of a run's start.

    Raises:
        HardGNNError: the folder holds no run, or one of another format version; or the record is damaged.
    """
    if wrong := mistaken(folder, "a run folder"):
        raise HardGNNError(wrong)
    if not folder.is_dir():
        raise HardGNNError(
            f"{shown(folder)}: no such run folder; make one with "
            + said(f"`hardgnn train DATA --out {shown(folder)}`", "HardGNN().fit(data).save(…)")
        )
    if not os.path.lexists(folder / ENVIRONMENT):
        raise HardGNNError(f"{shown(folder)}: not a run folder, {ENVIRONMENT} is missing")
    record = read_json(folder / ENVIRONMENT)
    version = record.get("format_version") if isinstance(record, dict) else None
    if version not in READABLE:
        raise HardGNNError(
            f"{shown(folder)}: written by another version (format {version}, this one reads {FORMAT_VERSION}); {AGAIN}"
        )
    with reading(folder / ENVIRONMENT, AGAIN):
        record["data"]["path"], record["data"]["manifest"].get("name")
    return dict(record)


def check_files(folder: Path) -> None:
    """Compares what a run began with, whole, with its record: before results are written.

    Raises:
        HardGNNError: a file is missing, or not what was written.
    """
    for name, record in check_version(folder).get("files", {}).items():
        check_file(folder / name, record, AGAIN)


def identity(folder: Path) -> str:
    """What tells a run from others, by its settings, items and older run; empty for one of an earlier version.

    Users' files are left out: they hold the test items, which change nothing in what is trained.
    """
    record = check_version(folder)
    files = record.get("files", {})
    return digest([files[CONFIG], files[ITEMS], record.get("warm_start")]) if files else ""


def check_identity(folder: Path, path: Path, of: str) -> None:
    """Checks that a file in a run folder is of this run; what earlier versions wrote does not tell.

    Raises:
        HardGNNError: it is another run's.
    """
    if of and of != identity(folder):
        raise HardGNNError(f"{shown(path)}: of another run than the rest of its folder; {AGAIN}")


def read_result(folder: Path) -> dict[str, Any]:
    """What `result.json` holds; empty where the run is not finished and nothing was evaluated yet.

    Raises:
        HardGNNError: it is damaged, or of another run.
    """
    if not os.path.lexists(folder / RESULT):
        return {}
    result = read_json(folder / RESULT)
    if not isinstance(result, dict):
        raise HardGNNError(f"{shown(folder / RESULT)}: damaged, expected a JSON object; {AGAIN}")
    if "run" in result:
        check_identity(folder, folder / RESULT, str(result["run"]))
    return result


def write_result(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Puts what `change` makes of the result in its place; several processes may evaluate one run.

    Raises:
        HardGNNError: the result there is damaged, or cannot be written.
    """
    with locked(folder, RESULT_PATIENCE_S, RESULT_LOCK):
        result = change(read_result(folder)) | {"format_version": FORMAT_VERSION, "run": identity(folder)}
        write_json(folder / RESULT, result, sealed=True, make_parent=False)
    return result


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, one for each epoch.

    Raises:
        HardGNNError: the file is missing or damaged; names the line.
    """
    path = folder / METRICS
    check_file(path, read_result(folder).get("files", {}).get(METRICS), AGAIN)
    lines = []
    with reading(path, AGAIN):
        for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
            try:
                line = json.loads(text)
                line["epoch"] + 0
            except (ValueError, TypeError, KeyError, RecursionError):
                expected = "expected the figures of an epoch"
                raise HardGNNError(f"{shown(path)}: line {number}: damaged, {expected}; {AGAIN}") from None
            lines.append(line)
    return lines


def state(folder: Path) -> str:
    """`running`, `finished`, `failed: why`, or `stopped`, as a kill or an interrupt leaves a run.

    Raises:
        HardGNNError: the folder holds no run, or its records are damaged.
    """
    check_version(folder)
    if is_locked(folder):
        return "running"
    if read_result(folder).get("finished"):
        return "finished"
    if (folder / FAILURE).exists():
        return f"failed: {read_json(folder / FAILURE)['error']}"
    return "stopped"


def load_tables(folder: Path) -> RunTables:
    """What a run folder knows beside the weights.

    Raises:
        HardGNNError: a table is missing or damaged.
    """
    return read_tables(folder, check_version(folder), AGAIN)


def load_data(folder: Path, override: Path | None = None) -> Dataset:
    """The data set a run was trained on, from where it lay or from `override`; clean, where noise was added to it.

    Raises:
        HardGNNError: it is not there, or it is not the data of this run.
    """
    record = check_version(folder)
    path = override or (record["data"]["path"] and Path(record["data"]["path"]))
    if not path:
        raise HardGNNError(f"{folder}: trained from memory; name the prepared folder with {option('data')}")
    if not Path(path).is_dir():
        raise HardGNNError(
            f"{folder}: its data set {path} is not there; name the prepared folder with {option('data')}"
        )
    data = Dataset.load(path)
    trained_on = {key: value for key, value in record["data"]["manifest"].items() if key != NOISE}
    if not same_data(data.manifest, trained_on):
        raise HardGNNError(f"{path}: not the data set that {folder} was trained on, its manifest differs")
    return data
