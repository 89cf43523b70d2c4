"""The best unseen items, against sorting; users known and unknown; newer events."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import TableRanker, random_dataset, small_options
from hardgnn.api import HardGNN
from hardgnn.config import resolve
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.data.intervals import cut_all
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.topn import CHUNK, best_of_rows, top_n
from hardgnn.models.popularity import Popularity
from hardgnn.recommend.answers import write_blocks
from hardgnn.recommend.ids import read_ids_file
from hardgnn.recommend.recommender import Recommender
from hardgnn.runs.train import train


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
    items, _ = top_n(
        Popularity(dataset.train.item_counts(dataset.n_items)),
        np.array([0]),
        Histories.from_lists([[]]),
        3,
        dataset.n_items,
    )
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


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 6),
    items=st.integers(4 * 6 * CHUNK, 30 * CHUNK),
    levels=st.sampled_from([2, 50, 100_000]),
)
def test_chunks_find_what_sorting_finds(seed, n, items, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(3, items)).astype(np.float32)
    scores[0, rng.permutation(items)[n // 2 :]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    found, values = best_of_rows(scores, n)
    assert values.tolist() == np.take_along_axis(scores, order, axis=1).tolist()
    finite = np.isfinite(values)
    assert found[finite].tolist() == order[finite].tolist()


def test_blocked_items_are_recommended_to_nobody_and_scores_stay_as_they_were():
    table = np.arange(8, dtype=np.float32).reshape(2, 4)

    class Shared(TableRanker):
        def scores(self, users, histories):
            return table

    items, _ = top_n(Shared(table), np.arange(2), Histories.from_lists([[3], []]), 4, 4, blocked=np.array([0, 3]))
    assert items.tolist() == [[2, 1, -1, -1], [2, 1, -1, -1]]
    assert table.ravel().tolist() == list(range(8))


def test_intervals_of_training_are_as_trained_and_later_events_go_where_they_fall():
    times, user = np.array([0.0, 40, 90, 100, 45, 500]), np.zeros(6, np.int32)
    training = np.array([True, True, True, True, False, False])
    assert cut_all(times, user, training, 4).tolist() == [0, 1, 3, 3, 3, 3]
    assert cut_all(np.zeros(6), user, training, 4).tolist() == [0, 1, 2, 3, 3, 3]


@pytest.fixture(scope="module")
def run(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = ["model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=2", "train.eval_every=1"]
    folder = tmp_path_factory.mktemp("recommend") / "run"
    train(Dataset.load(market), resolve("selfgnn", settings=small), folder)
    return folder


def test_the_score_of_a_known_user_with_newer_items_is_the_product_of_both_terms(run: Path) -> None:
    told: list[str] = []
    recommender = Recommender(run, say=told.append)
    tables, model = recommender.tables, recommender.model
    user, item = tables.user_ids[7], tables.item_ids[3]
    events = pl.DataFrame({"user": [user, user, "new", "none"], "item": [item, "?", item, "!"]})
    found = recommender.for_users([user, "new", "none"], n=5, events=events, exclude_seen=False)
    history = Histories.from_lists([[*tables.histories.of(7), 3]])
    both = model.scores(np.array([7]), history)[0]
    alone = model.scores(None, Histories.from_lists([[3]]))[0]
    for name, scores, source in (
        (user, both, "user+sequence"),
        ("new", alone, "sequence"),
        ("none", tables.popularity, "popularity"),
    ):
        rows = found.filter(pl.col("user") == name)
        assert rows["item"].to_list() == tables.item_ids.gather(np.argsort(-scores, kind="stable")[:5]).to_list()
        np.testing.assert_allclose(rows["score"], np.sort(scores)[::-1][:5], rtol=1e-5)
        assert set(rows["source"]) == {source}
    assert told == ["unknown items '?', '!', skipped", "unknown user 'none', popular items instead"]
    assert np.isin(tables.intervals, [0, 1, 2]).all()
    assert len(tables.times) == len(tables.histories.items)


def test_blocks_of_users_answer_as_all_at_once_and_nothing_is_left_of_a_failure(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = Recommender(run)
    events = pl.DataFrame({"user": recommender.tables.user_ids[::3], "item": recommender.tables.item_ids[0]})
    whole = recommender.for_users(n=4, events=events)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr("hardgnn.recommend.recommender.BLOCK_USERS", 7)
    blocks = recommender.blocks(n=4, events=events, progress=lambda *now: seen.append(now))
    assert write_blocks(blocks, tmp_path / "r.parquet") == whole.height
    written = pl.read_parquet(tmp_path / "r.parquet")
    assert written.drop("score").equals(whole.drop("score"))
    np.testing.assert_allclose(written["score"], whole["score"], rtol=1e-5, atol=1e-5)  # of scores up to 8
    users = len(recommender.tables.user_ids)
    assert seen[-1] == (users, users)
    assert seen == sorted(seen)

    def broken():
        yield whole
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_blocks(broken(), tmp_path / "broken.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


@pytest.fixture(scope="module", params=["leave-one-out", "global-time"])
def with_fresh_item(request: pytest.FixtureRequest, market_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a log whose item `fresh` comes only at the end of some histories, where training does not look."""
    log = Dataset.read(market_log)
    plain = log.table.with_columns(pl.col("user", "item").cast(pl.String))
    late = plain.select(pl.col("user").unique(maintain_order=True).head(6), pl.lit("fresh").alias("item"))
    later = plain["timestamp"].max() + np.arange(1.0, 7)
    late = late.with_columns(timestamp=pl.Series(later))
    whole = replace(log, table=pl.concat([plain, late.select(plain.columns)]))
    data = whole.prepare(k_core=3, candidates=30, split=request.param)
    assert "fresh" in data.item_ids.to_list()
    folder = tmp_path_factory.mktemp("fresh") / "run"
    HardGNN("selfgnn", **small_options()).fit(data, folder)
    return folder


def test_an_item_that_training_never_saw_is_recommended_to_nobody(with_fresh_item: Path) -> None:
    recommender = Recommender(with_fresh_item)
    items = recommender.tables.item_ids.to_list()
    for seen in (True, False):
        assert "fresh" not in recommender.for_users(n=len(items), exclude_seen=seen)["item"].to_list()
    for rest in (recommender.for_items(["i3"], n=99), recommender.for_users(["nobody"], n=99)):
        assert set(rest["item"]) | {"fresh", "i3"} == set(items) | {"i3"}
    both = recommender.for_users(["u1"], n=5, exclude_seen=False, allow=["fresh", "i3"])
    assert both["item"].to_list() == ["i3"]
    with pytest.raises(HardGNNError, match="nothing is left to recommend: .* none was in training"):
        recommender.for_users(["u1"], allow="fresh")
    with pytest.raises(HardGNNError, match="nothing is left to recommend"):
        recommender.for_users(["u1"], block=items)


def test_the_service_and_its_index_do_not_recommend_it_either(with_fresh_item: Path, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    from hardgnn.recommend.export import export
    from hardgnn.serve.engine import Ask, Engine
    from hardgnn.serve.pack import pack

    export(with_fresh_item, tmp_path / "export", n=5)
    exported = pl.read_parquet(tmp_path / "export" / "items.parquet")
    assert exported.filter(pl.col("train_interactions") == 0)["id"].to_list() == ["fresh"]
    pack(with_fresh_item, tmp_path / "exact" / "run")
    pack(with_fresh_item, tmp_path / "near" / "run", tmp_path / "export")
    for kind in ("exact", "near"):
        engine = Engine(tmp_path / kind / "run")
        for ask in (Ask("u1", n=99, exclude_seen=False), Ask("u0", n=99), Ask(items=["i3"], n=99)):
            answer = engine.answer([ask])[0]
            assert answer["approximate"] == (kind == "near")
            assert "fresh" not in [one["item"] for one in answer["items"]]
        with pytest.raises(HardGNNError, match="nothing is left to recommend"):
            engine.answer([Ask("u1", allow=["fresh"])])
        known = engine.similar(engine.items.find("i3"), 99)
        assert len(known) == len(engine.items) - 2
        assert "fresh" not in [one["item"] for one in known]
        assert engine.similar(engine.items.find("fresh"), 9) == []


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\r\n b \r\n\r\n", ["a", "b"]),
        (b"a\rb", ["a", "b"]),
        ("ü\u2028x\n".encode(), ["ü\u2028x"]),
        (b"a\na\n", ["a", "a"]),
        (b"".join(b"u%d\n" % number for number in range(10**6)), None),
    ],
    ids=["plain", "windows", "mac", "separators", "twice", "million"],
)
def test_files_of_ids(tmp_path: Path, content: bytes, ids: list[str] | None) -> None:
    (tmp_path / "ids").write_bytes(content)
    found = read_ids_file(tmp_path / "ids", "user").to_list()
    assert found == ids if ids else (len(found), found[-1]) == (10**6, "u999999")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no user ids in it"),
        (b"\xef\xbb\xbf \r\n", "no user ids in it"),
        ("a\nbé\n".encode("latin-1"), "line 2: not text in UTF-8, expected a file of user ids"),
        ("a\n".encode("utf-16"), "line 1: not text in UTF-8, expected a file of user ids"),
        (b"a\0b\n", "binary data"),
        (None, "no such file"),
    ],
)
def test_files_of_no_ids(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "ids").write_bytes(content)
    with pytest.raises(HardGNNError, match=f"ids: {sentence}"):
        read_ids_file(tmp_path / "ids", "user")
    with pytest.raises(HardGNNError, match="a folder, expected a file"):
        read_ids_file(tmp_path, "user")


def test_a_million_ids_are_answered_and_the_unknown_counted(run: Path) -> None:
    told: list[str] = []
    recommender = Recommender(run, say=told.append)
    asked = [f"u{number}" for number in range(10**6)]
    first = next(recommender.blocks([*asked, *asked[:9]], n=1))
    assert first["user"].to_list()[:3] == ["u0", "u1", "u2"]
    unknown = 10**6 - len(recommender.tables.user_ids)
    assert len(told) == 1
    assert f"and {unknown - 5:,} more, popular items instead" in told[0]


def test_a_path_with_brackets_is_a_path(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a[1]").mkdir()
    recommender = Recommender(run)
    assert write_blocks(recommender.blocks(n=2), tmp_path / "a[1]" / "r.parquet") == 400
    assert [path.name for path in (tmp_path / "a[1]").iterdir()] == ["r.parquet"]
