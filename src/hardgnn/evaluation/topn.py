"""The best items for each user by a ranker's scores, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import (
    BLOCK_BYTES,
    DIRECT_NUMBERS,
    Progress,
    Ranker,
    blocks,
    checked_scores,
    left_out,
    refuse_odd,
)
from hardgnn.ops.scores import LeftOut
from hardgnn.runtime import side_by_side

NO_ITEM = -1
CHUNK = 64  # items whose best_of_rows score is looked at before the items themselves


@runtime_checkable
class Lister(Protocol):
    """A ranker that can tell the best items without a table of all scores."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def direct(self) -> bool:
        """Whether it can, here."""

    def best(
        self,
        users: NDArray[np.integer],
        histories: Histories,
        n: int,
        without: LeftOut,
        blocked: NDArray[np.integer] | None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
        """The n best items of those not left out of a user nor blocked for all, as `top_n` gives them, their scores,
        both (B, n), and for whom a score is NaN, (B,)."""


def lists(ranker: Any) -> TypeGuard[Lister]:
    """Whether a ranker tells the best items by itself."""
    return isinstance(ranker, Lister) and ranker.direct


def top_n(
    ranker: Ranker,
    users: NDArray[np.integer],
    histories: Histories,
    n: int,
    n_items: int,
    *,
    exclude_seen: bool = True,
    blocked: NDArray[np.integer] | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `n` items with the highest scores, best first, equal scores by lower index.

    Args:
        ranker: scores all items for a block of users.
        users: (B,) as the ranker knows them.
        histories: the items of those users, in the same order.
        n: items per user, at least 1.
        n_items: I, the number of items.
        exclude_seen: never recommend what is in the user's history.
        blocked: items that are recommended to nobody.
        block_bytes: the size of a block of float32 scores, which bounds the memory.
        progress: called after each block with the users done and the users in all.

    Returns:
        Items (B, n) int32 and scores (B, n) float32; -1 and minus infinity where there are fewer. An item that
        the ranker itself scores minus infinity is not recommended.

    Raises:
        HardGNNError: `n` is below 1, users and histories differ in number, or NaN or misshapen scores.
    """
    if n < 1:
        raise HardGNNError(f"the number of recommendations must be at least 1, got {n}")
    if len(histories.lengths) != len(users):
        raise HardGNNError(f"{len(users)} users were given with {len(histories.lengths)} histories")
    items = np.full((len(users), n), NO_ITEM, dtype=np.int32)
    best = np.full((len(users), n), -np.inf, dtype=np.float32)
    kept = min(n, n_items)
    rows_of_all = np.arange(len(users))
    done, one_at_a_time = 0, Lock()

    def answer(block: slice) -> None:
        nonlocal done
        known = histories.take(rows_of_all[block])
        if lists(ranker):
            nothing = Histories(np.zeros(len(known.lengths) + 1, np.int64), known.items[:0])
            without = left_out(known if exclude_seen else nothing, n_items)
            items[block, :kept], best[block, :kept], odd = ranker.best(users[block], known, kept, without, blocked)
            refuse_odd(ranker.name, odd)
        else:
            scores = checked_scores(ranker, users[block], known, n_items)
            with _without(scores, known if exclude_seen else None, blocked) as allowed:
                items[block, :kept], best[block, :kept] = best_of_rows(allowed, kept)
        with one_at_a_time:
            done += block.stop - block.start
            if progress is not None:
                progress(done, len(users))

    if lists(ranker):
        side_by_side(answer, [*blocks(len(users), max(DIRECT_NUMBERS, n), block_bytes)])
    else:
        for block in blocks(len(users), n_items, block_bytes):
            answer(block)
    items[np.isneginf(best)] = NO_ITEM
    return items, best


@contextmanager
def _without(
    scores: NDArray[np.float32], seen: Histories | None, blocked: NDArray[np.integer] | None
) -> Iterator[NDArray[np.float32]]:
    """The scores with minus infinity for what is not recommended; afterwards as they were, for a ranker may keep them.

    Putting the few back costs less than copying all.
    """
    if seen is None and blocked is None:
        yield scores
        return
    if not scores.flags.writeable:
        scores = np.array(scores)
    rows = np.empty(0, np.int64) if seen is None else np.repeat(np.arange(len(scores)), seen.lengths)
    columns = np.empty(0, np.int32) if seen is None else seen.items
    before, of_all = scores[rows, columns], None if blocked is None else scores[:, blocked]
    scores[rows, columns] = -np.inf
    if blocked is not None:
        scores[:, blocked] = -np.inf
    try:
        yield scores
    finally:
        scores[rows, columns] = before
        if blocked is not None:
            scores[:, blocked] = of_all


def best_of_rows(scores: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and values (B, n) of the largest scores (B, I) of each row, best first, ties by lower index.

    The n best items lie in the n chunks of neighbouring items whose largest scores are the highest, so that all scores
    are read once and only those chunks are sorted. Where more chunks tie at the limit, all scores are.
    """
    whole = scores.shape[1] // CHUNK
    if whole < 4 * n:
        return _best_of_all(scores, n)
    table = torch.from_numpy(scores)
    tops = table[:, : whole * CHUNK].unflatten(1, (whole, CHUNK)).amax(-1)  # (B, I / CHUNK)
    chunks = tops.topk(n).indices.sort().values
    inside = (chunks.unsqueeze(-1) * CHUNK + torch.arange(CHUNK)).flatten(1)
    rest = torch.arange(whole * CHUNK, scores.shape[1]).expand(len(scores), -1)
    places = torch.cat([inside, rest], 1)  # ascending, so that ties go by index
    found, values = _best_of_all(table.gather(1, places).numpy(), n)
    items = np.take_along_axis(places.numpy(), found, axis=1)
    reached = (tops >= torch.from_numpy(values[:, -1:])).sum(1) > n
    tied = (reached & torch.from_numpy(values[:, -1] > -np.inf)).numpy()
    if tied.any():
        items[tied], values[tied] = _best_of_all(scores[tied], n)
    return items, values


def _best_of_all(scores: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows = np.arange(len(scores))[:, None]
    table: Tensor = torch.from_numpy(scores)
    best, found = torch.topk(table, n)
    items = found.numpy()
    reached = (table >= best[:, -1:]).numpy()
    over = (np.count_nonzero(reached, axis=1) > n) & ~np.isneginf(best[:, -1].numpy())
    for row in np.flatnonzero(over):  # more tie at the limit than have room
        above = np.flatnonzero(scores[row] > best[row, -1].item())
        level = np.flatnonzero(scores[row] == best[row, -1].item())
        items[row] = np.concatenate([above, level[: n - len(above)]])
    items.sort(axis=1)
    values = scores[rows, items]
    order = np.argsort(-values, axis=1, kind="stable")
    return items[rows, order], values[rows, order]
