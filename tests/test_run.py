"""Run and prepared folders: begun anew after a kill, one trainer at a time, damage told, never other figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from factories import StopAfter
from hardgnn import InteractionLog
from hardgnn.config import Config, resolve
from hardgnn.data.dataset import INTERACTIONS, MANIFEST, SCHEMA, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.recommend.recommender import Recommender
from hardgnn.runs import folder as run
from hardgnn.runs.evaluated import compare_runs, evaluate_run
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.storage.frames import write_frame
from hardgnn.storage.records import read_json, write_json
from hardgnn.storage.tensors import open_tensors, save_tensors
from hardgnn.training.callbacks import Callback
from hardgnn.verify import verify

SMALL = ["model.dim=8", "train.candidates=16", "hard.k=2", "train.eval_every=1", "train.epochs=2"]
CONFIG: Config = resolve("best", settings=SMALL)


@pytest.fixture(scope="module")
def data(market: Path) -> Dataset:
    return Dataset.load(market)


@pytest.fixture(scope="module")
def done(market: Path, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("done") / "run"
    train(data, CONFIG, folder, preset="best", data_path=market)
    evaluate_run(folder)
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """Its copy, to be damaged."""
    return Path(shutil.copytree(done, tmp_path / "run"))


def weights(folder: Path) -> bytes:
    return (folder / run.MODEL).read_bytes()


def turned(path: Path, at: float = 0.5) -> None:
    """Turns one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("kept", range(len(run.BEGUN) + 1))
@pytest.mark.parametrize("resume", [True, False])
def test_a_start_that_was_cut_is_begun_anew(kept: int, resume: bool, done: Path, data: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in run.BEGUN[:kept]:
        shutil.copy(done / name, folder)
    (folder / run.USERS).write_bytes(b"half") if kept == 2 else None
    train(data, CONFIG, folder, resume=resume, preset="best")
    assert weights(folder) == weights(done)
    assert len(Recommender(folder).for_users(["u1"], 3)) == 3


def test_users_with_equally_many_events(tmp_path: Path) -> None:
    events = [
        (f"u{user}", f"i{(user * 7 + place * 3) % 20}", float(place)) for user in range(60) for place in range(10)
    ]
    table = pl.DataFrame(events, schema=["user", "item", "timestamp"], orient="row")
    InteractionLog(table, "even", "0" * 64).prepare().save(tmp_path / "data")
    for preset in ("best", "selfgnn"):
        folder = tmp_path / preset
        config = resolve(preset, settings=["model.dim=8", "train.epochs=1", "train.eval_every=1"])
        train(Dataset.load(tmp_path / "data"), config, folder, data_path=tmp_path / "data")
        assert evaluate_run(folder).users == 60
        assert run.load_tables(folder).histories.lengths.tolist() == [10] * 60
        assert len(Recommender(folder).for_users(["u3"], 5)) == 5


def test_a_transition_outside_the_matrix_is_refused(copy: Path) -> None:
    tensors = load_file(copy / run.MODEL)
    tensors["transitions/columns"][0] = -(2**31)
    save_tensors(copy / run.MODEL, tensors, "")
    with pytest.raises(HardGNNError, match="points outside itself"):
        load_model(copy)
    tensors["transitions/columns"][0] = len(tensors["vectors/items"])
    save_tensors(copy / run.MODEL, tensors, "")
    with pytest.raises(HardGNNError, match="points outside itself"):
        load_model(copy)


@pytest.mark.parametrize("name", ["vectors/items", "transitions/values", "transitions/counts"])
def test_numbers_that_are_not_finite_are_refused(name: str, copy: Path) -> None:
    tensors = load_file(copy / run.MODEL)
    tensors[name].view(-1)[0] = torch.nan
    save_tensors(copy / run.MODEL, tensors, "")
    with pytest.raises(HardGNNError, match="finite|cannot be"):
        load_model(copy)


READS: dict[str, Callable[[Path], object]] = {
    run.MODEL: load_model,
    run.CONFIG: load_model,
    run.ENVIRONMENT: load_model,
    run.USERS: run.load_tables,
    run.ITEMS: run.load_tables,
    run.METRICS: run.read_metrics,
    run.RESULT: run.read_result,
    "ranks-test-full.parquet": lambda folder: compare_runs([folder, folder]),
}


@pytest.mark.parametrize("name", READS)
def test_one_turned_bit_is_told_with_the_file(name: str, copy: Path, tmp_path: Path) -> None:
    turned(copy / name)
    with pytest.raises(HardGNNError, match=name):
        READS[name](copy)
    broken = [one for one in verify(copy) if one.problem]
    assert broken
    assert name in broken[0].problem


def test_a_damaged_checkpoint_is_not_gone_on_with(data: Dataset, copy: Path) -> None:
    (copy / run.RESULT).unlink()
    turned(copy / "checkpoint" / "state.safetensors", 0.9)
    with pytest.raises(HardGNNError, match=r"state.safetensors: damaged"):
        train(data, CONFIG, copy, resume=True)
    assert run.state(copy).startswith("failed: ")


@pytest.mark.parametrize("name", [run.MODEL, run.RESULT, run.ENVIRONMENT, run.CONFIG, run.USERS])
def test_a_file_of_another_run_is_refused(name: str, copy: Path, data: Dataset, tmp_path: Path) -> None:
    config = resolve("best", settings=[*SMALL, "run.seed=1"])
    other = replace(data, item_ids=data.item_ids.reverse(), user_ids=data.user_ids.reverse())
    train(other, config, tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, copy / name)
    with pytest.raises(HardGNNError, match=r"another run|is not what was written|were written"):
        evaluate_run(copy)
    assert any(one.problem for one in verify(copy))


def test_a_checkpoint_of_another_run_is_refused(copy: Path, data: Dataset, tmp_path: Path) -> None:
    train(data, resolve("best", settings=[*SMALL, "run.seed=1"]), tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "checkpoint", copy / "checkpoint", dirs_exist_ok=True)
    (copy / run.RESULT).unlink()
    with pytest.raises(HardGNNError, match="of another run"):
        train(data, CONFIG, copy, resume=True)


@pytest.mark.parametrize("name", [run.RESULT, run.ENVIRONMENT])
def test_a_record_that_is_no_file_is_not_waited_for(name: str, copy: Path) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(HardGNNError, match="not an ordinary file"):
        READS[name](copy)


def test_ranks_of_an_older_model_are_not_taken_for_its_own(copy: Path, tmp_path: Path) -> None:
    with open_tensors(copy / run.MODEL, "") as (stored, note):
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    tensors["vectors/items"] = tensors["vectors/items"].flip(0)
    save_tensors(copy / run.MODEL, tensors, note)
    with pytest.raises(HardGNNError, match="ranked by another model"):
        compare_runs([copy, copy])


def test_another_logs_interactions_under_the_old_manifest(market: Path, data: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(market, tmp_path / "data"))
    other = replace(data, item=data.item[::-1].copy(), manifest=dict(data.manifest))
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / INTERACTIONS, folder)
    with pytest.raises(HardGNNError, match=INTERACTIONS):
        Dataset.load(folder)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("user", 2_000_000_000, "row 5: user 2000000000 is not one of 0 to 199"),
        ("user", -1, "row 5: user -1"),
        ("item", 60, "row 5: item 60"),
        ("part", 3, "row 5: part 3"),
        ("timestamp", np.inf, "row 5 has no time"),
    ],
)
def test_numbers_out_of_range_are_refused_with_their_row(
    column: str, value: float, said: str, market: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(market, tmp_path / "data"))
    rows = pl.read_parquet(folder / INTERACTIONS)
    rows[4, column] = value
    write_frame(folder / INTERACTIONS, rows, SCHEMA)
    manifest = read_json(folder / MANIFEST)
    del manifest["files"]  # as an earlier version wrote it
    write_json(folder / MANIFEST, manifest | {"format_version": 1})
    with pytest.raises(HardGNNError, match=said):
        Dataset.load(folder)


def test_a_folder_removed_while_training_stays_removed(data: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Removes(Callback):
        def step(self, *_: object) -> None:
            shutil.rmtree(folder, ignore_errors=True)

        def epoch(self, line: object) -> None:
            raise AssertionError("no epoch ends without its folder")

    with pytest.raises(HardGNNError, match="removed, moved or replaced"):
        train(data, CONFIG, folder, callbacks=[Removes()])
    assert not folder.exists()


def test_two_cannot_train_in_one_folder(data: Dataset, done: Path, tmp_path: Path) -> None:
    folder, begun, go_on = tmp_path / "run", threading.Event(), threading.Event()

    class Waits(Callback):
        def step(self, *_: object) -> None:
            begun.set()
            assert go_on.wait(60)

    first = threading.Thread(target=train, args=(data, CONFIG, folder), kwargs={"callbacks": [Waits()]})
    first.start()
    assert begun.wait(60)
    assert run.state(folder) == "running"
    with pytest.raises(HardGNNError, match="another process is at work there"):
        train(data, CONFIG, folder, resume=True)
    go_on.set()
    first.join()
    assert run.state(folder) == "finished"
    assert weights(folder) == weights(done)


def test_a_stopped_run_and_a_failed_one_are_told_apart(data: Dataset, done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(data, CONFIG, folder, callbacks=[StopAfter(1)])
    assert run.state(folder) == "stopped"
    wild = resolve("best", settings=[*SMALL, "train.lr=1e30"])
    with pytest.raises(HardGNNError, match="the loss is"):
        train(data, wild, tmp_path / "wild")
    assert run.state(tmp_path / "wild").startswith("failed: epoch ")
    with pytest.raises(HardGNNError, match="holds a run already"):
        train(data, CONFIG, folder)
    assert run.state(folder) == "stopped"  # being refused is no failure of the run
    train(data, CONFIG, folder, resume=True)
    assert weights(folder) == weights(done)


def test_a_strangers_folder_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear", "utf-8")
    with pytest.raises(HardGNNError, match="left alone"):
        train(data, CONFIG, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_runs_on_other_data_of_the_same_name_are_not_compared(
    market: Path, data: Dataset, done: Path, tmp_path: Path
) -> None:
    other = replace(data, item=data.item[::-1].copy(), manifest=dict(data.manifest))
    other.save(tmp_path / "market")
    train(Dataset.load(tmp_path / "market"), CONFIG, tmp_path / "run", data_path=tmp_path / "market")
    with pytest.raises(HardGNNError, match="different data sets"):
        compare_runs([done, tmp_path / "run"])


def test_verify_tells_what_is_whole_and_what_is_damaged(market: Path, copy: Path) -> None:
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", "verify", str(market), str(copy), "--json"]
    whole = subprocess.run(command, capture_output=True, text=True)
    assert whole.returncode == 0
    assert {one["problem"] for one in json.loads(whole.stdout)} == {None}
    turned(copy / run.MODEL)
    damaged = subprocess.run([*command, str(copy / "nothing")], capture_output=True, text=True)
    assert damaged.returncode == 2
    assert damaged.stderr.startswith(f"error: {copy / run.MODEL}: damaged")
    states = {one["path"]: one["state"] for one in json.loads(damaged.stdout) if one["state"] != "ok"}
    assert states == {str(copy / run.MODEL): "damaged", str(copy / "nothing"): "missing"}


@pytest.mark.parametrize("name", ["environment.json", "result.json"])
def test_a_digit_changed_in_a_record_is_seen(name: str, data: Dataset, tmp_path: Path) -> None:
    train(data, CONFIG, tmp_path / "run")
    path = tmp_path / "run" / name
    document = json.loads(path.read_text("utf-8"))
    assert document["format_version"] == run.FORMAT_VERSION
    path.write_text(json.dumps(document | {"cores" if name.startswith("env") else "epochs": 77}), "utf-8")
    assert any(one.problem for one in verify(tmp_path / "run"))
    with pytest.raises(HardGNNError, match="damaged or changed by hand"):
        run.check_version(tmp_path / "run") if name.startswith("env") else run.read_result(tmp_path / "run")
