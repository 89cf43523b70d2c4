"""What takes its place was forced to the disk before, and its name after: else a power loss leaves an empty file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.scenarios import MADE, Scenarios, reference
from faults.stage import Stage
from faults.test_cuts import WRITES

MOVES = ("replace", "rename", "exchange")
SMOKE = ("prepare", "evaluate")


def unforced(operations: tuple[tuple[str, str, str], ...]) -> list[str]:
    """The moves of a command whose content or name a power loss may take."""
    written: dict[str, bool] = {}
    """Whether what was written last to a file was forced to the disk."""
    moved: dict[str, str] = {}
    """The folders whose new names were not, and the last move there."""
    wrong = []
    for _, what, path in operations:
        kind, _, source = what.partition(" ")
        if kind == "fsync":
            written[path] = True
            moved.pop(path, None)
        elif any(word in kind for word in WRITES):
            written[path] = False
        elif kind in MOVES:
            folder = os.path.dirname(path) or "."
            begin = os.path.normpath(os.path.join(folder, source))
            inside = [one for one in written if one == begin or one.startswith(begin + "/")]
            wrong += [f"{one} was not forced to the disk before it became {path}" for one in inside if not written[one]]
            for one in inside:
                del written[one]
            moved[folder] = path
    return wrong + [f"the name of {path} was not forced to the disk" for path in moved.values()]


def check(name: str, stage: Stage, listed: Scenarios, work: Path) -> None:
    operations = reference(listed[name], stage, work).operations
    assert any(what.partition(" ")[0] in MOVES for _, what, _ in operations)
    assert not unforced(operations)


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_what_is_there_survives_a_power_loss(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    check(name, stage, listed, tmp_path)


@pytest.mark.parametrize("name", SMOKE)
def test_what_is_written_is_forced_to_the_disk(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    check(name, stage, listed, tmp_path)


def test_a_write_that_is_not_forced_is_found() -> None:
    write, fsync = ("1", "write", "a/.x.tmp"), ("1", "fsync", "a/.x.tmp")
    move, named = ("1", "replace .x.tmp", "a/x"), ("1", "fsync", "a")
    assert not unforced((write, fsync, move, named))
    assert len(unforced((write, move, named))) == 1
    assert len(unforced((fsync, write, move, named))) == 1
    assert len(unforced((write, fsync, move))) == 1
