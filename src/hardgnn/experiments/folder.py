"""Many runs as one study: a plan carried out over processes, resumable.

A study folder holds `study.json`, its named plans, and ordinary run folders `runs/DATA/VARIANT-SEED`. Plans share
runs: the model that one plan has trained is not trained again for another.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hardgnn import config as settings
from hardgnn.data.dataset import read_manifest, same_data
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.evaluation.noise import NOISE
from hardgnn.evaluation.protocols import PROTOCOLS
from hardgnn.evaluation.quality import BASELINES
from hardgnn.evaluation.ranks import ranks_path
from hardgnn.experiments.plan import Plan, Run
from hardgnn.experiments.work import carry_out_run, rank_baselines
from hardgnn.experiments.workers import LOCK_PATIENCE_S, Task, carry_out, raise_failed
from hardgnn.runs.folder import check_version, is_started, load_config, read_result
from hardgnn.storage.files import is_leftover, sweep, writing
from hardgnn.storage.locks import LOCK, locked
from hardgnn.storage.records import read_json, write_json

FORMAT_VERSION = 2
READABLE = (1, FORMAT_VERSION)  # 1 has no seal
STUDY, RUNS, FLOORS, STUDY_LOCK = "study.json", "runs", "floors", ".study.lock"
STUDY_PATIENCE_S = 1.0


class Study:
    """A study folder.

    Args:
        folder: a new or empty folder, or one that a study has been in before.

    Raises:
        HardGNNError: the folder holds something else, or a study of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / STUDY).exists():
            with reading(folder / STUDY, "choose another folder"):
                document = read_json(folder / STUDY)
                version = document.get("format_version")
                if version not in READABLE:
                    raise HardGNNError(f"{shown(folder)}: a study of another version (format {version})")
                self.paths = {name: Path(path) for name, path in document["data"].items()}
                self.plans = {name: Plan.from_dict(one) for name, one in document["plans"].items()}
            return
        own = (LOCK, STUDY_LOCK)
        if folder.exists() and (
            not folder.is_dir() or any(path.name not in own and not is_leftover(path) for path in folder.iterdir())
        ):
            raise HardGNNError(f"{shown(folder)}: neither an empty folder nor a study, so it is left alone")
        self.paths, self.plans = {}, {}

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether the folder holds a study."""
        return (folder / STUDY).exists()

    def add_data(self, data: Sequence[Path]) -> tuple[str, ...]:
        """Names the prepared folders, by their own names.

        Raises:
            HardGNNError: a folder that holds no prepared data, or two of one name.
        """
        names = []
        for path in data:
            name = path.resolve().name
            read_manifest(path)  # tells what is wrong with it
            if name in names:
                raise HardGNNError(f"{path}: a study needs data sets of different names, two are called '{name}'")
            self.paths[name] = path.resolve()
            names.append(name)
        return tuple(names)

    def save(self, name: str, plan: Plan) -> None:
        """Puts a plan into study.json, in place of an earlier one of this name."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, LOCK_PATIENCE_S, STUDY_LOCK):
            now = Study(self.folder)  # a machine that shares the folder may have written meanwhile
            self.paths, self.plans = now.paths | self.paths, now.plans | {name: plan}
            document = {
                "format_version": FORMAT_VERSION,
                "data": {key: str(path) for key, path in self.paths.items()},
                "plans": {key: one.to_dict() for key, one in self.plans.items()},
            }
            write_json(self.folder / STUDY, document, sealed=True)

    def path(self, run: Run) -> Path:
        """The run's folder."""
        return self.folder / RUNS / run.name

    def check(self, plan: Plan) -> None:
        """Refuses a plan, before any work, that does not fit itself or the runs that are there already.

        Raises:
            HardGNNError: an unknown setting; or a run folder of this name with other settings or other data.
        """
        for variant in plan.variants:
            if not re.fullmatch(r"[A-Za-z0-9][\w.+=,-]*", variant.name):
                raise HardGNNError(f"variant '{variant.name}': a name has letters, digits and . _ + = , - only")
            leaking = {leak for data in plan.data for leak in settings.leaks(variant.config(0, data))}
            if leaking and not plan.allow_leaks:
                raise HardGNNError(
                    f"variant '{variant.name}': {' and '.join(sorted(leaking))}; ask for it with --allow-leaks"
                )
        manifests = {name: read_manifest(self.paths[name]) for name in plan.data}
        for run in plan.runs():
            folder = self.path(run)
            if not is_started(folder):
                continue
            if load_config(folder) != run.config:
                raise HardGNNError(
                    f"{folder}: trained with other settings before; choose another --out or remove that folder"
                )
            recorded = dict(check_version(folder)["data"]["manifest"])
            recorded.pop(NOISE, None)
            if not same_data(recorded, manifests[run.data]):
                raise HardGNNError(f"{folder}: trained on another data set before; choose another --out")

    def done(self, run: Run, test: bool) -> bool:
        """Whether a run is trained and, if asked for, its test part ranked."""
        folder = self.path(run)
        if not read_result(folder).get("finished"):
            return False
        return not test or all(ranks_path(folder, "test", protocol).exists() for protocol in PROTOCOLS)

    def baseline(self, data: str, name: str) -> Path:
        """Where the ranks of a baseline that needs no gradient are kept."""
        return self.folder / FLOORS / data / name

    def size(self, plan: Plan) -> int:
        """How many pieces of work a plan is."""
        return len(plan.runs()) + (len(plan.data) if plan.with_baselines else 0)

    def carry_out(self, plan: Plan, workers: int, told: Callable[[float, int, str], None]) -> None:
        """Trains what is not trained yet and ranks the test part of each finished run once.

        Args:
            workers: processes at a time; 0 works in this process.
            told: see `hardgnn.experiments.workers.carry_out`; it counts the `size` of the plan.

        Raises:
            HardGNNError: runs that failed, by name, after all others are done.
        """
        self.check(plan)
        tasks = [
            Task(run.name, carry_out_run, (self.path(run), self.paths[run.data], run, plan.test, plan.allow_leaks))
            for run in plan.runs()
            if not self.done(run, plan.test)
        ]
        for data in plan.data if plan.with_baselines else ():
            folders = {name: self.baseline(data, name) for name in BASELINES}
            if not all(ranks_path(folder, "test", p).exists() for folder in folders.values() for p in PROTOCOLS):
                tasks.append(Task(f"{data}/floors", rank_baselines, (folders, self.paths[data])))
        before = self.size(plan) - len(tasks)
        told(before, 0, "")
        errors = carry_out(tasks, workers, lambda done, failed, names: told(before + done, failed, names))
        raise_failed("run", errors)


@contextmanager
def opened(folder: Path, shared: bool = False) -> Iterator[Study]:
    """A study folder that no other command works in meanwhile; `shared`, none but such as share it too.

    Raises:
        HardGNNError: the folder holds something else, or another command works in it.
    """
    Study(folder)  # refuses a folder of another kind before anything is written there
    made = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, STUDY_PATIENCE_S, shared=shared):
            sweep(folder)
            yield Study(folder)
    finally:
        if made and {path.name for path in folder.iterdir()} <= {LOCK}:  # nothing came of it
            shutil.rmtree(folder, ignore_errors=True)
