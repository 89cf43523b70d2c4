"""Training: determinism, resuming, no leaks, HardGNN without its parts is SelfGNN, and it learns."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hardgnn.training.next_item_batches import Sequences
from safetensors.torch import load_file

from hardgnn.config import Config, resolve
from hardgnn.data.dataset import TEST, TRAIN, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import evaluate
from hardgnn.evaluation.quality import baseline
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.storage.files import atomic_path

SMALL = [
    "model.dim=16",
    "model.heads=2",
    "model.intervals=3",
    "model.layers=1",
    "model.window=20",
    "model.sequence_layers=1",
    "ssl.pairs=4",
    "train.batch_users=64",
    "train.pairs_per_user=8",
    "train.eval_every=1",
    "train.epochs=3",
    "train.lr=0.005",
]


SMALL_BEST = ["model.dim=16", "train.batch_positions=256", "train.candidates=32", "hard.k=4"]
SMALL_BEST += ["train.eval_every=1", "train.epochs=3", "train.lr=0.005"]


def small(preset: str = "selfgnn", *settings: str) -> Config:
    return resolve(preset, settings=[*(SMALL_BEST if preset == "best" else SMALL), *settings])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def data(market: Path) -> Dataset:
    return Dataset.load(market)


@pytest.mark.parametrize("preset", ["selfgnn", "hardgnn", "best"])
def test_same_seed_same_weights_and_other_seed_others(preset: str, data: Dataset, tmp_path: Path) -> None:
    config = small(preset, "model.edge_dropout=0.2")
    for name in ("one", "two"):
        train(data, config, tmp_path / name)
    train(data, small(preset, "model.edge_dropout=0.2", "run.seed=1"), tmp_path / "three")
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "three"))


@pytest.mark.parametrize("off", ["hard.k=0", "hard.weight=0"])
def test_hardgnn_without_its_parts_is_selfgnn_bit_for_bit(off: str, data: Dataset, tmp_path: Path) -> None:
    train(data, small("selfgnn"), tmp_path / "selfgnn")
    train(data, small("hardgnn", off), tmp_path / "off")
    train(data, small("hardgnn"), tmp_path / "on")
    assert same(weights(tmp_path / "selfgnn"), weights(tmp_path / "off"))
    assert not same(weights(tmp_path / "selfgnn"), weights(tmp_path / "on"))


@pytest.mark.parametrize(("preset", "setting"), [("hardgnn", "hard.refresh=2"), ("best", "hard.temperature=0.2")])
def test_a_resumed_run_ends_in_the_same_weights(preset: str, setting: str, data: Dataset, tmp_path: Path) -> None:
    config = small(preset, setting)
    train(data, config, tmp_path / "whole")
    asked = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        train(data, config, tmp_path / "cut", stop=lambda: next(asked))
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 2
    train(data, config, tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    lines = [
        [json.loads(line) | {"seconds": 0} for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert lines[0] == lines[1]


def test_the_model_kept_is_the_moving_average_of_the_steps(data: Dataset, tmp_path: Path) -> None:
    """Three epochs of one step each, and the average by its definition."""
    steps, one_step = [], ("train.average_epochs=2.5", "train.batch_positions=1000000", "train.eval_every=3")
    for epochs in (1, 2, 3):
        train(data, small("best", *one_step, f"train.epochs={epochs}"), tmp_path / str(epochs))
        steps.append(load_file(tmp_path / str(epochs) / "checkpoint/state.safetensors"))
    assert len(Sequences(data.train, data.n_items, 200, small("best", *one_step).train)) == 1
    kept = load_file(tmp_path / "3" / "model.safetensors")
    for name in ("item_embedding", "transitions.popularity", "transitions.strength"):
        first, second, third = (step[f"parameters/{name}"] for step in steps)
        expected = 0.6 * (0.6 * first + 0.4 * second) + 0.4 * third  # 1 - 1 / 2.5
        torch.testing.assert_close(kept[f"parameters/{name}"], expected)
        assert not torch.equal(third, expected)


def test_the_average_looks_back_over_epochs_however_many_steps_they_have(data: Dataset, tmp_path: Path) -> None:
    """Its weight of the past per step follows from the steps of an epoch."""
    for positions in (300, 1_000_000):
        words = ("train.average_epochs=2.5", f"train.batch_positions={positions}")
        steps = len(Sequences(data.train, data.n_items, 200, small("best", *words).train))
        factors: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hardgnn.training.trainer.get_ema_multi_avg_fn", lambda past, to=factors: to.append(past))
            patch.setattr("hardgnn.training.trainer.AveragedModel", lambda model, multi_avg_fn: None)
            train(data, small("best", *words), tmp_path / str(positions))
        assert factors == [1 - 1 / (2.5 * steps)]
    assert steps == 1


def test_an_epoch_lost_after_its_model_was_written_is_done_again(data: Dataset, tmp_path: Path) -> None:
    """A kill between the best model and the checkpoint leaves the newer model beside the older checkpoint."""
    config = small()
    train(data, config, tmp_path / "whole")
    asked = iter([True])
    with pytest.raises(KeyboardInterrupt):
        train(data, config, tmp_path / "cut", stop=lambda: next(asked))
    (tmp_path / "cut" / "metrics.jsonl").open("a").write('{"epoch": 2, "half')
    train(data, config, tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


@pytest.mark.parametrize("preset", ["hardgnn", "best"])
def test_no_test_item_reaches_training(preset: str, data: Dataset, tmp_path: Path) -> None:
    """Every user's test item replaced by another: the weights stay the same, bit for bit."""
    rng = np.random.default_rng(0)
    item = data.item.copy()
    item[data.part == TEST] = rng.integers(0, data.n_items, int((data.part == TEST).sum()))
    changed = replace(data, item=item)
    for name, one in (("as it is", data), ("changed", changed)):
        train(one, small(preset), tmp_path / name)
    assert same(weights(tmp_path / "as it is"), weights(tmp_path / "changed"))


def test_leaks_are_refused_unless_allowed_and_then_told(data: Dataset, tmp_path: Path) -> None:
    """With avoided targets the test items do reach the weights, which is why the option is refused."""
    with pytest.raises(HardGNNError, match=r"avoid.*test part.*--allow-leaks"):
        train(data, small("released"), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    item = data.item.copy()
    item[data.part == TEST] = (item[data.part == TEST] + 1) % data.n_items
    changed = replace(data, item=item)
    for name, one in (("as it is", data), ("changed", changed)):
        result = train(one, small("released", "train.choose_on=valid"), tmp_path / name, allow_leaks=True)
        assert len(result["leaks"]) == 1
        assert "validation and test items" in result["leaks"][0]
    assert not same(weights(tmp_path / "as it is"), weights(tmp_path / "changed"))
    result = train(data, small("selfgnn", "train.choose_on=test"), tmp_path / "chosen", allow_leaks=True)
    assert result["chosen_by"].startswith("ndcg@10 on test")
    lines = [json.loads(line) for line in (tmp_path / "chosen" / "metrics.jsonl").read_text().splitlines()]
    assert result["best_epoch"] == max(lines, key=lambda line: line["test"]["ndcg@10"])["epoch"]
    assert result["leaks"] == ["the epoch is chosen on the test part (train.choose_on=test)"]


@pytest.mark.parametrize("preset", ["hardgnn", "best"])
def test_a_validation_item_only_chooses_the_epoch(preset: str, data: Dataset, tmp_path: Path) -> None:
    item = data.item.copy()
    item[data.part != TRAIN] = (item[data.part != TRAIN] + 1) % data.n_items
    changed = replace(data, item=item)
    losses = []
    for name, one in (("as it is", data), ("changed", changed)):
        train(one, small(preset), tmp_path / name)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses.append([(line["loss_rec"], line.get("loss_ssl"), line["loss_infonce"]) for line in lines])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("preset", ["selfgnn", "hardgnn", "best"])
def test_the_planted_successor_is_found_well_above_popularity(preset: str, data: Dataset, tmp_path: Path) -> None:
    longer = ("train.epochs=40", "train.eval_every=4", "train.pred_num=20")
    config = small(preset, *longer, *(() if preset == "best" else ("train.l2=0.0001",)))
    train(data, config, tmp_path / "run")
    learned = evaluate(load_model(tmp_path / "run"), data, "test")[0].metrics["hr@10"]
    floor = evaluate(baseline("popularity", data), data, "test")[0].metrics["hr@10"]
    assert learned > 1.5 * floor


def test_early_stopping_keeps_the_best_epoch(data: Dataset, tmp_path: Path) -> None:
    config = small("selfgnn", "train.epochs=40", "train.patience=2", "train.lr=0.05")
    result = train(data, config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid"]["ndcg@10"])
    assert result["best_epoch"] == best["epoch"]
    assert result["epochs"] < 40
    again = evaluate(load_model(tmp_path / "run"), data, "valid")[0].metrics["ndcg@10"]
    assert again == pytest.approx(best["valid"]["ndcg@10"])


def test_a_run_folder_is_not_mixed_up(data: Dataset, tmp_path: Path) -> None:
    train(data, small(), tmp_path / "run")
    with pytest.raises(HardGNNError, match="--resume"):
        train(data, small(), tmp_path / "run")
    with pytest.raises(HardGNNError, match="another config"):
        train(data, small("selfgnn", "model.dim=8"), tmp_path / "run", resume=True)
    other = replace(data, manifest=data.manifest | {"name": "other"})
    with pytest.raises(HardGNNError, match="another data set"):
        train(other, small(), tmp_path / "run", resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    with pytest.raises(HardGNNError, match="left alone"):
        train(data, small(), tmp_path / "mine")


@pytest.mark.parametrize(
    "option",
    [
        "model.interval_encoder=lstm",
        "model.interval_encoder=sum",
        "model.interval_sharing=shared",
        "model.layer_combination=concat",
        "model.norm=sym",
        "model.sequence=pooled",
        "model.sequence=none",
        "model.sequence_pooling=sum",
        "model.layers=0",
        "model.interval_cut=count",
        "model.attention_projection=false",
        "model.layer_norm=false",
        "model.sequence_activation=none",
        "ssl.weight=0",
        "ssl.user_weight=sum",
        "ssl.pairing=interleaved",
        "model.interval_norm=states",
        "model.interval_encoder=lstm model.forget_bias=1.0",
        "hard.rank_by=positive",
        "hard.query=recent",
        "hard.used_in=hinge",
        "hard.used_in=hinge hard.shared_negatives=3",
        "train.hinge=sum",
        "train.l2_over=all",
    ],
)
def test_every_option_trains_saves_and_loads(option: str, data: Dataset, tmp_path: Path) -> None:
    *shared, _ = options = option.split()
    config = small("hardgnn", "ssl.weight=0.0001", *options, "train.epochs=1")
    reference = small("hardgnn", "ssl.weight=0.0001", *shared, "train.epochs=1")
    losses = []
    for name, one in (("option", config), ("reference", reference)):
        train(data, one, tmp_path / name)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append({k: v for k, v in json.loads(lines[0]).items() if k != "seconds"})
    assert losses[0] != losses[1]
    metrics = evaluate(load_model(tmp_path / "option"), data, "valid")[0].metrics
    assert metrics["ndcg@10"] == pytest.approx(losses[0]["valid"]["ndcg@10"])


@pytest.mark.parametrize(
    "option",
    [
        "transitions.use=false",
        "transitions.forward=0.1",
        "transitions.steps=1",
        "transitions.backward=0",
        "transitions.decay=0.5",
        "transitions.epsilon=0.3",
        "transitions.neighbours=3",
        "transitions.rate=1",
        "hard.weight=0",
        "hard.k=1",
        "hard.share=0.1",
        "train.candidates=100",
        "train.candidate_popularity=0",
        "train.weight_decay=0",
        "train.l2_over=all train.l2=0.01 train.weight_decay=0",
        "train.average_epochs=0",
        "train.recent_share=1.0 model.window=10",
        "model.user_term=true",
        "transitions.popularity=0",
        "model.layers=2",
        "model.intervals=3 model.interval_encoder=gru model.layers=1",
    ],
)
def test_every_option_of_best_trains_saves_and_loads(option: str, data: Dataset, tmp_path: Path) -> None:
    first, *shared = option.split()
    losses = []
    for name, words in (("option", [first, *shared]), ("reference", shared)):
        if "model.layers" in option and name == "reference":
            words = []
        train(data, small("best", *words, "train.epochs=2"), tmp_path / name)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append({k: v for k, v in json.loads(lines[-1]).items() if k != "seconds"})
    assert losses[0] != losses[1]
    metrics = evaluate(load_model(tmp_path / "option"), data, "valid")[0].metrics
    assert metrics["ndcg@10"] == pytest.approx(losses[0]["valid"]["ndcg@10"])


def test_users_have_no_vectors_where_nothing_asks_for_them_and_items_start_alike(data: Dataset, tmp_path: Path) -> None:
    sizes = {}
    for name, *settings in (("best",), ("user-term", "model.user_term=true"), ("graph", "model.layers=1")):
        config = small("best", *settings, "train.epochs=1", "model.dim=8")
        sizes[name] = train(data, config, tmp_path / name)["parameters"]
        stored = weights(tmp_path / name)
        users = 0 if name == "best" else data.n_users
        assert stored["parameters/user_embedding"].shape == (1, users, 8)
        assert stored["vectors/users"].shape == (users, 8)
        assert (evaluate(load_model(tmp_path / name), data, "valid")[0].metrics["ndcg@10"]) > 0
    assert sizes["best"] + 8 * data.n_users == sizes["user-term"] == sizes["graph"]
    started = []
    for settings in ((), ("model.user_term=true",)):
        config = small("best", *settings)
        generator = torch.Generator().manual_seed(3)
        model = SelfGNN(config.model, config.ssl, data.n_users, data.n_items, generator, config.transitions)
        started.append(dict(model.named_parameters()))
    assert all(torch.equal(one, started[1][name]) for name, one in started[0].items() if name != "user_embedding")


def test_best_trains_with_the_activation_that_it_scores_with(data: Dataset, tmp_path: Path) -> None:
    found = []
    for name in ("none", "leaky"):
        train(data, small("best", f"model.sequence_activation={name}", "train.epochs=1"), tmp_path / name)
        found.append(json.loads((tmp_path / name / "metrics.jsonl").read_text("utf-8").splitlines()[0])["loss_rec"])
    assert found[0] != found[1]


def test_resuming_a_finished_run_changes_nothing(data: Dataset, tmp_path: Path) -> None:
    first = train(data, small(), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert train(data, small(), tmp_path / "run", resume=True) == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_a_full_disk_is_one_sentence_and_leaves_no_file(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("IoError(Os { code: 28, ... })")):
        with pytest.raises(HardGNNError, match="no space left"), atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise error
    assert list(tmp_path.iterdir()) == []
