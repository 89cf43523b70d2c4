"""Each command that writes, what lies there before, and what a user does after it was cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.commands import Outcome
from faults.snapshot import Snapshot, snapshot
from faults.stage import MARKET, Origin, Stage, settings


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
    stable = ends[0].keys() - volatile
    missing = [piece for piece in scenario.essential if not any(key.startswith(piece) for key in stable)]
    assert not missing, f"{scenario.name}: two undisturbed runs differ in {missing}; volatile are {sorted(volatile)}"
    return Reference(before, afters[0], ends[0], volatile, outcome.trace, outcome.seconds)


def told(outcomes: list[Outcome]) -> str:
    """Commands and how they ended, for an example."""
    return "; ".join(f"`{' '.join(one.argv[:4])} …` {one.kind} {one.said!r}" for one in outcomes)


class Scenarios:
    """All of them, by name; fixtures are made when one is asked for."""

    def __init__(self, stage: Stage, origin: Origin) -> None:
        self.stage, self.origin = stage, origin

    def __getitem__(self, name: str) -> Scenario:
        return MADE[name](name, self.stage, self.origin)


SERVED = ("recommend", "run", "--all-users", "--out", "recs.csv")
JUDGED = ("evaluate", "run")
WEIGHTS = ("run/model.safetensors/", "run/checkpoint/state.safetensors/", "run/ranks-test-full.parquet#", "recs.csv#")
Maker = Callable[[str, Stage, Origin], Scenario]


def same(argv: Callable[[Stage], tuple[object, ...]], *more: tuple[str, ...], **fields: Any) -> Maker:
    """A command that is given once more, in the same words."""

    def make(name: str, stage: Stage, origin: Origin) -> Scenario:
        words = tuple(str(one) for one in argv(stage))
        return Scenario(name, words, (words, *more), **fields)

    return make


def trained(preset: str, words: tuple[str, ...] = (), **fields: Any) -> Maker:
    """Training, which goes on with --resume; then the run is used."""

    def make(name: str, stage: Stage, origin: Origin) -> Scenario:
        argv = ("train", str(stage / "data"), "--out", "run", "--preset", preset, *settings(preset=preset), *words)
        if name == "warm start":
            argv += ("--warm-start", str(stage / "data-selfgnn"))
        first = (*argv, "--resume") if fields.get("before") else argv
        again = ((*argv, "--resume"), JUDGED, SERVED)
        return Scenario(name, first, again, probes=(SERVED, JUDGED), essential=WEIGHTS, **fields)

    return make


def downloaded(name: str, stage: Stage, origin: Origin) -> Scenario:
    """From a server on this machine."""
    argv = ("download", "ml-100k", "--to", "raw")
    options = {"origin": [origin.url, origin.md5]}
    return Scenario(name, argv, (argv,), options=options, essential=("raw/u.data#", "raw/download.json/"))


def prepare(stage: Stage) -> tuple[object, ...]:
    """The log of `data`."""
    return "prepare", stage / "log.inter", "--out", "data", "--k-core", "2"


def prepare_over(stage: Stage) -> tuple[object, ...]:
    """The same where the data set of another log is."""
    return *prepare(stage), "--overwrite"


def exported(stage: Stage) -> tuple[object, ...]:
    """The run whose scores are products."""
    return "export", stage / "data-selfgnn", "--out", "export"


def reported(stage: Stage) -> tuple[object, ...]:
    """Two runs on one page."""
    return "report", stage / "data-selfgnn", stage / "data-best", "--out", "report.html", "--figures", "figures"


def swept(*words: str) -> Callable[[Stage], tuple[object, ...]]:
    """A sweep or study of two epochs a run."""
    shared = ("--out", "study", *settings(2), "--seeds", "0")
    return lambda stage: (*words[:2], stage / "data", *words[2:], *shared)


MADE: dict[str, Maker] = {
    "simulate": same(lambda _: (*MARKET, "--out", "new.inter"), whole=("new.inter",), essential=("new.inter#",)),
    "prepare": same(prepare, whole=("data",), essential=("data/interactions.parquet#", "data/manifest.json/")),
    "prepare over": same(prepare_over, before={"data": "else"}, whole=("data",), essential=("data/users.parquet#",)),
    "prepare over, two renames": same(prepare_over, before={"data": "else"}, options={"exchange": False}),
    "train hardgnn": trained("hardgnn"),
    "train best": trained("best"),
    "resume": trained("hardgnn", before={"run": "data-stopped"}),
    "warm start": trained("hardgnn"),
    "evaluate": same(lambda _: JUDGED, SERVED, before={"run": "data-best-trained"}, probes=(SERVED,),
                     whole=("run/result.json",), essential=("run/ranks-test-full.parquet#", "run/result.json/test/")),
    "recommend parquet": same(lambda _: (*SERVED[:-1], "recs.parquet"), before={"run": "data-best-trained"},
                              whole=("recs.parquet",), essential=("recs.parquet#",)),
    "recommend csv": same(lambda _: SERVED, before={"run": "data-best-trained"}, whole=("recs.csv",),
                          essential=("recs.csv#",)),
    "export": same(exported, whole=("export",), essential=("export/items.parquet#",)),
    "export over": same(exported, before={"export": "else-export"}, whole=("export",),
                        essential=("export/users.parquet#",)),
    "report": same(reported, whole=("report.html",), essential=("report.html#", "figures/")),
    "download": downloaded,
    "sweep grid": same(swept("sweep", "--grid=hard.k=1,2", "--then-retrain", "best", "--retrain-epochs", "2"),
                       essential=("study/study.json/", "study/runs/data/hardgnn-best-0/model.safetensors/")),
    "sweep search": same(swept("sweep", "--trials=2", "--search", "hard.k"),
                         essential=("study/study.json/plans/sweep/more/trials/", "study/runs/data/")),
    "study": same(swept("study", "history", "--floors"), essential=("study/study.json/", "study/runs/data/")),
    "compare": same(lambda _: ("compare", "run", "two"),
                    before={"run": "data-best-trained", "two": "data-selfgnn-trained"},
                    essential=("run/ranks-test-full.parquet#", "two/ranks-test-full.parquet#")),
    "leaderboard": same(lambda stage: ("leaderboard", stage / "data-grid", "--out", "board.md"), whole=("board.md",),
                        essential=("board.md#",)),
    "inspect": same(lambda stage: ("inspect", stage / "data-hardgnn", "--user", "u1", "--figure", "user.svg"),
                    whole=("user.svg",)),
}  # fmt: skip
