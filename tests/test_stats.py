"""Intervals and paired tests against scipy, by hand, and on runs that must not differ."""

import numpy as np
import polars as pl
import pytest
from scipy import stats as scipy_stats

from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import compare_ranks, correct
from hardgnn.evaluation.stats import bootstrap_intervals, holm, permutation_p, wilcoxon_p
from hardgnn.metrics import ndcg


def frame(ranks, **changes):
    users = np.arange(len(ranks), dtype=np.int32)
    columns = {"user": users, "target": users * 3, "rank": np.asarray(ranks, np.int32), "candidates": users + 50}
    return pl.DataFrame({**columns, **changes})


@pytest.fixture
def ranks():
    rng = np.random.default_rng(0)
    a = rng.geometric(0.08, size=400) - 1
    return a, np.maximum(0, a + rng.integers(-2, 6, size=400))


def test_bootstrap_is_the_one_that_draws_users():
    ranks = np.random.default_rng(1).geometric(0.1, size=300) - 1
    values = ndcg(ranks, 10)
    plain = np.random.default_rng(2).choice(values, size=(20_000, 300)).mean(axis=1)
    interval = bootstrap_intervals(values[:, None], resamples=20_000)[0]
    np.testing.assert_allclose(interval, np.quantile(plain, [0.025, 0.975]), atol=1e-3)


def test_bootstrap_is_seeded_and_chunks_change_nothing_else(monkeypatch):
    values = np.random.default_rng(1).random((50, 2))
    whole = bootstrap_intervals(values, seed=3)
    np.testing.assert_array_equal(whole, bootstrap_intervals(values, seed=3))
    monkeypatch.setattr("hardgnn.evaluation.stats.CHUNK_CELLS", 1000)
    np.testing.assert_array_equal(whole, bootstrap_intervals(values, seed=3))
    assert (whole[:, 0] < values.mean(0)).all()
    assert (whole[:, 1] > values.mean(0)).all()


def test_exact_permutation_is_scipys():
    differences = np.array([0.5, -0.2, 0.0, 0.7, 0.1, 0.3, -0.1, 0.4])
    expected = scipy_stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert permutation_p(differences) == pytest.approx(expected.pvalue)


def test_random_permutation_agrees_with_flipping_each_user(ranks):
    differences = ndcg(ranks[0], 10)[:60] - ndcg(ranks[1], 10)[:60]
    flips = np.random.default_rng(0).choice([-1.0, 1.0], size=(40_000, 60))
    expected = (np.abs(flips @ differences) >= abs(differences.sum()) - 1e-12).mean()
    assert permutation_p(differences, resamples=40_000) == pytest.approx(expected, abs=0.01)


def test_wilcoxon_is_scipys_without_zeros(ranks):
    differences = ndcg(ranks[0], 10) - ndcg(ranks[1], 10)
    assert wilcoxon_p(differences) == scipy_stats.wilcoxon(differences[differences != 0]).pvalue


def test_comparing_is_symmetric(ranks):
    forth = compare_ranks(frame(ranks[0]), frame(ranks[1]))
    back = compare_ranks(frame(ranks[1]), frame(ranks[0]))
    for one, other in zip(forth, back):
        assert one.difference == pytest.approx(-other.difference)
        assert one.effect_size == pytest.approx(-other.effect_size)
        assert one.wilcoxon_p == pytest.approx(other.wilcoxon_p)
        assert one.permutation_p == pytest.approx(other.permutation_p, abs=0.01)


def test_rows_tell_means_difference_interval_and_number_of_comparisons(ranks):
    rows = compare_ranks(frame(ranks[0]), frame(ranks[1]), at=(10, 20))
    assert [row.metric for row in rows] == ["hr@10", "ndcg@10", "hr@20", "ndcg@20"]
    row = rows[1]
    assert row.mean_a == pytest.approx(ndcg(ranks[0], 10).mean())
    assert row.difference == pytest.approx(row.mean_a - row.mean_b)
    assert 0 < row.low < row.difference < row.high
    assert max(row.wilcoxon_p_holm, row.permutation_p_holm) < 0.01
    assert all(row.comparisons == 4 for row in rows)
    assert all(row.wilcoxon_p_holm >= row.wilcoxon_p for row in rows)


def test_identical_runs_do_not_differ(ranks):
    for row in compare_ranks(frame(ranks[0]), frame(ranks[0])):
        assert (row.difference, row.low, row.high, row.effect_size) == (0, 0, 0, 0)
        assert (row.wilcoxon_p, row.permutation_p, row.wilcoxon_p_holm) == (1, 1, 1)


def test_the_order_of_rows_does_not_matter(ranks):
    shuffled = frame(ranks[1]).sample(fraction=1.0, shuffle=True, seed=0)
    assert compare_ranks(frame(ranks[0]), shuffled) == compare_ranks(frame(ranks[0]), frame(ranks[1]))


def test_seeds_are_averaged_per_user(ranks):
    a, b = frame(ranks[0]), frame(ranks[1])
    row = compare_ranks([a, b], a, at=(10,))[1]
    assert row.mean_a == pytest.approx((ndcg(ranks[0], 10).mean() + ndcg(ranks[1], 10).mean()) / 2)
    assert compare_ranks([a, a], [b, b]) == compare_ranks(a, b)


def test_chance_is_found_about_as_often_as_promised():
    rng = np.random.default_rng(0)
    differences = rng.normal(size=(300, 25))
    rejected = np.mean([permutation_p(row, resamples=400, seed=seed) <= 0.05 for seed, row in enumerate(differences)])
    assert 0.02 < rejected < 0.09


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (frame([1, 2, 3, 4], target=[0, 3, 6, 8]), "targets differ for 1 of 4"),
        (frame([1, 2, 3, 4], candidates=[9, 9, 9, 9]), "numbers of candidates differ"),
        (frame([1, 2, 3]), "1 users are ranked in only one"),
        (frame([1, 2, 3, 4], user=[0, 1, 2, 2]), "users are ranked in only one"),
        (frame([1, 2, 3, 4]).drop("target"), "lack the column target"),
    ],
)
def test_runs_on_other_tasks_are_refused(other, message):
    with pytest.raises(HardGNNError, match=message):
        compare_ranks(frame([1, 2, 3, 4]), other)
    with pytest.raises(HardGNNError, match=message):
        compare_ranks(other, frame([1, 2, 3, 4]))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1, 1])
    assert len(holm([])) == 0
    with pytest.raises(HardGNNError, match="between 0 and 1"):
        holm([0.1, float("nan")])


def test_correction_over_several_pairs_counts_all_of_them(ranks):
    rows = compare_ranks(frame(ranks[0]), frame(ranks[1]))
    both = correct([*rows, *rows])
    assert all(row.comparisons == 8 for row in both)
    np.testing.assert_allclose([row.wilcoxon_p_holm for row in both], holm([r.wilcoxon_p for r in rows] * 2))
