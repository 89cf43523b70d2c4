"""The objective over all positions: causal encoder, transitions and losses against small computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import random_dataset, tiny_dataset
from hardgnn.config import resolve
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import PADDING, Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.encoders.base import Frame
from hardgnn.models.encoders.causal import CausalEncoder, CausalSettings
from hardgnn.models.similarity import cosine_similarity, forward_similarity
from hardgnn.models.transformer import Transformer
from hardgnn.models.transitions import TransitionGraph, Transitions, TransitionScores, TransitionsSettings, between
from hardgnn.ops.form import asked_for
from hardgnn.ops.scores import Terms
from hardgnn.ops.scores import scores as scores_of
from hardgnn.training import samplers
from hardgnn.training.objectives.next_item import NextItem, NextItemSettings
from hardgnn.training.samplers import (
    SystematicSample,
    WeightedSampler,
    WeightedSettings,
    inclusion_probabilities,
)
from hardgnn.training.windows import Windows

WITHOUT_LIMITS = TransitionsSettings(forward=0.7, steps=3, neighbours=1000)


@pytest.fixture
def encoder() -> CausalEncoder:
    torch.manual_seed(0)
    made = CausalEncoder(CausalSettings(kind="causal", layers=2), Frame(dim=8, window=6, heads=2))
    torch.nn.init.normal_(made.positions)
    return made


def test_a_position_sees_itself_and_what_came_before(encoder: CausalEncoder) -> None:
    items = torch.randn(9, 8)
    window = torch.tensor([[1, 2, 3, 4, 5]])
    before = encoder.every(items, window)
    after = encoder.every(items, torch.tensor([[1, 2, 3, 7, 8]]))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().max() > 0.1
    assert (encoder.every(items, torch.tensor([[6, 2, 3, 4, 5]]))[:, -1] - before[:, -1]).abs().max() > 1e-3


def test_padding_changes_nothing_and_an_empty_window_is_zero(encoder: CausalEncoder) -> None:
    items = torch.randn(9, 8)
    mixed = torch.tensor([[PADDING, PADDING, 1, 2], [3, 4, 5, 6], [PADDING] * 4])
    together = encoder(items, mixed)
    torch.testing.assert_close(together[0], encoder(items, torch.tensor([[1, 2]]))[0])
    torch.testing.assert_close(together[1], encoder.every(items, mixed[1:2])[0, -1])
    assert not together[2].any()


def test_one_layer_against_numpy() -> None:
    torch.manual_seed(1)
    made = CausalEncoder(CausalSettings(kind="causal", layers=1), Frame(dim=4, window=3))
    torch.nn.init.normal_(made.positions)
    items = torch.randn(5, 4)
    found = made.every(items, torch.tensor([[2, 0, 4]]))[0].detach().numpy()
    w = {name: value.detach().numpy() for name, value in made.state_dict().items()}

    def norm(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    x = 2 * items[[2, 0, 4]].numpy() + w["positions"]
    q, k, v = np.split(norm(x) @ w["attentions.0.qkv.weight"].T + w["attentions.0.qkv.bias"], 3, axis=1)
    logits = np.where(np.tri(3, dtype=bool), q @ k.T / 2, -np.inf)
    seen = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) @ v
    x = x + seen @ w["attentions.0.output.weight"].T + w["attentions.0.output.bias"]
    wide = norm(x) @ w["widen.0.weight"].T + w["widen.0.bias"]
    gelu = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    x = x + gelu @ w["narrow.0.weight"].T + w["narrow.0.bias"]
    np.testing.assert_allclose(found, norm(x), atol=1e-5)


def test_attention_is_what_the_last_position_looks_at(encoder: CausalEncoder) -> None:
    items = torch.randn(9, 8)
    window = torch.tensor([[1, 2, 3, 4]])
    weights = encoder.attention(items, window)
    assert weights.shape == (2, 1, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1))


def without_user(data: Dataset, user: int, config: TransitionsSettings = WITHOUT_LIMITS) -> np.ndarray:
    """S counted without one user's sequence, n_i apart, by loops: (I, I)."""
    counts = np.bincount(data.train.items, minlength=data.n_items)
    others = np.maximum(counts - np.bincount(data.train.of(user), minlength=data.n_items), 1)
    total = np.zeros((data.n_items, data.n_items))
    for other in range(data.n_users):
        if other == user:
            continue
        items = data.train.of(other).tolist()
        for a, i in enumerate(items):
            for b, j in enumerate(items):
                if i != j:
                    weight = config.forward * (1 if a < b else config.backward)
                    total[i, j] += 1 + (weight / abs(b - a) if abs(b - a) <= config.steps else 0)
    return total / np.sqrt(np.outer(np.maximum(counts, 1), others))


@given(st.integers(0, 20))
@settings(max_examples=10, deadline=None)
def test_the_next_item_is_reached_without_the_users_own_share(seed: int) -> None:
    """Training must not see in S the very step that it asks for."""
    data = random_dataset(n_users=12, n_items=14, seed=seed)
    lengths = data.train.lengths
    user = int(np.argmax(lengths))
    whole = data.train.of(user).astype(np.int64)[None]
    if whole.shape[1] < 2:
        return
    windows, targets = torch.from_numpy(whole[:, :-1]), torch.from_numpy(whole[:, 1:])
    module = Transitions(WITHOUT_LIMITS)
    graph = TransitionGraph.of(data, WITHOUT_LIMITS)
    matrix = graph.joined(WITHOUT_LIMITS.forward)
    everything = np.arange(data.n_items)
    edges = between(graph.edges, windows, targets.numpy())
    found = module.targets(*edges, graph.counts[windows], graph.counts[targets])[0].detach().numpy()
    stored = without_user(data, user)
    for p in range(windows.shape[1]):
        expected = sum(0.8 ** (p - s) * stored[whole[0, s], whole[0, p + 1]] for s in range(p + 1))
        assert found[p] == pytest.approx(expected, abs=1e-5)
    last = windows.shape[1] - 1
    expected_all = sum(0.8 ** (last - s) * matrix.toarray()[whole[0, s]] for s in range(last + 1))
    for form in ("reference", "torch", "native"):
        with asked_for(form):
            reached = module.reached(graph.edges, everything, windows)[-1].detach().numpy()
        np.testing.assert_allclose(reached, expected_all, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["reference", "torch", "native"])
@pytest.mark.parametrize("copies", [1, 5])  # fewer rows than numbers of a vector, and more
def test_transition_scores_of_whole_histories(copies: int, form: str) -> None:
    data = random_dataset(n_users=8, n_items=13, seed=3)
    matrix = (cosine_similarity(data, None) + 1.0 * forward_similarity(data)).tocsr()
    module = Transitions(TransitionsSettings(epsilon=0.1))
    counts = np.bincount(data.train.items, minlength=13).astype(np.float32)
    scores = TransitionScores(module, matrix, torch.from_numpy(counts), window=2)
    histories = Histories.from_lists([[1, 4, 2], []] * copies)
    queries, items = torch.randn(2 * copies, 3), torch.randn(13, 3)
    with asked_for(form):
        found = scores_of(Terms(queries, items, scores.base(), scores.reach(histories))) - queries @ items.T
    dense, popular = matrix.toarray(), 0.5 * np.log(1 + counts)
    for row in range(0, 2 * copies, 2):
        expected = np.log(0.1 + dense[2] + 0.8 * dense[4]) + popular
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[row + 1], np.log(0.1) + popular, rtol=1e-4, atol=1e-5)


def test_a_history_so_old_that_its_weights_are_nothing() -> None:
    data = random_dataset(n_users=30, n_items=40, seed=3)
    matrix = (cosine_similarity(data, None) + 1.0 * forward_similarity(data)).tocsr()
    module = Transitions(TransitionsSettings(decay=0.05, epsilon=0.1))
    scores = TransitionScores(module, matrix, torch.ones(40), window=200)
    histories = Histories.from_lists([list(range(40)) * 5] * 3)
    found = []
    for form in ("reference", "torch", "native"):
        with asked_for(form):
            terms = Terms(torch.zeros(3, 4), torch.zeros(40, 4), scores.base(), scores.reach(histories))
            found.append(scores_of(terms).numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


@given(seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_edges_between_the_items_of_a_window(seed: int) -> None:
    data = random_dataset(n_users=9, n_items=12, seed=seed)
    graph = TransitionGraph.of(data, TransitionsSettings(neighbours=4, steps=2))
    whole = data.train.windows(np.arange(9), 5)
    windows, targets = whole[:, :-1], whole[:, 1:]
    rows = np.unique(windows[windows != PADDING])
    local = np.where(windows == PADDING, len(rows), np.searchsorted(rows, windows))
    cosine, follows = between(graph.edges[torch.from_numpy(rows)], torch.from_numpy(local), torch.from_numpy(targets))
    near, after = (matrix.toarray() for matrix in graph.edges.matrices)
    assert (near == cosine_similarity(data, 4).toarray()).all()
    assert (after == forward_similarity(data, 2, backward=0.5).toarray()).all()
    for b, p, s in np.ndindex(*cosine.shape):
        known = s <= p and windows[b, s] != PADDING and targets[b, p] != PADDING
        edge = windows[b, s], targets[b, p]
        assert (cosine[b, p, s], follows[b, p, s]) == ((near[edge], after[edge]) if known else (0, 0))


def test_every_user_comes_once_with_the_items_after_each_position() -> None:
    data = random_dataset(n_users=40, n_items=50, seed=1)
    users = np.flatnonzero(data.train.lengths >= 2)
    sampler = WeightedSampler(WeightedSettings(kind="weighted", candidates=7), data)
    source = Windows(data.train, users, 4, 20, 0.5, sampler)
    seen: list[int] = []
    batches = list(source.epoch(np.random.default_rng(0)))
    assert len(batches) == len(source)
    for batch in batches:
        assert len(np.unique(batch.candidates)) == 7
        assert batch.windows.size <= 20 or len(batch.users) == 1
        for user, window, target in zip(batch.users, batch.windows, batch.targets):
            real = window != PADDING
            assert (target[real] != PADDING).all()
            chosen = [*window[real], target[-1]]
            history = data.train.of(user).tolist()
            assert chosen[1:] == target[real].tolist()
            assert any(history[at : at + len(chosen)] == chosen for at in range(len(history)))
        seen += batch.users.tolist()
    assert sorted(seen) == np.flatnonzero(data.train.lengths >= 2).tolist()


@given(
    weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40),
    size=st.integers(1, 50),
)
def test_probabilities_follow_the_weights_and_sum_to_the_number_drawn(weights: list[float], size: int) -> None:
    found = inclusion_probabilities(np.array(weights), size)
    assert found.sum() == pytest.approx(min(size, len(weights)))
    free = found < 1
    ratio = found[free] / np.array(weights)[free]
    np.testing.assert_allclose(ratio, ratio[0] if len(ratio) else 0, rtol=1e-9)
    if len(ratio):  # those that are certain are so because their share would be above 1
        assert (np.array(weights)[~free] * ratio[0] >= 1 - 1e-9).all()


@pytest.mark.parametrize("blocks", [samplers.BLOCKS, 20])
def test_items_are_drawn_as_often_as_asked(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "BLOCKS", blocks)
    rng = np.random.default_rng(0)
    asked = inclusion_probabilities(rng.pareto(1, 50) + 0.1, 12)
    sample = SystematicSample(asked)
    drawn = [sample.draw(rng)[0] for _ in range(4000)]
    assert {len(np.unique(one)) for one in drawn} == {12}
    often = np.bincount(np.concatenate(drawn), minlength=50) / 4000
    assert np.abs(often - asked).max() < 4 * np.sqrt(0.25 / 4000)
    assert (often[asked == 1] == 1).all()


def test_the_softmax_over_candidates_stands_for_all_items() -> None:
    """The sum over the candidates, each divided by its probability, is on average that over all items."""
    rng = np.random.default_rng(1)
    data = random_dataset(n_users=30, n_items=60, seed=4)
    sampler = WeightedSampler(WeightedSettings(kind="weighted", candidates=15, popularity=0.7), data)
    mass = np.exp(rng.normal(size=60))
    draws = [sampler.draw(rng) for _ in range(4000)]
    sums = [(mass[candidates] / inclusion).sum() for candidates, inclusion in draws]
    assert np.mean(sums) == pytest.approx(mass.sum(), abs=5 * np.std(sums) / np.sqrt(4000))
    counts = np.bincount(data.train.items, minlength=60)
    seen = np.bincount(np.concatenate([candidates for candidates, _ in draws]), minlength=60)
    assert np.corrcoef(np.sqrt(counts), seen)[0, 1] > 0.9


def trained_by(data: Dataset, *words: str) -> tuple[Transformer, NextItem]:
    """The network of `best` with these settings, untrained, and what trains it."""
    config = resolve("best", settings=["model.dim=8", "model.dropout=0", *words])
    network = Transformer.build(config.model, data, torch.Generator().manual_seed(0))
    assert isinstance(config.objective, NextItemSettings)
    return network, NextItem(config.objective, network, data)


@pytest.mark.parametrize("transitions", [False, True])
def test_own_items_are_no_negatives_and_all_candidates_make_the_whole_softmax(transitions: bool) -> None:
    data = tiny_dataset([[0, 1, 2, 3, 4], [2, 3, 1, 5, 0], [5, 4, 0, 2, 1]], n_items=6)
    network, objective = trained_by(data, f"transitions.use={transitions}".lower(), "hard.k=2", "hard.share=1")
    batch = objective._windows.batch(np.array([0]), np.random.default_rng(0))
    terms = {name: term for name, (_, term) in objective.losses(batch, None).items()}
    items = network.vectors().items.detach()
    queries = network.sequence_encoder.every(items, torch.tensor([[0, 1]]))[0]
    scores = queries @ items.T
    edges = network.counted
    assert (edges is not None) == transitions
    if edges is not None:  # what S and the counts say of the user's next item is what others say
        counts, others = edges.counts.numpy(), without_user(data, 0, network.settings.transitions)
        joined = edges.joined(1.0).toarray()
        for position, target in ((0, 1), (1, 2)):
            reached = sum(0.8 ** (position - s) * joined[s] for s in range(position + 1))
            reached[target] = sum(0.8 ** (position - s) * others[s, target] for s in range(position + 1))
            known = counts - (np.arange(6) == target)
            prior = np.log(0.03 + reached) + 0.5 * np.log(1 + known)
            scores[position] += torch.from_numpy(prior).float()
    lost = []
    for row, target in zip(scores, (1, 2)):
        kept = [target, 3, 4, 5]  # 0, 1 and 2 are the user's own
        lost.append(torch.logsumexp(row[kept], 0) - row[target])
    torch.testing.assert_close(terms["rec"], torch.stack(lost).mean())
    unit, anchor = (torch.nn.functional.normalize(x, dim=-1) for x in (items, queries))
    cosine = anchor @ unit.T / 0.1
    contrast = []
    for row, target in zip(cosine, (1, 2)):
        hard = row[[3, 4, 5]].topk(2).values
        contrast.append(torch.logsumexp(torch.cat([row[target : target + 1], hard]), 0) - row[target])
    torch.testing.assert_close(terms["infonce"], torch.stack(contrast).mean())


def test_the_hardest_are_searched_in_a_share_of_the_items() -> None:
    data = random_dataset(n_users=6, n_items=30, seed=2)
    _, objective = trained_by(data, "hard.share=0.3", "sampler.candidates=20")
    batch = next(objective.batches(np.random.default_rng(0)))
    step = objective.step(batch, torch.Generator().manual_seed(0))
    pool = objective._pool(20, step)
    assert isinstance(pool, torch.Tensor)
    assert len(pool.unique()) == 9
    assert objective._pool(9, step) == slice(None)


def test_an_encoder_that_sees_what_comes_next_cannot_be_trained_for_it() -> None:
    words = ["objective.kind=next-item", "ssl.weight=0"]
    assert resolve("hardgnn", settings=[*words, "encoder.kind=causal"]).objective.kind == "next-item"
    with pytest.raises(HardGNNError, match="needs an encoder of every position: set encoder.kind=causal"):
        resolve("hardgnn", settings=[*words, "encoder.kind=attention"])
    with pytest.raises(HardGNNError, match="has no self-augmented loss: set ssl.weight=0"):
        resolve("hardgnn", settings=[words[0], "encoder.kind=causal", "ssl.weight=0.1"])


def test_a_score_of_nothing_is_refused() -> None:
    with pytest.raises(HardGNNError, match="user_term=false needs an encoder"):
        resolve("hardgnn", settings=["model.user_term=false", "encoder.kind=none"])


def test_sampled_candidates_stand_for_all_items() -> None:
    """The sum over C of I candidates, each counted I / C times, is on average the sum over all."""
    data = random_dataset(n_users=6, n_items=30, seed=2)
    users = np.arange(6)[data.train.lengths >= 2]
    found = {}
    for candidates in (30, 10):
        _, objective = trained_by(data, "hard.weight=0", "transitions.use=false", f"sampler.candidates={candidates}")
        rng = np.random.default_rng(0)
        draws = 300 if candidates < 30 else 1
        with torch.no_grad():
            made = [objective.losses(objective._windows.batch(users, rng), None)["rec"][1] for _ in range(draws)]
        found[candidates] = float(torch.stack(made).mean())
    assert found[10] == pytest.approx(found[30], rel=0.03)


def test_repeats_in_a_history_never_reach_below_zero() -> None:
    data = tiny_dataset([[0, 1, 0, 1, 0, 1, 2, 3], [1, 0, 2, 3, 4]], n_items=5)
    config = TransitionsSettings()
    windows, targets = torch.tensor([[0, 1, 0, 1, 0]]), torch.tensor([[1, 0, 1, 0, 1]])
    graph = TransitionGraph.of(data, config)
    edges = between(graph.edges, windows, targets.numpy())
    reached = Transitions(config).targets(*edges, graph.counts[windows], graph.counts[targets])
    assert (reached >= 0).all()
    assert torch.isfinite(Transitions(config).prior(reached)).all()
