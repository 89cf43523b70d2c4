"""One fault and what must hold after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from faults.commands import Outcome, Running
from faults.scenarios import Reference, Scenario, told
from faults.snapshot import differences, litter, snapshot
from faults.stage import Stage

ANSWERED = ("fine", "sentence", "machine")


def faulted(
    scenario: Scenario,
    known: Reference,
    stage: Stage,
    work: Path,
    fault: Callable[[Running], Outcome],
    allowed: tuple[str, ...],
    probe: bool = True,
    **options: object,
) -> tuple[str, str]:
    """Carries a scenario out with a fault, then goes on as a user would.

    Args:
        fault: is given the command at work and answers how it ended.
        allowed: the kinds that the cut command itself may end in.
        probe: ask the scenario's probes right after the fault.
        options: of the job with the fault.

    Returns:
        How it went: `whole` and how the command itself ended, or what was wrong and an example of that.
    """
    scenario.set_up(stage, work)
    first = fault(stage.commands.start(scenario.argv, work, **(scenario.options | options)))
    try:
        if first.kind not in allowed:
            return first.kind, told([first])
        for name in scenario.whole:
            now = snapshot(work / name)
            if all(differences(now, one[name], known.volatile) for one in (known.before, known.after)):
                return f"lost: {'half written' if now else 'gone'}", f"{name}: {told([first])}"
        kind, example = aftermath(scenario, known, stage, work, first, probe)
        return kind, first.kind if kind == "whole" else example
    finally:
        shutil.rmtree(work, ignore_errors=True)


def aftermath(
    scenario: Scenario, known: Reference, stage: Stage, work: Path, first: Outcome, probe: bool = True
) -> tuple[str, str]:
    """What a user does after the fault that ended in `first`, and whether it ends as without one."""
    done = [first]
    for argv in scenario.probes if probe else ():
        done.append(stage.commands.run(argv, work, **scenario.options))
        if done[-1].kind not in ANSWERED:
            return f"probe: {done[-1].kind}", told(done)
    for argv in scenario.again:
        done.append(stage.commands.run(argv, work, **scenario.options))
        if done[-1].kind in ("sentence", "machine"):
            return "lost: cannot go on", told(done)
        if done[-1].kind != "fine":
            return done[-1].kind, told(done)
    if others := differences(snapshot(work), known.end, known.volatile):
        return "lost: other result", f"{others[:4]}: {told(done)}"
    if left := litter(work):
        return "litter", f"{left[:3]}: {told(done)}"
    return "whole", ""
