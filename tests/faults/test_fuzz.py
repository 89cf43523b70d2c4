"""Damaged input of every kind: a sentence or the right answer, never another one, a traceback, a crash or a hang."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults.commands import Commands
from faults.fuzz import FOLDERS, HANG_S, PATIENCE, READERS, TARGETS, fixtures
from faults.stage import Stage
from faults.tally import SEED, Tally, setting

AT_ONCE = 2
BATCH = 60
GOOD = ("right", "sentence", "open")
SMOKE = dict.fromkeys(READERS, 6) | dict.fromkeys(("prepared", "run: evaluate", "verify: run", "run: resume"), 12)


def fuzzed(target: str, count: int, stage: Stage, work: Path, tally: Tally) -> None:
    """Carries out `count` cases, in batches of processes of their own."""
    for name in fixtures(target):
        assert stage / name

    def one(first: int) -> None:
        at, stop = first, min(first + BATCH, count)
        while at < stop:
            report = work / f"{target.replace(' ', '-').replace(':', '')}-{at}.jsonl"
            arguments = [target, at, stop, SEED, str(stage.root), str(report)]
            outcome = stage.commands.call("faults.fuzz:batch", arguments, work).wait(
                (stop - at) * PATIENCE * HANG_S + 60
            )
            assert report.exists(), f"{target}: the undamaged input is not read: {outcome.err}"
            lines = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
            told = {line["case"]: line["told"] for line in lines if "told" in line}
            for line in (line for line in lines if "kind" in line):
                count_one(tally, target, line["case"], line["kind"], told[line["case"]], line["example"])
            at = max(told) + 1
            if len(lines) % 2:  # the last case has no end
                hung = outcome.status == -signal.SIGALRM
                kind = "hang" if hung else f"crash, status {outcome.status}"
                count_one(tally, target, at - 1, kind, told[at - 1], outcome.said)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(0, count, BATCH)))


def count_one(tally: Tally, target: str, case: int, kind: str, damage: str, example: str) -> None:
    if kind in GOOD:
        tally.good(target, kind)
    else:
        tally.wrong(target, kind, f"case {case}: {damage}: {example}")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("targets", [tuple(READERS), tuple(FOLDERS)], ids=["readers", "folders"])
def test_damage_is_told_or_does_not_matter(targets: tuple[str, ...], stage: Stage, tmp_path: Path) -> None:
    tally = Tally("fuzzed inputs")
    for target in targets:
        fuzzed(target, -(-setting("HARDGNN_FUZZ", 3000) // len(TARGETS)), stage, tmp_path, tally)
    tally.settle()


def test_some_damage_is_told_or_does_not_matter(stage: Stage, tmp_path: Path) -> None:
    tally = Tally("fuzzed inputs")
    for target, count in SMOKE.items():
        fuzzed(target, count, stage, tmp_path, tally)
    tally.settle()


def test_a_case_can_be_had_again(commands: Commands, stage: Stage, tmp_path: Path) -> None:
    twice = []
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        tally = Tally(turn)
        fuzzed("csv", 10, stage, tmp_path / turn, tally)
        twice.append((tally.counts, tally.bad))
    assert twice[0] == twice[1]
