"""Commands killed at random moments, sweeps with two workers among them; then what a user does next."""

from __future__ import annotations

import os
import random
import signal
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
ORPHANS_CPU_S, ORPHANS_S = 15.0, 240.0
"""Seconds of processor time, and of waiting for it, in which a worker must have seen that its command is gone."""
KILLED = (
    "prepare over", "train hardgnn", "train best", "resume", "evaluate", "recommend parquet", "export over", "report",
    "download", "sweep grid", "sweep search", "study",
)  # fmt: skip
WORKERS = ("sweep grid", "sweep search", "study")


def session(pid: int) -> dict[int, float]:
    """The processes of a command, by its session, and the processor time of each."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as handle:
                fields = handle.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found[int(name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_random_kills_lose_nothing(stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    tally = Tally("random kills")
    known: dict[str, tuple[Scenario, Reference]] = {}
    for name in KILLED:
        scenario = listed[name]
        if name in WORKERS:
            argv = (*scenario.argv, "--workers", "2")
            scenario = replace(scenario, argv=argv, again=(argv,))
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
            before, deadline = session(pid), time.monotonic() + ORPHANS_S
            while left := session(pid):
                time.sleep(0.05)
                used = max(seconds - before.get(orphan, 0.0) for orphan, seconds in left.items())
                if used > ORPHANS_CPU_S or time.monotonic() > deadline:
                    for orphan in left:
                        os.kill(orphan, signal.SIGKILL)
                    raise AssertionError(f"workers lived on for {used:.1f} s of processor time")
            return outcome

        spawn = scenario.name in WORKERS and drawn.random() < 0.25
        place, allowed = tmp_path / str(number), ("killed", "fine")
        try:
            kind, example = faulted(scenario, undisturbed, stage, place, fault, allowed, spawn=spawn)
        except AssertionError as error:
            kind, example = "orphans", str(error)
        if kind == "whole":
            tally.good(scenario.name, "whole")
        else:
            tally.wrong(scenario.name, kind, f"kill {number} after {after:.2f} s: {example}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(setting("HARDGNN_KILLS", 100))))
    tally.settle()
