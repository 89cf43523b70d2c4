"""What a run knows beside the weights: ids, whole histories, counts, titles; two tables of its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.config import Config, flat
from hardgnn.data.dataset import TRAIN, Dataset
from hardgnn.data.histories import Histories
from hardgnn.data.intervals import cut_all
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.storage.columns import shelf_for
from hardgnn.storage.files import atomic_path
from hardgnn.storage.frames import GROUP_ROWS, check_index, opened, read_index, write_frame, write_parts
from hardgnn.storage.records import check_file

USERS, ITEMS = "users.parquet", "items.parquet"
USER_NUMBERS = {"raw_id": pl.String, "index": pl.Int32, "train_interactions": pl.Int32}
USER_TABLE = USER_NUMBERS | {"history": pl.List(pl.Int32)}
USER_TIMES = {"history_time": pl.List(pl.Float64), "history_interval": pl.List(pl.UInt8)}
ITEM_TABLE = {"raw_id": pl.String, "index": pl.Int32, "train_interactions": pl.Int32}
ITEM_TITLES = {"title": pl.String}
GROUP_USERS = 16_384  # rows of users that are read without the others, about
EVENT_BYTES = 13  # of an event of a history in memory

Lists = tuple[NDArray[np.int64], dict[str, NDArray[Any]]]
"""The lengths (U,) of histories, and what goes with their events (N,), by name."""


@dataclass(frozen=True)
class RunTables:
    """What a run folder knows beside the weights: ids, whole histories, counts, titles.

    Shapes: `user_ids` (U,), `item_ids` (I,) and `titles` (I,) or None; `user_interactions` (U,) and `popularity` (I,)
    count training interactions; `times` (seconds since 1970) and `intervals` (from 0) go with `histories.items` (N,)
    and are None in a folder written before they were kept.
    """

    user_ids: pl.Series
    histories: Histories
    user_interactions: NDArray[np.int32]
    times: NDArray[np.float64] | None
    intervals: NDArray[np.uint8] | None
    item_ids: pl.Series
    titles: pl.Series | None
    popularity: NDArray[np.int32]


def write_tables(folder: Path, tables: RunTables) -> None:
    """Writes the tables of a run, in an existing folder.

    Raises:
        MachineError: the disk is full, or another fault of the machine.
        HardGNNError: the folder may not be written, or is gone.
    """
    lengths, offsets = tables.histories.lengths, tables.histories.offsets
    lists: dict[str, NDArray[Any]] = {"history": tables.histories.items}
    times = {}
    for name, values in (("history_time", tables.times), ("history_interval", tables.intervals)):
        if values is not None:
            lists[name], times[name] = values, USER_TIMES[name]

    def part(first: int, end: int) -> pl.DataFrame:
        rows = slice(offsets[first], offsets[end])
        index = np.arange(first, end, dtype=np.int32)
        events = {name: np.array(values[rows]) for name, values in lists.items()}
        of_users = pl.DataFrame({"index": np.repeat(index, lengths[first:end])} | events)
        of_users = of_users.group_by("index", maintain_order=True).agg(pl.all())
        columns = {"raw_id": tables.user_ids[first:end], "index": index}
        users = pl.DataFrame(columns | {"train_interactions": tables.user_interactions[first:end]})
        users = users.join(of_users, on="index", how="left", maintain_order="left")
        return users.with_columns(pl.col(*lists).fill_null([]))

    with atomic_path(folder / USERS, make_parent=False) as temporary:
        write_parts(temporary, part, len(lengths), USER_TABLE | times, group_rows=GROUP_USERS)
    items: dict[str, Any] = {"raw_id": tables.item_ids, "index": np.arange(len(tables.item_ids), dtype=np.int32)}
    items["train_interactions"] = tables.popularity
    schema = ITEM_TABLE
    if tables.titles is not None:
        items["title"], schema = tables.titles, ITEM_TABLE | ITEM_TITLES
    with atomic_path(folder / ITEMS, make_parent=False) as temporary:
        write_frame(temporary, pl.DataFrame(items), schema)


def learnt(config: Config, data: Dataset) -> Dataset:
    """`data` as a run learns from it: what it learns from is the training part."""
    return data.joined() if config.run.final else data


def tables_of(config: Config, data: Dataset) -> RunTables:
    """What a run on `data` knows, in memory, as `read_tables` gives it back."""
    data = learnt(config, data)
    intervals, settings = None, flat(config)["model"]
    if {"intervals", "interval_cut"} <= settings.keys():
        how = (settings["intervals"], settings["interval_cut"], data.time_span)
        intervals = cut_all(data.timestamp, data.user, data.part == TRAIN, *how).astype(np.uint8)
    return RunTables(
        data.user_ids,
        data.everything,
        data.train.lengths.astype(np.int32),
        data.timestamp,
        intervals,
        data.item_ids,
        data.item_titles,
        data.train.item_counts(data.n_items).astype(np.int32),
    )


def read_tables(folder: Path, record: dict[str, Any], remedy: str) -> RunTables:
    """The tables of a run folder.

    Args:
        folder: the run folder.
        record: of the run's start, with hashes and counts to compare with.
        remedy: what to do about a damaged one.

    Raises:
        HardGNNError: they are missing or damaged.
    """
    check_files(folder, record, remedy)
    users = read_index(folder / USERS, USER_NUMBERS, remedy)
    check_count(folder, record, "users", users.height, remedy)
    return _tables_with(folder, record, remedy, users, _read_lists)


def check_files(folder: Path, record: dict[str, Any], remedy: str) -> None:
    """Compares the tables with their records.

    Raises:
        HardGNNError: one is missing, or not what was written.
    """
    for name in (USERS, ITEMS):
        check_file(folder / name, record.get("files", {}).get(name), remedy)


def check_count(folder: Path, record: dict[str, Any], name: str, found: int, remedy: str) -> None:
    """Compares how many users or items were found with how many were trained on.

    Raises:
        HardGNNError: they differ.
    """
    wanted = record["data"]["manifest"].get("counts", {}).get(name, found)
    if found != wanted:
        raise HardGNNError(f"{shown(folder)}: damaged, {found:,} {name} where {wanted:,} were trained on; {remedy}")


def tables_with(folder: Path, record: dict[str, Any], remedy: str, users: pl.DataFrame) -> RunTables:
    """The tables of some users (rows of the table of users), with all items."""
    return _tables_with(folder, record, remedy, users, lambda *given: lists_of(users, *given))


def _tables_with(
    folder: Path, record: dict[str, Any], remedy: str, users: pl.DataFrame, lists_of: Callable[[Path, int, str], Lists]
) -> RunTables:
    items = read_index(folder / ITEMS, ITEM_TABLE, remedy, ITEM_TITLES)
    check_count(folder, record, "items", items.height, remedy)
    lengths, lists = lists_of(folder / USERS, items.height, remedy)
    histories = histories_of(lengths, lists)
    return RunTables(
        users["raw_id"],
        histories,
        users["train_interactions"].to_numpy(),
        histories.times,
        lists.get("history_interval"),
        items["raw_id"],
        items["title"] if "title" in items.columns else None,
        items["train_interactions"].to_numpy(),
    )


def histories_of(lengths: NDArray[np.int64], lists: dict[str, NDArray[Any]]) -> Histories:
    """Histories of lengths (U,) and what goes with their events (N,), by name."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(offsets, lists["history"], lists.get("history_time"))


def lists_of(users: pl.DataFrame, path: Path, n_items: int, remedy: str) -> Lists:
    """The histories' lengths (U,) of users (rows of the table of users), and what goes with their events (N,).

    Raises:
        HardGNNError: they are damaged.
    """
    lengths = users["history"].list.len().to_numpy().astype(np.int64)
    columns = [name for name in ("history", *USER_TIMES) if name in users.columns]
    flat = {name: users[name].explode().drop_nulls() for name in columns}
    for name, values in flat.items():
        if len(values) != lengths.sum() or (users[name].list.len().to_numpy() != lengths).any():
            raise HardGNNError(f"{shown(path)}: damaged, its lists differ in length; {remedy}")
    check_index(flat["history"], n_items, path, remedy)
    return lengths, {name: values.to_numpy() for name, values in flat.items()}


def _read_lists(path: Path, n_items: int, remedy: str) -> Lists:
    """The histories' lengths (U,) by index, and what goes with their events (N,), by name.

    Raises:
        HardGNNError: they are damaged.
    """
    wanted = {"index": pl.Int32, "history": USER_TABLE["history"]}
    with opened(path, wanted, remedy, USER_TIMES) as (table, _), reading(path, remedy):
        names = [name for name in table.collect_schema().names() if name != "index"]
        total = int(table.select(pl.col("history").list.len().cast(pl.Int64).sum()).collect(engine="streaming").item())
        shelf = shelf_for(total * EVENT_BYTES, path.parent)
        kinds = {name: np.dtype(kind) for name, kind in zip(names, (np.int32, np.float64, np.uint8))}
        columns = {name: shelf.column(kinds[name]) for name in names}
        lengths, before = [np.empty(0, np.int64)], 0
        for frame in table.collect_batches(chunk_size=GROUP_ROWS, maintain_order=True, engine="streaming"):
            rows = pl.int_range(done := sum(map(len, lengths)), done + frame.height, eager=True)
            if frame["history"].null_count() or not (frame["index"] == rows).all():
                raise HardGNNError(f"{shown(path)}: damaged, its users are not in order; {remedy}")
            sizes = frame["history"].list.len().to_numpy().astype(np.int64)
            for name, column in columns.items():
                values = frame[name].explode(empty_as_null=False)
                if values.null_count() or (frame[name].list.len().to_numpy() != sizes).any():
                    raise HardGNNError(f"{shown(path)}: damaged, its lists differ in length; {remedy}")
                if name == "history":
                    check_index(values, n_items, path, remedy, before=before)
                column.add(values.to_numpy())
            lengths.append(sizes)
            before += int(sizes.sum())
        return np.concatenate(lengths), {name: column.done() for name, column in columns.items()}
