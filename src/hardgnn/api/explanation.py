"""Why a model recommends what it does to somebody: the source, the reasons, and what it looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from hardgnn.api.answers import Answer, handed
from hardgnn.api.figures import standing
from hardgnn.data.align import places
from hardgnn.data.columns import ITEM, USER
from hardgnn.errors import HardGNNError
from hardgnn.recommend.best import meaning
from hardgnn.recommend.recommender import Ids, Recommender
from hardgnn.recommend.why import attention, reasons, window_of
from hardgnn.screen import html_table

DRAWN = 15  # items of the window that a figure shows


@dataclass(frozen=True)
class Explanation:
    """What a model recommends to one user, and why.

    `source` says what the scores are made of and `meaning` what that is of this model and user. `recommendations` has
    user, item, score, rank, and title; `because` item, reason (an item of the history), similarity, and title of the
    reason; `window` the items that the model looks at, oldest first, with the weight of each (null where the model has
    no attention).
    """

    model: str
    user: Any
    known: bool
    source: str
    meaning: str
    recommendations: Answer
    because: Answer
    window: Answer
    _frames: tuple[pl.DataFrame, ...] = field(repr=False, default=())

    def __repr__(self) -> str:
        found = self._frames[0]
        best = ", ".join(map(str, found[ITEM].head(3).to_list()))
        whom = "somebody" if self.user is None else f"user {self.user}"
        return f"Explanation({whom}: {best}…; {self.source}: {self.meaning})"

    def _repr_html_(self) -> str:
        """The recommendations with their reasons, for a notebook."""
        found, because, _ = self._frames
        shown = "title" if "title" in found.columns else ITEM
        why = "title" if "title" in because.columns else "reason"
        rows = [
            [
                row["rank"],
                row[shown] or row[ITEM],
                f"{row['score']:.3f}",
                ", ".join(
                    f"{one[why] or one['reason']} ({one['similarity']:.2f})"
                    for one in because.filter(pl.col(ITEM) == row[ITEM]).iter_rows(named=True)
                ),
            ]
            for row in found.iter_rows(named=True)
        ]
        return html_table(f"{self.model}, user {self.user}: {self.meaning}", ["rank", "item", "score", "near"], rows)

    def plot(self) -> Any:
        """A figure of Matplotlib: the scores, and the attention on the window.

        Raises:
            HardGNNError: Matplotlib is not installed.
        """
        from hardgnn.report.plots import panels

        found, _, window = self._frames
        label = "title" if "title" in found.columns else ITEM
        parts = [("score", _labels(found, label), found["score"].to_list())]
        last = window.tail(DRAWN)
        if not last["weight"].null_count() and len(last):
            parts.append((f"attention on the last {len(last)} items", _labels(last, label), last["weight"].to_list()))
        return standing(panels("explanation", f"{self.model}: user {self.user}", parts))


def _labels(table: pl.DataFrame, label: str) -> list[str]:
    return [str(one[label] or one[ITEM]) for one in table.iter_rows(named=True)]


def explained(
    recommender: Recommender, user: Ids | None, items: Ids | None, n: int, output: str, types: dict[str, pl.DataType]
) -> Explanation:
    """The explanation of what `recommender` answers for one user; `items` are newer ones of theirs.

    Raises:
        HardGNNError: neither a user nor items, or what cannot be.
    """
    if user is None and items is None:
        raise HardGNNError("explain: name a user, or give the recent items of somebody")
    tables, model = recommender.tables, recommender.model
    known, history = recommender.after(user, items)
    found = recommender.for_users(user, n, items=items)
    if found.is_empty():
        raise HardGNNError("explain: there is nothing to recommend to this user")
    best = places(found[ITEM], tables.item_ids)
    why = [
        (int(item), one, value)
        for item, each in zip(best, reasons(model, tables.popularity, history, best))
        for one, value in each
    ]
    because = pl.DataFrame(why, schema={ITEM: pl.Int64, "reason": pl.Int64, "similarity": pl.Float32}, orient="row")
    looked_at = window_of(model, history)
    window = pl.DataFrame({ITEM: tables.item_ids.gather(looked_at)})
    weights = pl.Series("weight", attention(model, history) or [None] * len(looked_at), dtype=pl.Float32)
    if tables.titles is not None:
        because = because.with_columns(tables.titles.gather(because["reason"]).alias("title"))
        window = window.with_columns(tables.titles.gather(looked_at).alias("title"))
    because = because.with_columns(tables.item_ids.gather(because[name]).alias(name) for name in (ITEM, "reason"))
    window = window.with_columns(weights)
    source = str(found["source"][0])
    kinds = types | {"reason": types[ITEM]}
    whom = None if user is None else handed(found.head(1), "polars", types)[USER][0]
    frames = found.drop("source"), because, window
    recommendations, reasoned, looked = (handed(one, output, kinds) for one in frames)
    words = meaning(source, model.abilities, known)
    return Explanation(model.name, whom, known, source, words, recommendations, reasoned, looked, frames)
