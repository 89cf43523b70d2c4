"""The commands on others' models: compare --peers, leaderboard; it parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hardgnn.cli.options import Json, command_line, cutoffs_of, whole_numbers
from hardgnn.cli.progress import RunsBar, users_bar
from hardgnn.cli.terminal import print_json, print_line, print_table
from hardgnn.errors import HardGNNError
from hardgnn.storage.kinds import mistaken

if TYPE_CHECKING:
    from hardgnn.experiments.folder import Study
    from hardgnn.report.leaderboard import Leaderboard


def compare_peers(
    paths: list[Path],
    out: Path | None,
    names: list[str],
    trials: int,
    seeds: str,
    epochs: int,
    minutes: float | None,
    workers: int,
    *,
    protocol: str | None,
    cutoffs: list[int],
    baseline: str | None,
    as_json: bool,
) -> None:
    """What `hardgnn compare … --peers` does: the peers on the data named, or on that of the runs or the study named."""
    from hardgnn.experiments.peers.light import Cap
    from hardgnn.experiments.peers.tuning import Tuning, run_peers
    from hardgnn.experiments.sweep import Watched
    from hardgnn.report import leaderboard as board

    tuning = Tuning(trials, tuple(whole_numbers(seeds, "--seeds", 0)), Cap(epochs, minutes))
    data, runs, folder = board.places(paths, out)
    with RunsBar("peers") as bar:
        watched = Watched(bar.begins, bar.told)
        done = run_peers(
            data, folder, names, tuning, runs=runs, workers=workers, command=command_line(), watched=watched
        )
    rank_beside(done, protocol or "full")
    print_leaderboard(board.leaderboard(done, cutoffs, protocol or "full", baseline), as_json)


def rank_beside(study: Study, protocol: str = "full") -> None:
    """Ranks the test part of the runs that a study's peers stand beside, where it is not ranked yet."""
    from hardgnn.experiments.peers.tuning import runs_beside
    from hardgnn.runs.evaluated import rank_missing

    rank_missing(runs_beside(study), "test", protocol, bar=users_bar)


def leaderboard(
    study: Annotated[Path, typer.Argument(help="A study folder with peers, runs of our models, or both.")],
    out: Annotated[Path | None, typer.Option(help="Write it as Markdown, as in results/leaderboard.md.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="The model that all others are compared with; the first of ours by default.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="full, sampled-999, full-last, full-random or full-successive.")
    ] = "full",
    at: Annotated[str, typer.Option(help="Cut-offs.")] = "10,20",
    as_json: Json = False,
) -> None:
    """All models of a study side by side, what is ranked so far: figures, tests, seconds, parameters, best settings.

    Example: `hardgnn leaderboard studies/peers --reference hardgnn --out results/leaderboard.md`
    """
    from hardgnn.experiments.folder import STUDY, Study
    from hardgnn.report.leaderboard import leaderboard as read_leaderboard
    from hardgnn.report.leaderboard_page import markdown
    from hardgnn.storage.files import atomic_path

    if not Study.is_one(study):
        raise HardGNNError(mistaken(study, "a study") or f"{study}: no study is there, {STUDY} is missing")
    opened, cutoffs = Study(study), cutoffs_of(at)
    rank_beside(opened, protocol)
    board = read_leaderboard(opened, cutoffs, protocol, reference)
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(markdown(board), "utf-8")
    if as_json or out is None:
        print_leaderboard(board, as_json)
    else:
        print_line(out)


def print_leaderboard(board: Leaderboard, as_json: bool) -> None:
    """The leaderboard as JSON or as a table per data set with its notes."""
    from hardgnn.report.leaderboard_page import leaderboard_tables

    if as_json:
        print_json(board.to_dict())
        return
    for table in leaderboard_tables(board):
        print_table(table.caption, list(table.header), [[cell.text for cell in row] for row in table.rows])
        for note in table.notes:
            print_line(note)
