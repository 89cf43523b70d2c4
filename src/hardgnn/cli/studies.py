"""The commands that train many models: study, sweep; it parses, calls and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hardgnn.cli.options import Json, Workers, command_line, cutoffs_of, whole_numbers
from hardgnn.cli.peers import print_leaderboard, rank_beside
from hardgnn.cli.progress import RunsBar
from hardgnn.cli.terminal import marked, print_json, print_leaks, print_line, print_table
from hardgnn.errors import HardGNNError
from hardgnn.report.tables import p_value, spread
from hardgnn.screen import say, wait
from hardgnn.storage.documents import plain
from hardgnn.wording import corrected_over

if TYPE_CHECKING:
    from hardgnn.evaluation.comparisons import SeedComparison
    from hardgnn.experiments.choices import Choice
    from hardgnn.experiments.results import BaselineFigures, GroupRow, ResultTable, Summary, VariantRow
    from hardgnn.report.inspect import Item

Out = Annotated[Path, typer.Option(help="The study folder; another study may be in it already.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="One setting of every run, as in model.dim=64.")]
Seeds = Annotated[str, typer.Option(help="Seeds, as in 0,1,2.")]
Floors = Annotated[bool, typer.Option("--floors", help="Rank popularity, ItemKNN and recency kNN beside.")]


def study(
    name: Annotated[str, typer.Argument(help="components, noise, sparsity, history or variants.")],
    data: Annotated[list[Path], typer.Argument(help="Prepared folders.")],
    out: Out,
    preset: Annotated[str, typer.Option(help="The model that is studied.")] = "hardgnn",
    baseline: Annotated[
        str | None, typer.Option(help="A second preset that noise, sparsity and history are asked of too.")
    ] = None,
    set_: Settings = None,
    seeds: Seeds = "0,1,2",
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs at most of every run.")] = None,
    variants: Annotated[Path | None, typer.Option(help="A TOML file of variants, for `study variants`.")] = None,
    groups: Annotated[int, typer.Option(min=2, help="Groups of users, for `study sparsity`.")] = 4,
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Accept variants that let the test part steer training.")
    ] = False,
    floors: Floors = False,
    workers: Workers = 1,
    as_json: Json = False,
) -> None:
    """Asks one of the papers' questions of some data sets; stop it at any point and run it again to go on.

    **components** leaves out one part of the model at a time; **noise** replaces 5 to 25 % of the training
    interactions at random; **sparsity** tells the figures by the users' activity; **history** compares windows of 50
    and 200 items; **variants** compares what a TOML file names: `[variants.NAME]` with `preset = "hardgnn"`,
    `set = ["model.dim=32"]` and `noise = 0.1`, and above them `reference = "NAME"`.

    Every run keeps its best epoch by validation; its test part is ranked once, at its end.

    Example: `hardgnn study components data/ml-100k --out studies/first --seeds 0,1,2 --workers 2`
    """
    from hardgnn.experiments.results import summary as summarise
    from hardgnn.experiments.studies import run_study

    cutoffs = cutoffs_of(at)
    with RunsBar(f"study {name}") as bar:
        done = run_study(
            name,
            data,
            out,
            preset=preset,
            settings=with_epochs(set_, epochs),
            seeds=whole_numbers(seeds, "--seeds", 0),
            baseline=baseline,
            file=variants,
            allow_leaks=allow_leaks,
            with_baselines=floors,
            workers=workers,
            command=command_line(),
            told=bar.told,
            counted=bar.counted,
        )
    found = summarise(done, name, cutoffs, groups)
    if as_json:
        print_json(found.to_dict())
        return
    print_summary(found)


def sweep(
    data: Annotated[list[Path], typer.Argument(help="Prepared folders.")],
    out: Out,
    preset: Annotated[str, typer.Option(help="The model that is tuned.")] = "hardgnn",
    grid: Annotated[list[str] | None, typer.Option(help="Values of one setting, as in hard.k=3,5,7.")] = None,
    set_: Settings = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs at most of each run that serves the choice.")
    ] = None,
    seeds: Seeds = "0,1,2",
    choice_seeds: Annotated[
        str | None, typer.Option(help="Seeds of the runs that serve the choice; --seeds by default.")
    ] = None,
    then_retrain: Annotated[str, typer.Option(help="best: train the chosen settings again; or none.")] = "none",
    retrain_epochs: Annotated[int, typer.Option(min=1, help="Epochs at most of the retraining.")] = 150,
    baseline: Annotated[
        str | None, typer.Option(help="Trained as long, to compare with: a preset, or own (the best, hard.weight=0).")
    ] = None,
    floors: Floors = False,
    trials: Annotated[int | None, typer.Option(min=1, help="Search with Optuna: trials per data set in all.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Search with Optuna: seconds after which no trial begins.")
    ] = None,
    search: Annotated[str, typer.Option(help="Settings to search, as in hard.k,hard.weight; all by default.")] = "",
    storage: Annotated[
        str | None, typer.Option(help="Database of trials that machines share; by default a journal in the study.")
    ] = None,
    at: Annotated[str, typer.Option(help="Cut-offs of the retrained models' test figures.")] = "10,20",
    workers: Workers = 1,
    as_json: Json = False,
) -> None:
    """Many settings, the best by validation; then that again for longer, beside a baseline, and the test part once.

    A grid (`--grid`) or, beyond it, a search (`--trials`, `--timeout`) whose ranges stand beside the config's fields.
    Stop it at any point and run it again to go on. With `--storage`, or a study folder that machines share, any
    number of them pull trials from one search.

    Example: `hardgnn sweep data/ml-100k --out studies/grid --grid hard.k=3,5,7 --grid hard.weight=0.01,0.1,0.2
    --epochs 25 --seeds 0,1,2 --then-retrain best --retrain-epochs 150 --baseline selfgnn --workers 2`
    """
    from hardgnn.experiments import search as searching
    from hardgnn.experiments import sweep as sweeping
    from hardgnn.experiments.choices import choices
    from hardgnn.experiments.results import summary as summarise

    if then_retrain not in ("best", "none"):
        raise HardGNNError(f"--then-retrain {then_retrain}: expected best or none")
    if baseline is not None and then_retrain == "none":
        raise HardGNNError("--baseline is compared with the retrained best: add --then-retrain best")
    searched = trials is not None or timeout is not None
    if searched and grid:
        raise HardGNNError("a sweep takes --grid, or a search with --trials or --timeout, not both")
    cutoffs = cutoffs_of(at)
    numbers = tuple(whole_numbers(seeds, "--seeds", 0))
    retraining = sweeping.Retraining(retrain_epochs, baseline, floors, numbers) if then_retrain == "best" else None
    if choice_seeds is not None:
        numbers = tuple(whole_numbers(choice_seeds, "--choice-seeds", 0))
    with RunsBar("sweep") as bar:
        watched = sweeping.Watched(bar.begins, bar.told)
        if searched:
            keys = [key.strip() for key in search.split(",") if key.strip()]
            space = searching.chosen_space(keys, preset)
            words = tuple(with_epochs(set_, epochs))
            asked = searching.Search(space, numbers, trials, timeout, storage, preset=preset, shared=words)
            done = searching.run_search(
                data, out, asked, retraining=retraining, workers=workers, command=command_line(), watched=watched
            )
        else:
            done = sweeping.run_sweep(
                data,
                out,
                preset=preset,
                grid=grid or [],
                shared=set_ or [],
                epochs=epochs,
                seeds=numbers,
                retraining=retraining,
                workers=workers,
                command=command_line(),
                watched=watched,
            )
    chosen = choices(done)
    retrained = None if retraining is None else summarise(done, sweeping.RETRAINED, cutoffs)
    if as_json:
        more = {} if retrained is None else {"retrained": retrained.to_dict()}
        print_json({"study": "sweep", "choices": plain(chosen), **more})
        return
    print_choices(chosen)
    if retrained is not None:
        print_summary(retrained)


def inspect(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    user: Annotated[str, typer.Option(help="A raw user id.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Nearest items; also hard negatives of a model without.")] = 10,
    figure: Annotated[Path | None, typer.Option(help="Draw it: a .svg, .pdf or .png file.")] = None,
    data: Annotated[Path | None, typer.Option(help="The prepared folder, if it was moved.")] = None,
    as_json: Json = False,
) -> None:
    """What the model sees of one user, as in training: window and attention, intervals, near items, hard negatives.

    Example: `hardgnn inspect runs/hardgnn --user 42 --figure user-42.svg`
    """
    from hardgnn.report import inspect as inspecting

    wait(f"reading {run}")
    found = inspecting.inspect_user(run, user, n, data)
    if figure is not None:
        inspecting.draw(found).write(figure)
    if as_json:
        print_json(found.to_dict())
        return

    def named(row: Item) -> list[str]:
        return [row.item, *([row.title] if row.title is not None else [])]

    head = ["item", *(["title"] if found.window[0].title is not None else [])]
    layers = found.window[0].attention or ()
    rows = [[*named(row), *(f"{weight:.3f}" for weight in row.attention or ())] for row in found.window]
    print_table(
        f"window, oldest first: {len(rows)} items",
        [*head, *(f"layer {i + 1}" for i in range(len(layers)))],
        rows,
        texts=len(head),
    )
    rows = [
        [str(row.interval), str(row.interactions), "–" if row.weight is None else f"{row.weight:.3f}"]
        for row in found.intervals
    ]
    print_table("intervals", ["interval", "interactions", "weight w"], rows)
    rows = [[*named(row), f"{row.similarity:+.3f}", "seen" if row.seen else ""] for row in found.nearest]
    print_table(f"nearest items by cosine to {found.anchor}", [*head, "similarity", ""], rows, texts=len(head))
    rows = [
        [*named(row), f"{row.similarity:+.3f}", "the validation item" if row.false_negative else ""]
        for row in found.hard_negatives
    ]
    unsearched = "nearest items not seen (this model does not search its hard negatives among all items)"
    title = "hard negatives" if found.mined else unsearched
    print_table(title, [*head, "similarity", ""], rows, texts=len(head))


def compare_study(
    folder: Path, protocol: str | None, cutoffs: list[int], metrics: Sequence[str], as_json: bool
) -> None:
    """What `hardgnn compare STUDY` prints: the choices of its sweep and the tables of its plans."""
    from hardgnn.evaluation.protocols import FULL
    from hardgnn.experiments.choices import SWEEP, choices
    from hardgnn.experiments.folder import Study
    from hardgnn.experiments.peers.tuning import PEERS
    from hardgnn.experiments.results import summary
    from hardgnn.report.leaderboard import leaderboard, ranked

    opened = Study(folder)
    for name, plan in opened.plans.items():
        done = sum(opened.done(run, plan.test) for run in plan.runs())
        if done < len(plan.runs()):
            say(f"warning: {name}: {done} of {len(plan.runs())} runs are finished; its command, run again, goes on")
    chosen = choices(opened) if SWEEP in opened.plans else None
    plans = [summary(opened, name, cutoffs, metrics=metrics) for name, plan in opened.plans.items() if plan.test]
    rank_beside(opened, protocol or FULL)
    peers = PEERS in opened.plans and ranked(opened, protocol or FULL)
    board = leaderboard(opened, cutoffs, protocol or FULL) if peers else None
    if as_json:
        parts = {"choices": chosen, "plans": plans, "leaderboard": board}
        print_json({name: plain(part) for name, part in parts.items() if part is not None})
        return
    print_choices(chosen or [])
    for one in plans:
        print_line(f"{one.study}: {opened.plans[one.study].command}")
        print_summary(one, protocol)
    if board is not None:
        print_leaderboard(board, as_json)


def print_choices(choices: Sequence[Choice]) -> None:
    """The points of each data set by their validation figures, the chosen one marked."""
    for choice in choices:
        metrics = list(choice.chosen.figures)
        rows = [
            [
                ("→ " if point is choice.chosen else "  ") + " ".join(point.settings),
                str(len(point.seeds or ())),
                *(spread(point.figures[metric]) if metric in point.figures else "–" for metric in metrics),
            ]
            for point in choice.points
        ]
        where = f"{choice.data}: validation, {choice.protocol}, mean ± sd over seeds"
        title = f"{where}; → has the best {choice.metric} of {len(rows)}"
        print_table(title, ["settings", "seeds", *metrics], rows)


def print_summary(summary: Summary, protocol: str | None = None) -> None:
    """The tables of a summary, one data set and protocol after the other, then every comparison made."""
    for table in summary.tables:
        if protocol in (None, table.protocol):
            print_variants(table, (summary.baselines or {}).get(table.data, {}))
    for groups in summary.groups or ():
        if protocol in (None, groups.protocol):
            print_groups(groups)
    for relative in summary.relative or ():
        if protocol in (None, relative.protocol):
            rows = [
                [row.model, f"{100 * row.noise:.0f} %", *(spread(figure) for figure in row.metrics.values())]
                for row in relative.rows
            ]
            header = ["model", "noise", *relative.rows[0].metrics]
            print_table(f"{relative.data}: test, {relative.protocol}, relative to no noise", header, rows)
    print_leaks((row.variant, row.leaks) for row in summary.tables[0].rows)
    print_comparisons(summary.comparisons, protocol)


def print_variants(table: ResultTable[VariantRow], baselines: BaselineFigures) -> None:
    """The test figures of variants, those of baselines above."""
    metrics = list(table.rows[0].metrics)
    rows = [[name, "–", *(f"{by[table.protocol][metric]:.4f}" for metric in metrics)] for name, by in baselines.items()]
    rows += [
        [marked(row.variant, row.leaks), str(len(row.seeds)), *(spread(row.metrics[metric]) for metric in metrics)]
        for row in table.rows
    ]
    title = f"{table.data}: test, {table.protocol}, {table.rows[0].users:,} users{_spread_told(table)}"
    print_table(title, ["variant", "seeds", *metrics], rows)


def print_groups(table: ResultTable[GroupRow]) -> None:
    """The test figures by activity group."""
    metrics = list(table.rows[0].metrics)
    rows = [
        [
            marked(row.variant, row.leaks),
            row.group,
            f"{row.users:,}",
            *(spread(row.metrics[metric]) for metric in metrics),
        ]
        for row in table.rows
    ]
    title = f"{table.data}: test, {table.protocol}{_spread_told(table)}"
    print_table(title, ["variant", "training items", "users", *metrics], rows, texts=2)


def _spread_told(table: ResultTable[VariantRow] | ResultTable[GroupRow]) -> str:
    return ", mean ± sd over seeds" if any(len(row.seeds) > 1 for row in table.rows) else ""


def print_comparisons(comparisons: Sequence[SeedComparison], protocol: str | None = None) -> None:
    """What was compared with what, a table for each data set and protocol, each with the number of all comparisons."""
    count = len(comparisons)
    places = dict.fromkeys((row.data, row.protocol) for row in comparisons)
    for data, under in places:
        if protocol not in (None, under):
            continue
        rows = [
            [
                f"{row.a} − {row.b}",
                row.metric,
                f"{row.difference:+.4f} ({row.low:+.4f} – {row.high:+.4f})",
                f"{row.effect_size:+.2f}",
                f"{p_value(row.wilcoxon_p_holm)}, {p_value(row.permutation_p_holm)}",
                str(row.seeds),
                "–" if row.seed_effect_size is None else f"{row.seed_effect_size:+.2f}",
                p_value(row.seed_p_holm),
            ]
            for row in comparisons
            if (row.data, row.protocol) == (data, under)
        ]
        title = f"{data}: test, {under}; p-values are Holm-corrected over {corrected_over(count)} made"
        header = ["compared", "metric", "difference (95 % over users)", "d_z", "p: Wilcoxon, permutation"]
        print_table(title, [*header, "seeds", "d_z over seeds", "p: t over seeds"], rows, texts=2)


def with_epochs(settings: list[str] | None, epochs: int | None) -> list[str]:
    """The settings of every run, the epochs among them."""
    return [*(settings or []), *([f"train.epochs={epochs}"] if epochs is not None else [])]
