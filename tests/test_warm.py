"""Refreshing: a run on a grown log starts from the old weights, matched by raw id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open

from hardgnn import InteractionLog
from hardgnn.config import Config, resolve
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.parts import MODELS
from hardgnn.prepare.simulate import simulate
from hardgnn.runs.folder import load_tables
from hardgnn.runs.train import train
from hardgnn.runs.warm import WarmStart


def small(*settings: str) -> Config:
    base = ["model.dim=16", "model.heads=2", "model.intervals=3", "train.eval_every=1", "train.epochs=4"]
    return resolve("hardgnn", settings=[*base, "train.lr=0.005", *settings])


def network(config: Config, data: Dataset) -> Any:
    return MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def logs() -> tuple[Dataset, Dataset]:
    """A log as it was, and grown by later events of old and new users and items."""
    log, _ = simulate(220, 70, 6000, seed=3)
    table = log.with_columns(pl.col("timestamp"))
    early = table.head(4200)
    return tuple(  # type: ignore[return-value]
        InteractionLog(rows, "market", "").prepare(k_core=3, candidates=20) for rows in (early, table)
    )


@pytest.fixture(scope="module")
def old(logs: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm") / "old"
    train(logs[0], small(), folder)
    return folder


def test_rows_go_by_raw_id_in_every_interval_and_new_ones_stay_fresh(logs: tuple[Dataset, Dataset], old: Path) -> None:
    data, config = logs[1], small()
    fresh, model = network(config, data), network(config, data)
    plan = WarmStart.plan(old, config, data)
    plan.apply(model)
    tables = load_tables(old)
    with safe_open(old / "model.safetensors", "pt") as stored:
        names = [name for name, _ in model.named_parameters()]
        before = {name: stored.get_tensor(f"parameters/{name}") for name in names}
    for name, new_ids, old_ids in (
        ("user_embedding", data.user_ids, tables.user_ids),
        ("item_embedding", data.item_ids, tables.item_ids),
    ):
        place = {raw: row for row, raw in enumerate(old_ids)}
        known = [raw in place for raw in new_ids]
        assert sum(known) > 0
        for row, raw in enumerate(new_ids):
            expected = before[name][:, place[raw]] if raw in place else fresh.get_parameter(name)[:, row]
            assert torch.equal(model.get_parameter(name)[:, row], expected)
    assert plan.record["users_new"] + plan.record["users_matched"] == data.n_users
    assert plan.record["users_new"] > 0
    for name, parameter in model.named_parameters():
        if not name.endswith("embedding"):
            assert torch.equal(parameter, before[name])


def test_a_warm_run_starts_better_than_a_cold_one_and_says_where_from(
    logs: tuple[Dataset, Dataset], old: Path, tmp_path: Path
) -> None:
    config = small("train.epochs=1")
    cold = train(logs[1], config, tmp_path / "cold")
    warm = train(logs[1], config, tmp_path / "warm", warm_start=old)
    assert warm.metrics["ndcg@10"] > cold.metrics["ndcg@10"]
    record = json.loads((tmp_path / "warm" / "environment.json").read_text("utf-8"))["warm_start"]
    assert record["run"] == "old"
    assert record["users_matched"] == np.isin(logs[1].user_ids, logs[0].user_ids).sum()
    assert "warm_start" not in json.loads((tmp_path / "cold" / "environment.json").read_text("utf-8"))
    with pytest.raises(HardGNNError, match="started from old; resume it with the same warm_start"):
        train(logs[1], config, tmp_path / "warm", resume=True)


def test_what_does_not_fit_is_told_before_anything_is_written(
    logs: tuple[Dataset, Dataset], old: Path, tmp_path: Path
) -> None:
    for setting, words in (
        ("model.dim=32", "model.dim is 16, not 32"),
        ("model.intervals=4", "model.intervals is 3, not 4"),
        ("ssl.dim=8", "ssl.dim is 32, not 8"),
    ):
        with pytest.raises(HardGNNError, match=words):
            train(logs[1], small(setting), tmp_path / "new", warm_start=old)
    log, _ = simulate(60, 30, 900, seed=1)
    others = InteractionLog(log.with_columns(pl.format("x{}", "user").alias("user")), "others", "").prepare(k_core=3)
    with pytest.raises(HardGNNError, match="knows none of the users of others"):
        train(others, small(), tmp_path / "new", warm_start=old)
    with pytest.raises(HardGNNError, match="no such run folder"):
        train(logs[1], small(), tmp_path / "new", warm_start=tmp_path / "nothing")
    assert not (tmp_path / "new").exists()


def test_best_starts_warm_with_its_transitions(logs: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    words = ["model.dim=16", "train.epochs=1", "train.eval_every=1", "train.batch_positions=256", "train.candidates=32"]
    config = resolve("best", settings=words)
    train(logs[0], config, tmp_path / "old")
    data = logs[1]
    plan = WarmStart.plan(tmp_path / "old", config, data)
    model = network(config, data)
    plan.apply(model)
    with safe_open(tmp_path / "old" / "model.safetensors", "pt") as stored:
        for name, number in model.transitions.named_parameters():
            assert number == stored.get_tensor(f"parameters/transitions.{name}")
    train(data, config, tmp_path / "new", warm_start=tmp_path / "old")
