"""The command line: it parses, calls and prints; no logic."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hardgnn.cli import peers as others
from hardgnn.cli import serving, studies
from hardgnn.cli.progress import TrainingBar, bytes_bar, console, say, users_bar
from hardgnn.cli.terminal import print_json as _print_json
from hardgnn.cli.terminal import print_line as _print_line
from hardgnn.cli.terminal import print_table as _print_table
from hardgnn.errors import HardGNNError, shown

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Sequential recommendation with SelfGNN and HardGNN, honestly measured.",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
USAGE_ERROR: Any = typer.BadParameter.__bases__[0]  # of all that the parser refuses; Typer has no name for it
Seed = Annotated[int, typer.Option(min=0, help="Seed.")]


def run(words: Sequence[str]) -> int:
    """Runs the command that `words` name and answers its exit status.

    Raises:
        HardGNNError: bad usage, told in one sentence that names the command's help; or what the command raises.
    """
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    _check_words(words)
    command = typer.main.get_command(app)
    try:
        with command.make_context("hardgnn", list(words) or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except USAGE_ERROR as error:
        raise HardGNNError(_usage(error)) from None
    return 0


def _check_words(words: Sequence[str]) -> None:
    """Refuses empty words, which as a path would mean the folder one is in, as where a shell variable is not set.

    And names that are not UTF-8: polars cannot open them, or would write under another name.

    Raises:
        HardGNNError: names the word, or what is before it, or the folder one is in.
    """
    for before, word in zip(["hardgnn", *words], words):
        name, equals, value = word.partition("=")
        if not word or (equals and not value and re.fullmatch(r"--[a-z-]+", name)):
            raise HardGNNError(f"nothing is given after '{name or before}'; leave it out, or name what is meant")
    places = list(words)
    with suppress(OSError):
        places.append(os.getcwd())
    for name in places:
        with suppress(UnicodeError):
            if os.fsencode(name) == name.encode("utf-8"):
                continue
        raise HardGNNError(f"{shown(name)}: a name that is not UTF-8 text; rename it, or use a link with another name")


def _usage(error: Any) -> str:
    """What the parser refuses, in our words' style."""
    text = str(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    told = text[:1].lower() + text[1:]
    return f"{told}; see `{context.command_path if context else 'hardgnn'} --help`"


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A public data set, such as ml-100k.")],
    to: Annotated[Path | None, typer.Option(help="Folder for the files; data/NAME by default.")] = None,
    as_json: Json = False,
) -> None:
    """Fetches a public data set from its origin, resumable and checksummed.

    Example: `hardgnn download ml-100k --to data/ml-100k`
    """
    from hardgnn.data.download import download as fetch

    with bytes_bar(name) as bar:
        path = fetch(name, to or Path("data") / name, progress=bar, say=say)
    _print_json({"path": str(path)}) if as_json else _print_line(path)


@app.command()
def prepare(
    source: Annotated[Path | None, typer.Argument(help="The raw log, - for standard input, or a folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="The prepared folder to write.")] = None,
    preset: Annotated[str | None, typer.Option(help="A paper's settings; see --list-presets.")] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="auto, inter, csv, parquet, movielens, amazon, gowalla, yelp, json, sequences (users and their items, "
            "oldest first, without times) or selfgnn.",
        ),
    ] = None,
    user_col: Annotated[str | None, typer.Option(help="Column of users.")] = None,
    item_col: Annotated[str | None, typer.Option(help="Column of items.")] = None,
    time_col: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    rating_col: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    items_file: Annotated[Path | None, typer.Option(help="A table of items with titles.")] = None,
    drop_missing: Annotated[
        bool | None, typer.Option("--drop-missing", help="Drop rows whose user or item is NA, nan, None or the like.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text that is not UTF-8, such as latin-1.")] = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Most bytes out of a compressed file or a pipe; see docs/data.md.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Drop what is earlier than this date (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Drop what is not earlier than this date (UTC).")] = None,
    min_rating: Annotated[float | None, typer.Option(help="Keep ratings of at least this.")] = None,
    repeats: Annotated[str | None, typer.Option(help="Repeated pairs: first (default), last or all.")] = None,
    k_core: Annotated[int | None, typer.Option(help="Fewest interactions per user and item, iterated; 5.")] = None,
    thresholds: Annotated[str | None, typer.Option(help="k_core (default), or selfgnn: passes of 20, 15, 5.")] = None,
    split: Annotated[str | None, typer.Option(help="leave-one-out (default) or global-time.")] = None,
    candidate_users: Annotated[
        int | None, typer.Option(min=0, help="Users at most with candidates of sampled-999; 10,000; 0 is all.")
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Leave test items in the sequences of released pickles.")
    ] = False,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="Lists the presets and ends.")] = False,
    as_json: Json = False,
) -> None:
    """Reads a raw log, filters and splits it, and writes the prepared folder.

    Example: `hardgnn prepare events.csv --out data/events --k-core 5`
    """
    from hardgnn.data.prepare import prepare_file
    from hardgnn.data.presets import prepare_presets

    if list_presets:
        names = list(prepare_presets())
        _print_json(names) if as_json else print("\n".join(names))
        return
    if source is None or out is None:
        raise HardGNNError("prepare needs a raw log and a folder to write: hardgnn prepare SOURCE --out DATA")
    settings = {
        "drop_missing": drop_missing,
        "since": since,
        "until": until,
        "min_rating": min_rating,
        "repeats": repeats,
        "k_core": k_core,
        "thresholds": thresholds,
        "split": split,
        "candidate_users": candidate_users,
    }
    columns = {"user_col": user_col, "item_col": item_col, "time_col": time_col, "rating_col": rating_col}
    reading = {**columns, "items_file": items_file, "encoding": encoding, "max_bytes": max_bytes}
    data = prepare_file(source, preset, format_, reading, settings, allow_leaks)
    data.save(out)
    for warning in data.manifest["warnings"]:
        say(f"warning: {warning}")
    if as_json:
        _print_json({"out": str(out), **data.manifest})
        return
    if read := data.manifest.get("read"):
        meanings = ", ".join(f"{name}={read[name] or 'none'}" for name in ("user", "item", "time", "rating"))
        print(f"read as {read['format']}: {meanings}; times are {read['time_unit']}")
    rows = [
        [step["step"], *(f"{step[key]:,}" for key in ("interactions", "users", "items"))]
        for step in data.manifest["steps"]
    ]
    _print_table(f"{data.name} → {out}", ["step", "interactions", "users", "items"], rows)
    if found := data.manifest.get("released"):
        _print_table("found in the released pickles", ["what", "count"], [[k, f"{v:,}"] for k, v in found.items()])


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help="A prepared folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to write.")] = None,
    preset: Annotated[
        str, typer.Option(help="Named settings (see --list-presets); A+B puts those of B over those of A.")
    ] = "hardgnn",
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One setting, as in model.dim=64.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    warm_start: Annotated[
        Path | None, typer.Option(help="Start from the weights of an older run, its users and items matched by raw id.")
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Accept settings that let the test part steer training.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's logs.")] = None,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="Lists the presets and ends.")] = False,
    as_json: Json = False,
) -> None:
    """Trains one model, validates as it goes and keeps the best epoch.

    Example: `hardgnn train data/ml-100k --out runs/hardgnn --preset hardgnn --set train.epochs=60`
    """
    from hardgnn import config as settings

    if list_presets:
        names = list(settings.presets())
        _print_json(names) if as_json else print("\n".join(names))
        return
    if data is None or out is None:
        raise HardGNNError("train needs a prepared folder and a run folder: hardgnn train DATA --out RUN")
    from hardgnn.data.dataset import Dataset
    from hardgnn.train import train as run

    resolved = settings.resolve(preset, config, set_ or [], seed)
    prepared = Dataset.load(data)
    console.print(resolved.to_toml())
    with TrainingBar(out.name, resolved, tensorboard) as bar:
        result = run(
            prepared,
            resolved,
            out,
            resume=resume,
            allow_leaks=allow_leaks,
            preset=preset,
            data_path=data,
            watcher=bar,
            warm_start=warm_start,
        )
    if as_json:
        _print_json({"run": str(out), **result})
        return
    part = resolved.train.choose_on
    chosen = result[part][resolved.train.protocol]
    _print_table(
        f"{out}: best of {result['epochs']} epochs is {result['best_epoch']}, {result['chosen_by']}",
        [f"{part}, {resolved.train.protocol}", *chosen],
        [[_marked(out.name, result), *(f"{value:.4f}" for value in chosen.values())]],
    )
    _tell_leaks([(out.name, result)])
    _print_line(f"{result['seconds_per_epoch']:.2f} s per epoch, peak memory {result['peak_memory_mb']:.0f} MB")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    protocol: Annotated[str, typer.Option(help="full or sampled-999.")] = "full",
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    data: Annotated[Path | None, typer.Option(help="The prepared folder, if it was moved.")] = None,
    as_json: Json = False,
) -> None:
    """HR and NDCG with 95 % intervals; per-user ranks go to the run folder.

    Example: `hardgnn evaluate runs/hardgnn --part test --protocol full --at 10,20`
    """
    from hardgnn.judge import evaluate_run

    with users_bar(f"{part}, {protocol}") as bar:
        result = evaluate_run(run, part, protocol, _cutoffs(at), data, bar)
    if as_json:
        _print_json(result)
        return
    rows = [
        [name, f"{value:.4f}", "{:.4f} – {:.4f}".format(*result["intervals"][name])]
        for name, value in result["metrics"].items()
    ]
    name = _marked(result["model"], result)
    title = f"{name} on {result['dataset']}: {part}, {protocol}, {result['users']:,} users"
    _print_table(title, ["metric", "value", "95 % interval"], rows)
    _tell_leaks([(result["model"], result)])


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, the first compared with each other one; or a study; with --peers also data."),
    ],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    protocol: Annotated[
        str | None, typer.Option(help="full (the default) or sampled-999 (the default with --published).")
    ] = None,
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    baseline: Annotated[str | None, typer.Option(help="The run to compare the others with, by name.")] = None,
    published: Annotated[
        str | None, typer.Option(help="Put the published figures beside: amazon, gowalla, movielens or yelp.")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Train and tune others' models: sasrec,gru4rec,lightgcn,bpr,ease,itemknn,recencyknn,pop."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --peers: the study folder that keeps their work.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="With --peers: settings tried for each peer.")] = 20,
    seeds: Annotated[str, typer.Option(help="With --peers: seeds of the best setting, as in 0,1,2.")] = "0,1,2",
    epochs: Annotated[int, typer.Option(min=1, help="With --peers: epochs at most of each training.")] = 300,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="With --peers: minutes of processor time at most of each training.")
    ] = None,
    workers: studies.Workers = 1,
    as_json: Json = False,
) -> None:
    """Metrics side by side, with paired tests over users; of a study's plans also over seeds.

    With **--peers** others' models are tuned on validation, each with as many trials, fitted with each seed and ranked
    on the same test part as ours. Stop it at any point and run it again to go on.

    Example: `hardgnn compare runs/hardgnn runs/selfgnn --published gowalla`, or
    `hardgnn compare data/ml-100k runs/hardgnn --peers sasrec,ease,pop --out studies/peers --trials 20`
    """
    from hardgnn.experiment.plan import Study
    from hardgnn.judge import compare_runs
    from hardgnn.report import published as papers

    if peers is not None:
        if published or part != "test":
            raise HardGNNError("--peers ranks the test part and stands alone: leave out --part and --published")
        asked = ([one.strip() for one in peers.split(",") if one.strip()], trials, seeds, epochs, minutes, workers)
        others.compare_peers(
            runs, out, *asked, protocol=protocol, cutoffs=_cutoffs(at), baseline=baseline, as_json=as_json
        )
        return
    if out is not None:
        raise HardGNNError("--out keeps the work of --peers: name them too")
    if len(runs) == 1 and Study.is_one(runs[0]):
        if published or baseline or part != "test":
            raise HardGNNError("a study has its own parts and references: compare it without --part and --baseline")
        studies.compare_study(runs[0], protocol, _cutoffs(at), as_json)
        return
    figures = papers.figures(published) if published else []
    protocol = protocol or (papers.PROTOCOL if published else "full")
    document = compare_runs(runs, part, protocol, _cutoffs(at), baseline)
    if as_json:
        _print_json(document | ({"published": figures} if published else {}))
        return
    metrics = list(document["runs"][0]["metrics"])
    where = f"{document['dataset']}: {part}, {protocol}, {document['runs'][0]['users']:,} users"
    rows = [
        [_marked(one["model"], one), *(f"{one['metrics'][name]:.4f}" for name in metrics)] for one in document["runs"]
    ]
    _print_table(where, ["model", *metrics], rows)
    _tell_leaks([(one["model"], one) for one in document["runs"]])
    if published:
        rows = [
            [
                one["model"],
                one["source"],
                *(f"{one['metrics'][name]:.3f}" if name in one["metrics"] else "–" for name in metrics),
            ]
            for one in figures
        ]
        _print_table(f"published for {published}: {papers.HOW}", ["model", "source", *metrics], rows)
        if protocol != papers.PROTOCOL:
            _print_line(f"the runs' protocol is {protocol}: their figures cannot be compared with the published ones")
    rows = [
        [
            f"{row['a']} − {row['b']}",
            row["metric"],
            f"{row['difference']:+.4f}",
            f"{row['low']:+.4f} – {row['high']:+.4f}",
            f"{row['wilcoxon_p']:.2g} ({row['wilcoxon_p_holm']:.2g})",
            f"{row['permutation_p']:.2g} ({row['permutation_p_holm']:.2g})",
        ]
        for row in document["comparisons"]
    ]
    header = ["difference", "metric", "mean", "95 % interval", "Wilcoxon p (Holm)", "permutation p (Holm)"]
    _print_table(f"paired over users, {len(rows)} comparisons", header, rows)


app.command()(serving.recommend)


app.command()(serving.export)
app.command()(serving.verify)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="A study, or run folders that were evaluated.")],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
    figures: Annotated[
        Path | None, typer.Option(help="Folder for every figure as SVG and PDF, every table as LaTeX and Markdown.")
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(help="Published figures beside a data set's: NAME=amazon, gowalla, movielens or yelp."),
    ] = None,
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    as_json: Json = False,
) -> None:
    """One self-contained page: tables with their tests, figures, settings and versions; it opens offline.

    Example: `hardgnn report studies/first --out report.html --figures figures`
    """
    from hardgnn.report.page import write_report

    names = {}
    for word in published or []:
        ours, separator, theirs = word.partition("=")
        if not (ours and separator and theirs):
            raise HardGNNError(f"--published {word}: expected NAME=PAPERS, as in gowalla-1k=gowalla")
        names[ours] = theirs
    write_report(runs, out, figures=figures, published=names, at=_cutoffs(at))
    _print_json({"out": str(out), "figures": figures and str(figures)}) if as_json else _print_line(out)


app.command()(serving.serve)


app.command()(studies.study)
app.command()(studies.sweep)
app.command()(others.leaderboard)
app.command()(studies.inspect)


@app.command()
def simulate(
    users: Annotated[int, typer.Option(min=1, help="Users.")],
    items: Annotated[int, typer.Option(min=2, help="Items.")],
    events: Annotated[int, typer.Option(min=1, help="Interactions.")],
    out: Annotated[Path, typer.Option(help="The log to write: .inter, .csv or .parquet.")],
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """A synthetic log with a known answer: each item has a planted successor.

    Example: `hardgnn simulate --users 1000 --items 500 --events 30000 --out market.inter`
    """
    from hardgnn.data.simulate import write_simulated

    write_simulated(out, users, items, events, seed)
    _print_json({"out": str(out)}) if as_json else _print_line(out)


@app.command()
def demo(
    to: Annotated[Path, typer.Option(help="Folder for data, runs and the report.")] = Path("demo"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most for each model.")] = 60,
    as_json: Json = False,
) -> None:
    """The whole job on MovieLens-100K: download, prepare, train three models, evaluate, compare, report.

    Example: `hardgnn demo`
    """
    from hardgnn.demo import demo as run

    document = run(to, epochs, say=say)
    if as_json:
        _print_json(document)
        return
    for protocol in document["protocols"]:
        metrics = list(protocol["rows"][0]["metrics"])
        rows = [[row["model"], *(f"{row['metrics'][name]:.4f}" for name in metrics)] for row in protocol["rows"]]
        title = f"{document['dataset']}, test, {protocol['protocol']}, seed 0, {protocol['rows'][0]['users']:,} users"
        _print_table(title, ["model", *metrics], rows)
    for line in document["verdict"]:
        _print_line(line)
    for name, path in document["paths"].items():
        _print_line(f"{name}: {path}")


def _marked(name: str, result: dict[str, Any]) -> str:
    return f"{name} †" if result.get("leaks") else name


def _tell_leaks(results: list[tuple[str, dict[str, Any]]]) -> None:
    for name, result in results:
        if result.get("leaks"):
            _print_line(f"† {name} LEAKS: {'; '.join(result['leaks'])}")


def _cutoffs(text: str) -> list[int]:
    from hardgnn.arguments import cutoffs

    return cutoffs(text, "--at")
