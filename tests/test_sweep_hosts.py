"""Two hosts pull the trials of one study; one of them is killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("optuna")

import optuna

from hardgnn.experiments import heartbeat, trials
from hardgnn.experiments.heartbeat import SIGNS, Beat, TakenUp, Watch, sign, signs_of
from hardgnn.experiments.search import Search, chosen_space, run_search
from hardgnn.experiments.trials import Asked, optuna_trials, pull_trials
from hardgnn.storage.locks import locked

SMALL = ("model.dim=16", "model.heads=2", "model.intervals=3", "train.eval_every=1")
SPACE = {"x": {"low": 0.0, "high": 1.0, "log": False}}
ASKED = Asked(SPACE, (0,), trials=6)


@pytest.fixture(params=["journal", "database"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Asked:
    """Trials kept in the study's folder, and in a database."""
    return ASKED if request.param == "journal" else Asked(SPACE, (0,), 6, storage=f"sqlite:///{tmp_path}/trials.db")


def of(study: Any, state: str) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == state]


def test_of_another_machines_worker_silence_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watch = Watch(tmp_path, True, "me")

    def alive(at: float, count: int | None, signs: str = "elsewhere") -> bool | None:
        now[0] = at
        return watch.alive(SimpleNamespace(number=1, user_attrs={"worker": "it", SIGNS: signs, "beat": count}))

    assert alive(0, None) is None
    assert alive(10, 1) is True
    assert alive(11, 1) is None
    assert alive(129, 1) is None
    assert alive(135, 7) is True
    assert alive(256, 7) is False
    assert alive(256, 7, signs_of(tmp_path)) is False  # of this machine the lock tells, at once
    with locked(tmp_path, name=sign("it")):
        assert alive(999, 7, signs_of(tmp_path)) is True


def test_a_silent_hosts_trial_is_taken_up_and_lost_to_it(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_S", 0.3)
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    monkeypatch.setattr(trials, "LOOK_S", 0.05)
    study = optuna_trials(asked, tmp_path, "s")
    other = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    other.set_user_attr("worker", "gone")
    other.set_user_attr(SIGNS, "elsewhere")
    study.enqueue_trial(other.params)  # another worker has queued it a second time, as two that look at once may
    carried_out: list[float] = []

    def figure(trial: Any, beat: Beat) -> float:
        carried_out.append(trial.params["x"])
        return trial.params["x"]

    pull_trials(tmp_path, "s", asked, figure)
    study = optuna_trials(asked, tmp_path, "s")
    assert len(of(study, "COMPLETE")) == 6
    assert study.trials[other.number].state.name == "FAIL"
    assert other.params["x"] in carried_out
    assert len(set(carried_out)) == len(carried_out) == 6
    with Beat(study, other) as beat, pytest.raises(TakenUp):
        for _ in range(100):
            time.sleep(0.05)
            beat.check()


def test_workers_that_ask_at_once_get_different_settings(asked: Asked, tmp_path: Path) -> None:
    kinds = {"x": optuna.distributions.FloatDistribution(0, 1)}
    studies = [optuna_trials(asked, tmp_path, "s") for _ in range(3)]
    for study in studies:
        assert not study.trials
        study.sampler = trials._sampler(0)
    values = [study.ask(kinds).params["x"] for study in studies]
    assert len(set(values)) == 3


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Any]:
    """Starts a command as on a host of its own: another name, and no network but itself."""
    alone = ["unshare", "--uts", "--net", "sh", "-c", 'hostname "$0" && exec "$@"']
    if shutil.which("unshare") is None or subprocess.run([*alone, "host", "true"], capture_output=True).returncode:
        pytest.skip("namespaces need root")
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> subprocess.Popen[bytes]:
        command = [*alone, name, sys.executable, "-c", "from hardgnn.cli import main; main()", *words]
        with (tmp_path / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("storage", ["journal", "database"])
def test_of_two_hosts_one_is_killed_and_the_other_carries_all_trials_to_their_end(
    storage: str, hosts: Any, market: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    shared, keys = (*SMALL, "train.epochs=12"), ["hard.k", "hard.weight", "train.lr"]
    words = ["sweep", str(market), "--out", str(out), "--trials", "6", "--search", ",".join(keys), "--seeds", "0"]
    words += ["--epochs", "12", *(word for setting in SMALL for word in ("--set", setting))]
    url = f"sqlite:///{tmp_path}/trials.db" if storage == "database" else None
    words += ["--storage", url] if url else []
    search = Search(chosen_space(keys, "hardgnn"), (0,), trials=6, preset="hardgnn", shared=shared, storage=url)
    first = hosts("host-a", *words)

    def study() -> Any:
        return optuna_trials(search, out, "market")

    def wait(happened: Any) -> Any:
        end = time.monotonic() + 400
        while not (found := happened()):
            assert time.monotonic() < end, [(one.number, one.state.name, one.user_attrs) for one in study().trials]
            time.sleep(0.1)
        return found

    def running(host: str) -> list[Any]:
        with_settings = [one for one in of(study(), "RUNNING") if len(one.params) == 3 and one.intermediate_values]
        return [one for one in with_settings if one.user_attrs.get("host") == host]

    wait(lambda: (out / "study.json").exists() and running("host-a"))
    second = hosts("host-b", *words)
    (killed, *_) = wait(lambda: running("host-b"))
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    assert first.wait(600) == 0
    found = study()
    assert found.trials[killed.number].state.name == "FAIL"
    ended = [*of(found, "COMPLETE"), *of(found, "PRUNED")]
    assert len(ended) == 6
    assert len({str(one.params) for one in ended}) == 6
    (again,) = [one for one in ended if one.params == killed.params]
    assert again.user_attrs["host"] == "host-a"
    alone = tmp_path / "alone"
    one = Search(search.space, (0,), trials=1, preset="hardgnn", shared=shared)
    run_search([market], alone, one, workers=0)
    for trial in sorted(ended, key=lambda one: one.number)[1:]:
        optuna_trials(one, alone, "market").enqueue_trial(trial.params)
    run_search([market], alone, Search(**{**vars(one), "trials": 6}), workers=0)
    best, best_alone = found.best_trial, optuna_trials(one, alone, "market").best_trial
    assert (best.params, best.value) == (best_alone.params, best_alone.value)
