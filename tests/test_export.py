"""Exported vectors give the scores of the run, and the index finds what exact search finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hardgnn.config import resolve
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.recommend.export import build_index, check_index, export, item_vectors, open_index, recall
from hardgnn.recommend.recommender import Recommender
from hardgnn.runs.train import train
from hardgnn.storage.records import read_json
from hardgnn.verify import verify

pytest.importorskip("usearch")


@pytest.fixture(scope="module")
def run(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = ["model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=2", "train.eval_every=1"]
    folder = tmp_path_factory.mktemp("export") / "run"
    train(Dataset.load(market), resolve("selfgnn", settings=small), folder)
    return folder


def test_products_of_the_vectors_are_the_scores(run: Path, tmp_path: Path) -> None:
    document = export(run, tmp_path / "out", n=5)
    items, users = (pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("items", "users"))
    products = users["vector"].to_numpy() @ items["vector"].to_numpy().T
    recommender = Recommender(run)
    everybody = np.arange(len(users))
    np.testing.assert_allclose(products, recommender.model.scores(everybody, recommender.tables.histories), rtol=1e-4)
    assert items["id"].equals(recommender.tables.item_ids)
    assert users["id"].equals(recommender.tables.user_ids)
    assert read_json(tmp_path / "out" / "export.json") == document
    index = open_index(tmp_path / "out")
    assert document["index"]["recall"] == recall(index, users["vector"].to_numpy(), items["vector"].to_numpy(), 5) == 1


def test_a_small_index_finds_every_item_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):  # built by two threads, one in fourteen misses some
        vectors = (rng.normal(size=(60, 16)) * rng.gamma(1, 1, size=(60, 1))).astype(np.float32)
        queries = (rng.normal(size=(50, 16)) + 1).astype(np.float32)
        index, again = build_index(vectors, 128), build_index(vectors, 128)
        assert recall(index, queries, vectors, 5) == 1
        assert (index.search(queries, 5).keys == again.search(queries, 5).keys).all()


def test_recall_counts_what_is_found() -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 12)).astype(np.float32)
    queries = np.random.default_rng(1).normal(size=(50, 12)).astype(np.float32)
    good, poor = build_index(vectors, 256), build_index(vectors, 1)
    assert recall(good, queries, vectors, 10) > 0.95
    found = poor.search(queries, 10).keys
    exact = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    shares = [len(set(row) & set(best)) / 10 for row, best in zip(found.tolist(), exact.tolist())]
    assert recall(poor, queries, vectors, 10) == pytest.approx(np.mean(shares))


def test_what_is_no_inner_product_is_not_exported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = Recommender(run)
    scores = type(recommender.model).scores
    monkeypatch.setattr(type(recommender.model), "scores", lambda self, users, known: scores(self, users, known) + 1)
    with pytest.raises(HardGNNError, match="no inner products"):
        item_vectors(recommender.model, recommender.tables.histories)
    with pytest.raises(HardGNNError, match="no inner products"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_index_of_other_weights_is_refused(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out", index=False)
    with pytest.raises(HardGNNError, match="holds no index"):
        check_index(tmp_path / "out", run / "model.safetensors")
    export(run, tmp_path / "out")
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(HardGNNError, match="another run"):
        check_index(tmp_path / "out", tmp_path / "other")


def scored(folder: Path, user: str, history: list[str]) -> dict[str, float]:
    """The scores of all items, computed from what an export holds and the formula that it names."""
    document = json.loads((folder / "export.json").read_text())
    numbers, items = document["numbers"], pl.read_parquet(folder / "items.parquet")
    raw, counts = items["id"].to_list(), items["train_interactions"].to_numpy()
    vectors = items["vector"].to_numpy() if "vector" in items.columns else np.zeros((len(raw), 0))
    if document["score"].startswith("train_interactions"):
        return dict(zip(raw, counts.astype(float)))
    if document["score"].startswith("moment of the item, its decayed events"):
        return dict(zip(raw, items["moment"].to_numpy()))
    if document["score"].startswith("sum over the different items"):
        return dict(zip(raw, vectors[:, [raw.index(item) for item in set(history)]].sum(1)))
    total = np.zeros(len(raw))
    if (folder / "similarity.parquet").exists():
        last = int(numbers.get("last", numbers.get("window", 0)))
        asked = history[-last:] if last else history
        weights = {}
        for age, item in enumerate(reversed(asked)):
            weights[item] = weights.get(item, 0.0) + numbers["decay"] ** age
        entries = pl.read_parquet(folder / "similarity.parquet").filter(pl.col("history").is_in(list(weights)))
        for row in entries.iter_rows(named=True):
            total[raw.index(row["item"])] += weights[row["history"]] * row["similarity"]
    if not vectors.shape[1]:
        return dict(zip(raw, total))
    query = pl.read_parquet(folder / "users.parquet").filter(pl.col("id") == user)["vector"].to_numpy()[0]
    found = vectors @ query
    if numbers:
        found = found + numbers["strength"] * np.log(numbers["epsilon"] + total)
        found = found + numbers["popularity"] * np.log1p(counts)
        found = found + items["moment"].to_numpy()
    return dict(zip(raw, found))


@pytest.mark.parametrize(
    "preset", ["best", "selfgnn", "recencyknn", "itemknn", "ease", "popularity", "decayed-popularity"]
)
def test_another_system_scores_as_the_run_does(preset: str, market: Path, tmp_path: Path) -> None:
    words = ["model.dim=16", "train.epochs=1", "train.eval_every=1"] if preset in ("best", "selfgnn") else []
    train(Dataset.load(market), resolve(preset, settings=words), tmp_path / "run")
    document = export(tmp_path / "run", tmp_path / "out")
    assert ("index" in document) == (preset == "selfgnn")  # whose scores are products of two vectors
    assert [one for one in verify(tmp_path / "out") if one.problem] == []
    recommender = Recommender(tmp_path / "run")
    tables = recommender.tables
    for row in (0, 7):
        history = [tables.item_ids[int(item)] for item in tables.histories.of(row)]
        answered = recommender.for_users([tables.user_ids[row]], n=10)
        expected = scored(tmp_path / "out", tables.user_ids[row], history)
        for item, score in answered.select("item", "score").iter_rows():
            assert expected[item] == pytest.approx(score, rel=1e-3, abs=1e-3)
