"""Training: determinism, resuming, no leaks, HardGNN without its parts is SelfGNN, and it learns."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from factories import StopAfter
from hardgnn.config import Config, resolve
from hardgnn.data.dataset import TEST, TRAIN, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import evaluate
from hardgnn.evaluation.quality import baseline
from hardgnn.runs.folder import load_config
from hardgnn.runs.memory import fit
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.storage.files import atomic_path
from hardgnn.training.callbacks import Callback

SMALL = [
    "model.dim=16",
    "model.heads=2",
    "model.intervals=3",
    "model.layers=1",
    "model.window=20",
    "encoder.layers=1",
    "ssl.pairs=4",
    "objective.batch_users=64",
    "objective.pairs_per_user=8",
    "train.eval_every=1",
    "train.epochs=3",
    "train.lr=0.005",
]


SMALL_BEST = ["model.dim=16", "objective.batch_positions=256", "sampler.candidates=32", "hard.k=4"]
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
    dropped = "model.dropout=0.2" if preset == "best" else "model.edge_dropout=0.2"
    config = small(preset, dropped)
    for name in ("one", "two"):
        train(data, config, tmp_path / name)
    train(data, small(preset, dropped, "run.seed=1"), tmp_path / "three")
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
    with pytest.raises(KeyboardInterrupt):
        train(data, config, tmp_path / "cut", callbacks=[StopAfter(2)])
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 2
    train(data, config, tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    lines = [
        [json.loads(line) | {"seconds": 0} for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("positions", [256, 1_000_000])
def test_the_model_kept_is_the_average_over_epochs_however_many_steps_they_have(positions: int, data: Dataset) -> None:
    steps: list[dict[str, torch.Tensor]] = []

    class Watch(Callback):
        def updated(self) -> None:
            self.trainer.settle()
            steps.append({name: value.detach().clone() for name, value in self.trainer.network.named_parameters()})

    words = (f"objective.batch_positions={positions}", "train.average_epochs=2.5", "train.eval_every=3")
    kept = fit(data, small("best", *words), callbacks=[Watch()]).model
    past = 1 - 1 / (2.5 * len(steps) / 3)
    assert (len(steps) == 3) == (positions == 1_000_000)
    for name in ("item_embedding", "transitions.popularity", "transitions.strength"):
        expected = steps[0][name]
        for step in steps[1:]:
            expected = past * expected + (1 - past) * step[name]
        torch.testing.assert_close(kept.tensors()[f"parameters/{name}"], expected)
        assert not torch.equal(steps[-1][name], expected)


def test_an_epoch_lost_after_its_model_was_written_is_done_again(data: Dataset, tmp_path: Path) -> None:
    """A kill between the best model and the checkpoint leaves the newer model beside the older checkpoint."""
    config = small()
    train(data, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(data, config, tmp_path / "cut", callbacks=[StopAfter(1)])
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
    with pytest.raises(HardGNNError, match=r"avoid.*test part.*allow_leaks=True"):
        train(data, small("released"), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    item = data.item.copy()
    item[data.part == TEST] = (item[data.part == TEST] + 1) % data.n_items
    changed = replace(data, item=item)
    for name, one in (("as it is", data), ("changed", changed)):
        result = train(one, small("released", "train.choose_on=valid"), tmp_path / name, allow_leaks=True)
        assert len(result.leaks) == 1
        assert "validation and test items" in result.leaks[0]
    assert not same(weights(tmp_path / "as it is"), weights(tmp_path / "changed"))
    result = train(data, small("selfgnn", "train.choose_on=test"), tmp_path / "chosen", allow_leaks=True)
    assert result.chosen_by.startswith("ndcg@10 on test")
    lines = [json.loads(line) for line in (tmp_path / "chosen" / "metrics.jsonl").read_text().splitlines()]
    assert result.best_epoch == max(lines, key=lambda line: line["test"]["ndcg@10"])["epoch"]
    assert result.leaks == ("the epoch is chosen on the test part (train.choose_on=test)",)


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
    longer = (
        "train.epochs=40",
        "train.eval_every=4",
        *(() if preset == "best" else ("objective.pred_num=20", "optimiser.l2=0.0001")),
    )
    config = small(preset, *longer)
    train(data, config, tmp_path / "run")
    learned = evaluate(load_model(tmp_path / "run"), data, "test")[0].metrics["hr@10"]
    floor = evaluate(baseline("popularity", data), data, "test")[0].metrics["hr@10"]
    assert learned > 1.5 * floor


def test_early_stopping_keeps_the_best_epoch(data: Dataset, tmp_path: Path) -> None:
    config = small("selfgnn", "train.epochs=40", "train.patience=2", "train.lr=0.05")
    result = train(data, config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid"]["ndcg@10"])
    assert result.best_epoch == best["epoch"]
    assert result.epochs < 40
    again = evaluate(load_model(tmp_path / "run"), data, "valid")[0].metrics["ndcg@10"]
    assert again == pytest.approx(best["valid"]["ndcg@10"])


def test_a_run_folder_is_not_mixed_up(data: Dataset, tmp_path: Path) -> None:
    train(data, small(), tmp_path / "run")
    with pytest.raises(HardGNNError, match="resume=True"):
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


BEST_AS_SELFGNN = "model.kind=selfgnn objective.kind=next-item model.intervals=1 model.layers=0 ssl.weight=0 "
BEST_AS_SELFGNN += "model.interval_encoder=sum model.sequence_activation=none model.user_term=false"


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("hardgnn", "model.interval_encoder=lstm model.forget_bias=1.0 model.norm=sym"),
        ("hardgnn", "model.interval_encoder=sum"),
        ("hardgnn", "model.interval_sharing=shared model.layer_combination=concat"),
        ("hardgnn", "model.interval_norm=states model.interval_cut=count"),
        ("hardgnn", "model.attention_projection=false model.layer_norm=false"),
        ("hardgnn", "model.layers=0"),
        ("hardgnn", "encoder.kind=pooled hard.rank_by=positive"),
        ("hardgnn", "encoder.pooling=sum model.sequence_activation=none hard.query=recent"),
        ("hardgnn", "encoder.kind=causal hard.used_in=hinge hard.shared_negatives=3"),
        ("hardgnn", "ssl.weight=0 loss.reduction=sum optimiser.l2_over=all"),
        ("hardgnn", "ssl.user_weight=sum ssl.pairing=interleaved"),
        ("hardgnn", "loss.kind=softmax optimiser.kind=adamw"),
        ("best", "transitions.use=false hard.weight=0"),
        ("best", "transitions.neighbours=3 transitions.steps=1 transitions.backward=0"),
        ("best", "sampler.candidates=100 sampler.popularity=0 hard.share=0.1"),
        ("best", "optimiser.kind=adam optimiser.l2_over=all train.average_epochs=0"),
        ("best", "objective.recent_share=1.0 model.window=10 loss.kind=hinge"),
        ("best", f"{BEST_AS_SELFGNN} model.user_term=true"),
        ("best", f"{BEST_AS_SELFGNN} model.layers=2"),
        ("best", f"{BEST_AS_SELFGNN} model.intervals=3 model.interval_encoder=gru model.layers=1"),
    ],
)
def test_what_any_option_trains_is_kept_whole(preset: str, options: str, data: Dataset, tmp_path: Path) -> None:
    config = small(preset, *options.split(), "train.epochs=1")
    result = train(data, config, tmp_path / "run")
    again = evaluate(load_model(tmp_path / "run"), data, "valid")[0].metrics
    assert again["ndcg@10"] == pytest.approx(result.metrics["ndcg@10"])
    assert load_config(tmp_path / "run") == config


def test_best_is_selfgnn_with_all_of_it_switched_off(data: Dataset) -> None:
    """The transformer is written down apart; number for number it is the other network without its parts."""
    everybody = np.arange(data.n_users)
    found = [
        fit(data, small("best", *words.split(), "train.epochs=2")).model.scores(everybody, data.everything)
        for words in ("", BEST_AS_SELFGNN)
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)  # a table by rows, and one as a whole


def test_users_have_no_vectors_where_nothing_asks_for_them(data: Dataset, tmp_path: Path) -> None:
    sizes = {}
    for name, words in (
        ("alone", BEST_AS_SELFGNN),
        ("user-term", f"{BEST_AS_SELFGNN} model.user_term=true"),
        ("graph", f"{BEST_AS_SELFGNN} model.layers=1"),
    ):
        sizes[name] = train(data, small("best", *words.split(), "train.epochs=1"), tmp_path / name).parameters
        stored, users = weights(tmp_path / name), 0 if name == "alone" else data.n_users
        assert stored["parameters/user_embedding"].shape == (1, users, 16)
        assert stored["vectors/users"].shape == (users, 16)
    assert sizes["alone"] + 16 * data.n_users == sizes["user-term"] == sizes["graph"]


def test_resuming_a_finished_run_changes_nothing(data: Dataset, tmp_path: Path) -> None:
    first = train(data, small(), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    again = train(data, small(), tmp_path / "run", resume=True)
    assert again == first
    assert list(again.metrics) == list(first.metrics)  # tables have the same columns
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_a_full_disk_is_one_sentence_and_leaves_no_file(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("IoError(Os { code: 28, ... })")):
        with pytest.raises(HardGNNError, match="no space left"), atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise error
    assert list(tmp_path.iterdir()) == []
