"""What models recommend to users: how much of the catalogue, how popular; and for a few users, what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.align import places
from hardgnn.experiments.finished import Finished
from hardgnn.metrics import summarise_lists
from hardgnn.recommend.recommender import Recommender
from hardgnn.recommend.why import example_users
from hardgnn.report.canvas import Figure
from hardgnn.report.examples import Example, activity, dated_tables, examples
from hardgnn.report.looks import Look, Looks
from hardgnn.report.plots import Series, lines
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.folder import MODEL
from hardgnn.runs.tables import RunTables

ASKED = 500  # users, spread over all
MODELS = 8  # asked on a data set
N = 10
POINTS = 48
FIGURES = ("coverage", "gini", "popularity", "popularity_ratio", "novelty")  # docs/metrics.md


@dataclass(frozen=True)
class Lists:
    """What one model recommends on a data set: a table of `Recommender`, of `users`; `tables` are its run's."""

    data: str
    model: str
    users: tuple[str, ...]
    recommended: pl.DataFrame
    tables: RunTables

    def indices(self) -> NDArray[np.int64]:
        """The item indices (V, N), -1 where there are fewer."""
        found = np.full((len(self.users), N), -1, dtype=np.int64)
        rows = places(self.recommended["user"], pl.Series(self.users))
        found[rows, self.recommended["rank"].to_numpy() - 1] = places(self.recommended["item"], self.tables.item_ids)
        return found


def asked_lists(cells: Sequence[Finished]) -> list[Lists]:
    """What the first runs of the first models on each data set recommend to the same users today.

    The model is asked as `hardgnn recommend` asks it, with all that its run knows of a user; no target is ranked.
    """
    found: list[Lists] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data and (cell.folders[0] / MODEL).exists()][:MODELS]
        users: tuple[str, ...] = ()
        for cell in mine:
            recommender = Recommender(cell.folders[0], say=lambda sentence: None)
            tables = dated_tables(cell.folders[0])
            users = users or _spread(tables)
            if users:
                recommended = recommender.for_users(list(users), N)
                found.append(Lists(data, cell.variant.name, users, recommended, tables))
    return found


def _spread(tables: RunTables) -> tuple[str, ...]:
    """At most `ASKED` users that have training interactions, evenly over their order, and with them the examples."""
    known = np.flatnonzero(tables.user_interactions > 0)
    asked = known[np.linspace(0, len(known) - 1, min(ASKED, len(known))).astype(int)] if len(known) else known
    return tuple(tables.user_ids.gather(np.union1d(asked, example_users(activity(tables)))).to_list())


def exposure_figures(lists: Sequence[Lists], looks: Looks, command: str) -> tuple[list[Table], list[Figure]]:
    """Coverage and popularity bias: a table, and on which items recommendations fall, for each data set."""
    tables, figures = [], []
    for data in dict.fromkeys(one.data for one in lists):
        mine = [one for one in lists if one.data == data]
        header = [f"{name}@{N}" for name in FIGURES]
        rows = []
        for one in mine:
            values = summarise_lists(one.indices(), one.tables.popularity, [N], FIGURES)
            texts = [f"{values[name]:.3f}" if values[name] < 100 else f"{values[name]:,.0f}" for name in header]
            rows.append([Cell(one.model, look=looks.of(one.model)), *map(Cell, texts)])
        caption = f"{data}: what is recommended to {len(mine[0].users):,} users, the first {N} items each"
        notes = [
            "coverage: share of all items that anybody is recommended; gini: 0 where all items are shown as often; "
            "popularity: training interactions of a recommended item, popularity_ratio the same by those of the log's "
            "own events; novelty in bits.",
        ]
        tables.append(Table(f"exposure-{data}", caption, ["model", *header], rows, notes))
        items = len(mine[0].tables.popularity)
        at = np.unique(np.geomspace(1, items, POINTS).astype(int))
        share = (100 * at / items).tolist()
        series = [Series("training interactions", share, _log(mine[0].tables, at), look=Look(None, "o", ":"))]
        series += [Series(one.model, share, _cumulated(one, at), look=looks.of(one.model)) for one in mine]
        title = f"{data}: on how many items recommendations fall, the most popular first"
        axis = "most popular items, % of all"
        name = f"popularity-bias-{data}"
        figures.append(lines(name, title, axis, "share of recommendations", series, command=command, log=True))
    return tables, figures


def _log(tables: RunTables, at: NDArray[np.int64]) -> list[float]:
    """The share of training interactions that the most popular items have."""
    counts = np.sort(tables.popularity)[::-1]
    return list((np.cumsum(counts) / max(1, counts.sum()))[at - 1])


def _cumulated(one: Lists, at: NDArray[np.int64]) -> list[float]:
    """The share of a model's recommendations that are among the most popular items."""
    lists = one.indices()
    shown = np.bincount(lists[lists >= 0], minlength=len(one.tables.popularity))
    order = np.argsort(-one.tables.popularity, kind="stable")
    return list((np.cumsum(shown[order]) / max(1, shown.sum()))[at - 1])


def example_sections(lists: Sequence[Lists], looks: Looks) -> list[Example]:
    """A few users of each data set, with what each model recommends them."""
    found = []
    for data in dict.fromkeys(one.data for one in lists):
        mine = [one for one in lists if one.data == data]
        found += examples(data, mine[0].tables, [(one.model, one.recommended) for one in mine], looks)
    return found
