"""The best unseen items, against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import TableRanker, random_dataset
from hardgnn.baselines import Popularity
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.recommend import top_n


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 50),
    levels=st.sampled_from([1, 3, 1000]),
    exclude_seen=st.booleans(),
    block_bytes=st.sampled_from([1, 700, 2**20]),
)
def test_it_is_sorting_with_ties_by_index(seed, n, levels, exclude_seen, block_bytes):
    dataset = random_dataset(seed=seed, repeats=True)
    table = np.random.default_rng(seed).integers(levels, size=(dataset.n_users, dataset.n_items))
    users = np.random.default_rng(seed).permutation(dataset.n_users)[:11]
    items, scores = top_n(
        TableRanker(table),
        users,
        dataset.everything.take(users),
        n,
        dataset.n_items,
        exclude_seen=exclude_seen,
        block_bytes=block_bytes,
    )
    for row, user in enumerate(users):
        seen = set(dataset.everything.of(user).tolist()) if exclude_seen else set()
        allowed = [item for item in range(dataset.n_items) if item not in seen]
        expected = sorted(allowed, key=lambda item: (-table[user, item], item))[:n]
        missing = n - len(expected)
        assert items[row].tolist() == expected + [-1] * missing
        assert scores[row].tolist() == table[user, expected].tolist() + [-np.inf] * missing


def test_the_rankers_own_scores_are_left_alone():
    table = np.ones((2, 4), dtype=np.float32)

    class Shared(TableRanker):
        def scores(self, users, histories):
            return table

    top_n(Shared(table), np.arange(2), Histories.from_lists([[0], [1, 2]]), 2, 4)
    assert (table == 1).all()


def test_popularity_recommends_the_most_popular_unseen_items():
    dataset = random_dataset()
    items, _ = top_n(Popularity(dataset), np.array([0]), Histories.from_lists([[]]), 3, dataset.n_items)
    counts = np.bincount(dataset.train.items, minlength=dataset.n_items)
    assert items[0].tolist() == np.argsort(-counts, kind="stable")[:3].tolist()


def test_bad_requests_say_why():
    ranker, nobody = TableRanker(np.full((1, 4), np.nan)), Histories.from_lists([[]])
    with pytest.raises(HardGNNError, match="at least 1"):
        top_n(ranker, np.array([0]), nobody, 0, 4)
    with pytest.raises(HardGNNError, match="NaN"):
        top_n(ranker, np.array([0]), nobody, 1, 4)
    with pytest.raises(HardGNNError, match="2 users were given with 1"):
        top_n(ranker, np.array([0, 0]), nobody, 1, 4)
