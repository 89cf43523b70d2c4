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
from hardgnn.report.looks import Looks
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.folder import check_version, load_tables
from hardgnn.runs.tables import RunTables

EXAMPLES = 5
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


def example_users(tables: RunTables) -> NDArray[np.int64]:
    """Users from the least to the most active that training knows, evenly spread: their indices."""
    known = np.flatnonzero(tables.user_interactions > 0)
    order = known[np.argsort(tables.user_interactions[known], kind="stable")]
    places = np.linspace(0, len(order) - 1, EXAMPLES + 2)[1:-1] if len(order) > EXAMPLES + 2 else np.arange(len(order))
    return order[places.astype(int)][:EXAMPLES]


def examples(data: str, tables: RunTables, models: Sequence[tuple[str, pl.DataFrame]], looks: Looks) -> list[Example]:
    """The example users of a data set.

    Args:
        data: its name.
        tables: of a run on it.
        models: name and recommendations of each, as of `Recommender`, these users among them.
        looks: of the page.
    """
    models, found = models[:MODELS], []
    for index in example_users(tables):
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
