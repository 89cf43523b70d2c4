"""Every file operation of every command that writes is cut once; what the command was for is then still to be had."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults.commands import Running
from faults.cuts import KINDS
from faults.faulted import faulted
from faults.scenarios import MADE, Scenario, Scenarios, reference
from faults.stage import Stage
from faults.tally import SEED, Tally, setting

SMOKE = {"prepare over": 3, "train hardgnn": 2, "recommend csv": 1}
AT_ONCE = 2
WRITES = ("write", "save", "sink")
ALLOWED = {"kill": ("killed", "sentence"), "torn": ("killed", "sentence"), "full": ("machine", "fine")}
"""A worker that is killed is told by its sweep in a sentence; a full disk may hit what is only tidied up."""


def cut_all(scenario: Scenario, stage: Stage, work: Path, most: int) -> Tally:
    """Cuts each operation in each way, or `most` of each, drawn at random."""
    tally = Tally("cuts")
    known = reference(scenario, stage, work)
    places = range(1, len(known.operations) + 2)
    jobs = []
    for how in KINDS:
        drawn = random.Random(f"{SEED} {scenario.name} {how}")
        writes = [n for n, (_, what, _) in enumerate(known.operations, 1) if any(word in what for word in WRITES)]
        fitting = writes if how == "torn" else list(places)
        jobs += [(n, how) for n in (sorted(drawn.sample(fitting, min(most, len(fitting)))) if most else fitting)]

    def one(job: tuple[int, str]) -> None:
        at, how = job
        kinds = (*ALLOWED[how], *(("fine",) if at > len(known.operations) or scenario.name.startswith("sweep") else ()))
        place = work / f"{at}-{how}"
        kind, example = faulted(scenario, known, stage, place, Running.wait, kinds, probe=at % 2 == 0, cut=(at, how))
        label = " ".join(known.operations[at - 1][1:]) if at <= len(known.operations) else "the end"
        if kind == "whole":
            tally.good(scenario.name, f"{how}: whole")
        else:
            tally.wrong(scenario.name, f"{how}: {kind}", f"cut ({at}, {how}) at {label}: {example}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, jobs))
    return tally


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MADE)
def test_a_cut_loses_nothing(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    cut_all(listed[name], stage, tmp_path, setting("HARDGNN_CUTS", 30)).settle()


@pytest.mark.parametrize("name", SMOKE)
def test_some_cuts_lose_nothing(name: str, stage: Stage, listed: Scenarios, tmp_path: Path) -> None:
    cut_all(listed[name], stage, tmp_path, SMOKE[name]).settle()
