"""The released code's behaviour, the papers' settings and their figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hardgnn.config import leaks, resolve
from hardgnn.errors import HardGNNError
from hardgnn.models.network import Seen
from hardgnn.models.selfgnn.intervals import IntervalEncoder
from hardgnn.models.selfgnn.network import SelfGNN
from hardgnn.models.selfgnn.settings import SelfGNNSettings
from hardgnn.report import published
from hardgnn.training.losses import info_nce
from hardgnn.training.objectives.pairwise import Batch, in_place_of_first, mean_of_last

PUBLISHED = Path(__file__).parents[2] / "shared" / "published.json"


def test_hard_negatives_take_the_place_of_each_users_first_pairs() -> None:
    rows = np.array([0, 0, 0, 1, 2, 2])
    empty = np.empty(0, np.int64)
    batch = Batch(np.arange(3), empty, empty, rows, np.array([1, 2, 3, 4, 5, 6]))
    hard = np.array([[10, 11], [20, 21], [30, 31]])
    valid = np.array([[True, True], [True, True], [True, False]])
    assert in_place_of_first(batch, hard, valid).tolist() == [10, 11, 3, 20, 30, 6]
    assert batch.negatives.tolist() == [1, 2, 3, 4, 5, 6]


def test_the_mean_of_the_last_items_leaves_padding_out() -> None:
    items = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]])
    assert mean_of_last(items, torch.tensor([[-1, 0, 1], [2, 2, 2]])).tolist() == [[2.0, 1.0], [5.0, 4.0]]


def test_shared_negatives_count_an_anchor_once_per_pair() -> None:
    rng = np.random.default_rng(0)
    anchor, positive, shared = (torch.tensor(rng.normal(size=size)) for size in ((3, 4), (3, 4), (5, 4)))
    rows = [0, 0, 0, 1, 2, 2]
    by_pair = info_nce(anchor[rows], positive[rows], shared.expand(6, 5, 4), 0.2)
    by_user = info_nce(anchor, positive, shared[None], 0.2, counts=torch.tensor([3, 1, 2]))
    assert by_user.item() == pytest.approx(by_pair.item())


def test_the_norm_over_states_takes_mean_and_variance_of_a_node() -> None:
    torch.manual_seed(0)
    encoder = IntervalEncoder(
        SelfGNNSettings(kind="selfgnn", dim=4, heads=2, intervals=3, interval_norm="states", norm_epsilon=1e-12)
    )
    inputs = torch.randn(3, 5, 4)
    hidden = encoder.recurrent(inputs)[0]  # (T, N, d)
    normal = torch.stack([(node - node.mean()) / node.std(correction=0) for node in hidden.unbind(1)])
    torch.testing.assert_close(encoder(inputs), encoder.attention(normal).mean(1), atol=1e-5, rtol=0)


def test_the_forget_bias_is_that_of_one_gate() -> None:
    settings = SelfGNNSettings(kind="selfgnn", dim=4, heads=2, intervals=3, interval_encoder="lstm", forget_bias=1.0)
    model = SelfGNN(settings, 5, 6, Seen())
    model.initialise(torch.Generator().manual_seed(0))
    bias = model.item_encoder.recurrent.get_parameter("bias_ih_l0")
    assert bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8  # torch's order of gates: input, forget, cell, output
    assert not model.item_encoder.recurrent.get_parameter("bias_hh_l0").any()


def test_released_leaks_twice_and_the_other_presets_never() -> None:
    assert len(leaks(resolve("released"))) == 2
    honest = ["sampler.avoid=train", "train.choose_on=valid"]
    assert leaks(resolve("released", settings=honest)) == []
    for preset in ("selfgnn", "hardgnn", "paper", "amazon", "gowalla", "movielens", "yelp"):
        assert leaks(resolve(preset)) == []


def test_stacked_presets_put_the_later_over_the_earlier() -> None:
    stacked, below = resolve("released+gowalla"), resolve("gowalla")
    assert stacked.model.encoder.kind == "pooled"
    assert (stacked.model.intervals, stacked.train.lr, stacked.objective.hard.weight) == (3, 0.002, 0.2)
    assert below.model.encoder.kind == "attention"
    with pytest.raises(HardGNNError, match="did you mean 'gowalla'"):
        resolve("released+gowala")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="no ../shared beside this checkout")
@pytest.mark.parametrize("name", ["amazon", "gowalla", "movielens", "yelp"])
def test_the_data_sets_presets_are_the_published_settings(name: str) -> None:
    document = json.loads(PUBLISHED.read_text())
    theirs, common = document["released_settings"][name], document["released_common"]
    ours = resolve(name)
    assert ours.model.intervals == theirs["intervals"]
    assert ours.model.layers == theirs["gnn_layers"]
    assert ours.model.encoder.layers == theirs["att_layers"]
    assert ours.model.window == theirs["pos_length"]
    assert ours.model.dropout == 1 - theirs["keep_rate"]
    assert (ours.model.dim, ours.model.heads) == (common["embedding"], common["heads"])
    assert ours.model.leaky_slope == common["leaky"]
    assert (ours.model.ssl.weight, ours.model.ssl.pairs, ours.model.ssl.dim) == (
        theirs["ssl_reg"],
        theirs["ssl_num"],
        theirs["ssl_dim"],
    )
    objective = ours.objective
    assert (ours.train.lr, ours.train.optimiser.l2) == (theirs["lr"], theirs["reg"])
    assert (objective.batch_users, objective.pred_num) == (theirs["batch"], theirs["pred_num"])
    assert objective.pairs_per_user == theirs["samp_num"]
    assert (ours.train.lr_decay, objective.users_per_epoch) == (
        common["lr_decay_per_epoch"],
        common["users_per_epoch"],
    )
    assert (ours.train.epochs, ours.train.eval_every) == (common["epochs"], common["eval_every"])
    assert objective.hard.temperature == theirs["temp"]
    best = document["hardgnn_best"].get(name, {"k": 0, "lambda": 0})
    assert (objective.hard.k, objective.hard.weight) == (best["k"], best["lambda"])


@pytest.mark.skipif(not PUBLISHED.exists(), reason="no ../shared beside this checkout")
def test_the_published_figures_are_those_of_the_papers() -> None:
    document = json.loads(PUBLISHED.read_text())
    rows = {(row.source, row.model): row.metrics for row in published.record("gowalla").rows}
    for source in ("selfgnn_paper", "hardgnn_seed", "selfgnnplus"):
        for model, by_dataset in document[source].items():
            if "gowalla" in by_dataset:
                assert rows[published.SOURCES[source], model] == by_dataset["gowalla"]
    assert rows[published.SOURCES["hardgnn_pos_length_50"], "HardGNN"] == document["hardgnn_pos_length_50"]["gowalla"]
    with pytest.raises(HardGNNError, match="did you mean 'gowalla'"):
        published.record("gowala")


def test_the_full_ranking_tables_are_there_with_their_sources_and_the_size_of_the_log() -> None:
    beauty = published.record("beauty")
    assert beauty.protocol == "full"
    assert beauty.rows[0].metrics == {"hr@10": 0.1041, "ndcg@10": 0.0614}  # the strongest first
    assert {row.source for row in (*beauty.rows, *beauty.near)} == set(beauty.sources)
    assert beauty.differs({"users": 22363, "items": 12101, "interactions": 198502}) == ""
    assert beauty.differs({"users": 943, "items": 12101}) == "943 users instead of 22,363"
    assert {"beauty", "toys", "lastfm", "ml-1m", "amazon", "gowalla"} <= set(published.names())
