"""Logs whose columns are files: the same data sets as in memory, and what becomes of the disk."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardgnn.data.dataset import TEST, VALID, Dataset
from hardgnn.data.log import read_log
from hardgnn.data.readers.values import Room
from hardgnn.errors import HardGNNError, MachineError
from hardgnn.prepare.memory import Budget, free_bytes, size_of
from hardgnn.prepare.pipeline import PrepareConfig, prepare, prepare_file
from hardgnn.storage import columns, frames
from hardgnn.storage.columns import Shelf, blocks, quantiles, shelf_of

SMALL = "storage.columns", "storage.frames", "data.readers.values", "data.readers.times", "data.histories"
IDS = st.sampled_from(["a", "b", "c", "d", "NA", " a", "1.0", "é"])
ROWS = st.lists(st.tuples(IDS, IDS, st.integers(0, 6), st.integers(1, 5)), min_size=1, max_size=80)
SETTINGS = st.fixed_dictionaries(
    {
        "repeats": st.sampled_from(["first", "last", "all"]),
        "k_core": st.integers(0, 4),
        "thresholds": st.sampled_from(["k_core", "selfgnn"]),
        "passes": st.just((3, 2)),
        "split": st.sampled_from(["leave-one-out", "global-time"]),
        "drop_missing": st.booleans(),
        "min_rating": st.sampled_from([None, 3.0]),
        "since": st.sampled_from([None, "2014-05-13T16:53:22Z"]),
        "candidates": st.just(3),
    }
)


def outcome(path: Path, room: Room | None, part_rows: int, config: PrepareConfig, timed: bool) -> object:
    """Every file of the prepared folder, or the sentence that refuses it."""
    kind = "csv" if timed else "sequences"
    try:
        data = prepare(read_log(path, room, format=kind), config, part_rows)
    except HardGNNError as error:
        return str(error)
    assert (shelf_of(data.user).folder is not None) == (room is not None)
    with tempfile.TemporaryDirectory() as folder:
        data.save(out := Path(folder, "data"))
        return {one.name: one.read_bytes() for one in out.iterdir()}


@settings(max_examples=40, deadline=None)
@given(ROWS, SETTINGS, st.booleans(), st.integers(1, 20))
def test_files_and_memory_give_the_same_bytes(
    rows: list[tuple[str, str, int, int]], chosen: dict, timed: bool, part_rows: int
) -> None:
    """Ties in time, repeats, k-core, numbering, split, doubts and refusals, with blocks and parts of a few rows."""
    config = PrepareConfig.checked(**chosen)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "log.csv")
        frame = pl.DataFrame(rows, schema=["user", "item", "timestamp", "rating"], orient="row")
        frame = frame.with_columns(1.4e9 + pl.col("timestamp"))
        (frame if timed else frame.select("user", "item")).write_csv(path)
        whole = outcome(path, None, 10**6, config, timed)
        for module in (
            "storage.columns",
            "storage.frames",
            "data.readers.values",
            "data.readers.times",
            "data.histories",
        ):
            patch.setattr(f"hardgnn.{module}.BLOCK", 7)
        patch.setattr("hardgnn.prepare.kept.SKEWED", 100)
        in_files = outcome(path, Room(0, Path(folder)), part_rows, config, timed)
        assert in_files == whole
        assert [one.name for one in Path(folder).iterdir()] == ["log.csv"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False), max_size=60), st.integers(1, 5), st.integers(1, 4))
def test_quantiles_of_blocks_are_those_of_numpy(numbers: list[float], steps: int, parts: int) -> None:
    values, shares = np.array(numbers, dtype=np.float64), np.linspace(0, 1, steps + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK", 4)
        found = quantiles(lambda: iter(np.array_split(values, parts)), shares)
    np.testing.assert_array_equal(found, np.quantile(values, shares, method="higher") if numbers else values)


def test_row_groups_are_those_of_polars(tmp_path: Path) -> None:
    """A table that is written by row groups has the bytes of one that is written as a whole."""
    for rows in (1, 200_001, 300_000, 1_048_576):
        table = pl.DataFrame({"number": np.arange(rows, dtype=np.int32)})
        frames.write_frame(tmp_path / "parts.parquet", table, {"number": pl.Int32})
        key = f"hardgnn-seal={frames.BLANK.decode()};"
        table.write_parquet(tmp_path / "whole.parquet", metadata={frames.KEY: key})
        sealed = (tmp_path / "parts.parquet").read_bytes()
        assert (
            frames.SEAL.sub(b"hardgnn-seal=" + frames.BLANK + b";", sealed) == (tmp_path / "whole.parquet").read_bytes()
        )


def market(path: Path, rows: int = 3000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    made = {"user": rng.integers(0, 120, rows), "item": rng.integers(0, 60, rows)}
    table = pl.DataFrame(made | {"timestamp": 1.4e9 + rng.integers(0, 10**7, rows)})
    table.write_parquet(path)
    return table


def test_the_command_says_where_it_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files and an address are one log; a bound on the memory makes files, which leave nothing behind."""
    from typer.testing import CliRunner

    from hardgnn.cli.app import app

    table = market(tmp_path / "whole.parquet")
    table[:1000].write_parquet(tmp_path / "one.parquet")
    table[1000:].write_parquet(tmp_path / "two.parquet")
    monkeypatch.setattr("hardgnn.prepare.memory.ROW_BYTES", 10**6)  # so that few rows fit
    one, two = (str(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    for out, sources in (("a", [one, two]), ("b", [f"file://{tmp_path}/whole.parquet"])):
        done = CliRunner().invoke(app, ["prepare", *sources, "--out", str(tmp_path / out), "--memory", "800MB"])
        assert done.exit_code == 0, done.output
        assert "prepared on disk" in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"whole.parquet", "one.parquet", "two.parquet", "a", "b"}
    a, b = (Dataset.load(tmp_path / out) for out in "ab")
    assert a.interactions().equals(b.interactions())
    assert b.provenance.source_sha256 is None
    assert prepare_file(tmp_path / "whole.parquet").interactions().equals(a.interactions())


def test_a_pattern_is_named_by_its_folder_and_an_address_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    for day in ("1", "2"):
        (tmp_path / "clicks" / day).mkdir(parents=True)
        market(tmp_path / "clicks" / day / "part.parquet", 500, int(day))
    for place in ("clicks/*/*.parquet", "clicks/**/*.parquet"):
        assert {read_log(f"{kind}{tmp_path}/{place}").name for kind in ("", "file://")} == {"clicks"}
    wrong = {
        f"file://{tmp_path}/none.parquet": "nothing is there",
        f"file://{tmp_path}/none/*.parquet": "nothing is there",
        "fish://b/log.parquet": "expected a file, or an address that begins with s3://, ",
    }
    for address, told in wrong.items():
        with pytest.raises(HardGNNError, match=re.escape(f"{address}: {told}")):
            read_log(address)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("object-store error: Generic S3 error: Error performing GET in 4 s, after 10 retries"), "reached"),
        (
            OSError("object-store error: Error performing GET - status code: 503 Service Unavailable: <html>"),
            "answers 503",
        ),
        (OSError("object-store error: Generic GCS error: Error performing token request: 403"), "access is refused"),
        (PermissionError("object-store error: lacked the necessary privileges\n\nCaused by: x"), "access is refused"),
        (
            OSError("object-store error: Account must be specified (path: az://c)"),
            "as Parquet (Account must be specified)",
        ),
    ],
)
def test_what_polars_says_of_an_address_in_plain_words(
    error: OSError, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(url: str) -> None:
        raise error

    monkeypatch.setattr("polars.scan_parquet", fails)
    with pytest.raises(HardGNNError, match=re.escape(told)) as caught:
        read_log("s3://bucket/log.parquet")
    assert "object-store" not in str(caught.value)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    market(tmp_path / "log.parquet")
    budget = Room(10, tmp_path)

    class Full:
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(columns, "_nameless", lambda _: Full())
    with pytest.raises(MachineError, match=r"^[^\n]*no space left on the disk; columns that do not fit into memory"):
        read_log(tmp_path / "log.parquet", budget)


def test_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [size_of(one) for one in ("2GB", "1.5 GiB", "800m", 7)] == [2 * 10**9, 3 * 2**29, 8 * 10**8, 7]
    assert free_bytes() > 0
    for wrong in ("much", "2 XB"):
        with pytest.raises(HardGNNError, match="expected a size such as 2GB"):
            Budget.of(wrong, tmp_path)
    with pytest.raises(HardGNNError, match="takes 400 MB at least"):
        Budget.of("10MB", tmp_path)
    market(tmp_path / "log.parquet")
    log, small, large = read_log(tmp_path / "log.parquet"), Budget.of("500MB", tmp_path), Budget.of("20GB", tmp_path)
    assert small.room.rows < large.room.rows
    assert small.part_rows(log) < large.part_rows(log)
    monkeypatch.setattr("hardgnn.prepare.memory.ID_BYTES", 10**7)
    with pytest.raises(HardGNNError, match=r"users and items do not fit into 500 MB; give memory=\d+MB"):
        small.part_rows(log)


def test_one_user_who_is_nearly_everything(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user": ["bot"] * 500, "item": [str(n) for n in range(500)], "timestamp": [1.4e9] * 500})
    rows.write_parquet(tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet", Room(0, tmp_path))
    with pytest.raises(HardGNNError, match="the user 'bot' has 500 of 500 events, which are too many"):
        prepare(log, PrepareConfig(), 20)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set and run that is read is mapped."""
    monkeypatch.setattr(columns, "MAPPED_BYTES", 0)


def test_training_on_mapped_columns_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hardgnn.config.resolve import resolve
    from hardgnn.runs.train import train

    market(tmp_path / "log.parquet")
    prepare_file(tmp_path / "log.parquet").save(tmp_path / "data")
    config = resolve("best", None, ["train.epochs=1", "model.dim=8", "model.window=20"])
    train(Dataset.load(tmp_path / "data"), config, tmp_path / "plain")
    monkeypatch.setattr(columns, "MAPPED_BYTES", 0)
    data = Dataset.load(tmp_path / "data")
    assert shelf_of(data.item).folder is not None
    assert shelf_of(data.train.items).folder is not None
    train(data, config, tmp_path / "mapped")
    for name in ("model.safetensors", "users.parquet", "items.parquet"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "mapped" / name).read_bytes()


def test_a_folder_of_spark(tmp_path: Path, mapped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the query in docs/scale.md writes is read: folders of Parquet files, and the manifest that it shows."""
    market(tmp_path / "log.parquet")
    prepare_file(tmp_path / "log.parquet").save(tmp_path / "ours")
    ours, theirs = Dataset.load(tmp_path / "ours"), tmp_path / "data"
    for name in ("interactions", "users", "items"):
        table = pl.read_parquet(tmp_path / "ours" / f"{name}.parquet")
        table = table.cast({"part": pl.Int8}) if name == "interactions" else table  # Spark has no unsigned types
        (theirs / f"{name}.parquet").mkdir(parents=True)
        for number, part in enumerate(table.iter_slices(max(1, table.height // 3))):
            part.write_parquet(theirs / f"{name}.parquet" / f"part-{number:05}.parquet")
        (theirs / f"{name}.parquet" / "_SUCCESS").touch()
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
    exec(page.read_text("utf-8").split("```python\nimport json")[1].split("```")[0], {"json": json})
    found = Dataset.load(theirs)
    assert (found.candidates.items == ours.candidates.items).all()
    assert found.interactions().equals(ours.interactions())
    unread = Dataset.load(theirs, ids=False)  # as by processes that write nothing
    assert unread.counts == ours.counts
    assert unread.item_ids.null_count() == ours.n_items
    for part in (VALID, TEST):
        assert all((one == other).all() for one, other in zip(found.targets(part), ours.targets(part)))


def test_blocks_let_go_of_what_they_have_seen(tmp_path: Path) -> None:
    column = Shelf(tmp_path).put(np.arange(3_000_000))
    total = sum(int(block.sum()) for (block,) in blocks(column))
    assert total == 2_999_999 * 1_500_000
    assert not list(tmp_path.iterdir())
    assert not column.flags.writeable
