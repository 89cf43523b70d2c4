"""After the choice: learning from both parts, ensembles, a preset's own list of settings, other targets."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import log_softmax

from factories import random_dataset
from hardgnn import HardGNN, NotFittedError
from hardgnn.cli.app import run as command
from hardgnn.config import resolve
from hardgnn.data.dataset import TEST, TRAIN, VALID, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import compare_ranks
from hardgnn.evaluation.protocols import evaluate, metrics_of, rank_targets
from hardgnn.evaluation.quality import baseline, quality_on
from hardgnn.experiments.finished import Finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.listed import tries
from hardgnn.experiments.plan import Beside, Plan, Variant
from hardgnn.report.contents import run_cells
from hardgnn.report.leaderboard import leaderboard
from hardgnn.report.leaderboard_page import markdown
from hardgnn.report.standing import standings
from hardgnn.report.strongest import against_strongest
from hardgnn.runs.ensemble import ensemble
from hardgnn.runs.evaluated import compare_runs, evaluate_run, rank_missing
from hardgnn.runs.folder import read_result
from hardgnn.runs.memory import fit
from hardgnn.runs.models import load_model
from hardgnn.runs.refit import refit_run
from hardgnn.runs.train import train

FEW = ["train.epochs=3", "model.dim=8", "train.eval_every=1", "run.threads=1"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "data"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random_dataset(n_users=60).save(folder)
    return folder


@pytest.fixture(scope="module")
def runs(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, data = tmp_path_factory.mktemp("runs"), Dataset.load(prepared)
    for seed in (0, 1):
        train(data, resolve("best", settings=FEW, seed=seed), folder / f"best-{seed}", data_path=prepared)
    train(data, resolve("recencyknn"), folder / "knn", data_path=prepared)
    return folder


def by_time(data: Dataset) -> Dataset:
    """The same interactions, split at two times, so that users have several in a part."""
    cuts = np.quantile(data.timestamp, [0.5, 0.7])
    part = np.select([data.timestamp >= cuts[1], data.timestamp >= cuts[0]], [TEST, VALID], TRAIN).astype(np.uint8)
    manifest = data.manifest | {"cut_times_s": {"valid": float(cuts[0]), "test": float(cuts[1])}}
    return replace(data, part=part, manifest=manifest)


# -- refit -----------------------------------------------------------------------------------------------------------


def test_a_refit_learns_what_a_training_on_both_parts_does(runs: Path, prepared: Path, tmp_path: Path) -> None:
    data = Dataset.load(prepared)
    config = refit_run(runs / "best-0", Dataset.load(prepared))
    assert config.train.epochs == read_result(runs / "best-0")["best_epoch"]
    train(data, config, tmp_path / "refit", data_path=prepared)
    # A training that has the validation items in its training part, and keeps its last epoch for want of a better one.
    same = resolve("best", settings=[*FEW, f"train.epochs={config.train.epochs}", "train.patience=0"])
    joined = data.joined()
    shadow = replace(joined, part=np.where(data.part == TEST, VALID, joined.part).astype(np.uint8))
    every = same.model_copy(update={"train": same.train.model_copy(update={"eval_every": 99})})
    train(shadow, every, tmp_path / "shadow")
    everybody = np.arange(data.n_users)
    known = data.before(TEST)
    one, other = (load_model(tmp_path / name).scores(everybody, known) for name in ("refit", "shadow"))
    np.testing.assert_array_equal(one, other)


def test_a_refit_is_told_apart_and_its_validation_is_not_judged(runs: Path, prepared: Path, tmp_path: Path) -> None:
    assert command(["train", str(prepared), "--out", str(tmp_path / "re"), "--refit", str(runs / "best-0")]) == 0
    assert evaluate_run(tmp_path / "re").learnt_from == "train+valid"
    assert evaluate_run(runs / "best-0").learnt_from is None
    with pytest.raises(HardGNNError, match="was trained on train.valid"):
        evaluate_run(tmp_path / "re", "valid")
    found = compare_runs([tmp_path / "re", runs / "best-0"])
    assert [one.learnt_from for one in found.runs] == ["train+valid", None]
    study = Study(tmp_path / "s")
    beside = Beside(runs=(str(tmp_path / "re"), str(runs / "best-0")))
    study.save("peers", Plan("peers", study.add_data([prepared]), (), (0,), test=False, more=beside))
    board = leaderboard(study)
    assert {row.model: row.learnt_from for row in board.tables[0].rows} == {"re": "train+valid", "best-0": None}
    assert "- re learnt from train+valid, with what was chosen on validation before" in markdown(board)


def test_a_refit_is_held_against_a_baseline_that_learnt_from_as_much(
    runs: Path, prepared: Path, tmp_path: Path
) -> None:
    for name in ("best-0", "knn"):
        again = tmp_path / f"{name}-re"
        assert command(["train", str(prepared), "--out", str(again), "--refit", str(runs / name)]) == 0
    folders = [runs / "best-0", tmp_path / "best-0-re", runs / "knn", tmp_path / "knn-re"]
    rank_missing(folders)
    found = [Finished("data", Variant(folder.name, ""), [0], [folder]) for folder in folders]
    pairs = [(row.a, row.b) for row in against_strongest(standings(found, {}), 10)]
    assert pairs[:2] == [("best-0", "knn"), ("best-0-re", "knn-re")]


def test_a_model_fitted_in_one_go_is_refitted_with_what_it_chose(runs: Path, prepared: Path, tmp_path: Path) -> None:
    data = Dataset.load(prepared)
    config = refit_run(runs / "knn", Dataset.load(prepared))
    chosen = read_result(runs / "knn")["chosen"]
    assert {key: getattr(config.model, key) for key in chosen} == chosen
    train(data, config, tmp_path / "knn")
    counted = baseline("recencyknn", data.joined(), **chosen)
    everybody, known = np.arange(data.n_users), data.before(TEST)
    np.testing.assert_allclose(load_model(tmp_path / "knn").scores(everybody, known), counted.scores(everybody, known))
    with pytest.raises(HardGNNError, match="nothing is left|leaves no validation"):
        train(data, resolve("recencyknn", settings=["run.learn_from=train+valid"]), tmp_path / "none")
    assert not (tmp_path / "none").exists()  # refused before anything was trained, it leaves no begun run


def test_what_cannot_be_refitted_is_refused(runs: Path, prepared: Path, tmp_path: Path) -> None:
    train(Dataset.load(prepared), refit_run(runs / "best-0", Dataset.load(prepared)), tmp_path / "re")
    with pytest.raises(HardGNNError, match="training and validation already"):
        refit_run(tmp_path / "re", Dataset.load(prepared))
    with pytest.raises(HardGNNError, match="leave out --preset"):
        both = ["--refit", str(runs / "knn"), "--preset", "best"]
        command(["train", str(prepared), "--out", str(tmp_path / "x"), *both])


def test_refit_in_python() -> None:
    data = random_dataset(n_users=40)
    options = {"train": {"epochs": 2, "eval_every": 1}, "model": {"dim": 8}}
    model = HardGNN("best", **options).fit(data)
    final = model.refit(data)
    assert final.config.run.learn_from == "train+valid"
    assert final.config.train.epochs == model.result["best_epoch"]
    assert final.evaluate(data)["users"] == len(data.targets(TEST)[0])
    assert (final.preset, final.get_params()["train__epochs"]) == ("best", model.result["best_epoch"])
    with pytest.raises(NotFittedError):
        HardGNN("best").refit(data)


# -- ensembles -------------------------------------------------------------------------------------------------------


def test_an_ensemble_scores_by_the_mean_of_log_probabilities(runs: Path, prepared: Path, tmp_path: Path) -> None:
    data = Dataset.load(prepared)
    parts = [runs / "best-0", runs / "best-1", runs / "knn"]
    result = ensemble(parts, tmp_path / "all")
    everybody, known = np.arange(data.n_users), data.before(VALID)
    found = load_model(tmp_path / "all")
    single = [load_model(part).scores(everybody, known) for part in parts]
    expected = np.mean([log_softmax(one.astype(float), axis=1) for one in single], axis=0)
    np.testing.assert_allclose(found.scores(everybody, known), expected, rtol=1e-4, atol=1e-4)
    assert result.metrics == pytest.approx(dict(evaluate(found, data, "valid", resamples=1)[0].metrics))
    told = compare_runs_of([tmp_path / "all", *parts])
    assert {one.model for one in told.runs} == {"all", "best-0", "best-1", "knn"}
    ranked = {one.model: one.baseline for one in standings(run_cells([tmp_path / "all", *parts]), {})}
    assert ranked == {"all": False, "best-0": False, "best-1": False, "knn": True}


def compare_runs_of(folders: list[Path]):
    rank_missing(folders)
    return compare_runs(folders)


def test_an_ensemble_of_what_does_not_go_together_is_refused(runs: Path, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match="at least two"):
        ensemble([runs / "knn"], tmp_path / "one")
    train(Dataset.load(prepared), refit_run(runs / "knn", Dataset.load(prepared)), tmp_path / "re")
    with pytest.raises(HardGNNError, match="other parts"):
        ensemble([runs / "knn", tmp_path / "re"], tmp_path / "two")
    other = replace(random_dataset(seed=5), manifest={"name": "other"})
    train(other, resolve("popularity"), tmp_path / "other")
    with pytest.raises(HardGNNError, match="another data set"):
        ensemble([runs / "knn", tmp_path / "other"], tmp_path / "three")
    with pytest.raises(HardGNNError, match="hardgnn ensemble"):
        train(Dataset.load(prepared), resolve(options={"model": {"kind": "ensemble"}}), tmp_path / "four")


# -- tuning ----------------------------------------------------------------------------------------------------------


def test_tuning_keeps_the_best_on_validation_of_the_list(prepared: Path, tmp_path: Path, capsys) -> None:
    words = ["train", str(prepared), "--out", str(tmp_path / "run"), "--preset", "best", "--tune", "3"]
    for one in ("train.epochs=2", "model.window=10", "train.eval_every=1"):
        words += ["--set", one]
    assert command([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["tried"]
    assert [one["set"] for one in told] == [list(one.words) for one in tries("best", 3)]
    figures = [one["valid"]["ndcg@10"] for one in told]
    assert [one["chosen"] for one in told].index(True) == int(np.argmax(figures))
    assert sum(one["chosen"] for one in told) == 1
    assert evaluate_run(tmp_path / "run", "valid").metrics["ndcg@10"] == pytest.approx(max(figures))
    assert json.loads((tmp_path / "run" / "tuning.json").read_text()) == told


def test_a_preset_without_a_list_cannot_be_tuned() -> None:
    with pytest.raises(HardGNNError, match="hardgnn sweep"):
        tries("hardgnn", 2)
    with pytest.raises(HardGNNError, match="has 8 settings"):
        tries("best", 99)


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["last", "random", "successive"])
def test_other_targets_have_what_was_before_them_as_history(which: str) -> None:
    data = by_time(random_dataset(n_users=50, seed=3))
    seen: list[tuple[int, list[int], float]] = []

    class Noting:
        name = "noting"

        def scores(self, users, histories):
            for row, user in enumerate(users):
                seen.append((int(user), histories.of(row).tolist(), float(histories.asked[row])))
            return np.zeros((len(users), data.n_items), np.float32)

    frame = rank_targets(Noting(), data, "test", f"full-{which}")
    judged = set(data.targets(TEST)[0].tolist())
    rows = {user: np.flatnonzero(data.user == user) for user in judged}
    of_test = {user: [row for row in rows[user] if data.part[row] == TEST] for user in judged}
    if which == "successive":
        assert frame["user"].to_list() == [user for user in sorted(judged) for _ in of_test[user]]
        assert frame["target"].to_list() == [int(data.item[row]) for user in sorted(judged) for row in of_test[user]]
    elif which == "last":
        assert frame["target"].to_list() == [int(data.item[of_test[user][-1]]) for user in sorted(judged)]
    places = iter([row for user in sorted(judged) for row in of_test[user]] if which == "successive" else [])
    for (user, history, asked), target in zip(seen, frame["target"]):
        candidates = [row for row in of_test[user] if data.item[row] == target]
        row = next(places) if which == "successive" else candidates[-1] if which == "last" else None
        if row is None:
            row = next(one for one in candidates if [*data.item[rows[user][0] : one]] == history)
        assert history == data.item[rows[user][0] : row].tolist()
        assert asked == max(data.manifest["cut_times_s"]["test"], data.timestamp[row - 1])


def test_every_user_counts_alike_whatever_the_number_of_targets() -> None:
    frame = pl.DataFrame(
        {"user": [0, 0, 0, 4], "target": [1, 2, 3, 1], "rank": [0, 99, 99, 0], "candidates": [100] * 4}
    )
    np.testing.assert_allclose(metrics_of(frame, [10], ["hr"])["hr@10"], [1 / 3, 1.0])
    worse = frame.with_columns(rank=pl.Series([99, 99, 99, 0]))
    (row,) = compare_ranks(frame, worse, [10], ["hr"])
    assert row.users == 2
    assert row.difference == pytest.approx(1 / 6)


def test_leave_one_out_has_one_target_whatever_is_asked() -> None:
    data = random_dataset(n_users=30)
    model = baseline("popularity", data)
    first = rank_targets(model, data, "test")
    for which in ("last", "random", "successive"):
        assert rank_targets(model, data, "test", f"full-{which}").equals(first)


@pytest.mark.parametrize("preset", ["best", "recencyknn", "decayed-popularity"])
def test_what_is_chosen_is_judged_by_the_targets_asked_for(preset: str) -> None:
    data = by_time(random_dataset(n_users=50, seed=3))
    words = [*(FEW if preset == "best" else []), "run.protocol=full-successive"]
    found = fit(data, resolve(preset, settings=words))
    assert found.result.protocol == "full-successive"
    assert found.model is not None
    judged, _ = evaluate(found.model, data, "valid", "full-successive", resamples=1)
    assert dict(found.result.metrics) == pytest.approx(dict(judged.metrics))
    if preset != "best":  # no other setting of the few that are tried does better
        quality = quality_on(data, protocol="full-successive")
        setting = dict(found.result.chosen)
        for other in ({"last": 1}, {"forward": 3.0}) if preset == "recencyknn" else ({"half_life": 1.0},):
            assert quality(baseline(preset, data, **setting | other)) <= quality(found.model)


def test_a_choice_that_does_not_hold_here_is_not_taken(runs: Path, prepared: Path, tmp_path: Path) -> None:
    data = Dataset.load(prepared)
    other = replace(random_dataset(seed=5), manifest={"name": "other"})
    with pytest.raises(HardGNNError, match="another data set than other"):
        refit_run(runs / "best-0", other)
    train(data, resolve("best", settings=[*FEW, "train.choose_on=test"]), tmp_path / "leaky", allow_leaks=True)
    with pytest.raises(HardGNNError, match="not honest"):
        refit_run(tmp_path / "leaky", data, ["train.choose_on=valid"])
    train(data, resolve("best", settings=FEW), tmp_path / "warm", warm_start=runs / "best-0")
    with pytest.raises(HardGNNError, match="another run's weights"):
        refit_run(tmp_path / "warm", data)


def test_what_tuning_cannot_do_is_told_before_the_work(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match="leaves no validation"):
        tries("best", 2, ["run.learn_from=train+valid"])
    with pytest.raises(HardGNNError, match="never chooses by the test part"):
        tries("best", 2, ["train.choose_on=test"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    with pytest.raises(HardGNNError, match="holds something already"):
        command(["train", str(prepared), "--out", str(tmp_path / "full"), "--preset", "best", "--tune", "1"])
    assert not (tmp_path / "full-tuning").exists()
