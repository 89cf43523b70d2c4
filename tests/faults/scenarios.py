"""Each command that writes, what lies there before, and what a user does after it was cut."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.commands import Commands, Outcome
from faults.snapshot import Snapshot, snapshot
from faults.stage import Origin, Stage, settings


@dataclass(frozen=True)
class Scenario:
    """One command.

    `before` maps places in the work folder to fixtures that are copied there. `whole` are places that must be as
    before or as after at every moment. `probes` must answer, with a result or a sentence, right after a fault. The
    `again` are what a user does then, the same work first; all must go well and end as without a fault.
    """

    name: str
    argv: tuple[str, ...]
    again: tuple[tuple[str, ...], ...]
    before: dict[str, str] = dataclasses.field(default_factory=dict)
    whole: tuple[str, ...] = ()
    probes: tuple[tuple[str, ...], ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    essential: tuple[str, ...] = ()
    """Pieces that two undisturbed runs must agree on, so that comparing means something."""

    def set_up(self, stage: Stage, work: Path) -> None:
        """The work folder as it is before the command."""
        work.mkdir(parents=True)
        for place, fixture in self.before.items():
            stage.copy(fixture, work / place)


@dataclass(frozen=True)
class Reference:
    """What an undisturbed command leaves, at once and after what follows it."""

    before: dict[str, Snapshot]
    after: dict[str, Snapshot]
    end: Snapshot
    volatile: frozenset[str]
    operations: tuple[tuple[str, str, str], ...]
    seconds: float


def reference(scenario: Scenario, stage: Stage, work: Path) -> Reference:
    """Carries a scenario out twice without a fault; what differs between the two is volatile."""
    ends, afters = [], []
    for turn in ("one", "two"):
        place = work / turn
        scenario.set_up(stage, place)
        before = {name: snapshot(place / name) for name in scenario.whole}
        outcome = stage.commands.must(scenario.argv, place, cut=(0, "kill"), **scenario.options)
        afters.append({name: snapshot(place / name) for name in scenario.whole})
        for argv in scenario.again[1:]:
            stage.commands.must(argv, place, **scenario.options)
        ends.append(snapshot(place))
    volatile = frozenset(key for key in ends[0].keys() | ends[1].keys() if ends[0].get(key) != ends[1].get(key))
    missing = [piece for piece in scenario.essential if not any(key.startswith(piece) for key in ends[0].keys() - volatile)]
    assert not missing, f"{scenario.name}: not the same in two undisturbed runs: {missing}; volatile: {sorted(volatile)}"
    return Reference(before, afters[0], ends[0], volatile, outcome.trace, outcome.seconds)


def told(outcomes: list[Outcome]) -> str:
    """Commands and how they ended, for an example."""
    return "; ".join(f"`{' '.join(one.argv[:4])} …` {one.kind} {one.said!r}" for one in outcomes)


def scenarios(stage: Stage, origin: Origin) -> dict[str, Scenario]:
    """All of them, by name."""
    data, other = str(stage / "data"), str(stage / "else")
    log, run, best = str(stage / "log.inter"), str(stage / "data-selfgnn"), str(stage / "data-best")
    small, short = settings(), settings(2)
    served = ("recommend", "run", "--all-users", "--out", "recs.csv")
    judged = ("evaluate", "run")
    prepare = ("prepare", log, "--out", "data", "--k-core", "2")

    def train(preset: str) -> tuple[str, ...]:
        return ("train", data, "--out", "run", "--preset", preset, *small)

    def resumed(preset: str) -> tuple[tuple[str, ...], ...]:
        return ((*train(preset), "--resume"), judged, served)

    def same(name: str, argv: tuple[str, ...], *more: tuple[str, ...], **options: Any) -> Scenario:
        return Scenario(name, argv, (argv, *more), **options)

    grid = ("sweep", data, "--out", "study", *short, "--grid", "hard.k=1,2", "--seeds", "0", "--then-retrain", "best",
            "--retrain-epochs", "2")  # fmt: skip
    search = ("sweep", data, "--out", "study", *short, "--search", "hard.k", "--trials", "2", "--seeds", "0")
    study = ("study", "history", data, "--out", "study", *short, "--seeds", "0", "--floors")
    weights = ("run/model.safetensors/", "run/checkpoint/state.safetensors/", "run/ranks-test-full.parquet#", "recs.csv#")
    training: dict[str, Any] = {"probes": (served, judged), "essential": weights}
    listed = [
        same("simulate", ("simulate", "--users", "40", "--items", "30", "--events", "600", "--out", "new.inter"),
             whole=("new.inter",), essential=("new.inter#",)),
        same("prepare", prepare, whole=("data",), essential=("data/interactions.parquet#", "data/manifest.json/")),
        same("prepare over", prepare, before={"data": "else"}, whole=("data",), essential=("data/users.parquet#",)),
        same("prepare over, two renames", prepare, before={"data": "else"}, options={"exchange": False}),
        Scenario("train hardgnn", train("hardgnn"), resumed("hardgnn"), **training),
        Scenario("train best", train("best"), resumed("best"), **training),
        Scenario("resume", resumed("hardgnn")[0], resumed("hardgnn"), before={"run": "data-stopped"}, **training),
        same("warm start", (*train("hardgnn"), "--resume", "--warm-start", run), judged, served, **training),
        same("evaluate", judged, served, before={"run": "data-best-trained"}, probes=(served,), whole=("run/result.json",),
             essential=("run/ranks-test-full.parquet#", "run/result.json/test/")),
        same("recommend parquet", (*served[:-1], "recs.parquet"), before={"run": "data-best"}, whole=("recs.parquet",),
             essential=("recs.parquet#",)),
        same("recommend csv", served, before={"run": "data-best"}, whole=("recs.csv",), essential=("recs.csv#",)),
        same("export", ("export", run, "--out", "export"), whole=("export",), essential=("export/items.parquet#",)),
        same("export over", ("export", run, "--out", "export"), before={"export": "else-export"}, whole=("export",),
             essential=("export/users.parquet#",)),
        same("report", ("report", run, best, "--out", "report.html", "--figures", "figures"), whole=("report.html",),
             essential=("report.html#", "figures/")),
        same("download", ("download", "ml-100k", "--to", "raw"), options={"origin": [origin.url, origin.md5]},
             essential=("raw/u.data#", "raw/download.json/")),
        same("sweep grid", grid, essential=("study/study.json/", "study/runs/data/hardgnn-best-0/model.safetensors/")),
        same("sweep search", search, essential=("study/study.json/plans/sweep/more/trials/", "study/runs/data/")),
        same("study", study, essential=("study/study.json/", "study/runs/data/")),
        same("compare", ("compare", "run", "two"), before={"run": "data-best-trained", "two": "data-selfgnn-trained"},
             essential=("run/ranks-test-full.parquet#", "two/ranks-test-full.parquet#")),
        same("leaderboard", ("leaderboard", str(stage / "data-grid"), "--out", "board.md"), whole=("board.md",),
             essential=("board.md#",)),
        same("inspect", ("inspect", run, "--user", "u1", "--figure", "user.svg"), whole=("user.svg",)),
    ]  # fmt: skip
    assert other
    return {one.name: one for one in listed}
