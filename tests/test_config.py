"""Settings: what cannot be one gets a sentence that names it, whatever it is made of."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hardgnn import config
from hardgnn.config import known_keys
from hardgnn.config.earlier import RENAMED
from hardgnn.errors import HardGNNError

HOSTILE = [
    "nan",
    "-inf",
    "1e400",
    "9" * 5000,
    "0x" + "f" * 5000,
    "[" * 5000,
    "{a=" * 5000,
    "1\nx=2",
    "\x00",
    "\udcff",
    "",
]
HOSTILE += ["-1", "true", "[]", "{a=1}", "'x'", "2020-01-01", "64.5", "\u202e5", "10000000000000000000000000", "# no"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.dim=" + "[" * 5000, "model.dim: expected a valid integer, got '[[["),
        ("model.dim=" + "9" * 6000, "model.dim: expected a valid integer"),
        ("model.dim=0x" + "f" * 6000, "model.dim: expected"),
        ("model.dim=10000000000", "model.dim: expected at most 2,147,483,647"),
        ("model.dim=true", "model.dim: expected a valid integer, got True"),
        ("model.dim=64.5", "model.dim: expected a valid integer, got 64.5"),
        ("model.dim=64\nheads=2", r"model.dim: expected a valid integer, got '64\nheads=2'"),
        ("train.lr=nan", "train.lr: expected a finite number, got nan"),
        ("train.lr=inf", "train.lr: expected a finite number, got inf"),
        ("run.threads=100000", "run.threads: expected less than or equal to 1024"),
        ("model.norm=7", "model.norm: expected 'none' or 'sym', got 7"),
        ("model.use=1", "unknown key 'model.use'"),
        ("model.=1", "unknown key 'model.'"),
        (".=1", "unknown key ''"),
        ("=1", "expected section.field=value"),
        ("model.dim", "expected section.field=value"),
        ("a" * 500 + ".b=1", "unknown key 'aaa"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(setting: str, told: str) -> None:
    with pytest.raises(HardGNNError, match=".") as raised:
        config.resolve("hardgnn", settings=[setting])
    assert told in str(raised.value)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[model]\ndim = 8\n[model]\nheads = 2\n", "not valid TOML"),
        (b"[model]\ndim = 8\ndim = 9\n", "not valid TOML"),
        (b"\xff\xfe[model]", "line 1: not text in UTF-8, expected a TOML file of settings"),
        (b"x = " + b"[" * 5000, "nested too deeply"),
        (b"[model]\ndim = " + b"9" * 5000, "not valid TOML"),
        (b'[model]\n"" = 1\n', "unknown key 'model.'"),
        (b'"" = 1\n', "unknown key ''"),
        (b"[transitions]\nuse = 'no'\n", "transitions.use: expected false or true, got 'no'"),
        (b"model = 3\n", "'model' must be a table of settings, got 3"),
        (b'[model]\ndim = "64"\n', "model.dim: expected a valid integer, got '64'"),
        (b"[train]\nl2 = nan\n", "optimiser.l2: expected a finite number"),
        (b"[hard]\nk = 2020-01-01\n", "hard.k: expected a valid integer"),
    ],
)
def test_a_bad_file_of_settings_is_named(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    for read in (lambda path: config.resolve("hardgnn", path), config.load):
        with pytest.raises(HardGNNError, match="c.toml|config") as raised:
            read(tmp_path / "c.toml")
        assert told in str(raised.value)


def test_places_where_no_settings_can_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("link")
    for name, told in (
        ("fifo", "not an ordinary file, expected a TOML file"),
        ("folder", "a folder, expected a TOML file"),
        ("gone", "no such file"),
        ("link", "go round in circles"),
        ("n" * 300, "too long"),
    ):
        with pytest.raises(HardGNNError, match=told):
            config.resolve("hardgnn", tmp_path / name)
    if os.geteuid() != 0:
        (tmp_path / "secret").write_text("")
        (tmp_path / "secret").chmod(0)
        with pytest.raises(HardGNNError, match="permission denied"):
            config.resolve("hardgnn", tmp_path / "secret")


def test_whole_numbers_are_numbers_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf[train]\nlr = 1\n")
    found = config.resolve("hardgnn", tmp_path / "c.toml", settings=["hard.weight=1", "run.seed=9223372036854775807"])
    assert (found.train.lr, found.objective.hard.weight, found.run.seed) == (1.0, 1.0, 2**63 - 1)
    assert config.build(tomllib.loads(found.to_toml()), "again") == found


def assert_short(error: HardGNNError) -> None:
    assert len(str(error)) < 900


KNOWN = [*known_keys({}), *known_keys({"model": {"kind": "transformer"}}), *RENAMED]
KEYS = st.one_of(st.sampled_from(KNOWN), st.text(max_size=9).map(lambda one: f"model.{one}"), st.text(max_size=9))
VALUES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20), st.integers().map(str), st.floats().map(str))


@hypothesis_settings(max_examples=300, deadline=None)
@given(key=KEYS, value=VALUES)
def test_any_setting_is_taken_whole_or_refused_in_one_sentence(key: str, value: str) -> None:
    try:
        found = config.resolve("best", settings=[f"{key}={value}"])
    except HardGNNError as error:
        assert_short(error)
    else:
        assert config.build(tomllib.loads(found.to_toml()), "again") == found


@hypothesis_settings(max_examples=200, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damaged_file_of_settings_is_taken_whole_or_refused(
    places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(config.resolve("best").to_toml().encode())
    for place, byte in places:
        content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    path.write_bytes(content)
    try:
        config.load(path)
    except HardGNNError as error:
        assert_short(error)
