"""The floors against dense computations, and what they may learn from."""

from dataclasses import replace

import numpy as np
import pytest

from factories import random_dataset, tiny_dataset
from hardgnn.data.dataset import TEST, TRAIN
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import evaluate, rank_targets
from hardgnn.models.neighbours import (
    BASELINES,
    ItemKNN,
    Popularity,
    RecencyKNN,
    baseline,
    cosine_similarity,
    fit_recency_knn,
    forward_similarity,
)


def dense_cosine(dataset):
    matrix = np.zeros((dataset.n_users, dataset.n_items))
    training = dataset.part == TRAIN
    matrix[dataset.user[training], dataset.item[training]] = 1
    norms = np.maximum(np.sqrt(matrix.sum(0)), 1)
    similarity = matrix.T @ matrix / np.outer(norms, norms)
    np.fill_diagonal(similarity, 0)
    return similarity


def dense_forward(dataset, backward=0.0):
    counts = np.maximum(np.bincount(dataset.train.items, minlength=dataset.n_items), 1)
    similarity = np.zeros((dataset.n_items, dataset.n_items))
    for user in range(dataset.n_users):
        sequence = dataset.train.of(user)
        for place, item in enumerate(sequence):
            for distance, later in enumerate(sequence[place + 1 : place + 6], start=1):
                similarity[item, later] += 1 / distance
                similarity[later, item] += backward / distance
    np.fill_diagonal(similarity, 0)
    return similarity / np.sqrt(np.outer(counts, counts))


def dense_scores(dataset, similarity, last, decay):
    scores = np.zeros((dataset.n_users, dataset.n_items))
    for user in range(dataset.n_users):
        newest_first = dataset.before(TEST).of(user)[::-1]
        for age, item in enumerate(newest_first[:last]):
            scores[user] += decay**age * similarity[item]
    return scores


def all_scores(ranker, dataset):
    return ranker.scores(np.arange(dataset.n_users), dataset.before(TEST))


@pytest.fixture(params=[False, True], ids=["first", "repeats"])
def dataset(request):
    return random_dataset(repeats=request.param)


def test_popularity_counts_training_interactions(dataset):
    expected = np.bincount(dataset.item[dataset.part == TRAIN], minlength=dataset.n_items)
    np.testing.assert_array_equal(all_scores(Popularity(dataset), dataset), np.tile(expected, (dataset.n_users, 1)))


def test_similarities_are_the_dense_ones(dataset):
    np.testing.assert_allclose(cosine_similarity(dataset, None).toarray(), dense_cosine(dataset), atol=1e-6)
    np.testing.assert_allclose(forward_similarity(dataset).toarray(), dense_forward(dataset), atol=1e-6)
    np.testing.assert_allclose(
        forward_similarity(dataset, backward=0.3).toarray(), dense_forward(dataset, 0.3), atol=1e-6
    )


@pytest.mark.parametrize("last", [1, 3, None])
def test_neighbour_scores_are_the_dense_ones(dataset, last):
    knn = all_scores(ItemKNN(dataset, last, neighbours=None), dataset)
    np.testing.assert_allclose(knn, dense_scores(dataset, dense_cosine(dataset), last, 1.0), atol=1e-5)
    recency = all_scores(RecencyKNN(dataset, last, decay=0.7, forward=2.0, neighbours=None, backward=0.3), dataset)
    both = dense_cosine(dataset) + 2.0 * dense_forward(dataset, 0.3)
    np.testing.assert_allclose(recency, dense_scores(dataset, both, last, 0.7), atol=1e-5)
    conditional = all_scores(RecencyKNN(dataset, last, 0.7, 2.0, None, popularity=0.5, backward=0.3), dataset)
    counts = np.maximum(np.bincount(dataset.train.items, minlength=dataset.n_items), 1)
    np.testing.assert_allclose(conditional, recency * np.sqrt(counts), rtol=1e-4, atol=1e-5)


def test_each_scored_item_keeps_its_most_similar_items(dataset, monkeypatch):
    monkeypatch.setattr("hardgnn.models.similarity.BLOCK_PAIRS", 150)
    full, cut = dense_cosine(dataset), cosine_similarity(dataset, 4).toarray()
    kept = -np.sort(-full, axis=0)[:4]
    np.testing.assert_allclose(-np.sort(-cut, axis=0)[:4], kept, atol=1e-6)
    assert ((cut > 0).sum(axis=0) <= 4).all()
    np.testing.assert_allclose(cut[cut > 0], full[cut > 0], atol=1e-6)


def test_a_checkerboard_is_completed():
    # Even users take even items, odd users odd ones: the item left out has their parity.
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(np.arange(user % 2, 20, 2)).tolist() for user in range(40)]
    market = tiny_dataset(sequences, n_items=20)
    for ranker in (ItemKNN(market), RecencyKNN(market)):
        assert rank_targets(ranker, market, "test")["rank"].max() == 0, ranker.name


def test_recency_finds_the_order_that_cosine_cannot_see():
    # Everybody walks round one ring of items from a start of their own: only the order tells what comes next.
    walks = [[(user + step) % 24 for step in range(12)] for user in range(72)]
    ring = tiny_dataset(walks, n_items=24)
    fitted = fit_recency_knn(ring)
    assert evaluate(fitted, ring, "test")[0].metrics["ndcg@10"] == 1.0
    assert evaluate(Popularity(ring), ring, "test")[0].metrics["ndcg@10"] < 0.6
    assert set(fitted.settings) == {"last", "decay", "forward", "neighbours", "popularity", "backward"}


@pytest.mark.parametrize("name", BASELINES)
def test_test_items_teach_nothing(dataset, name):
    changed = np.where(dataset.part == TEST, (dataset.item + 1) % dataset.n_items, dataset.item)
    other = replace(dataset, item=changed.astype(np.int32))
    np.testing.assert_array_equal(
        all_scores(baseline(name, dataset), dataset), all_scores(baseline(name, other), dataset)
    )


@pytest.mark.parametrize("ranker", [Popularity, ItemKNN, RecencyKNN])
def test_validation_items_teach_nothing(dataset, ranker):
    changed = np.where(dataset.part != TRAIN, (dataset.item + 1) % dataset.n_items, dataset.item)
    other = replace(dataset, item=changed.astype(np.int32))
    np.testing.assert_array_equal(all_scores(ranker(dataset), dataset), all_scores(ranker(other), dataset))


def test_an_empty_history_scores_zero(dataset):
    nobody = Histories.from_lists([[]])
    for ranker in (ItemKNN(dataset), RecencyKNN(dataset)):
        assert (ranker.scores(np.array([0]), nobody) == 0).all()


def test_bad_requests_say_why(dataset):
    with pytest.raises(HardGNNError, match="did you mean 'itemknn'"):
        baseline("item-knn", dataset)
    with pytest.raises(HardGNNError, match="last items"):
        ItemKNN(dataset, last=0)
    with pytest.raises(HardGNNError, match="neighbours"):
        ItemKNN(dataset, neighbours=0)
    with pytest.raises(HardGNNError, match="decay"):
        RecencyKNN(dataset, decay=1.5)


def test_of_a_very_long_user_only_the_latest_items_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [3, 0, 1, 2, 3, 4, 0, 5]  # different ones, latest first: 5, 0, 4, 3, 2, 1
    others = [[0, 1, 4], [2, 5, 0], [1, 3]]
    data = tiny_dataset([[*row, 6, 7] for row in (long, *others)], 8)  # the last two are no training items
    whole = cosine_similarity(data, None).toarray()
    monkeypatch.setattr("hardgnn.models.similarity.LONGEST", 4)
    with pytest.warns(UserWarning, match="tiny: 1 users have more than 4 different items"):
        bounded = cosine_similarity(data, None).toarray()
    counts = np.array([len({user for user, row in enumerate((long, *others)) if item in row}) for item in range(8)])
    expected = np.zeros((8, 8))
    for kept in ([5, 0, 4, 3], *others):
        for one in kept:
            for other in kept:
                expected[one, other] += one != other
    scale = np.sqrt(np.maximum(counts, 1))
    np.testing.assert_allclose(bounded, expected / scale / scale[:, None], rtol=1e-6)
    monkeypatch.setattr("hardgnn.models.similarity.LONGEST", 6)
    assert (cosine_similarity(data, None).toarray() == whole).all()
