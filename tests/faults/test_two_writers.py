"""Two commands in one place at once: one works, or both one after the other; who cannot is told in one sentence."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from faults.commands import LIMIT_S, Outcome, Running
from faults.scenarios import MADE, Scenario, Scenarios, reference, told
from faults.snapshot import differences, litter, snapshot
from faults.stage import Stage, settings
from faults.tally import SEED, Tally, setting

PAIRS = ("prepare over", "train hardgnn", "resume", "evaluate", "recommend csv", "export over", "report", "download",
         "sweep grid", "sweep search", "study", "compare")  # fmt: skip
SMOKE = ("resume", "prepare over")


def pair(scenario: Scenario, stage: Stage, work: Path, tally: Tally, rounds: int) -> None:
    """Starts the same command twice, a moment apart, and looks at both and at what they leave."""
    known = reference(scenario, stage, work / "known")
    for turn in range(rounds):
        drawn = random.Random(f"{SEED} {scenario.name} {turn}")
        place = work / str(turn)
        scenario.set_up(stage, place)
        first = stage.commands.start(scenario.argv, place, **scenario.options)
        time.sleep(drawn.choice([0, drawn.uniform(0, known.seconds)]))
        second = stage.commands.start(scenario.argv, place, **scenario.options)
        ends = [running.wait(LIMIT_S) for running in (first, second)]
        example = f"round {turn}: {told(ends)}"
        kinds = sorted(end.kind for end in ends)
        if kinds not in (["fine", "fine"], ["fine", "sentence"]):
            tally.wrong(scenario.name, " and ".join(kinds), example)
            continue
        for argv in scenario.again[1:]:
            ends.append(stage.commands.must(argv, place, **scenario.options))
        if others := differences(snapshot(place), known.end, known.volatile):
            tally.wrong(scenario.name, "other result", f"{others[:4]}: {example}")
        elif left := litter(place):
            tally.wrong(scenario.name, "litter", f"{left[:3]}: {example}")
        else:
            tally.good(scenario.name, " and ".join(kinds))
        shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_writers_do_not_spoil_each_other(stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    tally = Tally("two writers")
    for name in PAIRS:
        pair(listed[name], stage, tmp_path / name, tally, setting("HARDGNN_PAIRS", 8))
    tally.settle()


@pytest.mark.parametrize("name", SMOKE)
def test_two_writers_at_once(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    tally = Tally("two writers")
    pair(listed[name], stage, tmp_path / name, tally, 1)
    tally.settle()


def long_training(stage: Stage, work: Path) -> list[str]:
    work.mkdir(exist_ok=True)
    endless = [*settings(4000), "--set", "train.patience=0"]
    return ["train", str(stage / "data"), "--out", "run", "--preset", "hardgnn", *endless]


def until(path: Path, running: Running) -> None:
    """Waits for a file of a command."""
    deadline = time.monotonic() + LIMIT_S
    while not path.exists():
        assert not running.done.done(), running.wait()
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)


def ended_with_a_sentence(outcome: Outcome) -> None:
    assert outcome.kind == "sentence", told([outcome])


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_training_stops_when_its_folder_goes(how: str, stage: Stage, tmp_path: Path) -> None:
    running = stage.commands.start(long_training(stage, tmp_path), tmp_path)
    run, away = tmp_path / "run", tmp_path / "away"
    until(run / "checkpoint" / "state.safetensors", running)
    run.rename(away)
    if how == "removed":
        shutil.rmtree(away)
    if how == "replaced":
        stage.copy("else-hardgnn-trained", run)
        before = snapshot(run)
    ended_with_a_sentence(running.wait())
    if how == "replaced":
        assert not differences(snapshot(run), before), "something was written into a folder that is not its own"
    else:
        assert not run.exists(), "the run folder was made anew"


def test_evaluating_while_training_goes_on_is_told_or_right(stage: Stage, tmp_path: Path) -> None:
    running = stage.commands.start(long_training(stage, tmp_path), tmp_path)
    until(tmp_path / "run" / "checkpoint" / "state.safetensors", running)
    outcomes = [stage.commands.run(argv, tmp_path) for argv in (
        ("evaluate", "run"), ("recommend", "run", "--user", "u1"), ("export", "run", "--out", "export"),
        ("compare", "run", str(stage / "data-hardgnn")), ("inspect", "run", "--user", "u1"),
    )]  # fmt: skip
    running.kill(2)
    stopped = running.wait()
    assert stopped.kind == "interrupted", stopped.err
    assert [one.kind for one in outcomes if one.kind not in ("fine", "sentence")] == [], told(outcomes)
    assert not litter(tmp_path)


assert set(PAIRS) <= set(MADE)
