"""Small data sets and rankers made from arrays, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.dataset import TEST, TRAIN, VALID, Candidates, Dataset
from hardgnn.data.histories import Histories
from hardgnn.training.callbacks import Callback


def tiny_dataset(
    sequences: Sequence[Sequence[int]],
    n_items: int | None = None,
    candidates: dict[int, Sequence[int]] | None = None,
    name: str = "tiny",
) -> Dataset:
    """A prepared data set from one item sequence per user, oldest first, split leave-one-out.

    The last item of a sequence is the test part, the one before it the validation part. Event e of user u
    happens at second 100 e + u. `candidates` gives some users sampled negatives, padded with -1.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    user = np.repeat(np.arange(len(sequences)), lengths).astype(np.int32)
    item = np.array([one for sequence in sequences for one in sequence], dtype=np.int32)
    place = np.concatenate([np.arange(length) for length in lengths])
    left = np.repeat(lengths, lengths) - 1 - place
    part = np.select([left == 0, left == 1], [TEST, VALID], TRAIN).astype(np.uint8)
    total = n_items if n_items is not None else int(item.max()) + 1
    drawn = candidates or {}
    width = max((len(row) for row in drawn.values()), default=0)
    rows = [[*row, *[-1] * (width - len(row))] for row in drawn.values()]
    return Dataset(
        user=user,
        item=item,
        timestamp=(100.0 * place + user).astype(np.float64),
        part=part,
        user_ids=pl.Series([f"u{index}" for index in range(len(sequences))], dtype=pl.String),
        item_ids=pl.Series([f"i{index}" for index in range(total)], dtype=pl.String),
        item_titles=None,
        candidates=Candidates(np.array([*drawn], np.int32), np.array(rows, np.int32).reshape(len(drawn), width)),
        manifest={"name": name},
    )


def random_dataset(
    n_users: int = 30, n_items: int = 40, seed: int = 0, repeats: bool = False, n_candidates: int = 9
) -> Dataset:
    """Random sequences of 3 to 12 items, with sampled negatives for most users."""
    rng = np.random.default_rng(seed)
    sequences = [rng.choice(n_items, size=rng.integers(3, 13), replace=repeats).tolist() for _ in range(n_users)]
    candidates = {
        user: rng.permutation(np.setdiff1d(np.arange(n_items), sequence))[: rng.integers(1, n_candidates + 1)].tolist()
        for user, sequence in enumerate(sequences)
        if user % 4 != 3
    }
    return tiny_dataset(sequences, n_items, candidates)


def renumbered(data: Dataset, seed: int = 0) -> Dataset:
    """The same interactions, targets and candidates with users and items numbered at random."""
    rng = np.random.default_rng(seed)
    users, items = rng.permutation(data.n_users), rng.permutation(data.n_items)  # the new number of each
    user = users[data.user].astype(np.int32)
    order = np.argsort(user, kind="stable")
    who = users[data.candidates.users]
    drawn = np.where(data.candidates.items < 0, -1, items[data.candidates.items])
    by_user = np.argsort(who)
    return replace(
        data,
        user=user[order],
        item=items[data.item[order]].astype(np.int32),
        timestamp=data.timestamp[order],
        part=data.part[order],
        user_ids=data.user_ids.gather(np.argsort(users)),
        item_ids=data.item_ids.gather(np.argsort(items)),
        candidates=Candidates(who[by_user].astype(np.int32), drawn[by_user].astype(np.int32)),
    )


def small_options() -> dict[str, dict[str, Any]]:
    """Settings, as `HardGNN` takes them, with which training takes a second."""
    return {"model": {"dim": 16, "heads": 2, "intervals": 3}, "train": {"epochs": 2, "eval_every": 1}}


class StopAfter(Callback):
    """Interrupts training, as Ctrl-C does, at the end of an epoch, and only once."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, line: dict[str, Any]) -> None:
        """Interrupts."""
        if line["epoch"] == self.last:
            self.last = 0
            raise KeyboardInterrupt


class TableRanker:
    """Answers the rows of a stored score table (U, I), whatever the histories."""

    name = "table"

    def __init__(self, table: NDArray[np.floating]) -> None:
        self.table = np.asarray(table, dtype=np.float32)

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I)."""
        return self.table[users]
