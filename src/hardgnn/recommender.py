"""Recommendations in raw ids from a run folder, without the data it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluate import Progress
from hardgnn.files import atomic_path
from hardgnn.recommend import NO_ITEM, top_n
from hardgnn.run import TrainedModel, load_ids, load_model
from hardgnn.runtime import keep_freed_memory

SHOWN = 5  # unknown ids that an error lists


class Recommender:
    """A trained run with its id maps and histories; it answers in raw ids.

    Args:
        folder: a run folder, which may have been moved from another machine.
    """

    def __init__(self, folder: str | Path) -> None:
        keep_freed_memory()
        self.model: TrainedModel = load_model(folder)
        self.user_ids, self.histories, self.item_ids, self.titles = load_ids(Path(folder))
        self._user_index = {raw: index for index, raw in enumerate(self.user_ids)}
        self._item_index = {raw: index for index, raw in enumerate(self.item_ids)}

    def for_users(
        self,
        users: Sequence[str] | None = None,
        n: int = 10,
        exclude_seen: bool = True,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """The best `n` items of known users (all by default).

        Returns:
            Columns user, item, score, rank (from 1), and title where the run knows titles.

        Raises:
            HardGNNError: an unknown user.
        """
        indices = (
            np.arange(len(self.user_ids))
            if users is None
            else np.array(_lookup(users, self._user_index, "user"), dtype=np.int64)
        )
        items, scores = top_n(
            self.model,
            indices,
            self.histories.take(indices),
            n,
            len(self.item_ids),
            exclude_seen=exclude_seen,
            progress=progress,
        )
        return self._table(self.user_ids.gather(indices), items, scores)

    def for_items(self, items: Sequence[str], n: int = 10, exclude_seen: bool = True) -> pl.DataFrame:
        """The best `n` items after the recent `items` (oldest first) of somebody the model does not know.

        The score is the sequence term alone (SPEC section 2, Score). The column user is empty.

        Raises:
            HardGNNError: an unknown item, or a model without sequence encoder.
        """
        if self.model.sequence_encoder is None:
            raise HardGNNError(f"{self.model.name}: the model has no sequence encoder, so it needs a known user")
        known = _lookup(items, self._item_index, "item")
        history = Histories.from_lists([known])
        best, scores = top_n(
            AnonymousRanker(self.model),
            np.zeros(1, np.int64),
            history,
            n,
            len(self.item_ids),
            exclude_seen=exclude_seen,
        )
        return self._table(pl.Series([None], dtype=pl.String), best, scores)

    def _table(self, users: pl.Series, items: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
        count = items.shape[1]
        rows = np.repeat(np.arange(len(users)), count)
        flat = items.ravel()
        real = flat != NO_ITEM
        picked = flat[real]
        columns = {
            "user": users.gather(rows[real]),
            "item": self.item_ids.gather(picked),
            "score": scores.ravel()[real],
            "rank": np.tile(np.arange(1, count + 1, dtype=np.int32), len(users))[real],
        }
        if self.titles is not None:
            columns["title"] = self.titles.gather(picked)
        return pl.DataFrame(columns)


class AnonymousRanker:
    """Scores from the sequence term alone, for somebody the model does not know."""

    def __init__(self, model: TrainedModel) -> None:
        self.model, self.name = model, model.name

    def scores(self, users: np.ndarray, histories: Histories) -> np.ndarray:
        """Scores (B, I) of all items; `users` are not looked at."""
        return self.model.scores(None, histories)


def _lookup(raw: Sequence[str], index: dict[str, int], kind: str) -> list[int]:
    unknown = [one for one in raw if one not in index]
    if unknown:
        listed = ", ".join(f"'{one}'" for one in unknown[:SHOWN])
        rest = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        hint = nearest(unknown[0], index) if len(index) <= 10_000 else ""
        hint = f": {hint}" if hint.startswith("did") else ""
        raise HardGNNError(f"unknown {kind} {listed}{rest}{hint}")
    return [index[one] for one in raw]


def read_users(path: Path) -> list[str]:
    """Raw user ids, one per line.

    Raises:
        HardGNNError: the file is missing, no text or empty.
    """
    try:
        users = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise HardGNNError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise HardGNNError(f"{path}: not a text file of user ids") from None
    if not users:
        raise HardGNNError(f"{path}: no user ids in it")
    return users


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Writes recommendations as .parquet or .csv, atomically.

    Raises:
        HardGNNError: another ending.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise HardGNNError(f"{path}: expected a name that ends in .parquet or .csv")
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            table.write_csv(temporary)
        else:
            table.write_parquet(temporary)
