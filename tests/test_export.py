"""Exported vectors give the scores of the run, and the index finds what exact search finds."""

from __future__ import annotations

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


def test_a_score_with_transitions_is_refused(market: Path, tmp_path: Path) -> None:
    words = ["model.dim=16", "train.epochs=1", "train.eval_every=1", "train.candidates=32"]
    train(Dataset.load(market), resolve("best", settings=words), tmp_path / "run")
    with pytest.raises(HardGNNError, match="no inner products"):
        export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    recommender = Recommender(tmp_path / "run")
    user = recommender.tables.user_ids[0]
    table = recommender.for_users([user], n=5)
    assert table["source"].unique().to_list() == ["sequence"]
