"""Recommendations in shards: together they are the whole, and a folder holds those of one run and one question."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgnn.api import HardGNN
from hardgnn.cli.app import run as hardgnn
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.recommend.recommender import Recommender
from hardgnn.recommend.shards import MANIFEST, Shard
from hardgnn.runs import users as some_users
from hardgnn.verify import verify

SMALL = {"model": {"dim": 16, "window": 12}, "train": {"epochs": 1}}


@pytest.fixture(scope="module")
def runs(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of a preset, fitted once."""
    folder, data = tmp_path_factory.mktemp("shards"), Dataset.load(market)

    def of(preset: str) -> Path:
        if not (folder / preset).exists():
            options = SMALL if preset in ("best", "selfgnn") else {}
            HardGNN(preset, **options).fit(data, folder / preset)
        return folder / preset

    return of


def recommend(folder: Path, *words: object) -> None:
    assert hardgnn(["recommend", str(folder), *map(str, words)]) == 0


def same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    assert found.drop("score").equals(wanted.drop("score"))
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preset", ["best", "selfgnn", "decayed-popularity"])
def test_all_shards_together_are_the_whole(
    preset: str, runs: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`best` and the decayed counts know everybody's events, `selfgnn` has a vector of each user."""
    monkeypatch.setattr(some_users, "BLOCK_USERS", 37)
    run, out = runs(preset), tmp_path / "recs"
    recommend(run, "--all-users", "--n", 4, "--out", tmp_path / "whole.parquet")
    for number in (3, 1, 2):
        assert not (out / MANIFEST).exists()
        recommend(run, "--all-users", "--n", 4, "--shard", f"{number}/3", "--out", out)
    same(pl.read_parquet(out / "*.parquet"), pl.read_parquet(tmp_path / "whole.parquet"))
    manifest = json.loads((out / MANIFEST).read_text())
    assert (manifest["users"], manifest["rows"], manifest["shards"]) == (200, 800, 3)
    assert len(list(out.iterdir())) == 3 + 2


def test_users_and_events_in_parquet_and_shards_in_csv(runs: Callable[[str], Path], tmp_path: Path) -> None:
    run = runs("selfgnn")
    known = pl.read_parquet(run / "users.parquet")["raw_id"][20:60].to_list()
    pl.DataFrame({"n": range(42), "user_id": [*known, "stranger", known[3]]}).write_parquet(tmp_path / "u.parquet")
    item = pl.read_parquet(run / "items.parquet")["raw_id"][5]
    pl.DataFrame({"user": [known[0], "stranger"], "item": item}).write_parquet(tmp_path / "new.parquet")
    asked = ["--users-file", tmp_path / "u.parquet", "--events", tmp_path / "new.parquet", "--n", 3]
    recommend(run, *asked, "--out", tmp_path / "whole.csv")
    for number in (1, 2):
        recommend(run, *asked, "--shard", f"{number}/2", "--format", "csv", "--out", tmp_path / "recs")
    whole = pl.read_csv(tmp_path / "whole.csv")
    same(pl.read_csv(tmp_path / "recs" / "*.csv"), whole)
    assert whole["user"].n_unique() == 41
    assert set(whole.filter(pl.col("user") == "stranger")["source"]) == {"sequence"}
    pl.DataFrame({"whoever": whole["user"].unique(maintain_order=True)}).write_parquet(tmp_path / "u.parquet")
    again = ["--users-file", tmp_path / "u.parquet", *asked[2:], "--out", tmp_path / "again.csv"]
    recommend(run, *again)
    same(pl.read_csv(tmp_path / "again.csv"), whole)
    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(HardGNNError, match="no column 'user'; columns found: a, b"):
        recommend(run, "--users-file", tmp_path / "u.parquet")


def test_a_shard_that_is_there_is_not_made_again_and_half_a_one_is_none(
    runs: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = runs("recencyknn"), tmp_path / "recs"
    asked = ["--all-users", "--n", 2, "--out", out]
    with monkeypatch.context() as patched:
        patched.setattr(Recommender, "_table", lambda *words: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hardgnn(["recommend", str(run), *map(str, asked), "--shard", "1/2"])
    assert [path.name for path in out.iterdir()] == ["_shards.json"]
    (out / ".part-00001-of-00002.parquet.0123abcd.tmp").write_bytes(b"half")  # as a kill leaves it
    recommend(run, *asked, "--shard", "2/2")
    told = verify(out)[0]
    assert told.state == "unfinished"
    assert "unfinished, 1 of 2 shards are there, missing: 1/2" in told.problem
    recommend(run, *asked, "--shard", "1/2")
    assert verify(out)[0].state == "ok"
    (out / "_manifest.json").unlink()  # as a kill before the last step leaves it
    assert "all shards are there and _manifest.json is not" in verify(out)[0].problem
    recommend(run, *asked, "--shard", "2/2")
    assert verify(out)[0].state == "ok"
    first = out / "part-00001-of-00002.parquet"
    before = first.stat().st_mtime_ns
    recommend(run, *asked, "--shard", "1/2")
    assert first.stat().st_mtime_ns == before
    first.write_bytes(b"")
    assert "make the shard again with --overwrite" in verify(out)[0].problem
    recommend(run, *asked, "--shard", "1/2", "--overwrite")
    assert not verify(out)[0].problem


def test_a_shard_of_another_run_or_question_is_refused(runs: Callable[[str], Path], tmp_path: Path) -> None:
    run, out = runs("recencyknn"), tmp_path / "recs"
    recommend(run, "--all-users", "--shard", "1/3", "--out", out)
    for folder, words, sentence in (
        (runs("decayed-popularity"), ["2/3"], r"holds shards of another run \(recencyknn\)"),
        (run, ["2/4"], "its shards are of 3, not of 4"),
        (run, ["2/3", "--n", "3"], r"with another --n \(10, not 3\)"),
        (run, ["2/3", "--no-exclude-seen"], r"with another --exclude-seen"),
        (run, ["2/3", "--format", "csv"], r"with another --format \(parquet, not csv\)"),
        (run, ["2/3", "--format", "json"], "--format json: expected parquet or csv"),
        *(
            (run, [text], f"--shard {text}: expected i/n with i from 1 to n")
            for text in ("4/3", "0/2", "a/b", "2", "1/0")
        ),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            hardgnn(["recommend", str(folder), "--all-users", "--out", str(out), "--shard", *words])
    assert len(list(out.iterdir())) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    for words, sentence in (
        (["--all-users", "--shard", "1/2", "--out", tmp_path / "other"], "holds no _shards.json, so it is left alone"),
        (["--all-users", "--shard", "1/2", "--out", tmp_path / "other" / "mine"], "a file is in the way"),
        (["--all-users", "--shard", "1/2"], "needs --out FOLDER"),
        (["--items", "a", "--shard", "1/2", "--out", out], "--items are those of one user"),
        (["--all-users", "--overwrite"], "are for shards"),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            hardgnn(["recommend", str(run), *map(str, words)])


@given(users=st.integers(0, 1000), of=st.integers(1, 40))
def test_every_user_is_in_one_shard(users: int, of: int) -> None:
    rows = [Shard(number, of).rows(users) for number in range(1, of + 1)]
    assert [row for one in rows for row in one] == list(range(users))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_more_shards_than_users_are_shards_too(runs: Callable[[str], Path], tmp_path: Path) -> None:
    asked = ["--user", "u3", "--n", 2, "--out", tmp_path / "recs"]
    for number in (1, 2):
        recommend(runs("recencyknn"), *asked, "--shard", f"{number}/2")
    assert pl.read_parquet(tmp_path / "recs" / "*.parquet")["user"].to_list() == ["u3", "u3"]


def test_a_model_of_ones_own_may_ask_for_histories_in_memory(runs: Callable[[str], Path]) -> None:
    whole = Recommender(runs("selfgnn")).tables.histories
    stored = some_users.load_users(runs("selfgnn"), range(9)).everybody
    assert (stored.items == whole.items).all()  # type: ignore[attr-defined]
    assert stored.timed
    assert (stored.times == whole.times).all()  # type: ignore[attr-defined]
