"""Damaged input, read in this process: what is told, what is answered, how long it takes and how much memory.

`batch` runs in a forked child of the server and writes a line before and after each case, so that a crash or a hang
is known by the case it happened in.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import stat
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import readers
from faults.mutate import damage, damage_folder, linked
from faults.snapshot import differences, snapshot

HANG_S, PATIENCE = 10, 3
"""Seconds of processor time that no answer may take, and how often that it may wait on a busy machine."""
MEMORY_MB = 1024
"""What a damaged file of some kilobytes may take beyond the process that reads it."""
Result = Any


def digest(*parts: Any) -> str:
    """One hash of arrays, tables, bytes and documents."""
    import numpy as np
    import polars as pl

    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        elif isinstance(part, pl.DataFrame | pl.Series):
            frame = part.to_frame() if isinstance(part, pl.Series) else part
            found.update(frame.write_json().encode("utf-8", "surrogatepass"))
        else:
            found.update(json.dumps(part, sort_keys=True, default=str).encode())
    return found.hexdigest()


def read_log(path: Path) -> Result:
    """Rows as the independent readers give them."""
    from hardgnn.data.log import read_log as real

    log = real(path)
    users, items = (log.table[name].cast(str).to_list() for name in ("user", "item"))
    times = log.table["timestamp"].to_list()
    return [[readers.same_id(u), readers.same_id(i), t] for u, i, t in zip(users, items, times, strict=True)]


def read_sequences(path: Path) -> Result:
    """Users and items in order, without times."""
    from hardgnn.data.log import read_log as real

    return digest(real(path, format="sequences").table)


def read_released(path: Path) -> Result:
    """SelfGNN's pickles."""
    from hardgnn.prepare.released.selfgnn import read_selfgnn

    return prepared(read_selfgnn(path))


def read_titles(path: Path) -> Result:
    """A file of titles that the user names."""
    from hardgnn.data.readers.titles import find_titles

    return digest(find_titles(path.with_name("log.csv"), path, movielens=False))


def read_users(path: Path) -> Result:
    """A file of user ids."""
    from hardgnn.recommend.ids import read_ids_file

    return read_ids_file(path, "user").to_list()


def read_events(path: Path) -> Result:
    """Newer events."""
    from hardgnn.data.events import read_events as real

    return digest(real(path))


def prepared(data: Any) -> str:
    """A data set as one hash."""
    titles = [] if data.item_titles is None else [data.item_titles]
    return digest(
        data.user, data.item, data.timestamp, data.part, data.user_ids, data.item_ids, *titles, data.candidates.users,
        data.candidates.items, data.manifest,
    )  # fmt: skip


def load_data(path: Path) -> Result:
    """A prepared folder."""
    from hardgnn.data.dataset import Dataset

    return prepared(Dataset.load(path))


def recommend(path: Path) -> Result:
    """Recommendations of a run for all its users."""
    from hardgnn.recommend.recommender import Recommender

    return digest(Recommender(path, say=lambda _: None).for_users(n=5))


def evaluate(path: Path) -> Result:
    """A run's test figures."""
    from hardgnn.runs.evaluated import evaluate_run

    return evaluate_run(path, "test", "full").metrics


def compare(path: Path) -> Result:
    """A run beside itself under another name: from the ranks it keeps."""
    from hardgnn.runs.evaluated import compare_runs

    found = compare_runs([path, path.parent / "beside"])
    return digest([one.metrics for one in found.runs], found.to_dict()["comparisons"])


def resume(path: Path) -> Result:
    """A stopped run that goes on."""
    from hardgnn.config import load
    from hardgnn.data.dataset import Dataset
    from hardgnn.runs.train import train

    data = path.parent / "data"
    result = train(Dataset.load(data), load(path / "config.toml"), path, resume=True, preset="hardgnn", data_path=data)
    return [result.best_epoch, dict(result.metrics), weights(path / "model.safetensors")]


def weights(path: Path) -> str:
    """All tensors of a file."""
    from safetensors.torch import load_file

    return digest(*(value.numpy() for _, value in sorted(load_file(path).items())))


def inspect(path: Path) -> Result:
    """One user as the model sees them."""
    from hardgnn.report.inspect import inspect_user

    return digest(inspect_user(path, "u1", 5).to_dict())


def export(path: Path) -> Result:
    """Vectors of a run."""
    from hardgnn.recommend.export import export as real

    out = path.parent / "out"
    document = real(path, out, index=False)
    document.pop("model_sha256")
    return digest(document, (out / "items.parquet").read_bytes().hex())


def study(path: Path) -> Result:
    """What a study tells."""
    from hardgnn.experiments.choices import choices
    from hardgnn.experiments.folder import Study
    from hardgnn.experiments.results import summary
    from hardgnn.report.leaderboard import leaderboard
    from hardgnn.storage.documents import plain

    opened = Study(path)
    plans = [summary(opened, name, [10]) for name, plan in opened.plans.items() if plan.test]
    board = leaderboard(opened, [10], "full") if plans else None
    return digest(*(_without_clock(plain(one)) for one in (choices(opened), plans, board or {})))


def report(path: Path) -> Result:
    """A study's page; its words, without seconds and memory."""
    import re

    from hardgnn.report.page import write_report

    out = path.parent / "report.html"
    write_report([path], out, figures=None, published={}, at=[10])
    words = re.sub(r"<svg.*?</svg>|\d+\.\d+|\d+ MB", "", out.read_text("utf-8"), flags=re.DOTALL)
    return hashlib.sha256(words.encode()).hexdigest()


def _without_clock(document: Any) -> Any:
    from faults.snapshot import leaves

    return leaves(json.loads(json.dumps(document, default=str)), "")


def search_index(path: Path) -> Result:
    """An export's index, as the service opens it."""
    import numpy as np

    from hardgnn.recommend.export import check_index, open_index

    check_index(path, path.parent / "run" / "model.safetensors")
    index = open_index(path)
    found = index.search(np.ones((3, index.ndim), np.float32), 5)
    return [found.keys.tolist(), np.round(found.distances, 4).tolist()]


def verify(path: Path) -> Result:
    """`hardgnn verify`, which tells every damage there is."""
    from hardgnn.errors import HardGNNError
    from hardgnn.verify import verify as real

    if problems := [one.problem for one in real(path) if one.problem]:
        raise HardGNNError(problems[0])
    return "whole"


def serve(path: Path) -> Result:
    """A packed run."""
    from hardgnn.serve.engine import Ask, Engine

    engine = Engine(path)
    asks = [Ask("u1"), Ask("u7", n=5, explain=True), Ask(None, ["i3", "i4"]), Ask("u2", allow=["i1", "i2"])]
    return digest(engine.answer(asks))


READERS: dict[str, tuple[str, Callable[[Path], Result], str | None]] = {
    "inter": ("log.inter", read_log, "inter"),
    "csv": ("log.csv", read_log, "csv"),
    "quoted csv": ("quoted.csv", read_log, "csv"),
    "tsv": ("log.tsv", read_log, "csv"),
    "csv.gz": ("log.csv.gz", read_log, "csv"),
    "parquet": ("log.parquet", read_log, None),
    "movielens u.data": ("u.data", read_log, "u.data"),
    "movielens ratings.dat": ("ratings.dat", read_log, "ratings.dat"),
    "movielens zip": ("ml-100k.zip", read_log, "u.data"),
    "amazon": ("ratings_Books.csv", read_log, "amazon"),
    "gowalla": ("loc-gowalla_totalCheckins.txt", read_log, "gowalla"),
    "gowalla gz": ("loc-gowalla_totalCheckins.txt.gz", read_log, "gowalla"),
    "yelp json": ("yelp_academic_dataset_review.json", read_log, "yelp"),
    "yelp tar": ("yelp_dataset.tar", read_log, "yelp"),
    "json": ("reviews.json", read_log, "json"),
    "sequences": ("sasrec.txt", read_sequences, None),
    "titles": ("log.item", read_titles, None),
    "users file": ("users.txt", read_users, None),
    "events": ("events.csv", read_events, None),
}
FOLDERS: dict[str, tuple[str, str, Callable[[Path], Result], dict[str, str]]] = {
    "selfgnn pickles": ("pickles", "pickles-else", read_released, {}),
    "prepared": ("data", "else", load_data, {}),
    "run: recommend": ("data-best", "else-best", recommend, {}),
    "run: evaluate": ("data-best-trained", "else-best-trained", evaluate, {}),
    "run: compare": ("data-best", "else-best", compare, {"beside": "data-selfgnn"}),
    "run: inspect": ("data-hardgnn", "else-hardgnn", inspect, {}),
    "run: export": ("data-selfgnn", "else-selfgnn", export, {}),
    "run: resume": ("data-stopped", "else-hardgnn", resume, {"data": "data"}),
    "study": ("data-grid", "else-grid", study, {}),
    "study: report": ("data-grid", "else-grid", report, {}),
    "export": ("data-export", "else-export", search_index, {"run": "data-selfgnn"}),
    "packed": ("data-packed", "else-packed", serve, {}),
    "verify: prepared": ("data", "else", verify, {}),
    "verify: run": ("data-hardgnn", "else-hardgnn", verify, {}),
    "verify: study": ("data-grid", "else-grid", verify, {}),
    "verify: export": ("data-export", "else-export", verify, {}),
}
TARGETS = (*READERS, *FOLDERS)


def fixtures(target: str) -> list[str]:
    """What of the stage a target needs."""
    if target in READERS:
        return ["raws", "log.inter", "log.parquet", "users.txt"]
    source, other, _, beside = FOLDERS[target]
    return ["raws", *([] if "pickles" in source else [source, other, *beside.values()])]


OPEN_ENDED = {"selfgnn pickles"}
"""Formats of others without a checksum: a flipped bit may be another valid file."""


def place(target: str, number: int, seed: int, root: Path, work: Path) -> tuple[Path, str]:
    """Puts damaged input of case `number` into `work`; answers its path, and what was done (nothing of case -1)."""
    rng = random.Random(f"{seed} {target} {number}")
    work.mkdir()
    if target in READERS:
        name = READERS[target][0]
        path = work / name
        data = (root / name).read_bytes()
        changed, told = damage(data, rng) if number >= 0 else (data, "")
        path.write_bytes(changed)
        return path, told
    source, other, _, beside = FOLDERS[target]
    for name, fixture in beside.items():
        linked(root / fixture, work / name)
    path = work / "it"
    linked(root / source, path)
    return path, damage_folder(path, root / other, rng) if number >= 0 else ""


def answer(target: str, path: Path) -> Result:
    """What our code makes of it."""
    return READERS[target][1](path) if target in READERS else FOLDERS[target][2](path)


def judged(target: str, path: Path, clean: Path, result: Result, right: Result) -> tuple[str, str]:
    """The class of an answer; `clean` has the fixtures."""
    if target.startswith("verify") and differences(snapshot(path), snapshot(clean / FOLDERS[target][0])):
        return "WRONG", "the damage is not seen"
    if result == right:
        return "right", ""
    if target in FOLDERS:
        return ("open", "") if target in OPEN_ENDED else ("WRONG", f"{str(result)[:80]} for {str(right)[:80]}")
    kind = READERS[target][2]
    if kind is None:
        return "open", ""
    try:
        expected = [list(row) for row in readers.rows(path.read_bytes(), kind)]
    except readers.Open:
        return "open", ""
    except readers.Broken as error:
        return "WRONG", f"{len(result)} rows of a file that has none: {error}"
    if len(expected) != len(result):
        return "WRONG", f"{len(result)} rows of {len(expected)}"
    for number, (ours, slow) in enumerate(zip(result, expected)):
        if ours[:2] != slow[:2] or abs(ours[2] - slow[2]) > 1e-3 * max(1.0, abs(slow[2]) * 1e-9):
            return "WRONG", f"row {number + 1}: {ours} for {slow}"
    return "right", ""


def batch(target: str, first: int, stop: int, seed: int, root: str, report_to: str) -> None:
    """Carries out the cases `first` to `stop` of a target."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    work = Path(report_to).parent / f"work-{os.getpid()}"
    clean = Path(root)
    path, _ = place(target, -1, seed, clean, work)
    with contextlib.redirect_stdout(io.StringIO()):
        right = answer(target, path)
    shutil.rmtree(work)
    with open(report_to, "a", buffering=1, encoding="utf-8") as out:
        for number in range(first, stop):
            path, told = place(target, number, seed, clean, work)
            print(json.dumps({"case": number, "told": told}), file=out)
            before, began = _memory(), time.process_time()
            signal.alarm(PATIENCE * HANG_S)
            kind, example = case(target, path, clean, right)
            signal.alarm(0)
            if time.process_time() - began > HANG_S:
                kind, example = f"more than {HANG_S} s", f"{kind} {example}"
            grown = _memory(peak=True) - before
            if grown > MEMORY_MB:
                kind, example = "over 1 GB", f"{grown:.0f} MB, {kind} {example}"
            print(json.dumps({"case": number, "kind": kind, "example": example, "mb": round(grown)}), file=out)
            shutil.rmtree(work, onerror=_unlocked)


def case(target: str, path: Path, clean: Path, right: Result) -> tuple[str, str]:
    """One case: its class, and the words for an example."""
    from hardgnn.errors import HardGNNError, MachineError

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = answer(target, path)
    except MachineError as error:
        return "machine", str(error)
    except HardGNNError as error:
        return ("sentence", "") if str(error).isprintable() else ("not one printable line", repr(str(error))[:300])
    except BaseException as error:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/hardgnn/" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}" if ours else ""
        return "traceback", f"{type(error).__name__}: {str(error)[:120]} in {where}"
    return judged(target, path, clean, result, right)


def _memory(peak: bool = False) -> float:
    """The resident memory of this process in MB, now, or at its peak since it was asked last."""
    with open("/proc/self/status") as handle:
        found = dict(line.split(":", 1) for line in handle)
    if not peak:
        with open("/proc/self/clear_refs", "w") as handle:
            handle.write("5")
    return int(found["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


def _unlocked(function: Callable[[str], None], path: str, _: Any) -> None:
    os.chmod(path, stat.S_IRWXU)
    function(path)
