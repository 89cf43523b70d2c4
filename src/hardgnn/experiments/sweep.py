"""The sweep: a grid or a search, the choice by validation alone, the best again for longer beside its baseline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardgnn import config as settings
from hardgnn.errors import HardGNNError
from hardgnn.experiments.choices import SWEEP, choices, tried_by
from hardgnn.experiments.folder import Study, opened
from hardgnn.experiments.plan import Grid, Plan, Variant

RETRAINED = "retrained"  # the name of the plan that trains the best again
OWN = "own"
FIXED = ("train.metric", "run.protocol", "train.choose_on", "run.seed", "run.learn_from")


@dataclass(frozen=True)
class Retraining:
    """The chosen settings again for longer, and a baseline that got as long: a preset, or `own`, the chosen settings
    without hard negatives, which is the fair one where more than those was tuned. The seeds are by default those of
    the choice."""

    epochs: int
    baseline: str | None = None
    with_baselines: bool = False
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Watched:
    """Who is told how a sweep goes: the stage begins with so many runs; so many are done."""

    begins: Callable[[str, int], None] = lambda stage, total: None
    told: Callable[[float, int, str], None] = lambda done, failed, names: None


def parse_grid(words: Sequence[str], preset: str = "hardgnn", shared: Sequence[str] = ()) -> dict[str, list[str]]:
    """The values by key from words such as `hard.k=3,5,7`, for a preset with some settings.

    Raises:
        HardGNNError: another form, a key twice, or one that a sweep must not change.
    """
    grid: dict[str, list[str]] = {}
    for word in words:
        key, separator, values = word.partition("=")
        listed = [value.strip() for value in values.split(",")]
        if not separator or not all(listed) or len(set(listed)) < len(listed):
            raise HardGNNError(f"--grid {word}: expected section.field=value,value,… as in hard.k=3,5,7")
        if key in grid:
            raise HardGNNError(f"--grid {word}: '{key}' is given twice")
        try:
            settings.resolve(preset, settings=(*shared, f"{key}={listed[0]}"))
        except HardGNNError as error:
            raise HardGNNError(f"--grid {word}: {str(error).partition(': ')[2] or error}") from None
        if key in FIXED:
            raise HardGNNError(f"--grid {word}: '{key}' decides how runs are judged, so it is the same for all")
        grid[key] = listed
    return grid


def grid_variants(preset: str, shared: Sequence[str], grid: dict[str, list[str]]) -> tuple[Variant, ...]:
    """One variant per point, named after what it sets."""
    points = [[f"{key}={value}" for key, value in zip(grid, values)] for values in itertools.product(*grid.values())]
    return tuple(Variant(f"{preset}-{','.join(point)}", preset, (*shared, *point)) for point in points)


def run_sweep(
    data: Sequence[Path],
    out: Path,
    *,
    preset: str = "hardgnn",
    grid: Sequence[str] = (),
    shared: Sequence[str] = (),
    epochs: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    retraining: Retraining | None = None,
    workers: int = 1,
    command: str = "",
    watched: Watched | None = None,
) -> Study:
    """Trains every point of the grid on every data set with every seed; then, if asked, the best again.

    The best is, per data set, the point with the highest mean over seeds of `train.metric` on validation. The test
    part is read once per retrained model, and of the grid's runs never.

    Args:
        grid: words such as `hard.k=3,5,7`.
        shared: settings of all runs, the baseline's included.
        epochs: of the grid's runs; the preset's own by default.
        workers: processes at a time; 0 works in this process.

    Raises:
        HardGNNError: bad settings or data, before any work; failed runs, after all others; or the folder's best was
            retrained for another grid, so that its test part has been read.
    """
    watched = watched or Watched()
    parsed = parse_grid(grid, preset, shared)
    if not parsed:
        raise HardGNNError("a sweep needs --grid, as in --grid hard.k=3,5,7, or --trials")
    with opened(out) as study:
        with_epochs = (*shared, *([] if epochs is None else [f"train.epochs={epochs}"]))
        plan = Plan(
            SWEEP,
            study.add_data(data),
            grid_variants(preset, with_epochs, parsed),
            tuple(seeds),
            test=False,
            command=command,
            more=Grid(parsed, preset),
        )
        refuse_second_choice(study, plan)
        study.check(plan)
        check_retraining(retraining, shared)
        study.save(SWEEP, plan)
        watched.begins("grid", len(plan.runs()))
        study.carry_out(plan, workers, watched.told)
        if retraining is not None:
            retrain(study, plan, retraining, shared, workers, watched)
        return study


def refuse_second_choice(study: Study, plan: Plan) -> None:
    """A choice whose test part has been read is final: a wider search needs a new folder.

    Raises:
        HardGNNError: the folder's best was retrained, and the new plan differs from the one it was chosen in.
    """
    if RETRAINED not in study.plans:
        return
    before = study.plans[SWEEP]
    if replace(plan, command="", more=None) != replace(before, command="", more=None):
        raise HardGNNError(
            f"{study.folder}: the best of its sweep was retrained and its test part read, so the choice is final; "
            "take another --out for another search"
        )


def check_retraining(retraining: Retraining | None, shared: Sequence[str]) -> None:
    """Refuses a baseline that is no preset, before any work."""
    if retraining is not None and retraining.baseline not in (None, OWN):
        settings.resolve(retraining.baseline, settings=shared)


def retrain(
    study: Study, plan: Plan, retraining: Retraining, shared: Sequence[str], workers: int, watched: Watched
) -> None:
    """Trains the chosen settings of each data set for longer, and the baseline as long; their test part is ranked."""
    longer = (*shared, f"train.epochs={retraining.epochs}")
    preset = tried_by(plan).preset
    chosen = {choice.data: choice.chosen.settings for choice in choices(study)}
    baseline = f"{preset}-without-hard" if retraining.baseline == OWN else retraining.baseline
    variants = [Variant(f"{preset}-best", preset, longer, reference=baseline or "", chosen=chosen)]
    if retraining.baseline == OWN:
        soft = {data: (*words, "hard.weight=0") for data, words in chosen.items()}
        variants.append(Variant(f"{preset}-without-hard", preset, longer, chosen=soft))
    elif baseline is not None:
        variants.append(Variant(baseline, baseline, longer))
    seeds = retraining.seeds or plan.seeds
    again = Plan(
        RETRAINED,
        plan.data,
        tuple(variants),
        seeds,
        with_baselines=retraining.with_baselines,
        command=plan.command,
    )
    study.check(again)
    study.save(RETRAINED, again)
    watched.begins("retraining", study.size(again))
    study.carry_out(again, workers, watched.told)
