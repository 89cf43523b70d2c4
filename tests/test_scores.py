"""Scores, ranks and best items: each form against the others, and what needs no table against the table."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import random_dataset
from hardgnn.api import HardGNN
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import left_out, rank_targets
from hardgnn.evaluation.topn import best_of_rows, top_n
from hardgnn.models.query import QueryModel
from hardgnn.ops import scores
from hardgnn.ops.form import asked_for, wanted
from hardgnn.ops.native import library
from hardgnn.ops.scores import Reach, Reachable, Terms
from hardgnn.ops.sparse import index_type
from hardgnn.runtime import side_by_side

in_c = pytest.mark.skipif(library.compiler_here() is None, reason="no C compiler")


def drawn(seed: int, users: int, items: int, dim: int, reach: bool, moments: bool) -> Terms:
    """Terms of which many items are alike to the last bit, and so tie."""
    rng = np.random.default_rng(seed)
    alike = rng.integers(0, 1 + items // 2, items)  # which other item each is
    numbers = [rng.standard_normal(shape, np.float32) for shape in ((users, dim), (items, dim), (items,), (3, items))]
    queries, vectors, base, table = (torch.from_numpy(one) for one in numbers)
    reached = None
    if reach:
        history = sp.random_array((users, items), density=0.1, rng=rng, format="csr", dtype=np.float32)
        edges = sp.random_array((items, items), density=0.1, rng=rng, format="csr", dtype=np.float32)
        reached = Reach(history, Reachable(edges[:, alike].tocsr()), 0.7, 0.03)
    moment = (table[:, alike], torch.from_numpy(rng.integers(0, 3, users))) if moments else None
    return Terms(queries, vectors[alike], base[alike], reached, moment)


def some_left_out(seed: int, users: int, items: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Targets (B,), what is left out (B, I) bool but for them, and the same as a list for each user."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, items, users).astype(np.int32)
    out = rng.random((users, items)) < 0.2
    out[np.arange(users), targets] = False
    offsets = np.concatenate([[0], out.sum(1).cumsum()]).astype(np.int64)
    return targets, out, (offsets, out.nonzero()[1].astype(np.int32))


sizes = given(
    seed=st.integers(0, 999),
    users=st.sampled_from([1, 31, 33, 270]),
    items=st.sampled_from([1, 7, 8, 30, 2051]),
    dim=st.sampled_from([1, 17, 64]),
    reach=st.booleans(),
    moments=st.booleans(),
)


@sizes
@settings(max_examples=15, deadline=None)
def test_forms_give_the_same_scores_and_so_do_candidates(
    seed: int, users: int, items: int, dim: int, reach: bool, moments: bool
) -> None:
    terms = drawn(seed, users, items, dim, reach, moments)
    asked = np.random.default_rng(seed).integers(0, items, (users, 5)).astype(np.int32)
    with asked_for("reference"):
        expected = scores.scores(terms)
    for form in ("native", "torch", "reference"):
        with asked_for(form):
            torch.testing.assert_close(scores.scores(terms), expected, rtol=1e-4, atol=1e-4)
            some = scores.candidate_scores(terms, asked)
        torch.testing.assert_close(some, expected.gather(1, torch.from_numpy(asked).long()), rtol=1e-4, atol=1e-4)


@in_c
@sizes
@settings(max_examples=40, deadline=None)
def test_ranks_and_best_items_are_those_of_the_table_to_the_last_tie(
    seed: int, users: int, items: int, dim: int, reach: bool, moments: bool
) -> None:
    terms = drawn(seed, users, items, dim, reach, moments)
    table = scores.scores(terms).numpy()
    targets, out, without = some_left_out(seed, users, items)
    limits = table[np.arange(users), targets]
    found, odd = scores.above(terms, targets, without)
    np.testing.assert_array_equal(found, ((table >= limits[:, None]) & ~out).sum(1) - 1)
    assert not odd.any()
    for n in (1, min(items, 40)):
        which, values, odd = scores.best(terms, n, without)
        expected, best = best_of_rows(np.where(out, -np.inf, table), n)
        np.testing.assert_array_equal(values, best)
        np.testing.assert_array_equal(which, np.where(np.isneginf(best), -1, expected))
        assert not odd.any()


@in_c
def test_threads_do_not_change_scores_and_one_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = drawn(1, 600, 50, 32, True, True)
    targets, _, without = some_left_out(1, 600, 50)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append([*scores.above(terms, targets, without), *scores.best(terms, 7, without), scores.scores(terms)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    terms.queries[[3, 299]] = torch.nan
    for odd in (scores.above(terms, targets, without)[1], scores.best(terms, 7, without)[2]):
        assert odd.nonzero()[0].tolist() == [3, 299]


@pytest.fixture(scope="module")
def fitted() -> QueryModel:
    model = HardGNN(
        "best",
        model={"dim": 32, "window": 6},
        transitions={"steps": 2},
        clock={"use": True},
        train={"epochs": 1},
        run={"threads": 1},
    )
    return model.fit(random_dataset(60, 90, repeats=True))._fitted().model


class Table:
    """A model that is asked for all scores alone."""

    name = "table"

    def __init__(self, model: QueryModel) -> None:
        self.model = model

    def scores(self, users: np.ndarray, histories: Histories) -> np.ndarray:
        return self.model.scores(users, histories)

    def knowing(self, histories: Histories) -> Table:
        return Table(self.model.knowing(histories))


@pytest.mark.parametrize("protocol", ["full", "full-successive", "sampled-999"])
def test_a_model_ranks_as_its_scores_do_in_every_form(fitted: QueryModel, protocol: str) -> None:
    data = random_dataset(60, 90, repeats=True)
    frames = []
    for form in ("native", "torch", "reference"):
        with asked_for(form):
            assert fitted.direct == (form == "native" and library.compiler_here() is not None)
            frames += [rank_targets(one, data, "test", protocol) for one in (fitted, Table(fitted))]
    assert all(frame.equals(frames[0]) for frame in frames[1:])


def test_a_model_recommends_as_its_scores_do(fitted: QueryModel) -> None:
    histories, users, blocked = random_dataset(60, 90).everything, np.arange(60), np.array([3, 80])
    for seen in (True, False):
        for n in (5, 95):
            direct, table = (
                top_n(one, users, histories, n, 90, exclude_seen=seen, blocked=blocked)
                for one in (fitted, Table(fitted))
            )
            for one, other in zip(direct, table, strict=True):
                np.testing.assert_array_equal(one, other)


def test_threads_rank_side_by_side_and_come_to_the_same(fitted: QueryModel, monkeypatch: pytest.MonkeyPatch) -> None:
    data, frames, lists, told = random_dataset(60, 90, repeats=True), [], [], []
    threads = torch.get_num_threads()
    for count in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        told.append([])
        tell = lambda done, total: told[-1].append((done, total))  # noqa: E731
        frames.append(rank_targets(fitted, data, "test", block_bytes=4 * 8192 * 7, progress=tell))
        lists.append(top_n(fitted, np.arange(60), data.train, 5, 90, block_bytes=4 * 8192 * 7)[0])
    assert frames[0].equals(frames[1])
    np.testing.assert_array_equal(*lists)
    assert [done for done, _ in told[0]][-1] == told[0][0][1] == told[1][-1][0]
    assert len(told[0]) > 3
    monkeypatch.undo()
    torch.set_num_threads(threads)


def test_a_part_that_fails_is_told_and_parts_run_in_the_form_that_is_asked_for() -> None:
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def work(part: int) -> None:
        seen.append((wanted(), torch.get_num_threads()))
        if part == 3:
            raise HardGNNError("three")

    try:
        with asked_for("torch"), pytest.raises(HardGNNError, match="three"):
            side_by_side(work, range(4))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {("torch", 1)}


def test_what_is_left_out_is_each_item_once_and_never_the_target() -> None:
    histories = Histories.from_lists([[4, 1, 4], [], [2, 0]])
    offsets, items = left_out(histories, 5, np.array([1, 0, 2], np.int32))
    assert (offsets.tolist(), items.tolist()) == ([0, 1, 1, 2], [4, 0])


def test_scores_that_are_no_numbers_are_refused(fitted: QueryModel) -> None:
    data = random_dataset(60, 90)
    broken = QueryModel("broken", fitted.scoring, fitted.user_vectors, fitted.item_vectors * torch.nan, fitted.encoder)
    for ask in (lambda: rank_targets(broken, data), lambda: top_n(broken, np.arange(60), data.train, 3, 90)):
        with pytest.raises(HardGNNError, match="broken: scores are NaN for"):
            ask()


def test_indices_have_as_many_bits_as_they_need() -> None:
    assert index_type(2**31 - 1) is np.int32
    assert index_type(2**31) is np.int64
