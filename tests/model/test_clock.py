"""Popularity as of the moment of asking, against sums over single events; nothing later counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import random_dataset, tiny_dataset
from hardgnn.config import resolve
from hardgnn.data.dataset import TEST, TRAIN, VALID, Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import informed, rank_targets
from hardgnn.evaluation.quality import baseline
from hardgnn.models import clock
from hardgnn.models.clock import Clock, ClockScores, ClockSettings
from hardgnn.models.past import DAY, Past
from hardgnn.models.popularity import DecayedPopularity
from hardgnn.models.transformer import Transformer
from hardgnn.recommend.recommender import Recommender
from hardgnn.runs.memory import fit
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.training.objectives.next_item import NextItem, NextItemSettings

FEW = ["train.epochs=2", "model.dim=8", "train.eval_every=1", "run.threads=1"]


def by_days(days: float = 30.0, seed: int = 0, n_users: int = 40, n_items: int = 25) -> Dataset:
    """A data set whose events lie within so many days, split by time."""
    rng = np.random.default_rng(seed)
    data = random_dataset(n_users=n_users, n_items=n_items, seed=seed)
    times = rng.uniform(0, days * DAY, len(data.user))
    times = times[np.lexsort((times, data.user))]  # in order within a user
    cuts = {"valid": 0.6 * days * DAY, "test": 0.8 * days * DAY}
    part = np.select([times >= cuts["test"], times >= cuts["valid"]], [TEST, VALID], TRAIN).astype(np.uint8)
    return replace(data, timestamp=times, part=part, manifest={"name": "days", "cut_times_s": cuts})


def sums(histories: Histories, n_items: int, asked: float, half_life: float, edges: np.ndarray) -> np.ndarray:
    """The decayed counts by single events: one lies at the end of its step, and counts if the step is over."""
    found = np.zeros(n_items)
    now = max((edge for edge in edges if edge < asked), default=None)
    for item, time in zip(histories.items, histories.times):
        end = min(edge for edge in edges if edge >= time)
        if end < asked:
            found[item] += 2.0 ** (-(now - end) / DAY / half_life)
    return found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), bins=st.integers(2, 40), share=st.floats(-0.1, 1.1))
def test_the_term_is_that_of_single_events(seed: int, bins: int, share: float) -> None:
    data = by_days(seed=seed)
    past = Past.of(data.train, data.n_items, bins)
    module = Clock(ClockSettings(terms=2, shortest=2.0, longest=9.0))
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.7, -0.3]))
        module.log_base.copy_(torch.tensor([0.2, -0.5]))
    asked = share * 30 * DAY
    histories = replace(data.train.take(np.array([0, 1])), asked=np.array([asked, asked]))
    with patch.object(clock, "ITEMS_TOGETHER", 5):
        table, moment = ClockScores(module, past).moments(histories)
    found = table[moment].numpy()
    expected = sum(
        weight * np.log1p(sums(data.train, data.n_items, asked, half_life, past.edges) / np.exp(base))
        for weight, half_life, base in [(0.7, 2.0, 0.2), (-0.3, 9.0, -0.5)]
    )
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)


def test_what_happens_at_the_moment_or_later_does_not_count() -> None:
    data = by_days()
    past = Past.of(data.everything, data.n_items, 1000)  # a step for each event
    moment = float(np.sort(data.timestamp)[50])
    reading = past.readings(np.array([moment]))
    known = past.counts[: int(reading[0])].sum(0)
    np.testing.assert_array_equal(known, np.bincount(data.item[data.timestamp < moment], minlength=data.n_items))


def test_nobody_is_asked_when_the_next_item_came() -> None:
    data = by_days()
    at_once = data.before(TEST)
    assert set(at_once.asked) == {data.manifest["cut_times_s"]["test"]}
    assert at_once.times.max() < at_once.asked.min()
    own = random_dataset()  # leave-one-out
    known = own.before(TEST)
    last = [known.times[end - 1] for end in known.offsets[1:]]
    np.testing.assert_array_equal(known.asked, last)
    assert own.everything.asked is None


def objective_of(data: Dataset, **changed: object) -> NextItem:
    config = resolve("best", settings=[*FEW, "model.dropout=0", "sampler.candidates=10", "hard.weight=0"])
    network = Transformer.build(config.model, data, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert network.clock is not None
        network.clock.weight.copy_(torch.linspace(0.3, 1.0, len(network.clock.weight)))
    assert isinstance(config.objective, NextItemSettings)
    return NextItem(config.objective, network, data)


def test_training_adds_what_scoring_adds() -> None:
    data = by_days()
    objective = objective_of(data)
    for batch in objective.batches(np.random.default_rng(0)):
        assert batch.asked is not None
        step = objective.step(batch, None)
        added, row = step.scores.moment
        network = objective.network
        scores = ClockScores(network.clock, network.past)
        asked = batch.asked.ravel()[(batch.windows != -1).ravel()]
        nobody = Histories(np.zeros(len(asked) + 1, np.int64), np.empty(0, np.int32), asked=asked)
        table, moment = scores.moments(nobody)
        everything = table[moment]
        torch.testing.assert_close(added[row], everything[:, batch.candidates])
        positive, _ = objective._moments(batch, np.flatnonzero((batch.windows != -1).ravel()))
        targets = batch.targets[batch.windows != -1]
        torch.testing.assert_close(positive, everything[torch.arange(len(asked)), torch.from_numpy(targets)])


def test_the_moment_lies_between_the_last_item_and_the_next() -> None:
    data = by_days()
    objective = objective_of(data)
    times = {(user, item): time for user, item, time in zip(data.user, data.item, data.timestamp)}
    for batch in objective.batches(np.random.default_rng(0)):
        for user, window, targets, asked in zip(batch.users, batch.windows, batch.targets, batch.asked):
            for before, after, moment in zip(window, targets, asked):
                if before >= 0:
                    assert times[user, before] <= moment <= times[user, after]


def test_fast_and_reference_losses_agree_on_the_clock() -> None:
    from hardgnn.ops.candidates import _reference_softmax, sampled_softmax

    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(*shape, generator=generator) for shape in [(50, 4), (7, 4), (7,), (50,), (3, 7)]]
    own, owner = torch.rand(5, 7, generator=generator) < 0.3, torch.randint(5, (50,), generator=generator)
    row = torch.randint(3, (50,), generator=generator)
    gradients = []
    for function in (sampled_softmax, _reference_softmax):
        leaves = [part.clone().requires_grad_() for part in parts]
        function(*leaves[:4], own, owner, None, (leaves[4], row)).backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*gradients)


def test_a_run_keeps_its_clock(tmp_path: Path) -> None:
    data = by_days()
    train(data, resolve("best", settings=FEW), tmp_path / "run")
    kept = load_model(tmp_path / "run")
    assert kept.clock is not None
    fitted = fit(data, resolve("best", settings=FEW)).model
    users = np.arange(data.n_users)
    for histories in (data.train, data.before(TEST), data.everything):
        mine, theirs = (informed(model, histories).scores(users, histories) for model in (fitted, kept))
        np.testing.assert_array_equal(mine, theirs)
    later = informed(kept, data.before(TEST)).clock.past
    assert later.counts.sum() == (data.part < TEST).sum()  # at test time it has counted the validation part
    recommended = Recommender(tmp_path / "run").for_users(data.user_ids[0], 3)
    alone = informed(kept, data.everything).scores(np.array([0]), data.everything.take(np.array([0])))[0]
    np.testing.assert_allclose(recommended["score"], np.sort(alone[unseen(data, alone)])[::-1][:3], rtol=1e-5)


def unseen(data: Dataset, scores: np.ndarray) -> np.ndarray:
    allowed = data.train.item_counts(data.n_items) > 0
    allowed[data.everything.of(0)] = False
    return allowed


def test_a_log_that_is_only_an_order_has_no_clock(tmp_path: Path) -> None:
    data = random_dataset()
    orderly = replace(data, manifest=data.manifest | {"read": {"time_unit": "order, small numbers"}})
    with pytest.warns(UserWarning, match="only an order"):
        train(orderly, resolve("best", settings=FEW), tmp_path / "run")
    assert load_model(tmp_path / "run").clock is None
    without = fit(orderly, resolve("best", settings=[*FEW, "clock.use=false"])).model
    everybody = np.arange(orderly.n_users)
    np.testing.assert_array_equal(
        load_model(tmp_path / "run").scores(everybody, orderly.train), without.scores(everybody, orderly.train)
    )
    with pytest.raises(HardGNNError, match="only an order"):
        baseline("decayed-popularity", orderly)


def trending() -> Dataset:
    """Item 0 was everybody's long ago, item 1 is everybody's now; each user asks for what is new."""
    sequences = [[0, 2 + user % 3, 5 + user % 4] for user in range(30)] + [
        [9, 2 + user % 3, 1, 1] for user in range(20)
    ]
    data = tiny_dataset(sequences, 12)
    times = np.where(data.item == 1, 99.0, np.where(data.item == 0, 0.0, 50.0)) * DAY
    part = np.where(data.item == 1, np.where(np.arange(len(data.item)) % 4 == 3, TEST, TRAIN), TRAIN).astype(np.uint8)
    return replace(data, timestamp=times, part=part, manifest={"name": "t", "cut_times_s": {"valid": 9e9, "test": 9e9}})


def test_decayed_popularity_knows_what_is_new() -> None:
    data = trending()
    lately = DecayedPopularity.fit(data, DecayedPopularity.Settings(kind="decayed-popularity", half_life=5.0), None)
    ever = DecayedPopularity.fit(data, DecayedPopularity.Settings(kind="decayed-popularity", half_life=0.0), None)
    asked = replace(data.train.take(np.array([0])), asked=None)
    assert lately.scores(None, asked)[0].argmax() == 1
    np.testing.assert_array_equal(ever.scores(None, asked)[0], data.train.item_counts(12))
    long_ago = replace(asked, asked=np.array([30 * DAY]))
    assert lately.scores(None, long_ago)[0].argmax() == 0


def test_decayed_popularity_chooses_its_half_life_and_is_ranked() -> None:
    data = by_days(n_users=60)
    found = baseline("decayed-popularity", data)
    assert found.chosen["half_life"] == found.half_life
    assert len(rank_targets(found, data, "test")) == len(data.targets(TEST)[0])
    again = DecayedPopularity.restore(found.Settings(kind="decayed-popularity"), found.tensors())
    everybody = data.before(TEST)
    np.testing.assert_array_equal(
        again.knowing(everybody).scores(None, everybody), found.knowing(everybody).scores(None, everybody)
    )


@pytest.mark.parametrize("days", [1e5, 1e12])
def test_nothing_later_counts_however_long_the_half_life(days: float) -> None:
    data = by_days()
    past = Past.of(data.train, data.n_items, 16)
    assert not DecayedPopularity(past, days, 16)._table(np.array([0])).any()
    module = Clock(ClockSettings(terms=1))
    with torch.no_grad():
        module.log_half_life.fill_(float(np.log(days)))
    assert not module.kernel(torch.from_numpy(past.ages(np.array([0])))).any()
