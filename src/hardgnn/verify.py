"""Every file of a prepared folder, run, study, export, download or folder of shards compared with what was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError, MachineError, shown
from hardgnn.evaluation.ranks import ranks_files, ranks_path, read_ranks
from hardgnn.experiments.folder import FLOORS, RUNS, STUDY, Study
from hardgnn.experiments.peers.records import CHOSEN
from hardgnn.experiments.peers.tuning import PEERS
from hardgnn.prepare import download
from hardgnn.recommend import export, shards
from hardgnn.runs.folder import (
    AGAIN,
    CONFIG,
    ENVIRONMENT,
    METRICS,
    MODEL,
    RESULT,
    identity,
    is_started,
    load_config,
    load_tables,
    read_metrics,
    read_result,
    state,
)
from hardgnn.runs.models import load_model
from hardgnn.storage.kinds import kind_of
from hardgnn.storage.records import check_file, read_json
from hardgnn.storage.tensors import read_seal
from hardgnn.training import checkpoint


@dataclass(frozen=True)
class Checked:
    """A file or folder that was looked at.

    `problem` is a sentence, empty where all is well; `state` is `ok`, `damaged`, `unfinished`, `missing`, or `unknown`
    for what is none of ours.
    """

    path: Path
    what: str
    problem: str = ""
    state: str = "ok"


def verify_all(folders: Sequence[Path]) -> list[Checked]:
    """Checks several folders; one that is none of ours is told among the others."""
    found = []
    for folder in folders:
        try:
            found.extend(verify(folder))
        except MachineError:
            raise
        except HardGNNError as error:
            state = "unknown" if os.path.lexists(folder) else "missing"
            found.append(Checked(folder, kind_of(folder) or "", str(error), state))
    return found


def verify(folder: Path) -> list[Checked]:
    """Checks all that a folder of ours holds.

    Returns:
        What was checked, in order; of a study all its runs too.

    Raises:
        HardGNNError: the folder is none of ours.
    """
    kinds: dict[str, Callable[[Path], Iterator[Checked]]] = {
        "a prepared folder": _prepared,
        "a run folder": _run,
        "a study": _study,
        "an exported folder": _export,
        "a download": _download,
        "recommendations in shards": _shards,
    }
    if not folder.is_dir():
        there = os.path.lexists(folder)
        raise HardGNNError(f"{shown(folder)}: {'a file, expected a folder of ours' if there else 'no such folder'}")
    kind = kind_of(folder)
    if kind is None:
        raise HardGNNError(
            f"{shown(folder)}: neither a prepared folder nor a run, a study, an export, a download or shards"
        )
    return list(kinds[kind](folder))


def _checked(path: Path, what: str, check: Callable[[], object]) -> Checked:
    try:
        check()
    except shards.Unfinished as error:
        return Checked(path, what, str(error), "unfinished")
    except HardGNNError as error:
        return Checked(path, what, str(error), "damaged")
    return Checked(path, what)


def _prepared(folder: Path) -> Iterator[Checked]:
    yield _checked(folder, "prepared data", lambda: Dataset.load(folder))


def _run(folder: Path) -> Iterator[Checked]:
    begun = _checked(folder, "run", lambda: state(folder))
    if begun.problem:
        yield begun
        return
    yield Checked(folder, f"run, {state(folder)}")
    yield _checked(folder / CONFIG, "settings", lambda: load_config(folder))
    yield _checked(folder, "ids and histories", lambda: load_tables(folder))
    result = _checked(folder / RESULT, "result", lambda: read_result(folder))
    yield result
    if not os.path.lexists(folder / RESULT) and ranks_files(folder):
        yield Checked(
            folder / RESULT, "result", f"{shown(folder / RESULT)}: missing, though there are ranks; {AGAIN}", "damaged"
        )
    finished = not result.problem and read_result(folder).get("finished", False)
    if finished or os.path.lexists(folder / METRICS):
        yield _checked(folder / METRICS, "figures of epochs", lambda: read_metrics(folder))
    seal = ""
    if finished or os.path.lexists(folder / MODEL):
        weights = _checked(folder / MODEL, "weights", lambda: _weights(folder))
        yield weights
        seal = "" if weights.problem else read_seal(folder / MODEL)
    if os.path.lexists(folder / checkpoint.FOLDER / checkpoint.STATE):
        yield _checked(folder / checkpoint.FOLDER / checkpoint.STATE, "checkpoint", lambda: _state(folder))
    yield from _ranks(folder, seal, {} if result.problem else read_result(folder))


def _weights(folder: Path) -> None:
    load_model(folder)
    check_file(folder / MODEL, read_result(folder).get("files", {}).get(MODEL), AGAIN)


def _state(folder: Path) -> None:
    progress, config = checkpoint.whole(folder, identity(folder)), load_config(folder).train
    ended = config is None or progress.epoch >= config.epochs or 0 < config.patience <= progress.waited
    if ended and not os.path.lexists(folder / RESULT):
        raise HardGNNError(f"{shown(folder / RESULT)}: missing, though training has ended; go on with --resume")


def _ranks(folder: Path, seal: str = "", result: dict[str, Any] | None = None) -> Iterator[Checked]:
    evaluated = {ranks_path(folder, "test", protocol) for protocol in (result or {}).get("test", {})}
    for path in sorted(evaluated.union(ranks_files(folder))):
        yield _checked(path, "ranks", partial(read_ranks, path, seal))


def _plans(folder: Path) -> None:
    """Checks that a study's runs are those of its plans."""
    study = Study(folder)
    for plan in study.plans.values():
        for run in plan.runs():
            if is_started(study.path(run)) and load_config(study.path(run)) != run.config:
                raise HardGNNError(f"{shown(folder / STUDY)}: its plan '{plan.kind}' is not that of run {run.name}")


def _study(folder: Path) -> Iterator[Checked]:
    yield _checked(folder / STUDY, "study", lambda: _plans(folder))
    for run in _folders(folder / RUNS, 2):
        if os.path.lexists(run / ENVIRONMENT) or os.path.lexists(run / CONFIG):
            yield from _run(run)
    for floor in _folders(folder / FLOORS, 2):
        yield from _ranks(floor)
    for peer in _folders(folder / PEERS, 2):
        for path in (peer / ENVIRONMENT, peer / CHOSEN):
            if os.path.lexists(path):
                yield _checked(path, "peer", partial(read_json, path))
        for fitted in _folders(peer, 1):
            if os.path.lexists(fitted / RESULT):
                yield _checked(fitted / RESULT, "result", partial(read_result, fitted))
            yield from _ranks(fitted)


def _folders(folder: Path, depth: int) -> list[Path]:
    """The folders so many levels below."""
    if not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return below if depth == 1 else [path for one in below for path in _folders(one, depth - 1)]


def _export(folder: Path) -> Iterator[Checked]:
    document = _checked(folder / export.MANIFEST, "export", lambda: export.read_export(folder))
    yield document
    if not document.problem:
        for name, record in export.read_export(folder).get("files", {}).items():
            yield _checked(folder / name, "exported", partial(check_file, folder / name, record, export.AGAIN))


def _download(folder: Path) -> Iterator[Checked]:
    def whole() -> None:
        name = str(read_json(folder / download.RECORD).get("name"))
        if download.verified(name, folder) is None:
            raise HardGNNError(f"{shown(folder)}: not what was downloaded; download it again")

    yield _checked(folder, "download", whole)


def _shards(folder: Path) -> Iterator[Checked]:
    yield _checked(folder, "recommendations", lambda: shards.check_shards(folder))
