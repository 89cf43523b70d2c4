"""The best items for each user, in blocks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluate import BLOCK_BYTES, Progress, Ranker, blocks, checked_scores

NO_ITEM = -1


def top_n(
    ranker: Ranker,
    users: NDArray[np.integer],
    histories: Histories,
    n: int,
    n_items: int,
    *,
    exclude_seen: bool = True,
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
    for block in blocks(len(users), n_items, block_bytes):
        known = histories.take(rows_of_all[block])
        scores = checked_scores(ranker, users[block], known, n_items)
        if exclude_seen:
            scores = np.array(scores)  # a copy: the ranker may hand out an array that it keeps
            scores[np.repeat(np.arange(len(scores)), known.lengths), known.items] = -np.inf
        items[block, :kept], best[block, :kept] = _largest(scores, kept)
        if progress is not None:
            progress(block.stop, len(users))
    items[np.isneginf(best)] = NO_ITEM
    return items, best


def _largest(scores: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and values (B, n) of the largest scores of each row, best first, ties by lower index."""
    rows = np.arange(len(scores))[:, None]
    table = torch.from_numpy(scores)
    best, found = torch.topk(table, n)
    items = found.numpy()
    reached = (table >= best[:, -1:]).numpy()
    for row in np.flatnonzero(np.count_nonzero(reached, axis=1) > n):  # more tie at the limit than have room
        above = np.flatnonzero(scores[row] > best[row, -1].item())
        level = np.flatnonzero(scores[row] == best[row, -1].item())
        items[row] = np.concatenate([above, level[: n - len(above)]])
    items.sort(axis=1)
    values = scores[rows, items]
    order = np.argsort(-values, axis=1, kind="stable")
    return items[rows, order], values[rows, order]
