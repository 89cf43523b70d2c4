"""What `hardgnn inspect` tells of a user, against small computations of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hardgnn import config as settings
from hardgnn.data.dataset import VALID, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.noise import with_noise
from hardgnn.models.attention import SelfAttention
from hardgnn.report.inspect import draw, inspect_user
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train

OPTIONS = ["model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=2", "train.eval_every=1", "hard.k=4"]


@pytest.fixture(scope="module")
def run(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "hardgnn"
    train(Dataset.load(market), settings.resolve("hardgnn", settings=OPTIONS), folder, data_path=market)
    return folder


def test_attention_weights_are_those_that_attention_uses() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8, 1)
    x = torch.randn(3, 5, 8)
    weights = layer.weights(x)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 5))
    value = torch.nn.functional.linear(x, layer.qkv.weight[16:], layer.qkv.bias[16:])
    assert torch.allclose(layer.output(weights @ value), layer(x), atol=1e-6)


def test_a_user_is_told_as_training_saw_them(run: Path, market: Path) -> None:
    data = Dataset.load(market)
    model = load_model(run)
    for index in (0, 7):
        document = inspect_user(run, data.user_ids[index], 5)
        mine = data.train.of(index)
        assert [row.item for row in document.window] == [data.item_ids[int(item)] for item in mine]
        attention = np.array([row.attention for row in document.window])
        assert attention.sum(0) == pytest.approx(np.ones(2), abs=1e-5)
        assert sum(row.interactions for row in document.intervals) == len(set(mine.tolist()))
        assert all(0 < row.weight < 1 for row in document.intervals)
        with torch.no_grad():
            anchor = model.encoder(model.item_vectors, torch.from_numpy(mine.astype(np.int64))[None])[0]
        similarity = torch.cosine_similarity(model.item_vectors, anchor[None]).numpy()
        order = np.argsort(-similarity)
        assert [row.item for row in document.nearest] == [data.item_ids[int(item)] for item in order[:5]]
        hard = [item for item in order if item not in mine][:4]
        assert [row.item for row in document.hard_negatives] == [data.item_ids[int(item)] for item in hard]
        told = [row.similarity for row in document.hard_negatives]
        assert told == pytest.approx(similarity[hard], abs=1e-5)
        target = data.item[(data.user == index) & (data.part == VALID)][0]
        assert [row.false_negative for row in document.hard_negatives] == [item == target for item in hard]
        json.dumps(document.to_dict())


@pytest.mark.parametrize(
    "options",
    [["model.sequence=none"], ["model.sequence=pooled", "ssl.weight=0"], ["hard.rank_by=positive"], ["hard.k=0"]],
)
def test_every_kind_of_model_can_be_looked_at(options: list[str], market: Path, tmp_path: Path) -> None:
    data = with_noise(Dataset.load(market), 0.2, 0)
    short = [*OPTIONS, "train.epochs=1", *options]
    train(data, settings.resolve("hardgnn", settings=short), tmp_path / "r", data_path=market)
    document = inspect_user(tmp_path / "r", data.user_ids[3], 6)
    assert [row.item for row in document.window] == [data.item_ids[int(item)] for item in data.train.of(3)]
    assert (document.window[0].attention is None) == any("sequence" in option for option in options)
    assert document.mined == ("hard.k=0" not in options)
    assert len(document.hard_negatives) == (4 if document.mined else 6)
    for ending in ("svg", "png"):
        draw(document).write(tmp_path / f"user.{ending}")
    assert document.window[-1].item in (tmp_path / "user.svg").read_text() or "sequence" in options[0]


def test_bad_input_gets_one_sentence(run: Path, market: Path, tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match="unknown user 'nobody'"):
        inspect_user(run, "nobody")
    with pytest.raises(HardGNNError, match="no such run folder"):
        inspect_user(tmp_path / "x", "u1")
    data = Dataset.load(market)
    other = replace(data, manifest=data.manifest | {"name": "other"})
    other.save(tmp_path / "other")
    with pytest.raises(HardGNNError, match="manifest differs"):
        inspect_user(run, data.user_ids[0], data=tmp_path / "other")
    with pytest.raises(HardGNNError, match=r"\.svg"):
        draw(inspect_user(run, data.user_ids[0])).write(tmp_path / "user.gif")
