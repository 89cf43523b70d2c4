"""The commands on trained runs: evaluate, compare, report; it parses, calls and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hardgnn.cli import peers as others
from hardgnn.cli import studies
from hardgnn.cli.options import Json, Metrics, Workers, chosen_metrics, cutoffs_of
from hardgnn.cli.progress import users_bar
from hardgnn.cli.terminal import marked, print_json, print_leaks, print_line, print_table
from hardgnn.errors import HardGNNError
from hardgnn.screen import wait

if TYPE_CHECKING:
    from hardgnn.evaluation.comparisons import Comparison
    from hardgnn.evaluation.results import Result
    from hardgnn.report.published import Record
    from hardgnn.runs.evaluated import Compared


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    protocol: Annotated[
        str, typer.Option(help="full, sampled-999, full-last, full-random or full-successive.")
    ] = "full",
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    metrics: Metrics = None,
    data: Annotated[Path | None, typer.Option(help="The prepared folder, if it was moved.")] = None,
    as_json: Json = False,
) -> None:
    """HR and NDCG, or other metrics, with 95 % intervals; per-user ranks go to the run folder.

    Example: `hardgnn evaluate runs/hardgnn --part test --protocol full --at 10,20 --metrics hr,ndcg,mrr,coverage`
    """
    from hardgnn.runs.evaluated import evaluate_run

    wait(f"reading {run}")
    with users_bar(f"{part}, {protocol}") as bar:
        result = evaluate_run(run, part, protocol, cutoffs_of(at), data, bar, chosen_metrics(metrics))
    if as_json:
        print_json(result.to_dict())
        return
    intervals = result.intervals
    rows = [
        [name, f"{value:.4f}", "{:.4f} – {:.4f}".format(*intervals[name]) if name in intervals else "–"]
        for name, value in result.metrics.items()
    ]
    title = f"{marked(result.model, result.leaks)} on {result.dataset}: {part}, {protocol}, {result.users:,} users"
    print_table(title, ["metric", "value", "95 % interval"], rows)
    print_leaks([(result.model, result.leaks)])
    print_learnt(result)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, the first compared with each other one; or a study; with --peers also data."),
    ],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    protocol: Annotated[
        str | None,
        typer.Option(help="full (default), sampled-999, full-last, full-random or full-successive."),
    ] = None,
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    metrics: Metrics = None,
    baseline: Annotated[str | None, typer.Option(help="The run to compare the others with, by name.")] = None,
    published: Annotated[
        str | None,
        typer.Option(
            help="Put the published figures beside: amazon, gowalla, movielens or yelp (sampled-999); beauty, toys, "
            "lastfm or ml-1m (full)."
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Tune others' models: sasrec,gru4rec,lightgcn,bpr,ease,itemknn,recencyknn,pop,decayed."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --peers: the study folder that keeps their work.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="With --peers: settings tried for each peer.")] = 20,
    seeds: Annotated[str, typer.Option(help="With --peers: seeds of the best setting, as in 0,1,2.")] = "0,1,2",
    epochs: Annotated[int, typer.Option(min=1, help="With --peers: epochs at most of each training.")] = 300,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="With --peers: minutes of processor time at most of each training.")
    ] = None,
    workers: Workers = 1,
    as_json: Json = False,
) -> None:
    """Metrics side by side, with paired tests over users; of a study's plans also over seeds.

    With **--peers** others' models are tuned on validation, each with as many trials, fitted with each seed and ranked
    on the same test part as ours. Stop it at any point and run it again to go on.

    Example: `hardgnn compare runs/hardgnn runs/selfgnn --published gowalla`, or
    `hardgnn compare data/ml-100k runs/hardgnn --peers sasrec,ease,pop --out studies/peers --trials 20`
    """
    from hardgnn.experiments.folder import Study
    from hardgnn.report import published as papers
    from hardgnn.runs.evaluated import check_comparable, compare_runs, rank_missing
    from hardgnn.runs.folder import check_version

    if peers is not None:
        if published or metrics or part != "test":
            raise HardGNNError(
                "--peers ranks the test part and stands alone: leave out --part, --metrics and --published"
            )
        asked = ([one.strip() for one in peers.split(",") if one.strip()], trials, seeds, epochs, minutes, workers)
        others.compare_peers(
            runs,
            out,
            *asked,
            protocol=protocol,
            cutoffs=cutoffs_of(at),
            baseline=baseline,
            as_json=as_json,
        )
        return
    if out is not None:
        raise HardGNNError("--out keeps the work of --peers: name them too")
    if len(runs) == 1 and Study.is_one(runs[0]):
        if published or baseline or part != "test":
            raise HardGNNError("a study has its own parts and references: compare it without --part and --baseline")
        studies.compare_study(runs[0], protocol, cutoffs_of(at), chosen_metrics(metrics), as_json)
        return
    record = papers.record(published) if published else None
    wait("reading the runs")
    protocol = protocol or (record.protocol if record else "full")
    cutoffs, names = cutoffs_of(at), chosen_metrics(metrics)
    check_comparable(runs, part, protocol, baseline, names, least=1 if published else 2)
    rank_missing(runs, part, protocol, cutoffs, names, users_bar)
    found = compare_runs(runs, part, protocol, cutoffs, baseline, names, least=1 if published else 2)
    if as_json:
        rows = [] if record is None else [one.to_dict() for one in (*record.rows, *record.near)]
        print_json(found.to_dict() | ({"published": rows} if record else {}))
        return
    print_compared(found, part, protocol)
    if record is not None:
        print_published(record, found, protocol, check_version(runs[0])["data"]["manifest"].get("counts", {}))
    if found.comparisons:
        print_paired(found.comparisons)


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
    from hardgnn.experiments.folder import Study
    from hardgnn.report.page import write_report

    names = {}
    for word in published or []:
        ours, separator, theirs = word.partition("=")
        if not (ours and separator and theirs):
            raise HardGNNError(f"--published {word}: expected NAME=PAPERS, as in gowalla-1k=gowalla")
        names[ours] = theirs
    if len(runs) == 1 and Study.is_one(runs[0]):
        others.rank_beside(Study(runs[0]))
    wait("drawing the page")
    write_report(runs, out, figures=figures, published=names, at=cutoffs_of(at))
    print_json({"out": str(out), "figures": figures and str(figures)}) if as_json else print_line(out)


def print_compared(found: Compared, part: str, protocol: str) -> None:
    """The metrics of runs side by side."""
    metrics = list(found.runs[0].metrics)
    where = f"{found.dataset}: {part}, {protocol}, {found.runs[0].users:,} users"
    rows = [[marked(one.model, one.leaks), *(f"{one.metrics[name]:.4f}" for name in metrics)] for one in found.runs]
    print_table(where, ["model", *metrics], rows)
    print_leaks([(one.model, one.leaks) for one in found.runs])
    for one in found.runs:
        print_learnt(one)


def print_learnt(result: Result) -> None:
    """Says where a run learnt from more than the training part."""
    if result.learnt_from:
        print_line(f"{result.model} learnt from {result.learnt_from}, with what was chosen on validation before")


def print_published(record: Record, found: Compared, protocol: str, counts: Mapping[str, int]) -> None:
    """The published figures for the metrics of runs that were compared, and whether the runs' stand beside them."""
    metrics, digits = list(found.runs[0].metrics), 4 if record.sources else 3  # as they were published
    for what, figures in (("published for", record.rows), ("measured otherwise, near", record.near)):
        rows = [
            [
                one.model,
                one.source,
                *(f"{one.metrics[metric]:.{digits}f}" if metric in one.metrics else "–" for metric in metrics),
            ]
            for one in figures
        ]
        if rows:
            print_table(f"{what} {record.name}: {record.how}", ["model", "source", *metrics], rows, texts=2)
    for source, meaning in record.sources.items():
        print_line(f"{source}: {meaning}")
    if protocol != record.protocol:
        print_line(f"the runs' protocol is {protocol}: their figures cannot be compared with the published ones")
    if differs := record.differs(counts):
        print_line(f"{found.dataset} is not the published log ({differs}): nothing compares")


def print_paired(comparisons: Sequence[Comparison]) -> None:
    """Paired differences over users, with their intervals and p-values."""
    rows = [
        [
            f"{row.a} − {row.b}",
            row.metric,
            f"{row.difference:+.4f}",
            f"{row.low:+.4f} – {row.high:+.4f}",
            f"{row.wilcoxon_p:.2g} ({row.wilcoxon_p_holm:.2g})",
            f"{row.permutation_p:.2g} ({row.permutation_p_holm:.2g})",
        ]
        for row in comparisons
    ]
    header = ["difference", "metric", "mean", "95 % interval", "Wilcoxon p (Holm)", "permutation p (Holm)"]
    print_table(f"paired over users, {len(rows)} comparisons", header, rows, texts=2)
