"""Each operation's fast form against its plain reference, values and gradients, over shapes and settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardgnn.errors import HardGNNError
from hardgnn.models.transitions import Transitions, TransitionsSettings
from hardgnn.ops.candidates import sampled_softmax, top_products
from hardgnn.ops.dropout import dropout, kept_numbers
from hardgnn.ops.edges import Edges
from hardgnn.ops.form import COMPILED, FORMS, VARIABLE, asked_for, fast, in_bfloat16
from hardgnn.ops.graph import InteractionGraph, propagate, share
from hardgnn.ops.interval_level import Level, encode
from hardgnn.ops.native import level as native_level
from hardgnn.ops.native import library
from hardgnn.ops.nearest import nearest
from hardgnn.ops.pairs import pair_products
from hardgnn.ops.precision import computing, say_slow
from hardgnn.ops.product import product
from hardgnn.ops.topk import largest

DTYPES = {torch.float32: 1e-4, torch.float64: 1e-9}
seeds, dtypes = st.integers(0, 999), st.sampled_from(list(DTYPES))
often = settings(max_examples=40, deadline=None)


def assert_alike(compute: Callable[[], Sequence[Tensor]], leaves: Sequence[Tensor], tolerance: float) -> None:
    """All forms of what `compute` runs give the same tensors, and the same gradients of `leaves`."""
    found = []
    for form in ("reference", "torch", "float32", "native"):
        with asked_for(form):
            values = compute()
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(value.shape, generator=generator, dtype=value.dtype) for value in values]
        total = sum((value * weight).sum() for value, weight in zip(values, weights, strict=True))
        gradients = torch.autograd.grad(total, leaves)
        found.append([*values, *gradients])
    expected, *others = found
    for values in others:
        assert operations(values[0]) != operations(expected[0])  # there were two forms
        for one, other in zip(values, expected, strict=True):
            most = max([1.0, *other.detach().abs().flatten().tolist()])  # a number is the sum of some as large as this
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * most)


def operations(value: Tensor) -> set[str]:
    """The names of what autograd would go back through."""
    names, waiting = set(), [value.grad_fn]
    while waiting:
        one = waiting.pop()
        if one is not None and one.name() not in names:
            names.add(one.name())
            waiting += [before for before, _ in one.next_functions]
    return names


def random(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def random_graph(seed: int, shape: tuple[int, int, int], norm: str, density: float) -> InteractionGraph:
    intervals, users, items = shape
    rng = np.random.default_rng(seed)
    blocks = [sp.csr_matrix((rng.random((users, items)) < density).astype(np.float32)) for _ in range(intervals)]
    return InteractionGraph(sp.block_diag(blocks, format="csr"), shape, norm)  # type: ignore[arg-type]


@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7)),
    layers=st.integers(0, 3),
    norm=st.sampled_from(["none", "sym"]),
    some=st.booleans(),
    summed=st.booleans(),
    dropped=st.sampled_from([0.0, 0.5]),
    dim=st.sampled_from([4, 16]),
    dtype=dtypes,
)
@often
def test_propagation(
    seed: int,
    shape: tuple[int, int, int],
    layers: int,
    norm: str,
    some: bool,
    summed: bool,
    dropped: float,
    dim: int,
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph = random_graph(seed, shape, norm, 0.3).to(dtype)
    users, items = (random(generator, dtype, shape[0] * size, dim) for size in shape[1:])
    rows = [torch.randperm(len(table), generator=generator)[: 1 + len(table) // 2] for table in (users, items)]
    asked = rows if some else [None, None]
    matrices = tuple(
        (offsets, columns, None if values is None else values.to(dtype))
        for offsets, columns, values in graph.matrices(dropped, generator, active=True)
    )

    def compute() -> list[Tensor]:
        of_users, of_items = propagate(matrices, users, items, layers, 0.5, *asked, summed, graph.active)  # type: ignore[arg-type]
        return [*of_users, *of_items]

    assert_alike(compute, (users, items), DTYPES[dtype])


@pytest.mark.skipif(library.library().functions is None, reason="no C compiler")
@given(seed=seeds, layers=st.integers(1, 3), norm=st.sampled_from(["none", "sym"]), half=st.booleans())
@often
def test_layers_that_are_shared_give_the_same_bits(seed: int, layers: int, norm: str, half: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph = random_graph(seed, (2, 7, 9), norm, 0.3)
    users, items = (random(generator, torch.float32, 2 * size, 32) for size in (7, 9))
    matrices = graph.matrices(active=True)
    found = []
    with in_bfloat16() if half and library.library().tiles else nullcontext():
        shared = share(matrices, users, items, layers, 0.5, graph.active)
        for asked in ((torch.tensor([], dtype=torch.int64), None), (torch.tensor([3, 0]), torch.tensor([8, 2, 17]))):
            for of in (None, shared):
                given = matrices, users, items, layers, 0.5, *asked, True, graph.active, of
                (of_users,), (of_items,) = propagate(*given)
                loss = (of_users * torch.arange(of_users.numel()).view_as(of_users)).sum() + of_items.square().sum()
                found.append([of_users, of_items, *torch.autograd.grad(loss, (users, items))])
    for alone, together in zip(found[::2], found[1::2], strict=True):
        assert all(map(torch.equal, alone, together))


@given(
    seed=seeds,
    kind=st.sampled_from([nn.GRU, nn.LSTM]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40), st.sampled_from([8, 32])),
    heads=st.sampled_from([1, 2, 4]),
    norm=st.booleans(),
    projection=st.booleans(),
    over_states=st.booleans(),
    dtype=dtypes,
)
@often
def test_interval_level(
    seed: int,
    kind: type[nn.RNNBase],
    shape: tuple[int, int, int],
    heads: int,
    norm: bool,
    projection: bool,
    over_states: bool,
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    dim = shape[2]
    recurrent, qkv, output, layer_norm = kind(dim, dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
    parts = [recurrent, qkv] + ([output] if projection else []) + ([layer_norm] if norm else [])
    weights = [weight for part in parts for weight in part.to(dtype).parameters()]
    for weight in weights:
        nn.init.normal_(weight, std=0.5, generator=generator)
    level = Level(
        recurrent, layer_norm if norm else None, qkv, output if projection else None, heads, over_states, 1e-3
    )
    x = random(generator, dtype, *shape)
    assert_alike(lambda: [encode(x, level, 0.0, None)], (x, *weights), 10 * DTYPES[dtype])


@pytest.mark.parametrize("dim", [8, 32])
def test_interval_level_with_the_same_numbers_dropped(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    """The reference draws in another order, so that one mask is given to all."""
    intervals, nodes = 3, 5
    torch.manual_seed(0)
    kept = torch.rand(intervals, nodes, dim) < 0.5
    level = Level(nn.GRU(dim, dim), nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), 2, False, 1e-3)

    monkeypatch.setattr("hardgnn.ops.interval_level._kept", lambda *asked: kept.permute(2, 0, 1).contiguous())
    monkeypatch.setattr("hardgnn.ops.interval_level.dropout", lambda hidden, share, generator: hidden * kept * 2)
    x = torch.randn(intervals, nodes, dim, requires_grad=True)
    assert_alike(lambda: [encode(x, level, 0.5, torch.Generator())], (x, *level.recurrent.parameters()), 1e-4)


dims = st.sampled_from([3, 32])


@given(
    seed=seeds,
    queries=st.one_of(st.integers(1, 9), st.integers(500, 550)),
    items=st.integers(1, 50),
    dim=dims,
    prior=st.booleans(),
    moment=st.booleans(),
    dtype=dtypes,
)
@often
def test_sampled_softmax(
    seed: int, queries: int, items: int, dim: int, prior: bool, moment: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    leaves = [random(generator, dtype, *shape) for shape in ((queries, dim), (items, dim), (items,), (queries,))]
    own = torch.rand(3, items, generator=generator) < 0.3
    own[0] = True  # a user for whom no candidate is left
    owner = torch.randint(3, (queries,), generator=generator)
    numbers = [torch.rand(shape, generator=generator, dtype=dtype) + 0.1 for shape in ((queries, items), (), ())]
    priors = tuple(number.requires_grad_() for number in numbers) if prior else None
    added = random(generator, dtype, 2, items)
    moments = (added, torch.randint(2, (queries,), generator=generator)) if moment else None
    assert_alike(
        lambda: [sampled_softmax(*leaves, own, owner, priors, moments)],  # type: ignore[arg-type]
        [*leaves, *(priors or ()), *([added] if moment else [])],
        DTYPES[dtype],
    )


@given(seed=seeds, queries=st.integers(1, 40), items=st.integers(1, 50), dim=dims, k=st.integers(1, 15), dtype=dtypes)
@often
def test_top_products(seed: int, queries: int, items: int, dim: int, k: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    leaves = [random(generator, dtype, size, dim) for size in (queries, items)]
    own = torch.rand(3, items, generator=generator) < 0.4
    owner = torch.randint(3, (queries,), generator=generator)
    assert_alike(lambda: [top_products(*leaves, own, owner, k)[0].exp()], leaves, DTYPES[dtype])
    _, index = top_products(*leaves, own, owner, k)
    with asked_for("reference"):
        values, other = top_products(*leaves, own, owner, k)
    assert torch.equal(index[values.isfinite()], other[values.isfinite()])


@given(seed=seeds, rows=st.integers(1, 4), columns=st.integers(1, 900), k=st.integers(1, 30))
@often
def test_largest(seed: int, rows: int, columns: int, k: int) -> None:
    scores = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = largest(scores, min(k, columns))
    with asked_for("reference"):
        expected = largest(scores, min(k, columns))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@given(seed=seeds, shape=st.tuples(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20)), turned=st.booleans())
@often
def test_product(seed: int, shape: tuple[int, int, int], turned: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, dim, others = shape
    left, right = torch.randn(rows, dim, generator=generator), torch.randn(others, dim, generator=generator)
    if turned:
        right = right.T.contiguous().T
    with asked_for("reference"):
        expected = product(left, right)
    torch.testing.assert_close(product(left, right), expected, rtol=1e-4, atol=1e-5)


@given(seed=seeds, rows=st.integers(1, 9), columns=st.integers(1, 9), density=st.sampled_from([0.0, 0.2, 0.9]))
@often
def test_edges(seed: int, rows: int, columns: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    tables = [rng.random((rows, columns), np.float32) * (rng.random((rows, columns)) < density) for _ in range(2)]
    edges = Edges.of(*(sp.csr_array(table) for table in tables))
    chosen = torch.from_numpy(rng.integers(0, rows, 5))
    asked = torch.from_numpy(rng.permutation(columns)[: 1 + columns // 2])

    def told() -> list[Tensor]:
        part = edges[chosen]
        return [*part.dense(asked), *part.at(torch.arange(5)[:, None], asked), *edges.dense(asked)]

    found = told()
    with asked_for("reference"):
        expected = told()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for number, table in enumerate(tables):
        cut = torch.from_numpy(table[chosen.numpy()][:, asked.numpy()])
        assert torch.equal(found[number][:-1], cut)
        assert not found[number][-1].any()
        assert torch.equal(found[2 + number], cut)
        np.testing.assert_array_equal(edges.matrices[number].toarray(), table)


@given(seeds, st.integers(1, 9), st.integers(1, 200), st.sampled_from([0.0, 0.2, 0.9]), st.integers(0, 200))
@often
def test_edges_among_some_columns(seed: int, rows: int, columns: int, density: float, among: int) -> None:
    rng = np.random.default_rng(seed)
    tables = [rng.random((rows, columns), np.float32) * (rng.random((rows, columns)) < density) for _ in range(2)]
    edges = Edges.of(*(sp.csr_array(table) for table in tables))
    for _ in range(2):  # nothing stays of the first
        chosen, asked = rng.integers(0, rows, 5), np.sort(rng.permutation(columns)[:among])
        for form in FORMS:
            with asked_for(form):
                found = edges.among(chosen, asked)
            assert found.width == len(asked)
            for matrix, table in zip(found.matrices, tables, strict=True):
                assert matrix.has_sorted_indices
                np.testing.assert_array_equal(matrix.toarray(), table[chosen][:, asked])


@given(seed=seeds, items=st.integers(1, 20), width=st.integers(1, 6), windows=st.integers(1, 40))
@often
def test_what_windows_reach(seed: int, items: int, width: int, windows: int) -> None:
    rng = np.random.default_rng(seed)
    tables = [rng.random((items, items), np.float32) * (rng.random((items, items)) < 0.3) for _ in range(2)]
    edges = Edges.of(*(sp.csr_array(table) for table in tables))
    padded = rng.integers(0, items, (windows, width))
    padded[np.arange(width) < rng.integers(0, width + 1, (windows, 1))] = items
    columns = rng.permutation(items)[: 1 + items // 2]
    module = Transitions(TransitionsSettings())
    leaves = (module.decay_logit, module.log_forward)
    found = []
    for form in ("reference", "torch", "native"):
        with asked_for(form):
            value = module.reached(edges, columns, torch.from_numpy(padded))
        weight = torch.from_numpy(np.random.default_rng(seed).random(value.shape, np.float32))
        found.append([value, *torch.autograd.grad((value * weight).sum(), leaves)])
    for others in found[1:]:
        for one, other in zip(others, found[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(0, 40), st.sampled_from([3, 16, 32]), dtypes)
@often
def test_pair_products(seed: int, rows: int, columns: int, pairs: int, dim: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right = random(generator, dtype, rows, dim), random(generator, dtype, columns, dim)
    of_left, of_right = (torch.randint(n, (pairs,), generator=generator) for n in (rows, columns))
    found = []
    for form in FORMS:
        for slope in (1.0, 0.2):
            with asked_for(form):
                products = pair_products(left, right, of_left, of_right, slope)
            z = left[of_left] * right[of_right]
            torch.testing.assert_close(products, torch.where(z > 0, z, slope * z).sum(-1), rtol=1e-4, atol=1e-5)
            weight = torch.arange(pairs, dtype=dtype) - 3  # of the third pair 0
            found.append(torch.autograd.grad((products * weight).sum(), (left, right)))
    for gradients, expected in zip(found, found[:2] * len(FORMS)):
        torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-4)


@given(seeds, st.integers(1, 150), st.integers(1, 100), st.sampled_from([4, 32, 64]), st.integers(1, 9))
@often
def test_all_forms_find_the_same_nearest(seed: int, queries: int, items: int, dim: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    query, table = (torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)) for n in (queries, items))
    lengths = rng.integers(0, items + 2, queries)
    offsets = np.concatenate([[0], lengths.cumsum()])
    avoided = rng.integers(0, items, lengths.sum()).astype(np.int32)
    k = min(k, items)
    products = query @ table.T
    for row in range(queries):
        products[row, avoided[offsets[row] : offsets[row + 1]]] = -torch.inf
    expected = products.topk(k, dim=1).values
    largest = (query.norm(dim=1).max() * table.norm(dim=1).max()).item()
    for form in ("reference", "torch", "float32", "native"):
        with asked_for(form):
            values, columns = nearest(query, table, offsets, avoided, k)
        room = 1e-5 * largest if form == "native" else 1e-4  # tiles are so far off
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=room)
        real = values.isfinite()
        torch.testing.assert_close(products.gather(1, columns)[real], values[real], rtol=1e-4, atol=room)
        ordered = columns.masked_fill(~real, items).sort(1).values
        assert (ordered.diff(dim=1)[real[:, 1:]] > 0).all()  # each item once


@pytest.mark.parametrize("shape", [(0,), (7, 5), (3, 2, 33)])
def test_all_forms_drop_the_same_numbers(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = []
    for form in ("reference", "torch", "native"):
        leaf = x.clone().requires_grad_()
        with asked_for(form):
            value = dropout(leaf, 0.3, torch.Generator().manual_seed(0))
        [gradient] = torch.autograd.grad(value.square().sum(), leaf)
        found.append((value, gradient))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_keeps_its_share_and_the_mean(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.ones(40_000)
    found = dropout(x, share, generator)
    assert (found == 0).float().mean() == pytest.approx(share, abs=0.02)
    assert found.mean() == pytest.approx(1, abs=0.02)
    assert dropout(x, share, None) is x
    assert dropout(x, 0.0, generator) is x


def test_dropout_of_a_size_that_is_no_multiple_of_four() -> None:
    generator = torch.Generator().manual_seed(0)
    assert kept_numbers((3, 5), 0.0, generator).all()
    assert kept_numbers((0, 5), 0.5, generator).shape == (0, 5)


def test_what_runs_where() -> None:
    x = torch.ones(2)
    assert fast(x)
    assert not fast(x, x.bfloat16())
    assert not fast(torch.ones(2, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fast(x)
    with asked_for("reference"):
        assert not fast(x)
    assert fast(x)
    with asked_for("natve"), pytest.raises(HardGNNError, match="did you mean 'native'"):
        fast(x)
    asked = "import torch; from hardgnn.ops.form import fast; print(fast(torch.ones(1)))"
    environment = os.environ | {VARIABLE: "reference"}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def a_level(generator: torch.Generator) -> Tensor:
    torch.manual_seed(0)
    level = Level(nn.GRU(32, 32), None, nn.Linear(32, 96), None, 4, False, 1e-3)
    return encode(torch.randn(3, 70, 32, generator=generator, requires_grad=True), level, 0.2, generator)


@pytest.mark.skipif(library.compiler_here() is None, reason="no C compiler")
def test_the_c_form_runs_and_threads_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_level, "TOGETHER", 32)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        values = a_level(torch.Generator().manual_seed(0))
        found.append(values)
    assert "NativeEncodeBackward" in operations(found[0])
    assert torch.equal(*found)


TILES = pytest.mark.skipif(not library.library().tiles, reason="a processor without tiles of bfloat16")


@TILES
def test_tiles_are_used_and_told() -> None:
    found, said = [], []
    for form in COMPILED:
        with asked_for(form):
            found.append(a_level(torch.Generator().manual_seed(0)))
            said.append("tiles" in library.described())
    difference = (found[0] - found[1]).abs().max() / found[1].abs().max()
    assert 0 < difference < 3e-5
    assert said == [True, False]


def graphs(generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    graph = random_graph(0, (3, 80, 90), "sym", 0.1)
    leaves = [random(generator, torch.float32, 3 * size, 48) for size in (80, 90)]
    asked = torch.arange(0, 240, 3), torch.arange(0, 270, 2)
    matrices = graph.matrices(active=True)
    of_users, of_items = propagate(matrices, *leaves, 3, 0.5, *asked, summed=True, active=graph.active)
    return [*of_users, *of_items], leaves


def the_level(generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    level = Level(nn.GRU(32, 32), nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32), 4, False, 1e-3)
    leaves = [random(generator, torch.float32, 4, 70, 32), *level.recurrent.parameters(), *level.qkv.parameters()]
    return [encode(leaves[0], level, 0.2, generator)], leaves


def the_nearest(generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    query, items = (torch.randn(size, 32, generator=generator) for size in (40, 300))
    values, _ = nearest(query, items, np.zeros(41, np.int64), np.zeros(0, np.int64), 5)
    return [values], []


@TILES
@pytest.mark.parametrize("compute", [graphs, the_level, the_nearest])
def test_bfloat16_on_a_processor_is_near_float32(
    compute: Callable[[torch.Generator], tuple[list[Tensor], list[Tensor]]],
) -> None:
    """The gradient comes after the precision has been left, as in a training."""
    found = []
    for precision in ("float32", "bfloat16"):
        with computing(torch.device("cpu"), precision):
            values, leaves = compute(torch.Generator().manual_seed(0))
        weights = [torch.randn(one.shape, generator=torch.Generator().manual_seed(1)) for one in values]
        total = sum((value * weight).sum() for value, weight in zip(values, weights))
        found.append([*values, *(torch.autograd.grad(total, leaves) if leaves else ())])
    for expected, other in zip(*found, strict=True):
        assert other.dtype == torch.float32
        assert 1e-4 < (other - expected).norm() / expected.norm() < 0.03


def test_bfloat16_is_autocast_without_tiles() -> None:
    say_slow.cache_clear()
    with asked_for("float32"), pytest.warns(UserWarning, match="autocast, slower"):
        context = computing(torch.device("cpu"), "bfloat16")
    with context:
        assert torch.is_autocast_enabled("cpu")
        assert library.described() == "reference (autocast)"


def test_without_a_compiler_torch_serves_and_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for broken in ("", "no-such-compiler", str(tmp_path)):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("CC", broken) if broken else monkeypatch.delenv("CC", raising=False)
        library.library.cache_clear()
        library.say.cache_clear()
        try:
            with pytest.warns(UserWarning, match=f"compiler.*{re.escape(broken)}.*runs in torch"):
                values = a_level(torch.Generator().manual_seed(0))
            assert library.described().startswith("torch (")
        finally:
            library.library.cache_clear()
        assert "_EncodeBackward" in operations(values)
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.mark.skipif(library.compiler_here() is None, reason="no C compiler")
def test_what_was_built_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.library.cache_clear()
    try:
        assert library.described().startswith("native (")
        [made] = (tmp_path / "hardgnn").iterdir()
        before = made.stat().st_mtime_ns
        library.library.cache_clear()
        assert library.library().functions is not None
    finally:
        library.library.cache_clear()
    assert [entry.stat().st_mtime_ns for entry in (tmp_path / "hardgnn").iterdir()] == [before]


@pytest.mark.parametrize("place", ["weight_ih_l0", "weight_hh_l0", "x"])
def test_what_is_no_number_stays_none(place: str) -> None:
    torch.manual_seed(0)
    level = Level(nn.GRU(32, 32), nn.LayerNorm(32), nn.Linear(32, 96), None, 4, False, 1e-3)
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        (x if place == "x" else level.recurrent.get_parameter(place)).view(-1)[0] = torch.nan
    for form in ("reference", "torch", "float32", "native"):
        with asked_for(form):
            found = encode(x, level, 0.0, None)
            own, owner = torch.zeros(1, 40, dtype=torch.bool), torch.zeros(2, dtype=torch.long)
            loss = sampled_softmax(found[:2], torch.ones(40, 32), torch.zeros(40), torch.zeros(2), own, owner)
        assert found[0].isnan().any(), form
        assert loss.isnan(), form


def test_the_cache_is_of_this_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "hardgnn").mkdir()
    (tmp_path / "hardgnn").chmod(0o777)
    library.library.cache_clear()
    try:
        assert "others may write there" in library.described()
    finally:
        library.library.cache_clear()
