"""The network and the losses against small computations in plain numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from hardgnn.data.histories import Histories
from hardgnn.data.intervals import cut, stacked_graph
from hardgnn.data.negatives import UniformNegatives
from hardgnn.models.attention import SelfAttention
from hardgnn.models.encoders.attention import AttentionEncoder, AttentionSettings, PooledEncoder, PooledSettings
from hardgnn.models.encoders.base import Encoder, Frame
from hardgnn.models.network import Seen
from hardgnn.models.selfgnn import SelfGNN, SelfGNNSettings
from hardgnn.models.selfgnn.augmented import self_augmented
from hardgnn.models.selfgnn.intervals import IntervalEncoder
from hardgnn.models.selfgnn.settings import SelfAugmentedSettings
from hardgnn.ops.graph import InteractionGraph, propagate
from hardgnn.training import losses
from hardgnn.training.samplers import hardest

T, U, I, D = 2, 5, 7, 8  # noqa: E741 - intervals, users, items, size, as in the specification


def leaky(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.5 * x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layer_norm(x: np.ndarray, eps: float = 1e-3) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def attention(x: np.ndarray, module: SelfAttention) -> np.ndarray:
    """Multi-head self-attention of one sequence (M, d)."""
    weight, bias = module.qkv.weight.detach().numpy(), module.qkv.bias.detach().numpy()
    q, k, v = np.split(x @ weight.T + bias, 3, axis=-1)
    size = x.shape[1] // module.heads
    heads = []
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        logits = q[:, part] @ k[:, part].T / np.sqrt(size)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        heads.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
    return np.concatenate(heads, 1) @ module.output.weight.detach().numpy().T + module.output.bias.detach().numpy()


@pytest.fixture
def stacked() -> sp.csr_matrix:
    interval = np.array([0, 0, 0, 1, 1, 0], np.int32)
    user = np.array([0, 0, 1, 2, 0, 0], np.int32)
    item = np.array([0, 3, 3, 6, 0, 3], np.int32)  # (0, 3) twice in interval 0
    return stacked_graph(interval, user, item, (T, U, I))


FRAME = Frame(dim=D, window=6, heads=2, norm_epsilon=1e-3)


def settings_of(**changes: Any) -> SelfGNNSettings:
    return SelfGNNSettings(kind="selfgnn", dim=D, heads=2, **changes)


def model(stacked: sp.csr_matrix) -> SelfGNN:
    ssl = SelfAugmentedSettings(weight=0.1, dim=4)
    settings = settings_of(intervals=T, window=6, dropout=0.0, ssl=ssl)
    made = SelfGNN(settings, U, I, Seen(graph=InteractionGraph(stacked, (T, U, I))))
    made.initialise(torch.Generator().manual_seed(0))
    return made


def pooled_encoder(layers: int = 2) -> PooledEncoder:
    return PooledEncoder(PooledSettings(kind="pooled", layers=layers), FRAME)


def attention_encoder(pooling: str = "last") -> AttentionEncoder:
    return AttentionEncoder(AttentionSettings(kind="attention", pooling=pooling), FRAME)


def test_a_pair_twice_in_an_interval_counts_once(stacked: sp.csr_matrix) -> None:
    assert stacked.nnz == 5
    assert set(stacked.data) == {1.0}


def test_propagation(stacked: sp.csr_matrix) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(T * U, D)), rng.normal(size=(T * I, D))
    graph = InteractionGraph(stacked, (T, U, I))
    found_u, found_i = propagate(
        graph.matrices(), torch.tensor(users, dtype=torch.float32), torch.tensor(items, dtype=torch.float32), 2, 0.5
    )
    dense = stacked.toarray()
    for layer in range(3):
        np.testing.assert_allclose(found_u[layer], users, atol=1e-5)
        np.testing.assert_allclose(found_i[layer], items, atol=1e-5)
        users, items = leaky(dense @ items) + users, leaky(dense.T @ users) + items
    lonely = 4  # user 4 has no edge in interval 0
    np.testing.assert_array_equal(found_u[2][lonely], found_u[0][lonely])


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("norm", ["none", "sym"])
@pytest.mark.parametrize("some", [False, True])
def test_propagation_has_the_right_gradient(stacked: sp.csr_matrix, layers: int, norm: str, some: bool) -> None:
    matrices = [
        (offsets, columns, None if values is None else values.double())
        for offsets, columns, values in InteractionGraph(stacked, (T, U, I), norm).matrices()
    ]
    users, items = (
        torch.randn(T * size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(size)).requires_grad_()
        for size in (U, I)
    )
    rows = (torch.tensor([T * U - 1, 0, 3]), torch.tensor([2, T * I - 2])) if some else (None, None)

    def layers_of(u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found_u, found_i = propagate(matrices, u, v, layers, 0.5, *rows)
        return *found_u, *found_i

    def sum_of(u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (sum_u,), (sum_v,) = propagate(matrices, u, v, layers, 0.5, *rows, summed=True)
        return sum_u, sum_v

    assert torch.autograd.gradcheck(layers_of, (users, items))
    assert torch.autograd.gradcheck(sum_of, (users, items))
    found = layers_of(users, items)
    torch.testing.assert_close(sum_of(users, items), (sum(found[: layers + 1]), sum(found[layers + 1 :])))
    if some:
        whole_u, whole_i = propagate(matrices, users, items, layers, 0.5)
        for found, whole in zip(layers_of(users, items), [x[rows[0]] for x in whole_u] + [x[rows[1]] for x in whole_i]):
            torch.testing.assert_close(found, whole)


def test_symmetric_norm_and_edge_dropout_treat_both_directions_alike(stacked: sp.csr_matrix) -> None:
    graph = InteractionGraph(stacked, (T, U, I), "sym")
    for matrices in (graph.matrices(), graph.matrices(0.5, torch.Generator().manual_seed(3))):
        dense = [
            sp.csr_matrix((rows[2].numpy(), rows[1].numpy(), rows[0].numpy()), shape=shape).toarray()
            for rows, shape in zip(matrices, ((T * U, T * I), (T * I, T * U)), strict=True)
        ]
        np.testing.assert_array_equal(dense[0], dense[1].T)
    plain = stacked.toarray()
    degrees = np.maximum(plain.sum(1), 1), np.maximum(plain.sum(0), 1)
    rows = graph.matrices()[0]
    found = sp.csr_matrix((rows[2].numpy(), rows[1].numpy(), rows[0].numpy()), shape=plain.shape).toarray()
    np.testing.assert_allclose(found, plain / np.sqrt(degrees[0][:, None] * degrees[1][None]), rtol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_interval_level(kind: str) -> None:
    torch.manual_seed(0)
    encoder = IntervalEncoder(settings_of(interval_encoder=kind))
    states = np.random.default_rng(1).normal(size=(3, D)).astype(np.float32)  # (T, d) of one node
    w, r, b, c = (
        getattr(encoder.recurrent, name).detach().numpy()
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    h, cell, hidden = np.zeros(D), np.zeros(D), []
    for x in states:
        if kind == "gru":
            (xr, xz, xn), (hr, hz, hn) = np.split(w @ x + b, 3), np.split(r @ h + c, 3)
            reset, update = sigmoid(xr + hr), sigmoid(xz + hz)
            h = (1 - update) * np.tanh(xn + reset * hn) + update * h
        else:
            i, f, g, o = np.split(w @ x + b + r @ h + c, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(cell)
        hidden.append(h)
    expected = attention(layer_norm(np.array(hidden)), encoder.attention).mean(0)
    found = encoder(torch.tensor(states)[:, None])[0].detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{}, {"interval_encoder": "lstm", "interval_norm": "states"}, {"layer_norm": False, "attention_projection": False}],
)
def test_the_interval_level_has_the_gradient_of_its_values(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    encoder = IntervalEncoder(settings_of(dropout=0.5, **settings)).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    states = torch.randn(T, 3, D, dtype=torch.float64, requires_grad=True)

    def encoded(states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return encoder(states, torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(encoded, (states, *encoder.parameters()))


@pytest.mark.parametrize("pooling", ["sum", "mean", "last"])
def test_instance_level(pooling: str) -> None:
    torch.manual_seed(0)
    encoder = attention_encoder(pooling)
    torch.nn.init.normal_(encoder.positions)
    items = torch.randn(I, D)
    window = torch.tensor([[-1, -1, 2, 5, 0], [1, 2, 3, 4, 5], [-1, -1, -1, -1, -1]])
    found = encoder(items, window).detach()
    for row, length in ((0, 3), (1, 5)):
        real = window[row, -length:]
        state = layer_norm(items[real].numpy()) + layer_norm(encoder.positions.detach().numpy()[-length:])
        for layer in encoder.layers:
            state = leaky(attention(layer_norm(state), layer)) + state
        expected = {"sum": state.sum(0), "mean": state.mean(0), "last": state[-1]}[pooling]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)
    np.testing.assert_array_equal(found[2], np.zeros(D))


def test_pooled_window_is_one_token() -> None:
    torch.manual_seed(0)
    encoder = pooled_encoder(layers=1)
    torch.nn.init.normal_(encoder.positions)
    items = torch.randn(I, D)
    found = encoder(items, torch.tensor([[-1, 2, 5, 0]])).detach()[0]
    positions = encoder.positions.detach().numpy()
    state = layer_norm(items[[2, 5, 0]].sum(0).numpy()) + layer_norm(positions[-3:].sum(0))
    layer = encoder.layers[0]
    token = attention(layer_norm(state)[None], layer)[0]
    np.testing.assert_allclose(found, leaky(token) + state, atol=1e-5)


@pytest.mark.parametrize("make", [attention_encoder, pooled_encoder])
def test_padding_changes_nothing(make: Callable[[], Encoder]) -> None:
    torch.manual_seed(0)
    encoder = make()
    torch.nn.init.normal_(encoder.positions)
    items = torch.randn(I, D)
    short = encoder(items, torch.tensor([[3, 4]]))
    padded = encoder(items, torch.tensor([[-1, -1, -1, -1, 3, 4]]))
    torch.testing.assert_close(short, padded)
    changed = items.clone()
    changed[0] += 10  # padding is looked up as item 0
    torch.testing.assert_close(padded, encoder(changed, torch.tensor([[-1, -1, -1, -1, 3, 4]])))


def test_encoding_some_nodes_is_encoding_all_of_them(stacked: sp.csr_matrix) -> None:
    one = model(stacked)
    whole = one.vectors()
    some = one.vectors(torch.tensor([3, 1]), torch.tensor([6, 0]))
    torch.testing.assert_close(some.users, whole.users[[3, 1]])
    torch.testing.assert_close(some.items, whole.items[[6, 0]])


def test_user_weight(stacked: sp.csr_matrix) -> None:
    one = model(stacked)
    long, short = torch.randn(3, D), torch.randn(3, D)
    hidden, out = one.weight_hidden, one.weight_out
    joined = np.concatenate([long * short, long, short], 1)
    inner = leaky(joined @ hidden.weight.detach().numpy().T + hidden.bias.detach().numpy())
    expected = sigmoid(inner @ out.weight.detach().numpy().T + out.bias.detach().numpy())[:, 0]
    np.testing.assert_allclose(one.user_weight(long, short).detach(), expected, atol=1e-6)


def test_hinge_by_hand() -> None:
    positive, negative = torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.0])
    assert losses.hinge(positive, negative).item() == pytest.approx(0.5)
    assert losses.hinge(positive, negative, "sum").item() == pytest.approx(1.0)


def test_self_augmented_loss_by_hand_and_without_gradient_into_the_long_term() -> None:
    weight = torch.tensor([0.5, 1.0, 0.2, 0.4], requires_grad=True)
    long = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    short = torch.tensor([0.3, -0.5, 0.1, 1.0], requires_grad=True)
    loss = self_augmented(weight, long, short)
    first = max(0, 1 - (0.5 * 1 - 0.2 * 3) * (0.3 - 0.1))
    second = max(0, 1 - (1.0 * 2 - 0.4 * 4) * (-0.5 - 1.0))
    assert loss.item() == pytest.approx(first + second)
    loss.backward()
    assert long.grad is None
    assert weight.grad is not None
    assert short.grad is not None


def test_info_nce_by_hand() -> None:
    rng = np.random.default_rng(0)
    anchor, positive, negatives = rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), rng.normal(size=(2, 3, 4))
    valid = np.array([[True, True, True], [True, False, False]])
    expected = []
    for a, p, ns, real in zip(anchor, positive, negatives, valid, strict=True):
        sims = [v @ a / np.linalg.norm(v) / np.linalg.norm(a) / 0.1 for v in (p, *ns[real])]
        expected.append(-np.log(np.exp(sims[0]) / np.exp(sims).sum()))
    found = losses.info_nce(*(torch.tensor(x) for x in (anchor, positive, negatives)), 0.1, torch.tensor(valid))
    assert found.item() == pytest.approx(np.mean(expected))


def test_the_hardest_are_those_a_sort_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardgnn.ops.nearest.BLOCK", 40)  # several blocks
    rng = np.random.default_rng(0)
    query, items = rng.normal(size=(9, 4)), rng.normal(size=(12, 4))
    seen = [rng.choice(12, size, replace=False).tolist() for size in (0, 1, 3, 5, 8, 9, 10, 11, 12)]
    found, valid = hardest(torch.tensor(query), torch.tensor(items), Histories.from_lists(seen), 3)
    for row, avoided in enumerate(seen):
        cosine = items @ query[row] / np.linalg.norm(items, axis=1)
        cosine[avoided] = -np.inf
        expected = [item for item in np.argsort(-cosine)[:3] if np.isfinite(cosine[item])]
        assert found[row][valid[row]].tolist() == expected


def test_uniform_negatives_are_never_seen_items_and_reach_all_others() -> None:
    train = Histories.from_lists([[0, 1, 2], [5], [*range(99)]])
    sampler = UniformNegatives(train, 100)
    rng = np.random.default_rng(0)
    for user, seen in enumerate(([0, 1, 2], [5], [*range(99)])):
        drawn = sampler.sample(np.full(3000, user), rng)
        assert set(drawn.tolist()) == set(range(100)) - set(seen)


def test_interval_cuts() -> None:
    times = np.array([0.0, 1.0, 2.0, 99.0, 100.0])
    assert cut(times, 2).tolist() == [0, 0, 0, 1, 1]
    assert cut(times, 5, "count").tolist() == [0, 1, 2, 3, 4]
    assert cut(np.array([5.0, 5.0]), 2).tolist() == [0, 1]
