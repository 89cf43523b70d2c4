"""The planted market: its size, its known answer, its seeds and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardgnn.data.log import read_log
from hardgnn.errors import HardGNNError
from hardgnn.prepare.simulate import simulate, successor, write_simulated


@pytest.mark.parametrize("items", [2, 24, 25, 49, 60, 333])
def test_successor_is_a_permutation_without_fixed_points(items: int) -> None:
    following = successor(items, seed=3)
    assert sorted(following.tolist()) == list(range(items))
    assert (following != np.arange(items)).all()


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_the_next_item_is_the_successor_as_often_as_said(noise: float) -> None:
    log, following = simulate(200, 500, 40_000, seed=1, noise=noise)
    np.testing.assert_array_equal(following, successor(500, seed=1))
    assert log.height == 40_000
    item = log["item"].str.strip_prefix("i").cast(int).to_numpy()
    user = log["user"].str.strip_prefix("u").cast(int).to_numpy()
    order = np.argsort(user, kind="stable")
    user, item = user[order], item[order]
    same = user[1:] == user[:-1]
    hits = (following[item[:-1]] == item[1:])[same].mean()
    assert hits == pytest.approx(1 - noise, abs=0.02)


def test_activity_and_popularity_are_skewed_and_times_rise() -> None:
    log, _ = simulate(1_000, 500, 50_000, seed=0)
    activity = np.sort(log["user"].value_counts()["count"].to_numpy())
    assert len(activity) == 1_000
    assert activity[-100:].sum() > 0.25 * activity.sum()
    popularity = np.sort(log["item"].value_counts()["count"].to_numpy())
    assert popularity[-50:].sum() > 0.15 * popularity.sum()
    times = log["timestamp"].to_numpy()
    assert (np.diff(times) >= 0).all()
    assert times[-1] - times[0] > 2 * 365 * 86_400


def test_popularity_drifts() -> None:
    log, _ = simulate(1_000, 500, 50_000, seed=0, noise=1.0)
    early, late = log.head(10_000), log.tail(10_000)
    top = [set(part["item"].value_counts(sort=True)["item"].head(25)) for part in (early, late)]
    assert len(top[0] & top[1]) < 15


def test_seeds() -> None:
    one, two, other = (simulate(20, 30, 500, seed=seed)[0] for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one.equals(other)


@pytest.mark.parametrize("name", ["m.inter", "m.inter.gz", "m.csv", "m.csv.gz", "m.tsv", "m.parquet"])
def test_files_read_back_and_repeat(tmp_path: Path, name: str) -> None:
    expected, _ = simulate(20, 30, 500, seed=4)
    path = write_simulated(tmp_path / "a" / name, 20, 30, 500, seed=4)
    again = write_simulated(tmp_path / "b" / name, 20, 30, 500, seed=4)
    assert read_log(path).table.equals(expected)
    assert path.read_bytes() == again.read_bytes()
    assert [one.name for one in (tmp_path / "a").iterdir()] == [name]


@pytest.mark.parametrize("numbers", [(0, 5, 5), (1, 1, 5), (5, 5, 4)])
def test_markets_that_cannot_be(tmp_path: Path, numbers: tuple[int, int, int]) -> None:
    with pytest.raises(HardGNNError, match="a market needs"):
        write_simulated(tmp_path / "m.csv", *numbers)
    with pytest.raises(HardGNNError, match="noise"):
        simulate(5, 5, 50, noise=1.5)
    with pytest.raises(HardGNNError, match="name that ends in"):
        write_simulated(tmp_path / "m.xlsx", 5, 5, 50)
    assert not list(tmp_path.iterdir())
