"""Softmax over candidates and their largest products: against plain tensors, values and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hardgnn.ops import candidates
from hardgnn.ops.candidates import sampled_softmax, top_products
from hardgnn.ops.form import asked_for
from hardgnn.ops.topk import largest


def drawn(seed: int, queries: int, items: int, dim: int = 3) -> tuple[list[Tensor], Tensor, Tensor]:
    """Queries, items, offsets, positive scores, x, β and ε with gradients; own; owner."""
    torch.manual_seed(seed)
    numbers = [torch.randn(queries, dim), torch.randn(items, dim), torch.randn(items), torch.randn(queries)]
    numbers += [torch.rand(queries, items), torch.tensor(0.8), torch.tensor(0.1)]
    own = torch.rand(3, items) < 0.3
    own[0] = True  # a user for whom no candidate is left
    owner = torch.randint(3, (queries,)).sort()[0]
    return [one.double().requires_grad_() for one in numbers], own, owner


@pytest.fixture(params=[1, 40, 10_000, None], ids=["a query at a time", "some", "all at once", "reference"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param is not None:
        monkeypatch.setattr(candidates, "CHUNK_NUMBERS", request.param)
    with asked_for("reference") if request.param is None else nullcontext():
        yield


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("with_prior", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_sampled_softmax_is_the_cross_entropy_and_has_its_gradients(with_prior: bool, seed: int) -> None:
    numbers, own, owner = drawn(seed, queries=7, items=9)
    queries, items, offsets, positive, reached, strength, epsilon = numbers
    scores = queries @ items.T + offsets
    if with_prior:
        scores = scores + strength * torch.log(epsilon + reached)
    logits = torch.cat([positive[:, None], scores.masked_fill(own[owner], -torch.inf)], 1)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(7, dtype=torch.long))
    prior = (reached, strength, epsilon) if with_prior else None
    found = sampled_softmax(queries, items, offsets, positive, own, owner, prior)
    torch.testing.assert_close(found, expected)
    used = numbers if with_prior else numbers[:4]
    wanted = torch.autograd.grad(3 * expected, used)
    for one, other in zip(torch.autograd.grad(3 * found, used), wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("k", [1, 4, 20])
def test_top_products_are_those_of_the_whole_table(k: int) -> None:
    (queries, items, *_), own, owner = drawn(2, queries=8, items=9)
    table = (queries @ items.T).masked_fill(own[owner], -torch.inf)
    values, _ = table.topk(min(k, 9), dim=1)
    found, index = top_products(queries, items, own, owner, k)
    torch.testing.assert_close(found, values)
    torch.testing.assert_close(table.gather(1, index), found)
    weights = torch.rand(values.shape, dtype=torch.double)
    for one, other in zip(
        torch.autograd.grad((found.exp() * weights).sum(), (queries, items)),
        torch.autograd.grad((values.exp() * weights).sum(), (queries, items)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@given(seed=st.integers(0, 99), queries=st.integers(1, 5), items=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_gradients_against_finite_differences(seed: int, queries: int, items: int) -> None:
    numbers, own, owner = drawn(seed, queries, items)
    *first, reached, strength, epsilon = numbers
    assert torch.autograd.gradcheck(
        lambda q, e, o, p, x, b, c: sampled_softmax(q, e, o, p, own, owner, (x, b, c)),
        (*first, reached, strength, epsilon),
    )


@given(
    rows=st.integers(1, 4), columns=st.integers(1, 700), k=st.integers(1, 30), few=st.booleans(), seed=st.integers(0, 9)
)
@settings(max_examples=80, deadline=None)
def test_the_largest_by_chunks_are_those_of_a_sort(rows: int, columns: int, k: int, few: bool, seed: int) -> None:
    scores = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
    if few:  # most are left out, as a user's own items are
        scores[:, 3:] = -torch.inf
    k = min(k, columns)
    values, places = largest(scores, k)
    torch.testing.assert_close(values, scores.sort(dim=1, descending=True)[0][:, :k])
    torch.testing.assert_close(scores.gather(1, places), values)
    assert all(len(row.unique()) == k for row in places)
