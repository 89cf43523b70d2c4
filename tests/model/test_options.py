"""Each option does what it says, against a small computation or a count."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from factories import random_dataset
from hardgnn.config import Config, resolve
from hardgnn.data.dataset import Dataset
from hardgnn.models.network import Network
from hardgnn.models.selfgnn.network import build_graph
from hardgnn.ops.graph import propagate
from hardgnn.parts import MODELS, OBJECTIVES
from hardgnn.training.objectives import next_item, pairwise
from hardgnn.training.optimiser import optimiser_of

SMALL = ("model.dim=8", "model.heads=2", "model.intervals=2", "model.layers=2", "model.dropout=0", "ssl.weight=0.1")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return random_dataset(n_users=20, n_items=25, seed=4)


def config_of(*words: str, preset: str = "hardgnn") -> Config:
    return resolve(preset, settings=[*(SMALL if preset == "hardgnn" else ("model.dim=8",)), *words])


def network_of(data: Dataset, *words: str, preset: str = "hardgnn") -> Any:
    config = config_of(*words, preset=preset)
    network: Network = MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0))
    return network


def asked(data: Dataset, *words: str, preset: str = "hardgnn") -> Any:
    config = config_of(*words, preset=preset)
    return OBJECTIVES.find(config.objective.kind)(config.objective, network_of(data, *words, preset=preset), data)


def test_layers_side_by_side_are_projected_back(data: Dataset) -> None:
    network = network_of(data, "model.layer_combination=concat")
    short = network.short_term()
    tables = network.user_embedding.flatten(0, 1), network.item_embedding.flatten(0, 1)
    users, items = propagate(network.graph.matrices(), *tables, 2, network.settings.leaky_slope)
    expected = torch.cat(users[1:], -1) @ network.combine_users.weight.T
    torch.testing.assert_close(short.users.flatten(0, 1), expected)
    torch.testing.assert_close(short.items.flatten(0, 1), torch.cat(items[1:], -1) @ network.combine_items.weight.T)


def test_without_layers_the_short_term_is_the_tables(data: Dataset) -> None:
    network = network_of(data, "model.layers=0")
    assert torch.equal(network.short_term().users, network.user_embedding)
    assert torch.equal(network.short_term().items, network.item_embedding)


@pytest.mark.parametrize(("pooling", "times"), [("mean", 0.5), ("sum", 1.0)])
def test_without_an_interval_encoder_the_intervals_are_pooled(data: Dataset, pooling: str, times: float) -> None:
    network = network_of(data, "model.interval_encoder=sum", f"model.interval_pooling={pooling}")
    found = network.vectors()
    torch.testing.assert_close(found.users, found.short.users.sum(0) * times)
    torch.testing.assert_close(found.items, found.short.items.sum(0) * times)


def test_a_sum_over_intervals_is_so_many_times_the_mean(data: Dataset) -> None:
    mean, total = (network_of(data, f"model.interval_pooling={one}").vectors().items for one in ("mean", "sum"))
    torch.testing.assert_close(total, 2 * mean)


def test_a_shared_recurrent_network_is_one(data: Dataset) -> None:
    shared, own = (network_of(data, f"model.interval_sharing={one}") for one in ("shared", "own"))
    assert shared.user_encoder.recurrent is shared.item_encoder.recurrent
    assert own.user_encoder.recurrent is not own.item_encoder.recurrent
    sizes = [sum(one.numel() for one in network.parameters()) for network in (shared, own)]
    assert sizes[1] - sizes[0] == sum(one.numel() for one in own.user_encoder.recurrent.parameters())


def test_intervals_of_equal_count_have_equally_many_edges(data: Dataset) -> None:
    edges = {}
    for cut in ("width", "count"):
        settings = config_of(f"model.interval_cut={cut}", "model.intervals=4").model
        offsets = build_graph(data, settings).rows[0].numpy()
        edges[cut] = np.diff(offsets[:: data.n_users])
    assert edges["count"].sum() == len(data.train.items)
    assert np.ptp(edges["count"]) <= 1 < np.ptp(edges["width"])


@pytest.mark.parametrize("activation", ["leaky", "none"])
@pytest.mark.parametrize("user_term", ["true", "false"])
def test_the_score_is_the_product_that_it_says_and_training_scores_alike(
    data: Dataset, activation: str, user_term: str
) -> None:
    words = (f"model.sequence_activation={activation}", f"model.user_term={user_term}", "hard.weight=0")
    objective = asked(data, *words)
    batch = objective.batch(np.arange(3), np.random.default_rng(0))
    step = objective.step(batch, None)
    network = objective.network
    vectors = network.vectors()
    sequence = network.sequence(vectors.items, torch.from_numpy(batch.windows))
    if activation == "leaky":
        sequence = torch.where(sequence > 0, sequence, sequence * network.settings.leaky_slope)
    query = sequence + (vectors.users[:3] if user_term == "true" else 0)
    torch.testing.assert_close(step.query, query)
    histories = type(data.train).from_lists([row[row >= 0].tolist() for row in batch.windows])
    found = network.fitted("x").scores(np.arange(3), histories)
    np.testing.assert_allclose(found, (query @ vectors.items.T).detach(), atol=1e-5)


def test_without_an_encoder_the_score_is_the_users_own_vectors(data: Dataset) -> None:
    network = network_of(data, "encoder.kind=none")
    vectors, model = network.vectors(), network.fitted("x")
    learnt = np.flatnonzero(data.train.lengths)
    found = model.scores(learnt, data.everything.take(learnt))
    np.testing.assert_allclose(found, (vectors.users[learnt] @ vectors.items.T).detach(), atol=1e-5)
    assert not model.abilities.histories


def test_without_its_weight_there_is_no_self_augmented_loss(data: Dataset) -> None:
    on, off = asked(data), asked(data, "ssl.weight=0")
    assert [term.name for term in on.terms] == ["rec", "ssl", "infonce"]
    assert [term.name for term in off.terms] == ["rec", "infonce"]
    assert not any(name.startswith("weight_") for name, _ in off.network.named_parameters())


def test_summed_inputs_of_the_user_weight_cannot_be_told_apart(data: Dataset) -> None:
    network = network_of(data, "ssl.user_weight=sum")
    long, short = torch.randn(2, 3, 8)
    torch.testing.assert_close(network.user_weight(long, short), network.user_weight(short, long))
    assert network.weight_hidden.in_features == 8


def test_interleaved_edges_stay_in_the_order_of_users(data: Dataset) -> None:
    users = np.arange(data.n_users)
    for pairing, sorted_ in (("interleaved", True), ("random", False)):
        edges = network_of(data, f"ssl.pairing={pairing}").auxiliary.draw(users, np.random.default_rng(0))
        assert all((np.diff(owners) >= 0).all() == sorted_ for owners, _ in edges)
        for owners, items in edges:
            assert len(owners) % 2 == 0
            assert all(item in data.train.of(user) for user, item in zip(owners, items))


@pytest.mark.parametrize("rank_by", ["user", "positive"])
def test_hard_negatives_are_the_nearest_to_what_they_are_ranked_by(data: Dataset, rank_by: str) -> None:
    objective = asked(data, f"hard.rank_by={rank_by}", "hard.k=3")
    objective.new_epoch()
    batch = objective.batch(np.arange(5), np.random.default_rng(0))
    step = objective.step(batch, None)
    items = objective.network.vectors().items.detach()
    query = items[batch.positives] if rank_by == "positive" else step.sequence
    cosine = torch.nn.functional.normalize(query, dim=-1) @ torch.nn.functional.normalize(items, dim=-1).T
    for user in range(5):
        cosine[user, data.train.of(user)] = -torch.inf
        expected = items[cosine[user].topk(3).indices]
        torch.testing.assert_close(step.near[user], expected)


@pytest.mark.parametrize("used_in", ["hinge", "none"])
def test_negatives_of_the_contrast_may_be_shared_by_all(
    data: Dataset, used_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    real = pairwise.info_nce

    def info_nce(anchor: torch.Tensor, positive: torch.Tensor, negatives: torch.Tensor, *rest: Any, **more: Any) -> Any:
        shapes.append(tuple(negatives.shape))
        return real(anchor, positive, negatives, *rest, **more)

    monkeypatch.setattr(pairwise, "info_nce", info_nce)
    objective = asked(data, f"hard.used_in={used_in}", "hard.shared_negatives=3", "hard.k=2")
    objective.new_epoch()
    batch = objective.batch(np.arange(6), np.random.default_rng(0))
    step = objective.step(batch, None)
    assert step.near is None
    assert (step.batch.negatives != batch.negatives).any() == (used_in == "hinge")
    objective.losses(batch, torch.Generator().manual_seed(0))
    assert shapes == [(1, 3, 8)]


def test_a_sum_over_pairs_is_so_many_times_their_mean(data: Dataset) -> None:
    found = {}
    for reduction in ("mean", "sum"):
        objective = asked(data, f"loss.reduction={reduction}", "hard.weight=0")
        batch = objective.batch(np.arange(6), np.random.default_rng(0))
        found[reduction] = objective.losses(batch, None)["rec"][1].item()
    assert found["sum"] == pytest.approx(found["mean"] * len(batch.rows), rel=1e-5)


@pytest.mark.parametrize("over", ["embeddings", "all"])
def test_the_l2_term_covers_what_it_says(data: Dataset, over: str) -> None:
    words = (f"optimiser.l2_over={over}", "optimiser.l2=0.25")
    network = network_of(data, *words)
    groups = optimiser_of(network, config_of(*words).train).param_groups
    decay = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
    decayed = {name for name, parameter in network.named_parameters() if decay[id(parameter)] == 2 * 0.25}
    every = {name for name, _ in network.named_parameters()}
    tables = {"user_embedding", "item_embedding", "sequence_encoder.positions"}
    assert decayed == (every if over == "all" else {*tables, "weight_hidden.weight", "weight_out.weight"})
    assert set(decay.values()) <= {0.0, 0.5}


def test_the_transitions_start_where_they_are_told_and_take_longer_steps(data: Dataset) -> None:
    first = {"forward": 0.1, "decay": 0.5, "epsilon": 0.3, "popularity": 0.0}
    words = [f"transitions.{name}={value}" for name, value in first.items()] + ["transitions.rate=7"]
    network = network_of(data, *words, preset="best")
    module = network.transitions
    assert module.forward_weight == pytest.approx(0.1)
    assert float(module.log_epsilon.detach().exp()) == pytest.approx(0.3)
    assert float(torch.sigmoid(module.decay_logit.detach())) == pytest.approx(0.5)
    assert module.popularity.item() == 0
    groups = optimiser_of(network, config_of(*words, preset="best").train).param_groups
    rates = {id(one): (group["rate"], group["weight_decay"]) for group in groups for one in group["params"]}
    assert {rates[id(one)] for one in module.parameters()} == {(7.0, 0.0)}
    assert rates[id(network.item_embedding)] == (1.0, 1.0)


def test_windows_may_all_end_with_the_last_training_item() -> None:
    data = random_dataset(n_users=40, n_items=40, seed=1)
    ends = {}
    for share in (1.0, 0.0):
        objective = asked(data, f"objective.recent_share={share}", "model.window=3", preset="best")
        batches = [one for seed in range(4) for one in objective.batches(np.random.default_rng(seed))]
        last = [data.train.of(user)[-1] for batch in batches for user in batch.users]
        ends[share] = np.mean(np.concatenate([batch.targets[:, -1] for batch in batches]) == last)
    assert ends[1.0] == 1 > ends[0.0]


def test_the_contrast_has_as_many_hard_negatives_as_asked_and_none_without_weight(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = []
    real = next_item.contrast
    monkeypatch.setattr(
        next_item, "contrast", lambda near, far, t: (widths.append(far.shape[1]), real(near, far, t))[1]
    )
    for words in (("hard.k=1",), ("hard.k=4",), ("hard.weight=0",)):
        objective = asked(data, *words, "hard.share=1", preset="best")
        batch = next(objective.batches(np.random.default_rng(0)))
        terms = objective.losses(batch, torch.Generator().manual_seed(0))
        assert ("infonce" in terms) == (words != ("hard.weight=0",))
    assert widths == [1, 4]


def test_optimisers_are_those_of_torch_without_its_compiler() -> None:
    """In a process of its own: another test may have loaded the compiler."""
    code = """
import sys, torch
from hardgnn.training import adam
found = []
for kind, other in ((adam.Adam, torch.optim.Adam), (adam.AdamW, torch.optim.AdamW)):
    both = []
    for one in (kind, other):
        parameter = torch.nn.Parameter(torch.ones(3, 2))
        optimiser = one([parameter], lr=0.1, weight_decay=0.1)
        for step in range(3):
            parameter.grad = torch.arange(6.0).view(3, 2) - step
            optimiser.step()
            optimiser.load_state_dict(optimiser.state_dict())
        optimiser.zero_grad()
        assert parameter.grad is None
        both.append(parameter.detach())
        assert ("torch._dynamo" in sys.modules) == bool(found or one is other)
    found.append(torch.equal(*both))
print(found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[True,", "True]"]
