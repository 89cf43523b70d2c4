"""Tensors are made where the model is, devices have names, and what runs on a device gives the processor's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from factories import random_dataset
from guard import device_guard
from hardgnn import runtime
from hardgnn.data.histories import PADDING, Histories
from hardgnn.data.intervals import stacked_graph
from hardgnn.errors import HardGNNError
from hardgnn.models.attention import reset
from hardgnn.models.encoders.attention import AttentionEncoder, AttentionSettings, PooledEncoder, PooledSettings
from hardgnn.models.encoders.base import Frame
from hardgnn.models.encoders.causal import CausalEncoder, CausalSettings
from hardgnn.models.selfgnn import SelfGNNSettings
from hardgnn.models.selfgnn.augmented import self_augmented
from hardgnn.models.selfgnn.intervals import IntervalEncoder
from hardgnn.models.transitions import TransitionGraph, Transitions, TransitionScores, TransitionsSettings, between
from hardgnn.ops.candidates import sampled_softmax, top_products
from hardgnn.ops.dropout import dropout
from hardgnn.ops.graph import InteractionGraph, propagate
from hardgnn.ops.pairs import pair_products
from hardgnn.ops.product import product
from hardgnn.ops.scores import Terms
from hardgnn.ops.scores import scores as all_scores
from hardgnn.ops.topk import largest
from hardgnn.runtime import autocast, device_of, epoch_generators
from hardgnn.training import losses
from hardgnn.training.samplers import FalseNegatives, distinct_rows, hardest

D = 8
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
Told = list[Tensor]
Part = Callable[[torch.device, torch.Generator | None], Told]
"""What is computed on a device, with random numbers or without: tensors there, of which those with a gradient are gone
back through."""

PARTS: dict[str, Part] = {}


def part(function: Part) -> Part:
    PARTS[function.__name__] = function
    return function


def drawn(device: torch.device, *shapes: tuple[int, ...]) -> Told:
    """The same numbers every time, on the device."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]


def ready(module: torch.nn.Module, device: torch.device) -> Any:
    """The module with first weights, the same every time, on the device."""
    reset(module, torch.Generator().manual_seed(0))
    if hasattr(module, "positions"):
        torch.nn.init.normal_(module.positions, generator=torch.Generator().manual_seed(0))
    return module.to(device)


@part
def graph(device: torch.device, generator: torch.Generator | None) -> Told:
    rng = np.random.default_rng(0)
    interval, user, item = (rng.integers(0, size, 30).astype(np.int32) for size in (2, 5, 7))
    shape = (2, 5, 7)
    made = InteractionGraph(stacked_graph(interval, user, item, shape), shape, "sym").to(device)
    users, items = drawn(device, (10, D), (14, D))
    asked = torch.tensor([0, 4, 9]).to(device)
    found: Told = []
    for rows in ((None, None), (asked, asked)):
        for active in (True, False):
            matrices = made.matrices(0.5, generator, active=active)
            of = propagate(matrices, users, items, 2, 0.5, *rows, True, made.active if active else None)
            found += [*of[0], *of[1]]
    return found


@part
def interval_level(device: torch.device, generator: torch.Generator | None) -> Told:
    found: Told = []
    for settings in ({}, {"interval_encoder": "lstm", "interval_norm": "states"}, {"interval_encoder": "sum"}):
        made = IntervalEncoder(SelfGNNSettings(kind="selfgnn", dim=D, heads=2, **settings))  # type: ignore[arg-type]
        found.append(ready(made, device)(*drawn(device, (3, 6, D)), generator))
    return found


FRAME = Frame(dim=D, window=6, heads=2, dropout=0.2)
WINDOWS = [[PADDING, PADDING, 2, 5, 0], [1, 2, 3, 4, 5], [PADDING] * 5]


@part
def attention_encoder(device: torch.device, generator: torch.Generator | None) -> Told:
    (items,), windows = drawn(device, (7, D)), torch.tensor(WINDOWS).to(device)
    last, mean = (
        ready(AttentionEncoder(AttentionSettings(kind="attention", pooling=pooling), FRAME), device)
        for pooling in ("last", "mean")
    )
    pooled = ready(PooledEncoder(PooledSettings(kind="pooled"), FRAME), device)
    return [*(encoder(items, windows) for encoder in (last, mean, pooled)), last.attention(items, windows[1:2])]


@part
def causal_encoder(device: torch.device, generator: torch.Generator | None) -> Told:
    (items,), windows = drawn(device, (7, D)), torch.tensor(WINDOWS).to(device)
    encoder = ready(CausalEncoder(CausalSettings(kind="causal"), FRAME), device)
    return [encoder(items, windows), encoder.every(items, windows, generator), encoder.attention(items, windows[1:2])]


@part
def transitions(device: torch.device, generator: torch.Generator | None) -> Told:
    data = random_dataset(n_users=9, n_items=12, seed=1)
    config = TransitionsSettings(neighbours=4, steps=2)
    made, module = TransitionGraph.of(data, config), Transitions(config).to(device)
    matrix = made.joined(0.7)
    made = made.to(device)
    whole = data.train.windows(np.arange(9), 5)
    windows, targets = (torch.from_numpy(part).to(device) for part in (whole[:, :-1], whole[:, 1:]))
    rows, row = distinct_rows(12, whole[:, :-1][whole[:, :-1] != PADDING], device=device)
    local = torch.where(windows == PADDING, len(rows), row[windows.clamp_min(0)])
    edges = made.edges[rows]
    counts = torch.cat([made.counts, made.counts.new_zeros(1)])
    reached = module.targets(*between(edges, local, targets), counts[windows], counts[targets])
    of_all = module.candidates(module.block(edges, torch.tensor([3, 0, 7]).to(device)), local)
    queries, items = drawn(device, (9, D), (12, D))
    whole_scores = TransitionScores(module, matrix, made.counts, window=3)
    reach = whole_scores.reach(data.train)
    scores = all_scores(Terms(queries.detach(), items.detach(), whole_scores.base(), reach))
    return [module.prior(reached), of_all, module.offsets(counts), scores]


@part
def candidates(device: torch.device, generator: torch.Generator | None) -> Told:
    queries, items, offsets, positive = drawn(device, (6, D), (9, D), (9,), (6,))
    own = (torch.arange(18).view(2, 9) % 3 == 0).to(device)
    owner = torch.tensor([0, 0, 0, 1, 1, 1]).to(device)
    prior = queries @ items.T * 0 + 1, positive.sum() * 0 + 2, positive.sum() * 0 + 0.1
    near, index = top_products(queries, items, own, owner, 3)
    return [
        sampled_softmax(queries, items, offsets, positive, own, owner, prior),
        sampled_softmax(queries, items, offsets, positive, own, owner),
        losses.contrast(positive, near, 0.1),
        index,
    ]


@part
def small_operations(device: torch.device, generator: torch.Generator | None) -> Told:
    left, right = drawn(device, (4, D), (700, D))
    scores = product(left.detach(), right.detach())
    return [scores, *largest(scores, 3), dropout(left, 0.5, generator)]


@part
def hard_negatives(device: torch.device, generator: torch.Generator | None) -> Told:
    query, items = drawn(device, (4, D), (9, D))
    found, valid = hardest(query, items, Histories.from_lists([[], [0, 1], [8], [*range(9)]]), 3)
    false = FalseNegatives(random_dataset(n_users=4, n_items=20))
    false.count(torch.arange(4).to(device), found, valid)
    return [found[valid], valid, torch.tensor(false.share())]


@part
def loss_terms(device: torch.device, generator: torch.Generator | None) -> Told:
    anchor, positive, negatives, scores = drawn(device, (4, D), (4, D), (4, 3, D), (4,))
    valid = (torch.arange(12).view(4, 3) % 5 > 0).to(device)
    return [
        losses.info_nce(anchor, positive, negatives, 0.1, valid),
        losses.info_nce(anchor, positive, negatives[:1], 0.1, counts=torch.arange(4).to(device)),
        losses.hinge(scores, scores.flip(0)),
        self_augmented(scores, scores * 2, scores * 3),
        pair_products(anchor, positive, torch.arange(4).to(device), torch.arange(4).flip(0).to(device), 0.5),
    ]


def went_back(found: Told) -> Told:
    """The tensors, and the sum of all gradients of the leaves behind them, on the processor."""
    leaves = list(leaves_of([one for one in found if one.requires_grad]))
    if leaves:
        sum(one.sum() for one in found if one.requires_grad).backward()  # type: ignore[union-attr]
    # By shape: the order in which leaves are met differs between the forms.
    sums: dict[tuple[int, ...], Tensor] = {}
    for leaf in leaves:
        gradient = leaf.grad
        assert gradient is not None
        shape = tuple(gradient.shape)
        sums[shape] = sums.get(shape, torch.zeros(())) + gradient.cpu().sum()
    return [*(one.detach().cpu() for one in found), *(sums[shape] for shape in sorted(sums))]


def leaves_of(found: Told) -> Iterator[Tensor]:
    seen, waiting = set(), [one.grad_fn for one in found]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        if hasattr(one, "variable"):
            yield one.variable
        waiting += [before for before, _ in one.next_functions]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_makes_its_tensors_where_its_weights_are(name: str) -> None:
    expected = went_back(PARTS[name](torch.device("cpu"), None))
    with device_guard() as device:
        found = PARTS[name](device, None)
        assert {one.device.type for one in found if one.dim()} <= {device.type}
        found = went_back(found)
        went_back(PARTS[name](device, torch.Generator()))  # and random numbers too
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_guard_fails_where_a_tensor_of_the_processor_joins() -> None:
    with device_guard() as device:
        there = torch.arange(3, device=device)
        assert (there * 2 + torch.tensor(1)).cpu().tolist() == [1, 3, 5]  # single numbers may
        for mixed in (
            lambda: there + torch.arange(3),
            lambda: there[torch.tensor([1])],
            lambda: torch.where(torch.ones(3, dtype=torch.bool), there, 0),
            lambda: there.numpy(),
        ):
            with pytest.raises(RuntimeError, match=r"tensor of the processor|numpy"):
                mixed()


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("name", PARTS)
def test_a_part_gives_the_processors_numbers_on_a_cuda_device(name: str) -> None:
    expected = went_back(PARTS[name](torch.device("cpu"), None))
    found = went_back(PARTS[name](torch.device("cuda"), None))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    went_back(PARTS[name](torch.device("cuda"), torch.Generator("cuda")))


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("name", PARTS)
def test_a_part_runs_in_bfloat16_on_a_cuda_device(name: str) -> None:
    device = torch.device("cuda")
    with autocast(device, "bfloat16"):
        found = PARTS[name](device, torch.Generator(device))
    assert all(torch.isfinite(one).all() for one in went_back(found) if one.dtype.is_floating_point)


@pytest.mark.parametrize("name", PARTS)
def test_bfloat16_is_near_float32(name: str) -> None:
    device = torch.device("cpu")
    expected = PARTS[name](device, None)
    with autocast(device, "bfloat16"):
        found = PARTS[name](device, None)
    for one, other in zip(found, expected, strict=True):
        if other.dtype.is_floating_point:
            scale = float(other.detach().nan_to_num(0, 0, 0).abs().max())
            torch.testing.assert_close(one.detach().float(), other.detach(), rtol=0.05, atol=0.05 * scale)


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(HardGNNError, match="device 'cuda': not on this machine, which has cpu"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto") == device_of("cuda") == torch.device("cuda")
    assert device_of("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(HardGNNError, match="'cuda:2': not on this machine, which has cpu, cuda, cuda:0, cuda:1"):
        device_of("cuda:2")
    with pytest.raises(HardGNNError, match="'mps': not on this machine"):
        device_of("mps")
    for name in ("gpu", "cuda:", "cuda:x", "cpu:0", "meta", "", "xpu"):
        with pytest.raises(HardGNNError, match="unknown device .* known: auto, cpu, cuda, cuda:N, mps"):
            device_of(name)


def test_bfloat16_is_refused_where_the_device_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(HardGNNError, match="device 'cuda': does not compute in bfloat16"):
        autocast(torch.device("cuda"), "bfloat16")
    with pytest.raises(HardGNNError, match="unknown precision 'float16'; did you mean 'bfloat16'"):
        autocast(torch.device("cpu"), "float16")
    with autocast(torch.device("cuda"), "float32"):
        assert not torch.is_autocast_enabled("cuda")


def test_an_epoch_draws_the_same_again_and_on_the_processor_as_ever() -> None:
    rng, generator = epoch_generators(3, 7)
    again, other = runtime.epoch_generators(3, 7, torch.device("cpu"))
    assert rng.integers(1 << 40) == again.integers(1 << 40)
    assert torch.equal(torch.rand(4, generator=generator), torch.rand(4, generator=other))
    assert epoch_generators(3, 8)[1].initial_seed() != generator.initial_seed()
