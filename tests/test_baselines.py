"""The floors against dense computations, and what they may learn from."""

from dataclasses import replace

import numpy as np
import pytest

from factories import random_dataset, tiny_dataset
from hardgnn.data.dataset import TEST, TRAIN
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import evaluate, rank_targets
from hardgnn.evaluation.quality import BASELINES, baseline
from hardgnn.models.similarity import cosine_similarity, forward_similarity

ITEM_KNN = {"last": 5, "neighbours": 0}
RECENCY_KNN = {"last": 5, "decay": 0.8, "forward": 1.0, "popularity": 0.0, "backward": 0.0, "neighbours": 0}
CHOSEN_BY_HAND = {"popularity": {}, "itemknn": ITEM_KNN, "recencyknn": RECENCY_KNN, "ease": {"weight": 10.0}}


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
    np.testing.assert_array_equal(
        all_scores(baseline("popularity", dataset), dataset), np.tile(expected, (dataset.n_users, 1))
    )


def test_similarities_are_the_dense_ones(dataset):
    np.testing.assert_allclose(cosine_similarity(dataset, None).toarray(), dense_cosine(dataset), atol=1e-6)
    np.testing.assert_allclose(forward_similarity(dataset).toarray(), dense_forward(dataset), atol=1e-6)
    np.testing.assert_allclose(
        forward_similarity(dataset, backward=0.3).toarray(), dense_forward(dataset, 0.3), atol=1e-6
    )


@pytest.mark.parametrize("last", [1, 3, 0])
def test_neighbour_scores_are_the_dense_ones(dataset, last):
    asked = last or None
    knn = all_scores(baseline("itemknn", dataset, last=last, neighbours=0), dataset)
    np.testing.assert_allclose(knn, dense_scores(dataset, dense_cosine(dataset), asked, 1.0), atol=1e-5)
    settings = RECENCY_KNN | {"last": last, "decay": 0.7, "forward": 2.0, "backward": 0.3}
    recency = all_scores(baseline("recencyknn", dataset, **settings), dataset)
    both = dense_cosine(dataset) + 2.0 * dense_forward(dataset, 0.3)
    np.testing.assert_allclose(recency, dense_scores(dataset, both, asked, 0.7), atol=1e-5)
    conditional = all_scores(baseline("recencyknn", dataset, **settings | {"popularity": 0.5}), dataset)
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
    for name in ("itemknn", "recencyknn", "ease"):
        ranker = baseline(name, market, **CHOSEN_BY_HAND[name])
        assert rank_targets(ranker, market, "test")["rank"].max() == 0, ranker.name


def test_recency_finds_the_order_that_cosine_cannot_see():
    # Everybody walks round one ring of items from a start of their own: only the order tells what comes next.
    walks = [[(user + step) % 24 for step in range(12)] for user in range(72)]
    ring = tiny_dataset(walks, n_items=24)
    fitted = baseline("recencyknn", ring)
    assert evaluate(fitted, ring, "test")[0].metrics["ndcg@10"] == 1.0
    assert evaluate(baseline("popularity", ring), ring, "test")[0].metrics["ndcg@10"] < 0.6
    assert set(fitted.chosen) == {"last", "decay", "forward", "neighbours", "popularity", "backward"}


@pytest.mark.parametrize("name", [*BASELINES, "ease"])
def test_test_items_teach_nothing(dataset, name):
    changed = np.where(dataset.part == TEST, (dataset.item + 1) % dataset.n_items, dataset.item)
    other = replace(dataset, item=changed.astype(np.int32))
    np.testing.assert_array_equal(
        all_scores(baseline(name, dataset), dataset), all_scores(baseline(name, other), dataset)
    )


@pytest.mark.parametrize("name", CHOSEN_BY_HAND)
def test_validation_items_only_choose(dataset, name):
    changed = np.where(dataset.part != TRAIN, (dataset.item + 1) % dataset.n_items, dataset.item)
    other = replace(dataset, item=changed.astype(np.int32))
    found = [all_scores(baseline(name, one, **CHOSEN_BY_HAND[name]), dataset) for one in (dataset, other)]
    np.testing.assert_array_equal(*found)


def test_what_is_chosen_is_the_best_on_validation(dataset):
    fitted = baseline("itemknn", dataset, neighbours=20)
    each = {last: baseline("itemknn", dataset, neighbours=20, last=last) for last in (1, 2, 3, 5, 10, 20, 50, 0)}
    figures = {last: evaluate(model, dataset, "valid")[0].metrics["ndcg@10"] for last, model in each.items()}
    assert fitted.chosen == {"last": max(figures, key=figures.get), "neighbours": 20}


def test_ease_is_the_closed_form(dataset):
    matrix, profile = (np.zeros((dataset.n_users, dataset.n_items)) for _ in range(2))
    matrix[dataset.user[dataset.part == TRAIN], dataset.item[dataset.part == TRAIN]] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + 30 * np.eye(dataset.n_items))
    weights = np.eye(dataset.n_items) - inverse / np.diag(inverse)
    for user in range(dataset.n_users):
        profile[user, dataset.before(TEST).of(user)] = 1
    found = all_scores(baseline("ease", dataset, weight=30.0), dataset)
    np.testing.assert_allclose(found, profile @ weights, atol=1e-4)


def test_an_empty_history_scores_zero(dataset):
    nobody = Histories.from_lists([[]])
    for name in ("itemknn", "recencyknn", "ease"):
        ranker = baseline(name, dataset, **CHOSEN_BY_HAND[name])
        assert (ranker.scores(np.array([0]), nobody) == 0).all()


def test_bad_requests_say_why(dataset):
    with pytest.raises(HardGNNError, match="did you mean 'itemknn'"):
        baseline("item-knn", dataset)
    for name, settings, sentence in (
        ("itemknn", {"last": -1}, "last items must be at least 1, or 0 for all, got -1"),
        ("itemknn", {"neighbours": -1}, "number of neighbours must be at least 1, got -1"),
        ("recencyknn", {"decay": 1.5}, "decay must be above 0 and at most 1, got 1.5"),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            baseline(name, dataset, **CHOSEN_BY_HAND[name] | settings)


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
