"""What holds for every model that can be named: fitted, kept, asked and served alike; what it can do it declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories import renumbered, small_options
from hardgnn import Dataset, HardGNN, HardGNNError, InteractionLog
from hardgnn.evaluation.protocols import evaluate
from hardgnn.evaluation.quality import baseline
from hardgnn.models.base import Model
from hardgnn.prepare.simulate import simulate
from hardgnn.runs.evaluated import compare_runs, evaluate_run
from hardgnn.runs.folder import load_tables
from hardgnn.runs.models import load_model
from hardgnn.serve.engine import Ask, Engine
from hardgnn.serve.pack import pack

NETWORKS = ("selfgnn", "hardgnn", "best")
MODELS = (*NETWORKS, "popularity", "decayed-popularity", "itemknn", "recencyknn", "ease")
FINDS_MORE = {"selfgnn": 1.3, "hardgnn": 1.3, "best": 2, "itemknn": 1.3, "recencyknn": 2, "ease": 1.3}
"""How many times as often as popularity the planted market's next item is among the first ten."""


def options(preset: str) -> dict[str, dict[str, Any]]:
    if preset not in NETWORKS:
        return {}
    train = {"epochs": 12, "eval_every": 4, "lr": 0.01}
    if preset == "best":
        return {"model": {"dim": 16}, "train": train, "objective": {"batch_positions": 256}, "hard": {"k": 4}}
    few = {"batch_users": 64, "pred_num": 20}
    return small_options() | {"train": train, "objective": few, "optimiser": {"l2": 1e-4}}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market whose items have one successor each, prepared."""
    folder = tmp_path_factory.mktemp("planted") / "market"
    log, _ = simulate(200, 60, 5000, seed=5)
    InteractionLog(log, "market", "").prepare(k_core=3, candidates=20).save(folder)
    return folder


@pytest.fixture(scope="module")
def data(planted: Path) -> Dataset:
    return Dataset.load(planted)


@pytest.fixture(scope="module")
def fitted(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[HardGNN, HardGNN]]:
    """Each model: fitted in memory, and in a folder."""
    root = tmp_path_factory.mktemp("models")
    made = {}
    for preset in MODELS:
        one, two = (HardGNN(preset, **options(preset)) for _ in range(2))
        made[preset] = one.fit(data), two.fit(data, root / preset)
    return made


def scores(model: Model, data: Dataset) -> np.ndarray:
    return model.scores(np.arange(data.n_users), data.everything)


@pytest.mark.parametrize("preset", MODELS)
def test_memory_folder_and_a_saved_copy_are_one_model(
    preset: str, fitted: dict[str, tuple[HardGNN, HardGNN]], data: Dataset, tmp_path: Path
) -> None:
    in_memory, in_folder = fitted[preset]
    expected, answers = scores(load_model(in_folder.folder), data), in_memory.recommend(n=5)
    assert in_memory.folder is None
    again = HardGNN(preset, **options(preset)).fit(data)
    for name, model in (("saved", again), ("copied", HardGNN.load(in_folder.folder))):
        assert model.save(tmp_path / name) == model.folder == tmp_path / name
        np.testing.assert_array_equal(scores(load_model(tmp_path / name), data), expected)
        loaded = HardGNN.load(tmp_path / name)
        assert loaded.config == in_memory.config
        assert loaded.result["best_epoch"] == in_memory.result["best_epoch"]
        assert loaded.recommend(n=5).equals(answers)
    with pytest.raises(HardGNNError, match="holds"):
        again.save(tmp_path / "copied")


@pytest.mark.parametrize("preset", MODELS)
def test_it_answers_known_users_unknown_ones_and_items(
    preset: str, fitted: dict[str, tuple[HardGNN, HardGNN]], data: Dataset
) -> None:
    model = fitted[preset][0]
    user = data.user_ids[3]
    seen = {data.item_ids[int(item)] for item in data.everything.of(3)}
    known = model.recommend([user], n=5)
    assert known.height == 5
    assert not seen & set(known["item"])
    assert known["score"].is_sorted(descending=True)
    with pytest.warns(UserWarning, match="unknown user 'nobody'"):
        unknown = model.recommend(["nobody"], n=5)
    assert unknown["source"].unique().to_list() == ["popularity"]
    items = data.item_ids[:3].to_list()
    by_items = model.recommend(items=items, n=5)
    assert by_items.height == 5
    if preset.endswith("popularity"):
        rest = [item for item in model.recommend(items=items[:1], n=data.n_items)["item"] if item not in items]
        assert by_items["item"].to_list() == rest[:5]
    else:  # it listens
        assert not by_items["item"].equals(model.recommend(items=data.item_ids[30:31], n=5)["item"])


@pytest.mark.parametrize("preset", MODELS)
def test_raw_ids_are_matched_whatever_the_numbering(
    preset: str, fitted: dict[str, tuple[HardGNN, HardGNN]], data: Dataset
) -> None:
    model = fitted[preset][0]
    mine, other = (model.evaluate(one)["metrics"] for one in (data, renumbered(data, seed=2)))
    tied = preset.endswith("popularity")  # equal counts fall otherwise
    assert other == pytest.approx(mine, rel=1e-3 if tied else 1e-6)


@pytest.mark.parametrize("preset", FINDS_MORE)
def test_the_planted_market_is_found(preset: str, fitted: dict[str, tuple[HardGNN, HardGNN]], data: Dataset) -> None:
    floor = evaluate(baseline("popularity", data), data, "test")[0].metrics["hr@10"]
    assert fitted[preset][0].evaluate(data)["metrics"]["hr@10"] > FINDS_MORE[preset] * floor


def test_runs_of_any_two_models_are_compared(
    fitted: dict[str, tuple[HardGNN, HardGNN]], planted: Path, data: Dataset
) -> None:
    folders = [model.folder for _, model in fitted.values()]
    for preset, folder in zip(MODELS, folders):
        result = evaluate_run(folder, data=planted)
        assert result.metrics == pytest.approx(fitted[preset][0].evaluate(data)["metrics"])
    comparison = compare_runs(folders, baseline="recencyknn")
    assert [one.model for one in comparison.runs] == list(MODELS)
    assert {(row.a, row.b) for row in comparison.comparisons} == {
        (name, "recencyknn") for name in MODELS if name != "recencyknn"
    }


@pytest.mark.parametrize("preset", MODELS)
def test_it_is_served_and_explains_what_it_declares(
    preset: str, fitted: dict[str, tuple[HardGNN, HardGNN]], data: Dataset, tmp_path: Path
) -> None:
    _, model = fitted[preset]
    can = load_model(model.folder).abilities
    assert can.similar == can.histories == (not preset.endswith("popularity"))
    assert can.attention == (preset in NETWORKS)
    assert can.known_users == can.vectors == (preset in ("selfgnn", "hardgnn"))
    pack(model.folder, tmp_path / "packed")
    engine, user = Engine(tmp_path / "packed"), data.user_ids[3]
    asks = [Ask(user, n=4, explain=True), Ask(items=data.item_ids[:3].to_list(), n=4, explain=True), Ask("?", n=4)]
    known, by_items, unknown = engine.answer(asks)
    expected = model.recommend([user], n=4)
    assert [one["item"] for one in known["items"]] == expected["item"].to_list()
    assert [one["score"] for one in known["items"]] == pytest.approx(expected["score"].to_list(), rel=1e-4)
    assert len(by_items["items"]) == 4
    assert unknown["source"] == "popularity"
    history = {data.item_ids[int(item)] for item in load_tables(model.folder).histories.of(3)}
    for one in known["items"]:
        told = [reason["item"] for reason in one["because"]]
        assert set(told) <= history
        assert bool(told) == can.similar
    assert bool(known["attention"]) == can.attention
    if can.attention:
        assert sum(one["weight"] for one in known["attention"]) == pytest.approx(1, abs=1e-5)
    if can.similar:
        like = [one["similarity"] for one in engine.similar(5, 4)]
        assert like == sorted(like, reverse=True)
        assert len(like) == 4
    else:
        with pytest.raises(HardGNNError, match="cannot tell which items are alike"):
            engine.similar(5, 4)


def test_what_is_not_trained_in_steps_has_no_such_settings(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match="'train': the model ease has no such settings"):
        HardGNN("ease", train={"epochs": 3})
    with pytest.raises(HardGNNError, match="itemknn has no such setting|unknown key 'model.decay'"):
        HardGNN("itemknn", model={"decay": 0.5})
    HardGNN("popularity").fit(data, tmp_path / "run")
    with pytest.raises(HardGNNError, match="no weights to start from"):
        HardGNN("popularity").fit(data, warm_start=tmp_path / "run")
