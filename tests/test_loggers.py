"""Loggers: what TensorBoard, MLflow and Weights & Biases have of a training, asked of the libraries themselves."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from factories import StopAfter, random_dataset
from hardgnn import HardGNNError
from hardgnn.config import Config, resolve
from hardgnn.runs.folder import read_metrics, read_result
from hardgnn.runs.memory import fit
from hardgnn.runs.train import train
from hardgnn.training.callbacks import Callback, closing
from hardgnn.training.loggers import base

DATA = random_dataset(n_users=60, n_items=40, seed=3)
EPOCHS = 2


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the libraries write
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


def config_of(name: str) -> Config:
    options = {"model": {"dim": 8}, "train": {"epochs": EPOCHS, "eval_every": 1, "callbacks": name}}
    return resolve("selfgnn", options=options)


def stopped_and_resumed(name: str, folder: Path) -> None:
    """A run that is stopped after its first epoch, and goes on to its end."""
    with pytest.raises(KeyboardInterrupt):
        train(DATA, config_of(name), folder, callbacks=[StopAfter(1)])
    train(DATA, config_of(name), folder, resume=True)


def test_tensorboard_has_every_figure_of_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stopped_and_resumed("tensorboard", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    lines = read_metrics(tmp_path / "run")
    for line in lines:
        for name, value in base.figures_of(line).items():
            assert pytest.approx(value) == {one.step: one.value for one in events.Scalars(name)}[line["epoch"]]
    assert len(lines) == EPOCHS


def test_mlflow_has_one_run_with_settings_and_figures_though_training_was_stopped(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")  # a process has one, whatever folder it is in
    stopped_and_resumed("mlflow", tmp_path / "run")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["model.dim"] == "8"
    assert run.data.params["data"] == DATA.name
    for line in read_metrics(tmp_path / "run"):
        figure = line["valid"]["ndcg@10"]
        history = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "valid/ndcg_at_10")}
        assert history[line["epoch"]] == pytest.approx(figure)
    assert run.data.metrics["best_epoch"] == read_result(tmp_path / "run")["best_epoch"]
    with mlflow.start_run() as own:
        fit(DATA, config_of("mlflow"))
        assert mlflow.active_run().info.run_id == own.info.run_id
    assert len(client.get_metric_history(own.info.run_id, "train/loss_rec")) == EPOCHS


def test_wandb_keeps_offline_one_run_with_settings_and_figures(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    stopped_and_resumed("wandb", tmp_path / "run")
    parts = [folder.name.split("-") for folder in (tmp_path / "wandb").glob("offline-run-*")]
    assert len(parts) == 2
    assert len({identity for *_, identity in parts}) == 1  # which `wandb sync` makes one run
    with wandb.init(mode="offline") as own:
        fitted = fit(DATA, config_of("wandb"))
        assert wandb.run is own
        assert own.step == EPOCHS
        assert own.config["model.dim"] == 8
        assert own.summary["best_epoch"] == fitted.result.best_epoch
        for name, value in base.figures_of(fitted.lines[-1]).items():
            assert own.summary[name] == pytest.approx(value)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_logger_without_its_library_is_told_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(module: str) -> ModuleSpec | None:
        return None if module == name else find_spec("json")

    monkeypatch.setattr(base, "find_spec", without)
    with pytest.raises(HardGNNError, match=rf"pip install 'hardgnn\[{name}\]'"):
        train(DATA, config_of(name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_logger_that_fails_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(HardGNNError, match="callback 'tensorboard' fails: "):
        fit(DATA, config_of("tensorboard"))


class Failing(Callback):
    def close(self) -> None:
        raise OSError("no network")


def test_all_are_closed_and_what_went_wrong_first_is_told() -> None:
    closed = []
    other = Callback()
    other.close = lambda: closed.append(1)  # type: ignore[method-assign]
    told = pytest.warns(UserWarning, match="Failing could not be closed")
    with told, pytest.raises(OSError, match="no network"), closing([Failing(), other]):
        pass
    with pytest.warns(UserWarning, match="Failing"), pytest.raises(KeyboardInterrupt), closing([Failing(), other]):
        raise KeyboardInterrupt
    assert closed == [1, 1]
