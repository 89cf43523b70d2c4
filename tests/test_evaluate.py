"""Ranks against a naive reference that sorts, and the protocols' rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import TableRanker, random_dataset, tiny_dataset
from hardgnn.data.dataset import PARTS
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import evaluate, rank_targets
from hardgnn.metrics import summarise


def naive_ranks(table, dataset, part, protocol):
    """(user, target, rank, candidates) rows, one user at a time, by sorting with the target last among equals."""
    rows = []
    stored = dict(zip(dataset.candidates.users.tolist(), dataset.candidates.items.tolist()))
    for user, target in zip(*(array.tolist() for array in dataset.targets(PARTS[part]))):
        if protocol == "full":
            seen = set(dataset.before(PARTS[part]).of(user).tolist())
            items = [item for item in range(dataset.n_items) if item not in seen and item != target]
        elif user in stored:
            items = [item for item in stored[user] if item >= 0]
        else:
            continue
        ranked = sorted([*items, target], key=lambda item: (-table[user, item], item == target))
        rows.append((user, target, ranked.index(target), len(ranked)))
    return rows


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    levels=st.sampled_from([2, 5, 1000]),
    part=st.sampled_from(["valid", "test"]),
    protocol=st.sampled_from(["full", "sampled-999"]),
    repeats=st.booleans(),
    block_bytes=st.sampled_from([1, 700, 2**20]),
)
def test_ranks_are_those_of_sorting_for_any_block_size(seed, levels, part, protocol, repeats, block_bytes):
    dataset = random_dataset(seed=seed, repeats=repeats)
    table = np.random.default_rng(seed).integers(levels, size=(dataset.n_users, dataset.n_items))
    frame = rank_targets(TableRanker(table), dataset, part, protocol, block_bytes=block_bytes)
    assert frame.columns == ["user", "target", "rank", "candidates"]
    assert frame.rows() == naive_ranks(table, dataset, part, protocol)


def test_ties_count_against_the_model():
    dataset = tiny_dataset([[0, 1, 2, 3, 4]], n_items=10)
    frame = rank_targets(TableRanker(np.zeros((1, 10))), dataset, "test")
    assert frame.rows() == [(0, 4, 5, 6)]  # behind items 5 to 9


def test_the_validation_item_is_known_at_test_time_only():
    table = np.zeros((1, 6))
    table[0] = [9, 9, 5, 4, 3, 2]
    dataset = tiny_dataset([[0, 1, 2, 3]], n_items=6)  # 2 is validated, 3 tested
    assert rank_targets(TableRanker(table), dataset, "valid").rows() == [(0, 2, 0, 4)]
    assert rank_targets(TableRanker(table), dataset, "test").rows() == [(0, 3, 0, 3)]

    class Witness(TableRanker):
        def scores(self, users, histories):
            seen.append(histories.items.tolist())
            return super().scores(users, histories)

    seen = []
    for part in ("valid", "test"):
        rank_targets(Witness(table), dataset, part)
    assert seen == [[0, 1], [0, 1, 2]]


def test_a_target_seen_before_is_still_a_candidate():
    dataset = tiny_dataset([[0, 1, 0, 2, 0]], n_items=4)
    assert rank_targets(TableRanker([[3, 9, 9, 5]]), dataset, "test").rows() == [(0, 0, 1, 2)]


def test_only_stored_candidates_are_ranked():
    table = np.arange(10.0)[None]
    dataset = tiny_dataset([[7, 8, 9, 0]], n_items=10, candidates={0: [1, 2, 3]})
    assert rank_targets(TableRanker(table), dataset, "test", "sampled-999").rows() == [(0, 0, 3, 4)]


def test_some_users_can_be_asked():
    dataset = random_dataset()
    ranker = TableRanker(np.random.default_rng(0).random((dataset.n_users, dataset.n_items)))
    everyone = rank_targets(ranker, dataset, "valid")
    some = rank_targets(ranker, dataset, "valid", users=np.array([7, 2, 5]))
    assert some.rows() == [everyone.row(user) for user in (2, 5, 7)]


@pytest.mark.parametrize("protocol", ["full", "sampled-999"])
def test_nan_scores_are_an_error(protocol):
    dataset = random_dataset()
    table = np.ones((dataset.n_users, dataset.n_items))
    table[4, 11] = np.nan
    with pytest.raises(HardGNNError, match="NaN for 1 of"):
        rank_targets(TableRanker(table), dataset, "valid", protocol)


def test_infinite_scores_are_ranked():
    dataset = tiny_dataset([[0, 1, 2, 3]], n_items=6)
    assert rank_targets(TableRanker([[0, 0, 0, 1, np.inf, -np.inf]]), dataset, "test")["rank"].to_list() == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"split": "train"}, "unknown part"),
        ({"protocol": "sampled-99"}, "did you mean 'sampled-999'"),
        ({"protocol": "sampled-999"}, "no user can be ranked"),
        ({"at": (0,)}, "at least 1"),
    ],
)
def test_bad_requests_say_why(arguments, message):
    dataset = tiny_dataset([[0, 1, 2, 3]], n_items=6)
    with pytest.raises(HardGNNError, match=message):
        evaluate(TableRanker(np.ones((1, 6))), dataset, **arguments)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(HardGNNError, match="shape"):
        rank_targets(TableRanker(np.ones((1, 5))), tiny_dataset([[0, 1, 2, 3]], n_items=6))


def test_the_result_names_its_protocol_and_encloses_the_metrics():
    dataset = random_dataset(n_users=60)
    ranker = TableRanker(np.random.default_rng(1).random((dataset.n_users, dataset.n_items)))
    done = []
    result, frame = evaluate(
        ranker, dataset, "test", at=(5, 10), block_bytes=4000, progress=lambda at, total: done.append((at, total))
    )
    assert (result.dataset, result.model, result.split, result.protocol, result.users) == (
        "tiny",
        "table",
        "test",
        "full",
        60,
    )
    assert result.metrics == summarise(frame["rank"].to_numpy(), (5, 10))
    for name, value in result.metrics.items():
        low, high = result.intervals[name]
        assert 0 <= low < value < high <= 1
    assert done[-1] == (60, 60)
    assert len(done) > 1
    assert evaluate(ranker, dataset, "test", at=(5, 10))[0] == result
