"""Commands killed at random moments, sweeps with two workers among them; then what a user does next."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from faults.commands import LIMIT_S, Outcome, Running
from faults.faulted import faulted
from faults.scenarios import Reference, Scenario, Scenarios, reference
from faults.stage import Stage
from faults.tally import SEED, Tally, setting

AT_ONCE = 2
ORPHANS_S = 15.0
"""Workers look for their parent at each step, and end."""
KILLED = (
    "prepare over", "train hardgnn", "train best", "resume", "evaluate", "recommend parquet", "export over", "report",
    "download", "sweep grid", "sweep search", "study",
)  # fmt: skip
WORKERS = ("sweep grid", "sweep search", "study")


def session(pid: int) -> list[int]:
    """The processes of a command, by its session."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as handle:
                fields = handle.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found.append(int(name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_random_kills_lose_nothing(stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    tally = Tally("random kills")
    known: dict[str, tuple[Scenario, Reference]] = {}
    for name in KILLED:
        scenario = listed[name]
        known[name] = (scenario, reference(scenario, stage, tmp_path / name))

    def one(number: int) -> None:
        drawn = random.Random(f"{SEED} kill {number}")
        scenario, undisturbed = known[KILLED[number % len(KILLED)]]
        after = drawn.uniform(0, 1.2 * undisturbed.seconds)

        def fault(running: Running) -> Outcome:
            pid = running.pid.result(LIMIT_S)
            time.sleep(after)
            try:
                running.kill()
            except ProcessLookupError:  # it was faster
                return running.wait()
            outcome = running.wait()
            deadline = time.monotonic() + ORPHANS_S
            while session(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            left = session(pid)
            for orphan in left:
                os.kill(orphan, 9)
            assert not left, f"workers lived on for {ORPHANS_S} s"
            return outcome

        words = ("--workers", "2") if scenario.name in WORKERS else ()
        spawn = bool(words) and drawn.random() < 0.25
        killed = replace(scenario, argv=(*scenario.argv, *words))
        place, allowed = tmp_path / str(number), ("killed", "fine")
        try:
            kind, example = faulted(killed, undisturbed, stage, place, fault, allowed, spawn=spawn)
        except AssertionError as error:
            kind, example = "orphans", str(error)
        if kind == "whole":
            tally.good(scenario.name, "whole")
        else:
            tally.wrong(scenario.name, kind, f"kill {number} after {after:.2f} s: {example}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(setting("HARDGNN_KILLS", 100))))
    tally.settle()
