"""Matching by raw id: where ids are in another numbering, and a data set put into a model's numbering."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.dataset import PARTS, TEST, TRAIN, VALID, Candidates, Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError

ABSENT = -1
LEAST_SHARE = 0.01  # of the interactions that must be known: below it the data are of something else


def places(raw: pl.Series, known: pl.Series) -> NDArray[np.int64]:
    """The index in `known` (n,) of each raw id (B,), `ABSENT` where there is none."""
    index = pl.DataFrame({"raw": known, "place": np.arange(len(known), dtype=np.int64)})
    found = raw.alias("raw").to_frame().join(index, on="raw", how="left", maintain_order="left")
    return found["place"].fill_null(ABSENT).to_numpy()


@dataclass(frozen=True)
class Aligned:
    """A data set in another numbering, and how much of it there is no number for."""

    data: Dataset
    unknown_users: int = 0
    unknown_items: int = 0
    lost: tuple[int, int] = (0, 0)
    """Targets of the validation and of the test part that cannot be ranked: of unknown users, or unknown items."""

    def sentences(self, part: str) -> list[str]:
        """What to tell of it where `part` is judged."""
        lost = self.lost[PARTS[part] - VALID]
        left = len(self.data.targets(PARTS[part])[0])
        if not (self.unknown_users or self.unknown_items):
            return []
        return [
            f"{self.data.name}: {self.unknown_users:,} users and {self.unknown_items:,} items that the model does not "
            f"know; they cannot be ranked, so {lost:,} of {lost + left:,} targets of the part {part} are left out"
        ]


def align(data: Dataset, user_ids: pl.Series, item_ids: pl.Series) -> Aligned:
    """`data` in the numbering of a model that knows the raw ids `user_ids` (U,) and `item_ids` (I,).

    Interactions, targets and stored candidates are renumbered; what has no number is left out. Where a user's first
    interaction of a part is with an unknown item, that part has no target of theirs: the interactions after it are
    history and never targets.

    Raises:
        HardGNNError: nearly nothing of `data` is known.
    """
    if data.user_ids.equals(user_ids) and data.item_ids.equals(item_ids):
        return Aligned(data)
    users, items = places(data.user_ids, user_ids), places(data.item_ids, item_ids)
    user, item = users[data.user], items[data.item]
    known = (user != ABSENT) & (item != ABSENT)
    if known.sum() < LEAST_SHARE * len(known) or not known.any():
        raise HardGNNError(
            f"{data.name}: the model knows {int((users != ABSENT).sum()):,} of its {data.n_users:,} users and "
            f"{int((items != ABSENT).sum()):,} of its {data.n_items:,} items, by raw id: it was trained on other data"
        )
    part = _without_targets(data, item == ABSENT)
    kept = np.flatnonzero(known & (part <= TEST))
    kept = kept[np.argsort(user[kept], kind="stable")]  # in time order within a user, as before
    found = replace(
        data,
        user=user[kept].astype(np.int32),
        item=item[kept].astype(np.int32),
        timestamp=data.timestamp[kept],
        part=part[kept],
        user_ids=user_ids,
        item_ids=item_ids,
        item_titles=None,
        candidates=_candidates(data.candidates, users, items),
    )
    before, after = ([len(one.targets(code)[0]) for code in (VALID, TEST)] for one in (data, found))
    lost = before[0] - after[0], before[1] - after[1]
    return Aligned(found, int((users == ABSENT).sum()), int((items == ABSENT).sum()), lost)


def _without_targets(data: Dataset, unknown: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The parts (N,), where a part of a user that begins with an unknown item is history, or (TEST + 1) nothing."""
    part = data.part.copy()
    for code, instead in ((VALID, TRAIN), (TEST, TEST + 1)):
        rows = np.flatnonzero(data.part == code)
        users, first = np.unique(data.user[rows], return_index=True)
        without = np.isin(data.user[rows], users[unknown[rows[first]]])
        part[rows[without]] = instead
    return part


def _candidates(stored: Candidates, users: NDArray[np.int64], items: NDArray[np.int64]) -> Candidates:
    """The stored candidates in the new numbering, by user; an unknown item is none, as -1 was."""
    user = users[stored.users]
    rows = np.flatnonzero(user != ABSENT)
    rows = rows[np.argsort(user[rows])]
    of_rows = stored.items[rows]
    renumbered = np.where(of_rows < 0, ABSENT, items[of_rows])  # the last item's where there is none, not taken
    return Candidates(user[rows].astype(np.int32), renumbered.astype(np.int32))


def trained_targets(data: Dataset, part: str, histories: Histories, counts: NDArray[np.integer]) -> int:
    """How many targets of `part` a model was trained on, though they are not in the training part of `data`.

    Args:
        data: in the model's numbering.
        part: "valid" or "test".
        histories: of the model's run, whose first `counts` (U,) items of each user it was trained on.
        counts: training interactions of each user.
    """
    users, targets = data.targets(PARTS[part])
    lengths, offsets = histories.lengths, histories.offsets
    learned = np.arange(len(histories.items)) - np.repeat(offsets[:-1], lengths) < np.repeat(counts, lengths)
    owners = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)[learned]
    keys = users.astype(np.int64) * data.n_items + targets
    theirs = owners * data.n_items + histories.items[learned]
    return int((np.isin(keys, theirs) & ~np.isin(keys, data.train.keys(data.n_items))).sum())
