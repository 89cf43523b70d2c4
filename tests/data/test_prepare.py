"""Preparing: thresholds, splits, candidates, numbering, and the same bytes from the same log."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from hardgnn import InteractionLog
from hardgnn.data.dataset import TEST, TRAIN, VALID, Dataset, same_data
from hardgnn.data.histories import Histories
from hardgnn.data.log import read_log
from hardgnn.data.readers import formats
from hardgnn.errors import HardGNNError
from hardgnn.prepare.candidates import distinct_ranks, sample_unseen
from hardgnn.prepare.filters import k_core
from hardgnn.prepare.pipeline import NO_TIMES, PrepareConfig, prepare
from hardgnn.prepare.presets import prepare_presets, preset_settings
from hardgnn.prepare.simulate import simulate
from hardgnn.prepare.split import global_time, leave_one_out

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def make_log(rows: list[tuple], titles: dict[str, str] | None = None) -> InteractionLog:
    names = ["user", "item", "timestamp", "rating"][: len(rows[0])]
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("user", "item").cast(pl.String), pl.col("timestamp").cast(pl.Float64)
    )
    frame = pl.DataFrame({"item": list(titles), "title": list(titles.values())}) if titles else None
    return InteractionLog(table, "made", "0" * 64, frame)


def market(users: int = 60, items: int = 50, events: int = 2_000, seed: int = 0) -> InteractionLog:
    return InteractionLog(simulate(users, items, events, seed)[0], "market", "0" * 64)


PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60)


def naive_core(pairs: list[tuple[int, int]], k: int) -> list[bool]:
    """Drops one offending row at a time until there is none."""
    left = dict(enumerate(pairs))
    while True:
        users, items = (Counter(pair[side] for pair in left.values()) for side in (0, 1))
        bad = next((row for row, (u, i) in left.items() if users[u] < k or items[i] < k), None)
        if bad is None:
            return [row in left for row in range(len(pairs))]
        del left[bad]


@given(PAIRS, st.integers(1, 5))
def test_k_core_is_the_largest_fixed_point(pairs: list[tuple[int, int]], k: int) -> None:
    user, item = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    mask = k_core(user, item, k)
    assert mask.tolist() == naive_core(pairs, k)
    for side in (user, item):
        counts = np.bincount(side[mask])
        assert (counts[counts > 0] >= k).all()
    assert k_core(user[mask], item[mask], k).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20).filter(lambda lengths: max(lengths) >= 3))
def test_leave_one_out_takes_the_last_two(lengths: list[int]) -> None:
    part = leave_one_out(np.repeat(np.arange(len(lengths)), lengths), len(lengths))
    for mine in np.split(part, np.cumsum(lengths)[:-1]):
        short = len(mine) < 3
        assert mine.tolist() == [TRAIN] * (len(mine) - (0 if short else 2)) + ([] if short else [VALID, TEST])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_global_time_never_trains_on_the_future(times: list[int], valid: float, test: float) -> None:
    timestamp = np.array(times, dtype=np.float64)
    try:
        part, (t_valid, t_test) = global_time(timestamp, valid, test)
    except HardGNNError:  # too few different times for three parts
        reject()
    assert timestamp[part == TRAIN].max() < t_valid == timestamp[part == VALID].min()
    assert timestamp[part == VALID].max() < t_test == timestamp[part == TEST].min()


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(0, 39), max_size=40), min_size=1, max_size=6),
    st.integers(1, 30),
    st.integers(0, 2**32),
)
def test_candidates_are_distinct_and_unseen(lists: list[list[int]], count: int, seed: int) -> None:
    drawn = sample_unseen(Histories.from_lists(lists), 40, count, np.random.default_rng(seed))
    assert drawn.shape == (len(lists), count)
    for row, seen in zip(drawn, lists):
        free = set(range(40)) - set(seen)
        real = row[row >= 0]
        assert len(real) == len(set(real.tolist())) == min(count, len(free))
        assert set(real.tolist()) <= free
        assert (row[len(real) :] == -1).all()


@pytest.mark.parametrize("size", [5, 7, 40])
def test_candidates_are_uniform(size: int) -> None:
    ranks = distinct_ranks(np.full(40_000, size), 3, np.random.default_rng(0))
    for place in range(3):
        share = np.bincount(ranks[:, place], minlength=size) / len(ranks)
        np.testing.assert_allclose(share, 1 / size, atol=5 * np.sqrt(1 / size / len(ranks)))


@pytest.mark.parametrize("split", ["leave-one-out", "global-time"])
@pytest.mark.parametrize("repeats", ["first", "all"])
def test_prepared_candidates_hold_no_interacted_item(split: str, repeats: str) -> None:
    data = market().prepare(split=split, repeats=repeats, candidates=20)
    judged = set(data.targets(VALID)[0]) | set(data.targets(TEST)[0])
    assert set(data.candidates.users.tolist()) == judged
    for user, row in zip(data.candidates.users, data.candidates.items):
        assert not set(row.tolist()) & set(data.everything.of(user).tolist())


def test_candidate_users_are_capped_by_a_seeded_draw() -> None:
    log = market()
    few, same, other = (log.prepare(candidate_users=10, candidate_seed=seed).candidates for seed in (100, 100, 7))
    assert len(few.users) == 10
    np.testing.assert_array_equal(few.users, same.users)
    assert few.users.tolist() != other.users.tolist()
    everyone = log.prepare(candidate_users=None)
    assert len(everyone.candidates.users) == everyone.n_users > 50


def test_order_is_by_time_with_ties_by_row_and_ids_by_first_appearance() -> None:
    log = make_log([("b", "z", 5), ("a", "y", 3), ("b", "x", 1), ("a", "x", 3), ("b", "y", 5), ("a", "z", 1)])
    data = log.prepare(k_core=0)
    assert data.user_ids.to_list() == ["b", "a"]
    assert data.item_ids.to_list() == ["z", "y", "x"]
    assert data.user.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.item_ids.gather(data.item).to_list() == ["x", "z", "y", "z", "y", "x"]
    assert data.timestamp.tolist() == [1, 5, 5, 1, 3, 3]
    assert data.part.tolist() == [TRAIN, VALID, TEST] * 2
    assert data.item_titles is None


def test_numbering_follows_the_rows_that_are_kept() -> None:
    rows = [("gone", "p", 1), *[(user, item, 2 + n) for n, item in enumerate("qpr") for user in ("v", "u", "w")]]
    data = make_log(rows).prepare(k_core=3)
    assert data.user_ids.to_list() == ["v", "u", "w"]
    assert data.item_ids.to_list() == ["q", "p", "r"]


@pytest.mark.parametrize(("repeats", "times"), [("first", [1, 2, 4]), ("last", [2, 4, 9]), ("all", [1, 2, 4, 9])])
def test_repeats_keep_the_earliest_or_latest_whatever_the_row_order(repeats: str, times: list[int]) -> None:
    log = make_log([("a", "x", 9), ("a", "y", 2), ("a", "x", 1), ("a", "z", 4)])
    assert log.prepare(k_core=0, repeats=repeats).timestamp.tolist() == times


def test_min_rating_drops_lower_and_missing_ratings() -> None:
    rows = [("a", item, n, rating) for n, (item, rating) in enumerate(zip("vwxyz", (5.0, 3.9, None, 4.0, 4.5)))]
    data = make_log(rows).prepare(min_rating=4, k_core=0)
    assert data.item_ids.to_list() == ["v", "y", "z"]
    assert [step["interactions"] for step in data.manifest["steps"]] == [5, 3, 3]
    with pytest.raises(HardGNNError, match="no rating column"):
        make_log([("a", "x", 1)]).prepare(min_rating=4)


def test_selfgnn_thresholds_drop_items_in_the_first_pass_only() -> None:
    rows = [(user, item, item) for user in range(4) for item in range(4)]
    rows += [(9, 0, 1), (9, 1, 2), (9, 50, 3), (0, 60, 9), (1, 61, 9), (8, 0, 0), (8, 0, 1), (8, 0, 2)]
    data = make_log(rows).prepare(thresholds="selfgnn", passes=(3, 3), repeats="all")
    # user 9 passes with 3 items, loses item 50 that only it has, and falls in the second pass; user 8 has one item
    assert data.user_ids.to_list() == ["0", "1", "2", "3"]
    assert [(one["interactions"], one["users"], one["items"]) for one in data.manifest["steps"]] == [
        (24, 6, 7),
        (18, 5, 4),
        (16, 4, 4),
    ]


def test_a_log_that_ends_up_empty_tells_what_each_step_left() -> None:
    with pytest.raises(HardGNNError) as caught:
        make_log([("a", "x", 1), ("a", "x", 2), ("b", "y", 3)]).prepare()
    message = str(caught.value)
    assert message.startswith("the log is empty after k_core: read left 3 interactions of 2 users and 2 items; repeats")
    assert "repeats left 2 interactions" in message


def test_users_too_short_for_the_split() -> None:
    rows = [(user, item, item) for user in range(5) for item in range(2)]
    with pytest.raises(HardGNNError, match="needs 3 interactions.*has 2"):
        make_log(rows).prepare(k_core=2)
    with pytest.raises(HardGNNError, match="global-time split leaves"):
        make_log(rows).prepare(k_core=2, split="global-time")


def test_equal_times_warn_and_keep_the_order_of_the_file() -> None:
    data = make_log([("a", item, 7) for item in "qwert"]).prepare(k_core=0)
    assert data.manifest["warnings"][0] == NO_TIMES
    assert data.item.tolist() == [0, 1, 2, 3, 4]
    assert market(items=500).prepare(k_core=2, candidates=99).manifest["warnings"] == []


def test_titles_follow_their_items() -> None:
    rows = [("a", item, n) for n, item in enumerate("xyz")]
    data = make_log(rows, {"z": "Zed", "x": "Ex", "q": "?"}).prepare(k_core=0)
    assert data.item_titles is not None
    assert data.item_titles.to_list() == ["Ex", None, "Zed"]


def test_manifest_counts_and_cut_times() -> None:
    data = market().prepare(split="global-time", valid_share=0.2, test_share=0.2)
    counts, cuts = data.manifest["counts"], data.manifest["cut_times_s"]
    assert counts["train"] + counts["valid"] + counts["test"] == counts["interactions"] == len(data.user)
    assert counts["test"] / counts["interactions"] == pytest.approx(0.2, abs=0.01)
    assert data.timestamp[data.part == TRAIN].max() < cuts["valid"] < cuts["test"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kcore": 3}, "unknown setting 'kcore' of prepare: did you mean 'k_core'"),
        ({"k_core": -1}, "k_core: .*greater than or equal to 0, got -1"),
        ({"k_core": "x"}, "k_core: .*integer.*got 'x'"),
        ({"repeats": "frist"}, "repeats: .*'first', 'last' or 'all', got 'frist'"),
        ({"split": "random"}, "split: .*'leave-one-out' or 'global-time'"),
        ({"valid_share": 0.6, "test_share": 0.6}, "must leave something to train on"),
        ({"min_rating": float("nan")}, "min_rating"),
        ({"candidates": 0}, "candidates"),
    ],
)
def test_wrong_settings_are_told_in_one_sentence(wrong: dict, words: str) -> None:
    with pytest.raises(HardGNNError, match=words) as caught:
        PrepareConfig.checked(**wrong)
    assert "\n" not in str(caught.value)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("split", ["leave-one-out", "global-time"])
def test_same_log_same_bytes(tmp_path: Path, split: str) -> None:
    table = simulate(300, 200, 20_000, 1)[0]
    table.write_csv(tmp_path / "log.csv")
    for folder in ("one", "two"):
        prepare(read_log(tmp_path / "log.csv"), PrepareConfig(split=split)).save(tmp_path / folder)
        market(seed=3).prepare()  # another log in between leaves no trace
    first = hashes(tmp_path / "one")
    assert set(first) == {"interactions.parquet", "users.parquet", "items.parquet", "candidates.npz", "manifest.json"}
    assert first == hashes(tmp_path / "two")
    assert str(tmp_path) not in (tmp_path / "one" / "manifest.json").read_text()


def test_the_folder_reads_back_as_it_was(tmp_path: Path) -> None:
    data = market().prepare()
    data.save(tmp_path / "data")
    again = Dataset.load(tmp_path / "data")
    for name in ("user", "item", "timestamp", "part"):
        np.testing.assert_array_equal(getattr(data, name), getattr(again, name))
    assert data.user_ids.to_list() == again.user_ids.to_list()
    np.testing.assert_array_equal(data.candidates.items, again.candidates.items)
    assert data.manifest == again.manifest


@pytest.mark.parametrize(
    ("name", "users", "items", "count"),
    [
        ("amazon-grocery", 14_681, 8_713, 151_254),
        ("foursquare", 4_360, 5_820, 83_376),
        ("gowalla-1k", 940, 5_135, 52_805),
        ("ml-latest-small", 610, 3_650, 90_274),
    ],
)
def test_shared_logs(name: str, users: int, items: int, count: int) -> None:
    path = SHARED / f"{name}.inter.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    data = read_log(path).prepare(candidate_users=200)
    assert (data.n_users, data.n_items, len(data.user)) == (users, items, count)
    assert np.bincount(data.user).min() >= 5
    assert np.bincount(data.item).min() >= 5
    assert (data.candidates.items >= 0).all()


TIMES = ["2009-12-31T23:59:59", "2010-01-01", "2010-06-01", "2010-12-31T23:59:59", "2011-01-01"]


@pytest.mark.parametrize("beyond", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_moment_that_utc_has_no_year_for_is_refused(beyond: str) -> None:
    with pytest.raises(HardGNNError, match="since: expected a moment in the years 1 to 9999"):
        make_log([("u", "i", 1.0)]).prepare(since=beyond)


@pytest.mark.parametrize(
    ("since", "until", "kept"),
    [
        ("2010-01-01", "2011-01-01", "wxy"),
        ("2010", "2011", "wxy"),
        (date(2010, 1, 1), None, "wxyz"),
        (None, datetime(2011, 1, 1), "vwxy"),
        ("2010-01-01T01:59:59+02:00", "2011-01-01T00:00:01Z", "vwxyz"),
    ],
)
def test_since_and_until_cut_in_utc_and_leave_the_end_out(since: object, until: object, kept: str) -> None:
    rows = [
        ("a", item, datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) for item, time in zip("vwxyz", TIMES)
    ]
    data = make_log(rows[::-1]).prepare(since=since, until=until, k_core=0)
    assert "".join(data.item_ids.gather(data.item)) == kept
    assert data.manifest["steps"][1] == {
        "step": "since, until",
        "interactions": len(kept),
        "users": 1,
        "items": len(kept),
    }
    assert data.manifest["settings"]["since"] in (None, "2010-01-01T00:00:00Z", "2009-12-31T23:59:59Z")


@pytest.mark.parametrize("name", prepare_presets())
def test_presets_prepare_as_the_papers_do(name: str) -> None:
    """One user keeps 20 items inside the years, one has them outside, one has 19."""
    inside = {"amazon-book": 2014, "gowalla": 2010, "movielens-10m": 2005, "yelp": 2019}[name]
    year = {shift: datetime(inside + shift, 7, 1, tzinfo=UTC).timestamp() for shift in (0, -20, 20)}
    rows = [(f"u{user}", item, year[0] + item) for user in range(20) for item in range(20)]
    rows += [("few", item, year[0] + item) for item in range(19)]
    rows += [("early", item, year[-20] + item) for item in range(20)] + [("late", item, year[20]) for item in range(20)]
    settings = preset_settings(name)
    assert settings.pop("format") in formats()
    data = make_log(rows).prepare(name)
    assert data.user_ids.to_list() == [f"u{user}" for user in range(20)]
    assert data.manifest["settings"] == PrepareConfig.checked(**settings).model_dump(mode="json")
    assert make_log(rows).prepare(name, thresholds="k_core").n_users == 21  # an option wins over the preset


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"since": "soon"}, "since: expected a date such as 2010-01-01, a year, or .*got 'soon'"),
        ({"since": 20100101}, "since: expected a date"),
        ({"since": "2010-02-30"}, "since: expected a date"),
        ({"since": "2011", "until": "2010"}, "since must be earlier than until"),
        ({"since": "2010", "until": "2010-01-01"}, "since must be earlier than until"),
        ({"preset": "amazon-books"}, "unknown preset 'amazon-books' of prepare: did you mean 'amazon-book'"),
    ],
)
def test_wrong_times_and_presets_are_told_in_one_sentence(wrong: dict, words: str) -> None:
    with pytest.raises(HardGNNError, match=words) as caught:
        PrepareConfig.checked(**wrong)
    assert "\n" not in str(caught.value)


def test_a_time_range_without_anything_is_told() -> None:
    with pytest.raises(HardGNNError, match="the log is empty after since, until: read left 1 interactions"):
        make_log([("a", "x", 1)]).prepare(since="2010")


def test_the_same_bytes_are_the_same_data_whatever_version_wrote_them(tmp_path: Path) -> None:
    data = make_log([(f"u{k % 4}", f"i{k}", float(k)) for k in range(20)]).prepare(k_core=0)
    data.save(tmp_path)
    again = data.manifest | {"versions": {"hardgnn": "later"}, "warnings": ["in other words"]}
    assert same_data(data.manifest, again)
    assert not same_data(data.manifest, again | {"settings": {}})
    files = {name: {**record, "sha256": "0"} for name, record in data.manifest["files"].items()}
    assert not same_data(data.manifest, data.manifest | {"files": files})
    unwritten = {key: value for key, value in again.items() if key != "files"}
    assert not same_data(data.manifest, unwritten)


def test_a_log_is_prepared_wherever_the_public_names_come_from() -> None:
    code = (
        "import polars as pl\nfrom hardgnn{} import InteractionLog\n"
        "rows = pl.DataFrame({{'user': list('aaab'), 'item': list('xyzx'), 'timestamp': [1.0, 2.0, 3.0, 1.0]}})\n"
        "print(InteractionLog(rows).prepare(k_core=0).n_items)"
    )

    def ran(place: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-c", code.format(place)]
        return subprocess.run(command, capture_output=True, text=True)

    assert ran("").stdout == ran(".prepare").stdout == "3\n"
    assert "HardGNNError: a log is prepared by hardgnn.prepare; import that" in ran(".data.log").stderr
