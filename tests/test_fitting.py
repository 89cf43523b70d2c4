"""Fits in memory: what is kept, what goes on, what a fitted model shares with the network that trained it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from factories import StopAfter, random_dataset
from hardgnn.config import resolve
from hardgnn.errors import HardGNNError
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.parts import MODELS, OBJECTIVES
from hardgnn.runs.memory import Stopped, fit
from hardgnn.training.callbacks import Callback

SHORT = ("model.dim=8", "train.epochs=4", "train.eval_every=1", "train.patience=0")


class Noted(Callback):
    """What a callback is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, trainer: Any) -> None:
        super().begin(trainer)
        self.told.append(("begin", trainer.progress.epoch))

    def epoch(self, line: dict[str, Any]) -> None:
        self.told.append(("epoch", line["epoch"]))

    def end(self) -> None:
        self.told.append(("end",))

    def close(self) -> None:
        self.told.append(("close",))


@pytest.mark.parametrize("preset", ["best", "hardgnn"])
def test_a_stopped_fit_goes_on_to_what_an_unbroken_one_gives(preset: str) -> None:
    data, config = random_dataset(n_users=40), resolve(preset, settings=SHORT)
    with pytest.raises(Stopped) as stopped:
        fit(data, config, callbacks=[StopAfter(2)])
    paused, noted = stopped.value.paused, Noted()
    broken, whole = fit(data, config, callbacks=[noted], earlier=paused), fit(data, config)
    assert noted.told == [("begin", 2), ("epoch", 3), ("epoch", 4), ("end",), ("close",)]
    assert [line["loss_rec"] for line in broken.lines] == [line["loss_rec"] for line in whole.lines]
    everybody = np.arange(data.n_users)
    np.testing.assert_array_equal(*(one.model.scores(everybody, data.everything) for one in (broken, whole)))
    # It may go on a second time: what it stands at is not used up.
    again = fit(data, config, earlier=paused)
    np.testing.assert_array_equal(*(one.model.scores(everybody, data.everything) for one in (again, whole)))


def test_a_stopped_fit_goes_on_with_its_own_data_and_settings_alone() -> None:
    data, config = random_dataset(n_users=40), resolve("best", settings=SHORT)
    with pytest.raises(Stopped) as stopped:
        fit(data, config, callbacks=[StopAfter(1)])
    paused = stopped.value.paused
    other = random_dataset(n_users=40, seed=3)
    other.manifest["source_sha256"] = "another"
    with pytest.raises(HardGNNError, match="resume: the fit was started on another data set"):
        fit(other, config, earlier=paused)
    with pytest.raises(HardGNNError, match="resume: the fit was started with another config"):
        fit(data, resolve("best", settings=[*SHORT, "train.lr=0.1"]), earlier=paused)


@pytest.mark.parametrize("preset", ["best", "hardgnn"])
def test_looking_at_a_network_changes_nothing_in_it(preset: str) -> None:
    data, config = random_dataset(n_users=40), resolve(preset, settings=SHORT)
    data.train.lengths[0] = 0  # a user whom training has not seen
    network = MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fitted = network.fitted("it")
    fitted.scores(np.arange(4), data.train.take(np.arange(4)))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not fitted.user_vectors.requires_grad
    assert not fitted.item_vectors.requires_grad


def test_what_is_fitted_in_one_go_tells_callbacks_nothing_but_the_end() -> None:
    noted = Noted()
    fit(random_dataset(n_users=40), resolve("recencyknn", settings=["model.last=2"]), callbacks=[noted])
    assert noted.told == [("close",)]


def test_a_network_with_a_loss_of_its_own_is_not_trained_without_it() -> None:
    data = random_dataset(n_users=40)
    words = ["model.dim=8", "objective.kind=next-item", "encoder.kind=causal", "ssl.weight=0"]
    config = resolve("selfgnn", settings=words)
    network = SelfGNN.build(config.model, data, torch.Generator())
    network.auxiliary = SelfGNN.build(
        resolve("selfgnn", settings=["model.dim=8"]).model, data, torch.Generator()
    ).auxiliary
    with pytest.raises(HardGNNError, match="no place for the network's own loss 'ssl'"):
        OBJECTIVES.find("next-item")(config.objective, network, data)
