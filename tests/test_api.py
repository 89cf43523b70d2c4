"""The Python interface: what is matched by raw id, what is refused and how, and what a failed fit leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import UserList
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from factories import StopAfter, renumbered, small_options, tiny_dataset
from hardgnn import Dataset, HardGNN, HardGNNError
from hardgnn.data.align import align
from hardgnn.data.dataset import TEST, VALID, Candidates


@pytest.fixture(scope="module")
def data(market: Path) -> Dataset:
    return Dataset.load(market)


@pytest.fixture(scope="module")
def model(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> HardGNN:
    return HardGNN("selfgnn", **small_options()).fit(data, tmp_path_factory.mktemp("api") / "run")


@pytest.mark.parametrize("protocol", ["full", "sampled-999"])
def test_the_same_data_in_another_numbering_has_the_same_figures(
    model: HardGNN, data: Dataset, protocol: str, recwarn: pytest.WarningsRecorder
) -> None:
    other = renumbered(data, seed=3)
    assert other.user_ids.to_list() != data.user_ids.to_list()
    for part in ("valid", "test"):
        assert model.evaluate(other, protocol, part) == model.evaluate(data, protocol, part)
    assert not recwarn.list


def test_a_log_in_another_order_of_rows_has_the_same_figures(model: HardGNN, market_log: Path, data: Dataset) -> None:
    log = Dataset.read(market_log)
    by_item = replace(log, table=log.table.sort("item", maintain_order=True))
    again = by_item.prepare(k_core=3, candidates=30)
    assert again.item_ids.to_list() != data.item_ids.to_list()
    assert model.evaluate(again)["metrics"] == model.evaluate(data)["metrics"]


def test_what_the_model_does_not_know_is_counted_and_left_out(model: HardGNN, data: Dataset) -> None:
    users, targets = data.targets(TEST)
    strange = targets[0]
    lost = int((targets == strange).sum())
    others = data.item_ids.clone().scatter(int(strange), "never seen")
    with pytest.warns(UserWarning, match=f"0 users and 1 items .* {lost:,} of {len(users):,} targets of the part test"):
        result = model.evaluate(replace(data, item_ids=others))
    assert result["users"] == len(users) - lost
    strangers = data.user_ids.clone().scatter([0, 1], ["x", "y"])
    with pytest.warns(UserWarning, match="2 users and 0 items"):
        assert model.evaluate(replace(data, user_ids=strangers))["users"] == len(users) - 2


def test_data_of_something_else_are_refused(model: HardGNN, data: Dataset) -> None:
    with pytest.raises(HardGNNError, match="and 0 of its .* items, by raw id: it was trained on other data"):
        model.evaluate(replace(data, item_ids="other " + data.item_ids))


def test_targets_that_training_saw_are_told(model: HardGNN, market_log: Path) -> None:
    log = Dataset.read(market_log)
    early = replace(log, table=log.table.sort("timestamp").head(2500)).prepare(k_core=3, candidates=30)
    with pytest.warns(UserWarning, match=r"was trained on \d+ of the targets"):
        model.evaluate(early)


def test_after_an_unknown_first_item_a_part_is_history_and_no_target() -> None:
    data = tiny_dataset([[0, 1, 2, 3, 4], [1, 2, 3, 0], [2, 0, 1, 4], [0, 2, 1, 3]])
    parts = [[0, 1, 1, 2, 2], [0, 1, 2, 2], [0, 0, 1, 2], [0, 1, 2, 2]]
    data = replace(
        data,
        part=np.concatenate(parts).astype(np.uint8),
        candidates=Candidates(np.array([0, 2], np.int32), np.array([[3, 4], [1, -1]], np.int32)),
    )
    known = pl.Series(["i4", "i0", "i3", "i2"])  # all but i1
    found = align(data, data.user_ids.reverse(), known)
    assert (found.unknown_users, found.unknown_items, found.lost) == (0, 1, (3, 1))
    aligned = found.data

    def raw(part: int) -> dict[str, str]:
        return {aligned.user_ids[int(user)]: known[int(item)] for user, item in zip(*aligned.targets(part))}

    assert raw(VALID) == {"u3": "i2"}  # u1 has nothing before it, u0 and u2 would have had i1
    assert raw(TEST) == {"u0": "i3", "u1": "i3", "u2": "i4"}  # u3 would have had i1
    assert [known[int(item)] for item in aligned.before(TEST).of(3)] == ["i0", "i2"]  # of u0: what came after i1 stays
    assert (aligned.candidates.users.tolist(), aligned.candidates.items.tolist()) == ([1, 3], [[-1, -1], [2, 0]])


def test_untrained_and_stopped_models_say_what_to_do(data: Dataset) -> None:
    fresh = HardGNN("selfgnn", **small_options())
    with pytest.raises(HardGNNError, match=r"call fit\(data\) first"):
        fresh.recommend()
    with pytest.raises(HardGNNError, match="nothing to go on with"):
        fresh.fit(data, resume=True)


def test_metrics_by_name_of_users_and_of_lists(model: HardGNN, data: Dataset) -> None:
    metrics = model.evaluate(data, at=5, metrics=["mrr", "coverage", "recall", "hr"])["metrics"]
    assert list(metrics) == ["mrr@5", "coverage@5", "recall@5", "hr@5"]
    assert metrics["recall@5"] == metrics["hr@5"] == model.evaluate(data, at=5)["metrics"]["hr@5"]
    assert 0 < metrics["coverage@5"] <= 1
    with pytest.raises(HardGNNError, match="unknown metric 'coverige'; did you mean 'coverage'"):
        model.evaluate(data, metrics="coverige")
    with pytest.raises(HardGNNError, match="train.metric: unknown metric 'mmr'"):
        HardGNN(train={"metric": "mmr@10"})


def test_a_fit_that_fails_leaves_the_model_of_the_fit_before(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = HardGNN("selfgnn", **small_options()).fit(data)
    before, result = model.recommend(users="u1"), model.result
    model.config = model.config.model_copy(update={"train": model.config.train.model_copy(update={"lr": 1e30})})
    with pytest.raises(HardGNNError, match="scores are NaN"):
        model.fit(data)
    assert model.recommend(users="u1").equals(before)
    assert model.result == result


def test_a_stopped_fit_goes_on_where_it_was_without_a_folder(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    options = small_options()
    options["train"]["epochs"] = 4
    straight = HardGNN("selfgnn", **options).fit(data)
    model = HardGNN("selfgnn", **options).fit(data)
    epochs = []

    def stopping(self: Any, line: dict[str, Any]) -> None:
        epochs.append(line["epoch"])
        if epochs in ([1, 2], [1, 2, 3]):
            raise KeyboardInterrupt

    monkeypatch.setattr("hardgnn.training.bar.TrainingBar.epoch", stopping)
    for resume in (False, True):  # a second interrupt, of what goes on
        with pytest.raises(KeyboardInterrupt):
            model.fit(data, resume=resume)
        assert model.recommend().equals(straight.recommend())  # the fit before
    model.fit(data, resume=True)
    assert epochs == [1, 2, 3, 4]
    assert model.folder is None
    assert model.recommend().equals(straight.recommend())
    assert model.result["best_epoch"] == straight.result["best_epoch"]
    with pytest.raises(HardGNNError, match="nothing to go on with"):
        model.fit(data, resume=True)


def test_a_stopped_fit_of_a_folder_goes_on_in_it(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopAfter(1)
    monkeypatch.setattr("hardgnn.training.bar.TrainingBar.epoch", lambda self, line: stop.epoch(line))
    model = HardGNN("selfgnn", **small_options())
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, tmp_path / "run")
    with pytest.raises(HardGNNError, match="not trained yet"):
        model.recommend()
    model.fit(data, resume=True)
    assert model.folder == tmp_path / "run"
    assert model.recommend().equals(HardGNN("selfgnn", **small_options()).fit(data).recommend())


class Pandas(UserList):
    """What a series of pandas is to us: no list, but it has `to_numpy`."""

    def to_numpy(self) -> Any:
        return np.array(list(self), dtype=object)


@pytest.mark.parametrize(
    "users",
    [
        ["u1", "u2"],
        ("u1", "u2"),
        {"u2", "u1"},
        (one for one in ["u1", "u2"]),
        {"u1": 0, "u2": 1}.keys(),
        np.array(["u1", "u2"]),
        np.array(["u1", "u2"], dtype=object),
        pl.Series(["u1", "u2"]),
        pl.Series(["u1", "u2"], dtype=pl.Categorical),
        Pandas(["u1", "u2"]),
        [" u1", "u2\t", "u1"],
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_collection_of_ids_is_taken(model: HardGNN, users: Any) -> None:
    assert model.recommend(users, n=3).equals(model.recommend(["u1", "u2"], n=3))


@pytest.fixture(scope="module")
def numbered(market_log: Path, tmp_path_factory: pytest.TempPathFactory) -> HardGNN:
    """A model whose raw ids are whole numbers."""
    log = Dataset.read(market_log)
    plain = log.table.with_columns(pl.col("user", "item").cast(pl.String).str.slice(1))
    data = replace(log, table=plain).prepare(k_core=3, candidates=30)
    return HardGNN("selfgnn", **small_options()).fit(data, tmp_path_factory.mktemp("numbered") / "run")


def test_a_text_or_a_number_is_one_id_and_is_given_back_in_its_type(numbered: HardGNN) -> None:
    one = numbered.recommend(["12"], n=60)
    assert one["user"].unique().to_list() == ["12"]
    ours: list[tuple[Any, pl.DataType]] = [
        ("12", pl.String()),
        (12, pl.Int64()),
        ([12], pl.Int64()),
        ([12.0], pl.Float64()),
        (np.int32(12), pl.Int32()),
        (np.array(12), pl.Int64()),
        (np.array([12], dtype=np.uint16), pl.UInt16()),
        (pl.Series([12.0]), pl.Float64()),
        (pl.DataFrame({"user": [12]}), pl.Int64()),
        ((12 for _ in "a"), pl.Int64()),
    ]
    for same, kind in ours:
        found = numbered.recommend(same, n=60)
        assert found["user"].dtype == kind
        assert found.drop("user").equals(one.drop("user"))
        assert found["user"].cast(pl.Int64).cast(pl.String).equals(one["user"])
    assert numbered.recommend([1, "12"], n=2)["user"].unique(maintain_order=True).to_list() == ["1", "12"]
    picked = one["item"].to_list()
    for block in (picked[0], int(picked[0]), [int(picked[0])], np.array([int(picked[0])])):
        assert numbered.recommend(12, n=60, block=block)["item"].to_list() == picked[1:]
    assert numbered.recommend(12, allow=[int(picked[4]), int(picked[2])])["item"].to_list() == [picked[2], picked[4]]


def test_items_come_after_what_is_known_of_the_one_user(model: HardGNN) -> None:
    events = pl.DataFrame({"user": ["u1"] * 2, "item": ["i3", "i4"]})
    both = model.recommend(users=["u1"], items=["i3", "i4"])
    assert both.equals(model.recommend("u1", events=events))
    assert not both.equals(model.recommend("u1"))
    assert model.recommend(items=["i3", "i4"])["source"].unique().to_list() == ["sequence"]


def test_events_are_sorted_by_their_time_and_otherwise_taken_in_order(model: HardGNN) -> None:
    items = ["i5", "i3", "i4"]
    wanted = model.recommend("u1", items=["i3", "i4", "i5"])
    assert not wanted.equals(model.recommend("u1", items=items))
    for times in ([9, 1, 2], [9.5, 1, 2], ["2024-03-09", "2024-03-01", "2024-03-02"], np.array([9, 1, 1])):
        events = {"user": ["u1"] * 3, "item": items, "timestamp": times}
        assert model.recommend("u1", events=events).equals(wanted)
        if not isinstance(times, np.ndarray):
            assert model.recommend("u1", events=pl.DataFrame(events, strict=False)).equals(wanted)
    assert model.recommend("u1", events={"user": ["u1"] * 3, "item": sorted(items)}).equals(wanted)


def test_events_of_users_that_nobody_asked_for_are_told(model: HardGNN) -> None:
    with pytest.warns(UserWarning, match="events of unknown user 'somebody'"):
        model.recommend(events={"user": ["somebody"], "item": ["i3"]})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "n=-1": ({"n": -1}, "n: expected a whole number of at least 1, got -1"),
    "n=0": ({"n": 0}, "n: expected a whole number of at least 1, got 0"),
    "n text": ({"n": "3"}, "n: expected a whole number of at least 1, got '3'"),
    "n fraction": ({"n": 2.5}, "n: expected a whole number of at least 1, got 2.5"),
    "n nan": ({"n": float("nan")}, "n: expected a whole number"),
    "n True": ({"n": True}, "n: expected a whole number of at least 1, got True"),
    "n None": ({"n": None}, "n: expected a whole number of at least 1, got None"),
    "users None": ({"users": [None]}, r"users\[0\]: expected an id .*, got None"),
    "users NaN": ({"users": ["u1", float("nan")]}, r"users\[1\]: expected an id .*, got nan"),
    "users fraction": ({"users": [1.5]}, r"users\[0\]: expected an id .*, got 1.5"),
    "users empty": ({"users": ["u1", " "]}, r"users\[1\]: expected an id .*, got ' '"),
    "users bool": ({"users": [True]}, "users: expected ids .*, got true and false"),
    "users mixed": ({"users": ["u1", object()]}, r"users\[1\]: expected an id"),
    "users bytes": ({"users": b"u1"}, "users: expected ids"),
    "users frame": ({"users": pl.DataFrame({"user": ["u1"], "item": ["i1"]})}, "users: expected ids"),
    "users nested": ({"users": [["u1"]]}, "users: expected ids .*, got lists"),
    "users table": ({"users": np.zeros((2, 2))}, r"users: expected one dimension, got an array of shape \(2, 2\)"),
    "users surrogate": ({"users": ["\udcff"]}, r"users\[0\]: expected text that is valid UTF-8"),
    "items and events": ({"items": ["i3"], "events": pl.DataFrame()}, "from events or from items, not from both"),
    "items of two": ({"items": ["i3"], "users": ["u1", "u2"]}, "items are those of one user"),
    "items unordered": ({"items": {"i3", "i4"}}, "items: expected ids in their order"),
    "events no table": ({"events": [1]}, "events: expected a table with the columns user and item"),
    "events columns": ({"events": pl.DataFrame({"user": ["u1"]})}, "events: no column 'item'; columns found: user"),
    "events ids": ({"events": {"user": [None], "item": ["i3"]}}, r"events\['user'\]\[0\]: expected an id"),
    "events lengths": ({"events": {"user": ["u1"], "item": ["i3", "i4"]}}, "events: its columns differ in length"),
    "events times": ({"events": {"user": ["u1"], "item": ["i3"], "time": ["late"]}}, "row 1 has no time"),
    "allow number": ({"allow": [None]}, r"allow\[0\]: expected an id"),
    "allow strange": ({"allow": [3, 4]}, "none of the items to allow"),
    "allow nothing": ({"allow": []}, "none of the items to allow"),
    "block": ({"block": 1.5}, r"block\[0\]: expected an id"),
    "flag": ({"exclude_seen": "no"}, "exclude_seen: expected True or False, got 'no'"),
}


@pytest.mark.filterwarnings("ignore:unknown item")
@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_cannot_be_are_named(model: HardGNN, case: str) -> None:
    given, sentence = REFUSED[case]
    with pytest.raises(HardGNNError, match=sentence):
        model.recommend(**given)


def test_cut_offs(model: HardGNN, data: Dataset) -> None:
    names = list(model.evaluate(data, at=[5.0, np.int64(7), 5])["metrics"])
    assert names == ["hr@5", "ndcg@5", "hr@7", "ndcg@7"]
    assert list(model.evaluate(data, at=5)["metrics"]) == ["hr@5", "ndcg@5"]
    for at, sentence in (
        ([], "at: expected one cut-off or more"),
        ([0], "at: expected a whole number of at least 1, got 0"),
        (2.5, "at: expected a whole number of at least 1, got 2.5"),
        ([True], "at: expected a whole number"),
        ("5,x", "at: expected whole numbers such as 10,20"),
        (None, "at: expected a whole number of at least 1, got None"),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            model.evaluate(data, at=at)


def test_what_is_no_data_is_told(model: HardGNN, data: Dataset, market: Path, tmp_path: Path) -> None:
    for call in (model.fit, model.evaluate):
        for given, sentence in (
            (5, "data: expected a prepared Dataset, a log, a table .* or the path of .*, got 5"),
            (str(tmp_path / "none.csv"), "no such file or folder"),
            (pl.DataFrame({"a": [1], "b": [2]}), "no (user|item) column; columns found: a, b; name it with user="),
        ):
            with pytest.raises(HardGNNError, match=sentence):
                call(given)
    for how in ({"user": "a"}, {"prepare": {"k_core": 3}}):
        with pytest.raises(HardGNNError, match="prepared already, so this would do nothing"):
            model.fit(market, **how)
    assert model.evaluate(market) == model.evaluate(data)
    with pytest.raises(HardGNNError, match="data: give the data to evaluate on"):
        HardGNN.load(model.folder).evaluate()


def test_other_arguments_that_cannot_be_are_named(model: HardGNN, data: Dataset, tmp_path: Path) -> None:
    for call, sentence in (
        (lambda: model.evaluate(data, protocol="ful"), "unknown protocol 'ful'; did you mean 'full'"),
        (lambda: model.evaluate(data, protocol=None), "protocol: expected text, got None"),
        (lambda: model.evaluate(data, part="tset"), "unknown part 'tset'; did you mean 'test'"),
        (lambda: model.evaluate(data, part=["test"]), "part: expected text"),
        (lambda: model.fit(data, out=5), "out: expected a path, got 5"),
        (lambda: model.fit(data, resume="yes"), "resume: expected True or False, got 'yes'"),
        (lambda: model.fit(data, warm_start=5), "warm_start: expected a path"),
        (lambda: HardGNN(5), "preset: expected text, got 5"),
        (lambda: HardGNN(seed=-1), "seed: expected a whole number of at least 0, got -1"),
        (lambda: HardGNN(dim=32), "unknown parameter 'dim': did you mean 'model__dim'"),
        (lambda: HardGNN.load(5), "folder: expected a path, got 5"),
        (lambda: Dataset.load(None), "folder: expected a path, got None"),
        (lambda: Dataset.read(5), "path: expected a path, got 5"),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            call()


FORKS = """
import multiprocessing, os, signal, sys
from pathlib import Path
from hardgnn import Dataset, HardGNN, HardGNNError
from hardgnn.runs.train import train

run, market, log = sys.argv[1:]

def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            os._exit(work())
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def works():
    return 0 if HardGNN.load(run).recommend(users="u1", n=3).height == 3 else 1

assert forked(works) == 0, "before any use"
model, data = HardGNN.load(run), Dataset.load(market)
everybody = model.recommend()

def refused():
    for call in (
        lambda: model.recommend(users="u1"),
        lambda: model.evaluate(data),
        lambda: model.fit(data),
        lambda: HardGNN.load(run),
        lambda: Dataset.load(market),
        lambda: Dataset.read(log),
        lambda: Dataset.read(log).prepare(),
        lambda: train(data, model.config, Path(run + "-forked")),
    ):
        try:
            call()
            return 1
        except HardGNNError as error:
            if "forked after hardgnn had been used" not in str(error) or "spawn" not in str(error):
                return 2
    return 0

assert forked(refused) == 0, "after use"
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        pool.apply_async(HardGNN.load, (run,)).get(30)
    except HardGNNError as error:
        assert "forked" in str(error)
assert model.recommend().equals(everybody)
print("done")
"""


def test_after_a_fork_there_is_a_sentence_before_it_all_works(model: HardGNN, market: Path, market_log: Path) -> None:
    words = [sys.executable, "-c", FORKS, str(model.folder), str(market), str(market_log)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stdout + done.stderr


def test_waiting_threads_do_not_spin_for_long_unless_they_are_told_to() -> None:
    show = "import os, hardgnn; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"

    def said(code: str, **more: str) -> str:
        plain = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        words = [sys.executable, "-c", code]
        return subprocess.run(words, capture_output=True, text=True, env=plain | more).stdout.strip()

    assert said(show) in ("0 None", "10000 None")  # on a busy machine, and on a quiet one
    assert said(show, GOMP_SPINCOUNT="5") == "5 None"
    assert said(show, OMP_WAIT_POLICY="ACTIVE") == "None ACTIVE"
