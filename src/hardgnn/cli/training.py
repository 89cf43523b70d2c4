"""The commands that make one model, or show the whole job: train, ensemble, demo; it parses, calls and prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hardgnn.cli.options import Json
from hardgnn.cli.terminal import marked, print_block, print_json, print_leaks, print_line, print_table
from hardgnn.errors import HardGNNError, shown
from hardgnn.processes.launch import alone
from hardgnn.screen import say

if TYPE_CHECKING:
    from hardgnn.config import Config
    from hardgnn.data.dataset import Dataset


def preset_names() -> list[str]:
    """The presets, for a shell that completes words."""
    from hardgnn.config.resolve import presets

    return list(presets())


Preset = Annotated[
    str | None,
    typer.Option(
        help="Named settings (see `hardgnn presets`); A+B puts those of B over those of A.",
        show_default="best",
        autocompletion=preset_names,
    ),
]


def presets(
    name: Annotated[str | None, typer.Argument(help="Shows all settings of this one, as TOML; A+B stacks.")] = None,
    as_json: Json = False,
) -> None:
    """What `train --preset` can be, and when to take it.

    Example: `hardgnn presets`, or `hardgnn presets best`
    """
    from hardgnn import config as settings

    if name is not None:
        resolved = settings.resolve(name)
        print_json(settings.flat(resolved)) if as_json else print_block(resolved.to_toml())
        return
    notes = settings.preset_notes()
    if as_json:
        print_json([{"preset": one, "what": what, "when": when} for one, (what, when) in notes.items()])
        return
    first = sorted(notes, key=lambda one: one != settings.DEFAULT_PRESET)
    rows = [[f"{one} *" if one == settings.DEFAULT_PRESET else one, *notes[one]] for one in first]
    print_table("presets of train; * is the default", ["preset", "what it is", "take it"], rows, texts=3)
    print_line("all settings of one: `hardgnn presets best`; those of prepare: `hardgnn prepare --list-presets`")


def train(
    data: Annotated[Path | None, typer.Argument(help="A prepared folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to write.")] = None,
    preset: Preset = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One setting, as in model.dim=64.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    warm_start: Annotated[
        Path | None, typer.Option(help="Start from the weights of an older run, its users and items matched by raw id.")
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(min=1, help="Try so many settings of the preset's list, and keep the best on validation."),
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option(help="Learn from training and validation together, with all that this run chose on validation."),
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Accept settings that let the test part steer training.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's logs.")] = None,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Lists the names of the presets and ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Trains one model, validates as it goes and keeps the best epoch.

    Example: `hardgnn train data/ml-100k --out runs/best --set train.epochs=60`
    """
    from hardgnn import config as settings

    if list_presets:
        names = list(settings.presets())
        print_json(names) if as_json else print_block("\n".join(names))
        return
    if data is None or out is None:
        raise HardGNNError("train needs a prepared folder and a run folder: hardgnn train DATA --out RUN")
    from hardgnn.data.dataset import Dataset
    from hardgnn.processes.group import together
    from hardgnn.runs.train import train as run

    if tune is not None:
        if refit or config or warm_start or tensorboard or allow_leaks:
            raise HardGNNError("--tune stands with --preset, --set and --seed alone")
        alone("train --tune")
        tuned(Dataset.load(data), preset or settings.DEFAULT_PRESET, out, tune, set_ or [], seed, data, as_json)
        return
    with together() as group:
        prepared = Dataset.load(data, ids=group.first or warm_start is not None)
        resolved, preset = asked_for(refit, prepared, preset, config, set_ or [], seed)
        how: dict[str, Any] = {"resume": resume, "allow_leaks": allow_leaks, "warm_start": warm_start}
        how |= {"preset": preset, "data_path": data}
        if group.first:
            trained(prepared, resolved, out, tensorboard, as_json, how)
        else:
            run(prepared, resolved, out, **how)


def trained(
    data: Dataset, config: Config, out: Path, tensorboard: Path | None, as_json: bool, how: dict[str, Any]
) -> None:
    """What `train` does and prints; `how` are the arguments of `hardgnn.runs.train.train` that are passed on."""
    from hardgnn.runs.folder import is_started, read_result
    from hardgnn.runs.train import check_place
    from hardgnn.runs.train import train as run
    from hardgnn.training.bar import TrainingBar

    check_place(out, how["resume"])
    if how["resume"] and not is_started(out):
        say(f"warning: {shown(out)}: no run is there to go on with, so a new one begins")
    say(told_settings(config, how["preset"]))
    with TrainingBar(out.name) as bar:
        result = run(data, config, out, callbacks=[bar, *loggers(tensorboard)], **how)
    if as_json:
        print_json({"run": str(out), **read_result(out)})
        return
    if not result.metrics:
        print_line(f"{out}: learnt from {result.split}, {result.epochs} epochs; its test part can be evaluated")
        return
    chosen = f"best of {result.epochs} epochs is {result.best_epoch}, {result.chosen_by}"
    print_table(
        f"{out}: {'fitted in one go' if config.train is None else chosen}",
        [f"{result.split}, {result.protocol}", *result.metrics],
        [[marked(out.name, result.leaks), *(f"{value:.4f}" for value in result.metrics.values())]],
    )
    if result.chosen:
        print_line("chosen on validation: " + ", ".join(f"{key}={value}" for key, value in result.chosen.items()))
    print_leaks([(out.name, result.leaks)])
    each = "" if config.train is None else " per epoch"
    print_line(f"{result.seconds_per_epoch:.2f} s{each}, peak memory {result.peak_memory_mb:.0f} MB")
    print_line(f"next: `hardgnn evaluate {shlex.quote(str(out))}`")


def told_settings(config: Config, preset: str | None) -> str:
    """The settings of a run as what differs from its preset."""
    from hardgnn.config import differences

    seed = f"seed {config.run.seed}"
    if preset is None:
        return f"settings: those of an older run, {seed}"
    differing = differences(config, preset)
    return f"preset {preset}, {seed}" + (f"; set: {', '.join(differing)}" if differing else ", nothing else set")


def asked_for(
    refit: Path | None, data: Dataset, preset: str | None, file: Path | None, words: list[str], seed: int | None
) -> tuple[Config, str | None]:
    """The config that the options name, and the preset that it began with."""
    from hardgnn import config as settings
    from hardgnn.runs.folder import check_version
    from hardgnn.runs.refit import refit_run

    if refit is None:
        preset = preset or settings.DEFAULT_PRESET
        return settings.resolve(preset, file, words, seed), preset
    if preset or file:
        raise HardGNNError("--refit takes the settings of its run: leave out --preset and --config")
    return refit_run(refit, data, words, seed), check_version(refit).get("preset")


def tuned(
    data: Dataset, preset: str, out: Path, n: int, words: list[str], seed: int | None, path: Path, as_json: bool
) -> None:
    """What `train --tune` does, and its table."""
    from hardgnn.experiments.listed import tries, tune
    from hardgnn.training.bar import TrainingBar

    tried = tries(preset, n, words, seed)
    told = tune(data, tried, out, TrainingBar, preset=preset, data_path=path)
    if as_json:
        print_json({"run": str(out), "tried": told})
        return
    metrics = list(told[0]["valid"])
    rows = [
        [
            ("* " if one["chosen"] else "") + (" ".join(one["set"]) or f"preset {preset}"),
            *(f"{one['valid'][metric]:.4f}" for metric in metrics),
            str(one["best_epoch"]),
            f"{one['seconds']:.0f}",
        ]
        for one in told
    ]
    print_table(f"{out}: valid, the best (*) is kept", ["settings", *metrics, "epoch", "s"], rows)


def loggers(tensorboard: Path | None) -> list[Any]:
    """The loggers that the options name, as callbacks."""
    if tensorboard is None:
        return []
    from hardgnn.training.loggers.tensorboard import TensorBoard

    return [TensorBoard(logs=tensorboard)]


def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Finished runs on one data set, such as seeds of one preset.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    as_json: Json = False,
) -> None:
    """Several runs as one run that scores by the mean of their log-probabilities; evaluated and served as any other.

    Example: `hardgnn ensemble runs/best-0 runs/best-1 runs/best-2 --out runs/three`
    """
    from hardgnn.cli.progress import users_bar
    from hardgnn.runs.ensemble import ensemble as make
    from hardgnn.runs.folder import read_result

    with users_bar(f"{out.name}: valid, full") as bar:
        result = make(runs, out, bar)
    if as_json:
        print_json({"run": str(out), **read_result(out)})
        return
    figures = [[out.name, *(f"{value:.4f}" for value in result.metrics.values())]]
    if result.metrics:
        print_table(f"{out}: {len(runs)} runs", ["valid, full", *result.metrics], figures)
    print_line(f"{result.parameters:,} parameters, {result.training_seconds:.0f} s of training in all")


def demo(
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for data, runs and the report.", show_default="demo, or demo-full"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Train for longer: up to 60 epochs of each model.")] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs at most for each model.", show_default="12, or 60")
    ] = None,
    as_json: Json = False,
) -> None:
    """The whole job on MovieLens-100K: download, prepare, train three models, evaluate, compare, report.

    It takes some minutes and tells how many. Stop it at any point and run it again to go on.

    Example: `hardgnn demo`
    """
    from hardgnn.demo import FULL, SHORT
    from hardgnn.demo import demo as run

    document = run(to or Path("demo-full" if full else "demo"), FULL if full else SHORT, epochs, say=say)
    if as_json:
        print_json(document)
        return
    for protocol in document["protocols"]:
        metrics = list(protocol["rows"][0]["metrics"])
        rows = [[row["model"], *(f"{row['metrics'][name]:.4f}" for name in metrics)] for row in protocol["rows"]]
        title = f"{document['dataset']}, test, {protocol['protocol']}, seed 0, {protocol['rows'][0]['users']:,} users"
        print_table(title, ["model", *metrics], rows)
    for line in document["verdict"]:
        print_line(line)
    for name, path in document["paths"].items():
        print_line(f"{name}: {path}")
