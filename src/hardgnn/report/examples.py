"""A few users as a reader meets them: what they had, and what each model recommends next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.provenance import Provenance
from hardgnn.recommend.why import example_users
from hardgnn.report.looks import Looks
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.folder import check_version, load_tables
from hardgnn.runs.tables import RunTables

HISTORY, RECOMMENDED, MODELS = 8, 5, 5


@dataclass(frozen=True)
class Example:
    """One user: a heading, the last items with their days, newest first, and a table with a column for each model."""

    title: str
    history: tuple[tuple[str, str], ...]
    table: Table


def dated_tables(folder: Path) -> RunTables:
    """The tables of a run, without times where these are only an order."""
    tables, manifest = load_tables(folder), check_version(folder)["data"]["manifest"]
    return tables if Provenance.of(manifest).dated else replace(tables, times=None)


def activity(tables: RunTables) -> NDArray[np.integer]:
    """How long the history is of each user that training knows, 0 for others: (U,)."""
    return np.where(tables.user_interactions > 0, tables.histories.lengths, 0)


def examples(data: str, tables: RunTables, models: Sequence[tuple[str, pl.DataFrame]], looks: Looks) -> list[Example]:
    """The example users of a data set.

    Args:
        data: its name.
        tables: of a run on it.
        models: name and recommendations of each, as of `Recommender`, these users among them.
        looks: of the page.
    """
    models, found = models[:MODELS], []
    for index in example_users(activity(tables)):
        user, history = tables.user_ids[int(index)], tables.histories.of(int(index))
        columns = []
        for name, recommended in models:
            mine = recommended.filter(pl.col("user") == user).sort("rank").head(RECOMMENDED)
            named = mine["title"].fill_null(mine["item"]) if "title" in mine.columns else mine["item"]
            columns.append((name, named.to_list()))
        rows = [
            [
                Cell(str(rank + 1)),
                *(Cell(theirs[rank] if rank < len(theirs) else "–") for _, theirs in columns),
            ]
            for rank in range(RECOMMENDED)
        ]
        caption = f"What each model recommends to user {user} next"
        header = ["", *(name for name, _ in columns)]
        marks = [None, *(looks.of(name) for name, _ in columns)]
        table = Table(f"example-{data}-{user}", caption, header, rows, text_columns=len(header), looks=marks)
        first = slice(max(0, len(history) - HISTORY), None)
        past = [
            (_name(tables, int(item)), "" if tables.times is None else _day(float(time)))
            for item, time in zip(history[first], _times(tables, int(index))[first])
        ]
        title = f"{data}, user {user}: {len(history):,} interactions"
        found.append(Example(title, tuple(past[::-1]), table))
    return found


def _times(tables: RunTables, index: int) -> NDArray[np.float64]:
    start, stop = tables.histories.offsets[index : index + 2]
    return np.zeros(stop - start) if tables.times is None else tables.times[start:stop]


def _name(tables: RunTables, item: int) -> str:
    title = None if tables.titles is None else tables.titles[item]
    return title or str(tables.item_ids[item])


def _day(time: float) -> str:
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%-d %b %Y")
    except (OverflowError, ValueError, OSError):  # a log may hold any number
        return ""
