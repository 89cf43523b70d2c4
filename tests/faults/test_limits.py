"""A full disk and too little memory, at every command: a sentence with status 3 or the right result."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.commands import Running
from faults.faulted import aftermath, faulted
from faults.scenarios import MADE, Scenarios, reference
from faults.stage import Stage
from faults.tally import Tally, setting
from hardgnn.cli.boundary import LEAST_ROOM

BY_LIBRARY = ("abort: no memory", "signal 6", "signal 11")
"""Libraries that are refused memory end the process; nothing may be lost by that."""
STEPS_MB = (8, 32, 64, 128, 256, 512)
"""Address space beyond that of the process when the command begins."""


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `place`."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
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
        with small_disk(tmp_path / f"disk-{step}", begin + 16384 + (end - begin) * step // steps):
            work = tmp_path / f"disk-{step}" / "work"
            scenario.set_up(stage, work)
            outcome = stage.commands.run(scenario.argv, work, **scenario.options)
            rest = tmp_path / f"rest-{step}"
            shutil.copytree(work, rest, symlinks=True)  # where there is room again
        kind, example = outcome.kind, outcome.said
        if kind in ("machine", "fine"):
            kind, example = aftermath(scenario, known, stage, rest, outcome)
        if kind == "whole":
            tally.good(name, f"{outcome.kind}, whole")
        else:
            tally.wrong(name, kind, f"step {step}: {example}")
    tally.settle()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MADE)
def test_too_little_memory_is_told(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    scenario = listed[name]
    known = reference(scenario, stage, tmp_path / "known")
    tally = Tally("memory limits")
    with open(f"/proc/{stage.commands.process.pid}/statm") as handle:
        size = int(handle.read().split()[0]) * resource.getpagesize()
    ballast = max(0, LEAST_ROOM - size)  # below that no command begins
    for step in STEPS_MB:
        limits = {"RLIMIT_AS": size + ballast + (step << 20)}
        allowed = ("machine", "fine", *BY_LIBRARY)
        kind, example = faulted(
            scenario, known, stage, tmp_path / str(step), Running.wait, allowed, False, limits=limits, ballast=ballast
        )
        if kind == "whole":
            tally.good(name, "ended by a library, whole" if example in BY_LIBRARY else f"{example}, whole")
        else:
            tally.wrong(name, kind, f"{step} MB more: {example}")
    tally.settle()
