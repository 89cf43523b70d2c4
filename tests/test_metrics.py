"""HR and NDCG by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from hardgnn.errors import HardGNNError
from hardgnn.metrics import hit_rate, ndcg, per_user, summarise


def test_by_hand():
    ranks = np.array([0, 1, 2, 9, 10])
    np.testing.assert_array_equal(hit_rate(ranks, 10), [1, 1, 1, 1, 0])
    np.testing.assert_allclose(ndcg(ranks, 10), [1, 1 / np.log2(3), 0.5, 1 / np.log2(11), 0])
    np.testing.assert_array_equal(hit_rate(ranks, 1), [1, 0, 0, 0, 0])


@pytest.mark.parametrize("n", [1, 5, 10, 20])
def test_ndcg_is_scikit_learns(n):
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(30.0), (200, 1)), axis=1)
    relevant = np.eye(30)[rng.integers(30, size=200)]
    ranks = (scores > (scores * relevant).sum(1, keepdims=True)).sum(1)
    expected = [ndcg_score(r[None], s[None], k=n) for r, s in zip(relevant, scores)]
    np.testing.assert_allclose(ndcg(ranks, n), expected)


def test_summary_is_means_over_users_under_names_with_the_cut_off():
    assert summarise([0, 15], at=(10, 20)) == pytest.approx(
        {"hr@10": 0.5, "ndcg@10": 0.5, "hr@20": 1.0, "ndcg@20": (1 + 1 / np.log2(17)) / 2}
    )
    assert list(per_user([0], at=(5,))) == ["hr@5", "ndcg@5"]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.integers(1, 50))
def test_bounds_and_order(ranks, n):
    hits, gains = hit_rate(ranks, n), ndcg(ranks, n)
    assert ((gains >= 0) & (gains <= hits)).all()
    assert (ndcg(ranks, n + 1) >= gains).all()
    assert (ndcg(np.array(ranks) + 1, n) <= gains).all()


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
    for metric in (hit_rate, ndcg):
        with pytest.raises(HardGNNError, match=message):
            metric(ranks, n)
    with pytest.raises(HardGNNError, match=message):
        summarise(ranks, (n,))
