"""Runs side by side: ranking is a step of its own, and what compares or shows only reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hardgnn import config as settings
from hardgnn.cli.app import app
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.lists import with_lists
from hardgnn.evaluation.protocols import evaluate
from hardgnn.experiments.folder import Study
from hardgnn.experiments.plan import Beside, Plan
from hardgnn.report.leaderboard import leaderboard
from hardgnn.runs.evaluated import check_comparable, compare_runs, rank_missing
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train

SMALL = ("model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=1", "train.eval_every=1")


@pytest.fixture(scope="module")
def trained(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    for name in ("selfgnn", "hardgnn"):
        train(Dataset.load(market), settings.resolve(name, settings=SMALL), folder / name, data_path=market)
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> list[Path]:
    """Two runs that nobody evaluated."""
    shutil.copytree(trained, tmp_path / "runs")
    return [tmp_path / "runs" / "selfgnn", tmp_path / "runs" / "hardgnn"]


def contents(folders: list[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_comparing_reads_and_says_how_to_rank(runs: list[Path]) -> None:
    before = contents(runs)
    with pytest.raises(HardGNNError, match="test part is not ranked under full yet; rank it with .*evaluate_run"):
        compare_runs(runs)
    assert contents(runs) == before
    rank_missing(runs)
    ranked = contents(runs)
    found = compare_runs(runs)
    assert contents(runs) == ranked
    assert [one.model for one in found.runs] == ["selfgnn", "hardgnn"]
    assert {(row.a, row.b, row.comparisons) for row in found.comparisons} == {("selfgnn", "hardgnn", 4)}
    with pytest.raises(HardGNNError, match="coverage@10 was not computed yet"):
        compare_runs(runs, metrics=["coverage"])


def test_only_what_is_missing_is_ranked_and_a_bar_shows_it(runs: list[Path]) -> None:
    shown: list[str] = []

    @contextmanager
    def bar(what: str) -> Iterator[Any]:
        shown.append(what)
        yield lambda done, total: None

    rank_missing(runs[:1], bar=bar)
    rank_missing(runs, bar=bar)
    rank_missing(runs, bar=bar)
    assert shown == ["selfgnn: test, full", "hardgnn: test, full"]
    ranks = (runs[0] / "ranks-test-full.parquet").stat().st_mtime_ns
    rank_missing(runs, metrics=["coverage", "ndcg"], bar=bar)
    rank_missing(runs, metrics=["ndcg", "coverage"], bar=bar)
    assert shown[2:] == ["selfgnn: lists, test", "hardgnn: lists, test"]
    assert (runs[0] / "ranks-test-full.parquet").stat().st_mtime_ns == ranks


def test_metrics_of_lists_are_those_of_evaluating_in_the_order_asked_for(runs: list[Path], market: Path) -> None:
    asked = ["coverage", "mrr", "gini"]
    rank_missing(runs, at=(5,))
    rank_missing(runs, at=(5,), metrics=asked)
    found = compare_runs(runs, at=(5,), metrics=asked)
    model, data = load_model(runs[0]), Dataset.load(market)
    result, frame = evaluate(model, data, "test", at=(5,), metrics=["mrr"])
    assert found.runs[0].metrics == with_lists(result, model, data, frame["user"].to_numpy(), (5,), asked).metrics
    assert list(found.runs[0].metrics) == ["coverage@5", "mrr@5", "gini@5"]
    assert [row.metric for row in found.comparisons] == ["mrr@5"]


def test_what_cannot_be_compared_is_told_before_anything_is_ranked(runs: list[Path], market: Path) -> None:
    before = contents(runs)
    for asked, told in (
        ({"folders": runs[:1]}, "at least two runs"),
        ({"folders": runs, "baseline": "selfgn"}, "no such run, did you mean 'selfgnn'"),
        ({"folders": runs, "split": "tset"}, "did you mean 'test'"),
        ({"folders": runs, "protocol": "ful"}, "did you mean 'full'"),
        ({"folders": runs, "metrics": ["coverige"]}, "did you mean 'coverage'"),
        ({"folders": [runs[0], market]}, "a prepared folder, where a run folder is expected"),
    ):
        with pytest.raises(HardGNNError, match=told):
            check_comparable(**asked)  # type: ignore[arg-type]
    assert contents(runs) == before


def test_the_command_ranks_first(runs: list[Path]) -> None:
    words = ["compare", *map(str, runs), "--metrics", "ndcg,coverage", "--json"]
    first, again = (CliRunner().invoke(app, words) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout == again.stdout
    document = json.loads(first.stdout)
    assert document == compare_runs(runs, metrics=["ndcg", "coverage"]).to_dict()
    assert document["runs"][0]["part"] == "test"


def test_a_leaderboard_reads_and_its_command_ranks_the_runs_beside(
    runs: list[Path], market: Path, tmp_path: Path
) -> None:
    study = Study(tmp_path / "s")
    beside = Beside(runs=tuple(map(str, runs)))
    study.save("peers", Plan("peers", study.add_data([market]), (), (0,), test=False, more=beside))
    before = contents(runs)
    with pytest.raises(HardGNNError, match="not ranked under full yet; rank it with .*evaluate_run"):
        leaderboard(study)
    assert contents(runs) == before
    made = CliRunner().invoke(app, ["leaderboard", str(study.folder), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout) == leaderboard(study).to_dict()
