"""Some users of a run: their tables are read from the folder without the histories of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.histories import Everybody, Histories
from hardgnn.errors import HardGNNError, shown
from hardgnn.runs.folder import AGAIN, check_version
from hardgnn.runs.tables import (
    GROUP_USERS,
    ITEMS,
    USER_TABLE,
    USER_TIMES,
    USERS,
    RunTables,
    check_count,
    check_files,
    histories_of,
    lists_of,
    tables_with,
)
from hardgnn.storage.frames import count_rows, read_rows

BLOCK_USERS = 2 * GROUP_USERS  # users whose histories are in memory at a time, where those of everybody are read


@dataclass(frozen=True)
class SomeUsers:
    """What a run folder knows of some of its users.

    `tables` have those users alone; `rows` (B,), ascending, are their indices among all, as the model knows them, and
    `everybody` has the histories of all, which stay in the file.
    """

    tables: RunTables
    rows: NDArray[np.int32]
    everybody: Everybody


def load_users(folder: Path, users: range | pl.Series) -> SomeUsers:
    """The tables of a run folder for some users, without reading the histories of the others into memory.

    Args:
        folder: the run folder.
        users: a stretch of all users, or raw ids, of which those that the run has are found.

    Raises:
        HardGNNError: as `hardgnn.runs.folder.load_tables`.
    """
    record, remedy = check_version(folder), AGAIN
    check_files(folder, record, remedy)
    path = folder / USERS
    everybody = StoredHistories(path, count_rows(folder / ITEMS, remedy), remedy)
    check_count(folder, record, "users", everybody.users, remedy)
    if isinstance(users, range):
        chosen = pl.col("index").is_between(users.start, users.stop - 1)
    else:
        chosen = pl.col("raw_id").is_in(users.cast(pl.String).implode())
    found = read_rows(path, USER_TABLE, remedy, USER_TIMES, chosen).sort("index")
    if isinstance(users, range) and not np.array_equal(found["index"], users):
        raise HardGNNError(f"{shown(path)}: damaged, its index does not count from 0; {remedy}")
    return SomeUsers(tables_with(folder, record, remedy, found), found["index"].to_numpy(), everybody)


def users_in(folder: Path) -> int:
    """How many users a run has.

    Raises:
        HardGNNError: no run folder, or its table of users is missing or damaged.
    """
    check_version(folder)
    return count_rows(folder / USERS, AGAIN)


def known_users(folder: Path, users: pl.Series) -> pl.Series:
    """Those of `users`, raw ids (n,), that a run has.

    Raises:
        HardGNNError: as `users_in`.
    """
    check_version(folder)
    chosen = pl.col("raw_id").is_in(users.cast(pl.String).implode())
    return read_rows(folder / USERS, {"raw_id": pl.String}, AGAIN, None, chosen)["raw_id"]


class StoredHistories:
    """The histories of everybody in a run folder, read block by block; whoever asks for more has them in memory.

    Args:
        path: the table of users.
        items: how many items there are.
        remedy: what to do about a damaged file.

    Raises:
        HardGNNError: the file is damaged.
    """

    def __init__(self, path: Path, items: int, remedy: str) -> None:
        self.path, self.items_known, self.remedy = path, items, remedy
        self.users = count_rows(path, remedy)
        self.timed = "history_time" in pl.read_parquet_schema(path)
        self._whole: Histories | None = None

    def blocks(self) -> Iterator[Histories]:
        """All of them, some users after the other."""
        for start in range(0, self.users, BLOCK_USERS):
            yield self._read(slice(start, start + BLOCK_USERS))

    def _read(self, rows: slice) -> Histories:
        wanted, times = {"history": USER_TABLE["history"]}, {"history_time": USER_TIMES["history_time"]}
        table = read_rows(self.path, wanted, self.remedy, times, rows)
        return histories_of(*lists_of(table, self.path, self.items_known, self.remedy))

    def __getattr__(self, name: str) -> Any:
        """What a model of somebody else's may ask of histories in memory."""
        if name.startswith("_"):
            raise AttributeError(name)
        if self._whole is None:
            self._whole = self._read(slice(0, self.users))
        return getattr(self._whole, name)
