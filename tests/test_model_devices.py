"""A whole step, an evaluation and a recommendation of each network on a device that is none, and on a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from factories import random_dataset
from guard import device_guard
from hardgnn.config import resolve
from hardgnn.ops.form import asked_for
from hardgnn.ops.native.library import tiles
from hardgnn.parts import MODELS, OBJECTIVES
from hardgnn.runs.folder import start
from hardgnn.runs.models import load_model, save_model
from hardgnn.runs.tables import tables_of
from hardgnn.runs.train import train
from hardgnn.training.trainer import total

RUNS = {
    "best": ("best", []),
    "selfgnn": ("selfgnn", []),
    "hardgnn": ("hardgnn", []),
    "released": ("released", []),
    "dropped edges": ("hardgnn", ["model.edge_dropout=0.2", "model.norm=sym", "hard.used_in=none"]),
    "an LSTM, old vectors": ("hardgnn", ["model.interval_encoder=lstm", "hard.query=recent", "hard.refresh=2"]),
    "no encoder": ("selfgnn", ["encoder.kind=none"]),
}


def one_step(name: str, device: torch.device, generator: torch.Generator | None) -> list[Any]:
    """The loss terms, the sums of gradients and the scores of a fitted network, on the processor."""
    preset, words = RUNS[name]
    data = random_dataset(n_users=40, n_items=50, seed=1)
    config = resolve(preset, settings=["model.dim=16", *words])
    torch.manual_seed(0)  # a step without a generator still draws which candidates are searched
    network = MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0)).to(device)
    objective = OBJECTIVES.find(config.objective.kind)(config.objective, network, data)  # type: ignore[union-attr]
    objective.new_epoch()
    batch = next(iter(objective.batches(np.random.default_rng(0))))
    terms = objective.losses(batch, generator)
    total(terms).backward()
    found: list[Any] = [term.detach().cpu() for _, term in terms.values()]
    found += [weight.grad.cpu().abs().sum() for weight in network.parameters() if weight.grad is not None]
    model = network.fitted("it")
    users = np.arange(5)
    histories = data.train.take(users)
    found.append(model.scores(users, histories))
    found.append(model.candidate_scores(users, histories, np.arange(15).reshape(5, 3)))
    found.append(model.similarity(3))
    found.append(model.reasons(np.arange(4), np.arange(2)))
    if model.abilities.attention:
        found.append(np.array(model.attention(np.arange(4))))
    assert all(value.device.type == "cpu" for value in model.tensors().values())  # to be written
    return [torch.as_tensor(one) for one in found] + [torch.tensor(list(objective.figures().values()))]


def assert_alike(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_a_network_learns_and_scores_where_its_weights_are(name: str) -> None:
    expected = one_step(name, torch.device("cpu"), None)
    with device_guard() as device:
        found = one_step(name, device, None)
        one_step(name, device, torch.Generator())
    assert_alike(found, expected, 2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("name", RUNS)
def test_a_network_learns_and_scores_on_a_cuda_device(name: str) -> None:
    device = torch.device("cuda")
    assert_alike(one_step(name, device, None)[:1], one_step(name, torch.device("cpu"), None)[:1], 1e-2)
    one_step(name, device, torch.Generator(device))


@pytest.mark.parametrize("name", ["best", "hardgnn"])
def test_what_was_trained_elsewhere_is_read_on_the_processor(name: str, tmp_path: Path) -> None:
    preset, words = RUNS[name]
    data = random_dataset(n_users=40, n_items=50, seed=1)
    config = resolve(preset, settings=["model.dim=16", *words])
    network = MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0))
    everybody = np.arange(data.n_users)
    expected = network.fitted("it").scores(everybody, data.everything)
    start(tmp_path, config, tables_of(config, data), data.manifest)
    with device_guard() as device:
        save_model(tmp_path, network.to(device).fitted("it"), epoch=1)
    np.testing.assert_allclose(load_model(tmp_path).scores(everybody, data.everything), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["native", "float32"])
@pytest.mark.parametrize("name", ["best", "hardgnn"])
def test_training_in_bfloat16_learns_and_is_told(name: str, form: str, tmp_path: Path) -> None:
    """By C forms of the model's where it has them, the processor has tiles and `form` lets them, else by autocast."""
    preset, words = RUNS[name]
    data = random_dataset(n_users=40, n_items=50, seed=1)
    short = ["model.dim=32", "train.epochs=3", "train.eval_every=1", "run.precision=bfloat16", *words]
    with asked_for(form):
        train(data, resolve(preset, settings=short), tmp_path / "run")
        tiled = tiles() and name == "hardgnn"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss_rec"] for line in lines if "loss_rec" in line]
    assert losses[-1] < losses[0]
    told = json.loads((tmp_path / "run" / "environment.json").read_text())["operations"]
    assert told.endswith("; bfloat16)") if tiled else told == "reference (autocast)"
    tensors = load_model(tmp_path / "run").tensors().values()
    assert all(tensor.dtype != torch.bfloat16 for tensor in tensors)
