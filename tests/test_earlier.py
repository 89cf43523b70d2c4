"""Run folders of earlier versions (tests/data_runs, format 2): read as they were, and not trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from factories import tiny_dataset
from hardgnn import Dataset, HardGNN, HardGNNError
from hardgnn.config import leaks
from hardgnn.runs.folder import RESULT, load_config, load_tables, state
from hardgnn.runs.memory import fit
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.verify import verify

RUNS = Path(__file__).parent / "data_runs"
NAMES = ("hardgnn", "best")


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one of them."""
    return Path(shutil.copytree(RUNS / request.param, tmp_path / request.param))


@pytest.fixture(scope="module")
def data() -> Dataset:
    """What they were trained on."""
    sequences = [[(3 * user + step * (1 + user % 3)) % 19 for step in range(5 + user % 4)] for user in range(24)]
    return tiny_dataset(sequences, n_items=19)


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_it_scores_evaluates_and_recommends_as_it_did(run: Path, data: Dataset) -> None:
    model, tables = load_model(run), load_tables(run)
    expected, answers = np.load(run / "scores.npy"), json.loads((run / "answers.json").read_text())
    np.testing.assert_allclose(model.scores(np.arange(data.n_users), tables.histories), expected, rtol=1e-5, atol=1e-6)
    loaded = HardGNN.load(run)
    assert loaded.evaluate(data)["metrics"] == pytest.approx(answers["metrics"])
    for user, items in answers["recommended"].items():
        assert loaded.recommend([user], n=3)["item"].to_list() == items
    assert loaded.preset == run.name
    assert [one for one in verify(run) if one.problem] == []
    assert state(run) == "finished"


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_its_settings_have_the_names_of_today(run: Path) -> None:
    config = load_config(run)
    assert leaks(config) == []
    assert (config.model.dim, config.model.window, config.model.encoder.layers, config.run.seed) == (8, 6, 1, 1)
    kinds = (config.model.kind, config.objective.kind, config.train.optimiser.kind)
    if run.name == "best":
        assert kinds == ("transformer", "next-item", "adamw")
        assert (config.objective.sampler.candidates, config.objective.hard.k) == (8, 2)
    else:
        assert kinds == ("selfgnn", "pairwise", "adam")
        assert (config.model.encoder.kind, config.model.ssl.dim, config.objective.batch_users) == ("attention", 4, 8)


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_training_anew_with_its_settings_gives_the_same_model(run: Path, data: Dataset) -> None:
    model = fit(data, load_config(run)).model
    expected = np.load(run / "scores.npy")
    np.testing.assert_allclose(
        model.scores(np.arange(data.n_users), data.everything), expected, rtol=1e-3, atol=1e-4
    )  # the last digits are the machine's


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_a_finished_one_stays_and_one_that_was_stopped_is_not_gone_on_with(run: Path, data: Dataset) -> None:
    config = load_config(run)
    finished = json.loads((run / RESULT).read_text())
    assert train(data, config, run, resume=True).best_epoch == finished["best_epoch"]
    (run / RESULT).unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir() if not path.name.startswith(".")}
    with pytest.raises(HardGNNError, match="stopped under an earlier version, whose training this one cannot go on"):
        train(data, config, run, resume=True)
    assert all((run / name).read_bytes() == content for name, content in before.items())
    assert HardGNN.load(run).recommend("u0", n=3).height == 3  # what it has can be used


@pytest.mark.parametrize("run", NAMES, indirect=True)
def test_training_may_start_from_it(run: Path, data: Dataset, tmp_path: Path) -> None:
    assert train(data, load_config(run), tmp_path / "new", warm_start=run).epochs
