"""Each metric against a small independent computation; metrics from outside."""

from importlib.metadata import EntryPoint, EntryPoints
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, precision_score, recall_score

import hardgnn.parts
from factories import TableRanker, random_dataset
from hardgnn.data.dataset import PARTS
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.lists import top_lists, with_lists
from hardgnn.evaluation.protocols import evaluate
from hardgnn.metrics import (
    METRICS,
    average_precision,
    coverage,
    gini,
    hit_rate,
    list_metric,
    mean_of,
    metric,
    named,
    ndcg,
    novelty,
    parted,
    per_user,
    popularity,
    popularity_ratio,
    precision,
    recall,
    reciprocal_rank,
    split,
    summarise,
    summarise_lists,
)

OF_RANKS, OF_LISTS = parted(METRICS.names())
SOME_LISTS = st.integers(1, 12).flatmap(
    lambda n_items: st.tuples(
        st.lists(
            st.permutations(range(n_items)).map(lambda order: (order[:4] + [-1] * 4)[:4]), min_size=1, max_size=12
        ),
        st.lists(st.integers(1, 50), min_size=n_items, max_size=n_items),
    )
)


@pytest.fixture
def outside():
    """Metrics registered in a test are gone after it."""
    before = dict(METRICS._known)
    yield
    METRICS._known = before


def announce(monkeypatch, **points):
    installed = EntryPoints(EntryPoint(name, value, "hardgnn.metrics") for name, value in points.items())
    monkeypatch.setattr(hardgnn.parts, "entry_points", lambda group: installed.select(group=group))


def test_by_hand():
    ranks = np.array([0, 1, 2, 9, 10])
    np.testing.assert_array_equal(hit_rate(ranks, 10), [1, 1, 1, 1, 0])
    np.testing.assert_allclose(ndcg(ranks, 10), [1, 1 / np.log2(3), 0.5, 1 / np.log2(11), 0])
    np.testing.assert_allclose(reciprocal_rank(ranks, 10), [1, 1 / 2, 1 / 3, 1 / 10, 0])
    np.testing.assert_array_equal(hit_rate(ranks, 1), [1, 0, 0, 0, 0])


@pytest.mark.parametrize("n", [1, 5, 10, 20])
def test_metrics_per_user_are_scikit_learns(n):
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(30.0), (100, 1)), axis=1)
    relevant = np.eye(30, dtype=int)[rng.integers(30, size=100)]
    ranks = (scores > (scores * relevant).sum(1, keepdims=True)).sum(1)
    first = (scores >= np.sort(scores)[:, -n, None]).astype(int)  # what is recommended
    theirs = {
        ndcg: [ndcg_score(r[None], s[None], k=n) for r, s in zip(relevant, scores)],
        recall: [recall_score(r, f) for r, f in zip(relevant, first)],
        hit_rate: [recall_score(r, f) for r, f in zip(relevant, first)],
        precision: [precision_score(r, f) for r, f in zip(relevant, first)],
        average_precision: [
            label_ranking_average_precision_score(r[None], s[None]) * (r @ f)
            for r, s, f in zip(relevant, scores, first)
        ],
    }
    for ours, expected in theirs.items():
        np.testing.assert_allclose(ours(ranks, n), expected)
    np.testing.assert_allclose(reciprocal_rank(ranks, n), theirs[average_precision])


def test_summary_is_means_over_users_under_names_with_the_cut_off():
    assert summarise([0, 15], at=(10, 20)) == pytest.approx(
        {"hr@10": 0.5, "ndcg@10": 0.5, "hr@20": 1.0, "ndcg@20": (1 + 1 / np.log2(17)) / 2}
    )
    assert list(per_user([0], at=(5,))) == ["hr@5", "ndcg@5"]
    assert summarise([0, 15], (2, 16), ["mrr"]) == pytest.approx({"mrr@2": 0.5, "mrr@16": (1 + 1 / 16) / 2})
    assert mean_of([0, 3], "precision@4") == pytest.approx(1 / 4)
    assert mean_of([2]) == pytest.approx(0.5)  # ndcg@10


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.integers(1, 50), st.sampled_from(OF_RANKS))
def test_bounds_and_order_of_every_metric_per_user(ranks, n, name):
    function = METRICS.find(name).function
    values = function(ranks, n)
    assert ((values >= 0) & (values <= hit_rate(ranks, n))).all()
    assert (function(np.array(ranks) + 1, n) <= values).all()
    if name != "precision":
        assert (function(ranks, n + 1) >= values).all()


@given(SOME_LISTS)
def test_metrics_of_lists_by_counting(drawn):
    lists, counts = drawn
    shown = [item for row in lists for item in row if item >= 0]
    events, n_items = sum(counts), len(counts)
    assert coverage(lists, counts) == pytest.approx(len(set(shown)) / n_items)
    assert popularity(lists, counts) == pytest.approx(sum(counts[item] for item in shown) / len(shown))
    own = [counts[item] for item in range(n_items) for _ in range(counts[item])]  # of the item of each event
    assert popularity_ratio(lists, counts) == pytest.approx(popularity(lists, counts) / (sum(own) / len(own)))
    told = sum(-log2(counts[item] / events) for item in shown) / len(shown)
    assert novelty(lists, counts) == pytest.approx(told, abs=1e-12)
    exposure = [shown.count(item) for item in range(n_items)]
    apart = sum(abs(a - b) for a in exposure for b in exposure)  # half the relative mean difference
    assert gini(lists, counts) == pytest.approx(apart / (2 * n_items * sum(exposure)), abs=1e-12)


@given(SOME_LISTS, st.randoms())
def test_metrics_of_lists_do_not_depend_on_the_order_of_users_or_on_numbering(drawn, random):
    lists, counts = drawn
    before = summarise_lists(np.array(lists), np.array(counts), [4], OF_LISTS)
    assert before.keys() == {f"{name}@4" for name in OF_LISTS}
    number = random.sample(range(len(counts)), len(counts))
    random.shuffle(lists)
    again = np.array([[number[item] if item >= 0 else -1 for item in row] for row in lists])
    recounted = np.empty(len(counts), int)
    recounted[number] = counts
    assert summarise_lists(again, recounted, [4], OF_LISTS) == pytest.approx(before)


def test_the_ends_of_coverage_and_gini():
    assert (coverage([[0], [0]], [1, 1, 1, 1]), gini([[0], [0]], [1, 1, 1, 1])) == (0.25, 0.75)
    assert (coverage([[0, 1], [2, 3]], [1, 1, 1, 1]), gini([[0, 1], [2, 3]], [1, 1, 1, 1])) == (1, 0)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    levels=st.sampled_from([2, 1000]),
    part=st.sampled_from(["valid", "test"]),
    block_bytes=st.sampled_from([1, 700, 2**20]),
)
def test_lists_are_those_of_sorting_what_was_trained_on_and_is_not_seen(seed, levels, part, block_bytes):
    data = random_dataset(seed=seed)
    table = np.random.default_rng(seed).integers(levels, size=(data.n_users, data.n_items))
    users = data.targets(PARTS[part])[0][::2]
    counts = data.train.item_counts(data.n_items)
    expected = []
    for user in users:
        seen = set(data.before(PARTS[part]).of(user).tolist())
        items = [item for item in range(data.n_items) if counts[item] and item not in seen]
        expected.append((sorted(items, key=lambda item: (-table[user, item], item)) + [-1] * data.n_items)[:35])
    lists = top_lists(TableRanker(table), data, part, users, 35, block_bytes=block_bytes)
    np.testing.assert_array_equal(lists, expected)


def test_a_result_has_figures_of_both_kinds_in_the_order_asked_for():
    data = random_dataset()
    ranker, asked = TableRanker(np.random.default_rng(0).random((data.n_users, data.n_items))), ["coverage", "mrr"]
    result, frame = evaluate(ranker, data, "test", at=(3, 5), metrics=parted(asked)[0])
    users = frame["user"].to_numpy()
    full = with_lists(result, ranker, data, users, (3, 5), asked)
    assert list(full.metrics) == ["coverage@3", "mrr@3", "coverage@5", "mrr@5"]
    assert list(full.intervals) == ["mrr@3", "mrr@5"]
    lists = top_lists(ranker, data, "test", users, 3)
    assert full.metrics["coverage@3"] == len(np.unique(lists)) / data.n_items
    alone, _ = evaluate(ranker, data, "test", metrics=[])
    assert (alone.metrics, alone.intervals) == ({}, {})


def test_a_metric_from_outside_is_one_function(outside):
    @metric("first")
    def first(ranks, n):
        return (ranks == 0).astype(float)

    @list_metric("longest")
    def longest(lists, counts):
        return (lists >= 0).sum(1).max()

    assert summarise([0, 0, 4], (10,), named("first,hr")) == pytest.approx({"first@10": 2 / 3, "hr@10": 1})
    assert summarise_lists(np.array([[1, 0, -1]]), np.array([1, 1]), [3], ["longest"]) == {"longest@3": 2}
    assert parted(["longest", "first"]) == (["first"], ["longest"])
    with pytest.raises(HardGNNError, match="metric 'hr': .*hit_rate and .*mine both have this name"):

        @metric("hr")
        def mine(ranks, n):
            return ranks

    with pytest.raises(HardGNNError, match="expected a name of small letters"):
        metric("HR@10")(first)


def test_a_metric_of_an_installed_package_is_found_by_its_entry_point(outside, monkeypatch, tmp_path):
    (tmp_path / "far_metrics.py").write_text(
        "from hardgnn.metrics import metric\n@metric('far')\ndef far(ranks, n):\n    return 0.0 * ranks + 1 / n\n"
    )
    (tmp_path / "broken_metrics.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, far="far_metrics", broken="broken_metrics", shy="far_metrics")
    assert "far" in METRICS.names()
    assert "far" not in METRICS._known  # not loaded before it is asked for
    assert summarise([3, 4], (10,), ["far"]) == pytest.approx({"far@10": 0.1})
    with pytest.raises(
        HardGNNError, match="metric 'broken' .* cannot be loaded: ModuleNotFoundError: .*no_such_module"
    ):
        named(["broken"])
    with pytest.raises(HardGNNError, match="metric 'shy' .* registers no metric of that name"):
        named(["shy"])
    with pytest.raises(HardGNNError, match="unknown metric 'broke'; did you mean 'broken'"):
        named(["broke"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda ranks, n: ranks[:1], r"shape \(2,\), got \(1,\)"),
        (lambda ranks, n: ranks / 0 * 0, "2 of 2 values are not finite"),
        (lambda ranks, n: ranks.nothing, "fails: AttributeError"),
        (lambda ranks, n: "ab", "fails: ValueError"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_metric_that_is_wrong_is_named(outside, answer, message):
    metric("wrong")(answer)
    with pytest.raises(HardGNNError, match=f"metric 'wrong' .*{message}"):
        summarise([1, 2], (10,), ["wrong"])


@pytest.mark.parametrize(
    ("ranks", "n", "message"),
    [
        ([0.0, float("nan")], 10, "1 of 2 ranks are NaN"),
        ([-1, 3], 10, "start at 0"),
        ([], 10, "one number per user"),
        ([[1, 2]], 10, "one number per user"),
        ([1], 0, "at least 1"),
        ([1], 2.5, "whole number"),
    ],
)
def test_bad_ranks_and_cut_offs_are_refused(ranks, n, message):
    for name in OF_RANKS:
        with pytest.raises(HardGNNError, match=message):
            METRICS.find(name).function(ranks, n)
    with pytest.raises(HardGNNError, match=message):
        summarise(ranks, (n,))


@pytest.mark.parametrize(
    ("lists", "counts", "message"),
    [
        ([[-1]], [1], "an item in one of them"),
        ([0, 1], [1, 1], "a row of items per user"),
        ([[0, 2]], [1, 1], "none of the 2 items"),
        ([[0, 1]], [1, 0], "no training interactions"),
    ],
)
def test_lists_that_cannot_be_are_refused(lists, counts, message):
    for name in OF_LISTS:
        with pytest.raises(HardGNNError, match=message):
            METRICS.find(name).function(lists, counts)


def test_names_that_are_none_are_told():
    with pytest.raises(HardGNNError, match="unknown metric 'ngcd'; did you mean 'ndcg'"):
        named("hr,ngcd")
    for value, message in ((5, "expected names of metrics"), ([], "one metric or more"), ([3], "expected text")):
        with pytest.raises(HardGNNError, match=message):
            named(value)
    assert named(" hr, mrr,hr") == ["hr", "mrr"]
    with pytest.raises(HardGNNError, match="metric 'gini' is of whole lists"):
        per_user([1], (10,), ["gini"])
    assert split("mrr@5") == ("mrr", 5)
    for figure in ("mrr", "mrr@", "mrr@0", "@5"):
        with pytest.raises(HardGNNError, match="a metric and a cut-off"):
            split(figure)
