"""The data behind a page: how many events when, how active users are, how popular items, and how it was split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.experiments.finished import Finished
from hardgnn.report.canvas import Figure
from hardgnn.report.examples import dated_tables
from hardgnn.report.plots import Series, columns, lines
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.folder import check_version
from hardgnn.runs.tables import RunTables

PERIODS = 36  # columns of the events over time
POINTS = 48


def data_parts(cells: Sequence[Finished]) -> tuple[list[Table], list[Figure]]:
    """A table of all data sets, and three figures of each."""
    names, facts, figures = list(dict.fromkeys(cell.data for cell in cells)), [], []
    for data in names:
        mine = [cell for cell in cells if cell.data == data]
        folder = next((cell.folders[0] for cell in mine if not cell.learnt_from), mine[0].folders[0])
        manifest, tables = check_version(folder)["data"]["manifest"], dated_tables(folder)
        facts.append(_facts(manifest, tables))
        figures += [_over_time(data, tables), _activity(data, tables), _popularity(data, tables)]
    rows = [[Cell(what), *(Cell(one[what]) for one in facts)] for what in facts[0]]
    table = Table("data", "The data of this page", ["log", *names], rows)
    return [table], [figure for figure in figures if figure is not None]


def _facts(manifest: Mapping[str, Any], tables: RunTables) -> dict[str, str]:
    """What there is to know of a data set, by name, as text."""
    counts, settings = manifest.get("counts", {}), manifest.get("settings", {})
    users, items, events = len(tables.user_ids), len(tables.item_ids), len(tables.histories.items)
    span = ("–", "–")
    if tables.times is not None and events:
        span = (_day(tables.times.min(), "%Y-%m-%d"), _day(tables.times.max(), "%Y-%m-%d"))
    return {
        "users": f"{users:,}",
        "items": f"{items:,}",
        "interactions": f"{events:,}",
        "share of all pairs": f"{100 * events / max(1, users * items):.2g} %",
        "interactions of a user, median": f"{np.median(tables.histories.lengths):g}",
        "interactions of an item, median": f"{np.median(np.bincount(tables.histories.items, minlength=items)):g}",
        "first day, UTC": span[0],
        "last day": span[1],
        "split": str(settings.get("split") or "leave-one-out"),
        **{f"{part} part": f"{counts[part]:,}" if part in counts else "–" for part in ("train", "valid", "test")},
    }


def _over_time(data: str, tables: RunTables) -> Figure | None:
    """Events over time, those that training saw apart from those held out; None of a log without times."""
    times = tables.times
    if times is None or not len(times) or np.ptp(times) == 0 or not np.isfinite(times).all():
        return None
    offsets = tables.histories.offsets
    place = np.arange(len(times)) - np.repeat(offsets[:-1], tables.histories.lengths)
    held = place >= np.repeat(tables.user_interactions, tables.histories.lengths)
    edges = np.linspace(times.min(), times.max(), PERIODS + 1)
    stacks = [
        (name, np.histogram(times[which], edges)[0].tolist())
        for name, which in (("training", ~held), ("validation and test", held))
    ]
    days = (edges[1] - edges[0]) / 86400
    form = "%b %Y" if days > 3 else "%-d %b"
    title = f"{data}: events over time, {f'{days:.0f} days' if days >= 1.5 else f'{24 * days:.1f} hours'} a column"
    names = [_day(edge, form) or f"{edge:.3g}" for edge in edges[:-1]]
    return columns(f"events-{data}", title, "from", "events", names, stacks)


def _activity(data: str, tables: RunTables) -> Figure | None:
    """How many users have how many interactions, in columns that double."""
    lengths = tables.histories.lengths
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return None
    edges = _doubling(int(lengths.min()), int(lengths.max()))
    users = np.histogram(lengths, edges)[0]
    names = [str(low) if low == high - 1 else f"{low}–{high - 1}" for low, high in pairwise(edges)]
    return columns(
        f"activity-{data}",
        f"{data}: activity of users",
        "interactions of a user",
        "users",
        names,
        [("users", users.tolist())],
    )


def _doubling(low: int, high: int) -> list[int]:
    """Edges from `low` to above `high`, six at least where there is room, each 1.4 or 2 times the one before."""
    factor = 2.0 if high / max(1, low) > 32 else 1.4
    edges = [low]
    while edges[-1] <= high:
        edges.append(max(edges[-1] + 1, round(edges[-1] * factor)))
    return edges


def _popularity(data: str, tables: RunTables) -> Figure | None:
    """Training interactions of the items, the most popular first."""
    counts = np.sort(tables.popularity[tables.popularity > 0])[::-1]
    if len(counts) < 2:
        return None
    at: NDArray[np.int64] = np.unique(np.geomspace(1, len(counts), POINTS).astype(int))
    title = f"{data}: popularity of items, both axes logarithmic"
    axis = "items, the most popular first"
    series = [Series(data, at.tolist(), counts[at - 1].tolist())]
    return lines(f"popularity-{data}", title, axis, "training interactions", series, log=True, log_y=True)


def _day(time: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(float(time), UTC).strftime(form)
    except (OverflowError, ValueError, OSError):  # a log may hold any number
        return ""
