"""A full disk and too little memory, at every command: a sentence with status 3 or the right result."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.commands import LIMIT_S, Outcome
from faults.faulted import faulted
from faults.scenarios import MADE, Scenarios, reference
from faults.stage import Stage
from faults.tally import Tally, setting

STEPS_MB = (8, 32, 64, 128, 256, 512)
"""Address space beyond that of the process when the command begins."""


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `place`."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def size_of(folder: Path) -> int:
    """Bytes of all files, in whole pages."""
    return sum(-(-path.lstat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MADE)
def test_a_full_disk_is_told(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "probe", 1 << 20):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    scenario = listed[name]
    known = reference(scenario, stage, tmp_path / "known")
    before = tmp_path / "before"
    scenario.set_up(stage, before)
    begin, end = size_of(before), size_of(tmp_path / "known" / "one")
    tally = Tally("full disks")
    steps = setting("HARDGNN_DISKS", 8)
    for step in range(steps):
        place = tmp_path / f"disk-{step}"
        with small_disk(place, begin + 16384 + (end - begin) * step // steps):
            work = place / "work"
            scenario.set_up(stage, work)
            outcome = stage.commands.run(scenario.argv, work, **scenario.options)
            if outcome.kind not in ("machine", "fine"):
                tally.wrong(name, outcome.kind, f"step {step}: {outcome.said}")
                continue
            rest = tmp_path / f"rest-{step}"
            shutil.copytree(work, rest, symlinks=True)
        kind, example = go_on(scenario, known, stage, rest)
        (tally.good(name, f"{outcome.kind}, {kind}") if kind == "whole" else tally.wrong(name, kind, f"step {step}: {example}"))
    tally.settle()


def go_on(scenario: object, known: object, stage: Stage, work: Path) -> tuple[str, str]:
    """What follows where there is room again."""
    from dataclasses import replace

    from faults.scenarios import Reference, Scenario

    assert isinstance(scenario, Scenario)
    assert isinstance(known, Reference)
    moved = replace(scenario, before={}, whole=(), probes=())
    held = work.with_name(work.name + "-held")
    work.rename(held)

    class Kept(type(moved)):  # type: ignore[misc]
        def set_up(self, stage: Stage, work: Path) -> None:
            held.rename(work)

    kept = Kept(**moved.__dict__)
    return faulted(kept, known, stage, work, lambda running: running.wait(), ("fine", "sentence", "machine"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MADE)
def test_too_little_memory_is_told(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    scenario = listed[name]
    known = reference(scenario, stage, tmp_path / "known")
    tally = Tally("memory limits")
    with open(f"/proc/{stage.commands.process.pid}/statm") as handle:
        size = int(handle.read().split()[0]) * resource.getpagesize()
    for step in STEPS_MB:
        limits = {"RLIMIT_AS": size + (step << 20)}
        allowed = ("machine", "fine", "sentence") if scenario.name.startswith(("sweep", "study")) else ("machine", "fine")
        def wait(running: object) -> Outcome:
            return running.wait(LIMIT_S)  # type: ignore[attr-defined]
        kind, example = faulted(scenario, known, stage, tmp_path / str(step), wait, allowed, probe=False, limits=limits)
        (tally.good(name, "whole") if kind == "whole" else tally.wrong(name, kind, f"{step} MB more: {example}"))
    tally.settle()


assert os.name == "posix"
