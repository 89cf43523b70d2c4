"""The best items for each user, in blocks; and what to say where nothing is known of a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluate import BLOCK_BYTES, Progress, Ranker, blocks, checked_scores
from hardgnn.trained import TrainedModel

NO_ITEM = -1
UNKNOWN = -1
CHUNK = 64  # items whose largest score is looked at before the items themselves
SOURCES = ("user+sequence", "user", "sequence", "popularity")
USER_AND_SEQUENCE, USER_ALONE, SEQUENCE_ALONE, POPULARITY = range(len(SOURCES))


@dataclass(frozen=True)
class Best:
    """The answer for B users: `items` (B, n) int32, best first, `scores` (B, n) float32, `sources` (B,) uint8.

    An item -1 is none. A source is an index into `SOURCES`: the terms of the score, or popularity, whose score is the
    number of training interactions.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    sources: NDArray[np.uint8]


class Anonymous:
    """Scores from the sequence term alone, for somebody the model does not know (specification, section 2, Score)."""

    def __init__(self, model: TrainedModel) -> None:
        self.model, self.name = model, model.name

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I) of all items; `users` are not looked at."""
        return self.model.scores(None, histories)


class Counted:
    """Scores an item by a count (I,), the same for everybody: popularity from a run folder, without the data."""

    name = "popularity"

    def __init__(self, counts: NDArray[np.number]) -> None:
        self.counts = counts.astype(np.float32)

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I)."""
        return np.tile(self.counts, (len(users), 1))


def sources(model: TrainedModel, users: NDArray[np.integer], histories: Histories) -> NDArray[np.uint8]:
    """What speaks for each user (B,): an index into `SOURCES`; a user -1 is unknown."""
    listens = (histories.lengths > 0) & (model.config.model.sequence != "none")
    known = (users >= 0) & model.config.model.user_term
    found = np.where(listens, np.where(known, USER_AND_SEQUENCE, SEQUENCE_ALONE), POPULARITY)
    return np.where(known & ~listens, USER_ALONE, found).astype(np.uint8)


def best_items(
    model: TrainedModel,
    popularity: NDArray[np.integer],
    users: NDArray[np.integer],
    histories: Histories,
    n: int,
    *,
    exclude_seen: bool = True,
    blocked: NDArray[np.integer] | None = None,
    progress: Progress | None = None,
) -> Best:
    """The `n` best items of users known and unknown.

    A known user is scored by both terms, an unknown one by the sequence term alone, and one of whom nothing is known
    gets the most popular items. An item without training interactions is recommended to nobody: its vector is as
    random as it was at the start, and so is its score.

    Args:
        model: scores all items.
        popularity: (I,) training interactions of each item.
        users: (B,) indices, -1 where the model does not know the user.
        histories: their items, oldest first, in the same order; new ones included.
        n, exclude_seen, blocked, progress: as in `top_n`.

    Raises:
        HardGNNError: as `top_n`.
    """
    n_items, which = len(popularity), sources(model, users, histories)
    blocked = without_untrained(blocked, popularity)
    items = np.full((len(users), n), NO_ITEM, dtype=np.int32)
    scores = np.full((len(users), n), -np.inf, dtype=np.float32)
    rankers: dict[int, Ranker] = {
        USER_AND_SEQUENCE: model,
        USER_ALONE: model,
        SEQUENCE_ALONE: Anonymous(model),
        POPULARITY: Counted(popularity),
    }
    done = 0
    for source, ranker in rankers.items():
        rows = np.flatnonzero(which == source)
        # Those of whom nothing is known all get the same answer.
        nothing = source == POPULARITY and (not exclude_seen or not histories.lengths[rows].any())
        asked = rows[:1] if nothing else rows
        if len(asked) == 0:
            continue
        items[rows], scores[rows] = top_n(
            ranker,
            users[asked],
            histories.take(asked),
            n,
            n_items,
            exclude_seen=exclude_seen,
            blocked=blocked,
            progress=None if progress is None else shifted(progress, done, len(users)),
        )
        done += len(rows)
        if progress is not None:
            progress(done, len(users))
    return Best(items, scores, which)


def without_untrained(
    blocked: NDArray[np.integer] | None, popularity: NDArray[np.integer]
) -> NDArray[np.integer] | None:
    """The items to block, and with them those that training never saw; None where there are none.

    Args:
        blocked: indices, or None.
        popularity: (I,) training interactions of each item.

    Raises:
        HardGNNError: nothing is left to recommend.
    """
    untrained = np.flatnonzero(popularity == 0)
    if len(untrained):
        blocked = untrained if blocked is None else np.union1d(blocked, untrained)
    if blocked is not None and len(blocked) == len(popularity):
        raise HardGNNError(
            "nothing is left to recommend: of the items allowed and not blocked none was in training, and of others "
            "the model knows nothing"
        )
    return blocked


def shifted(progress: Progress, done: int, total: int) -> Progress:
    """What a part of the work reports to, where so many of all users are done before it."""
    return lambda so_far, _: progress(done + so_far, total)


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
    for block in blocks(len(users), n_items, block_bytes):
        known = histories.take(rows_of_all[block])
        scores = checked_scores(ranker, users[block], known, n_items)
        with _without(scores, known if exclude_seen else None, blocked) as allowed:
            items[block, :kept], best[block, :kept] = largest(allowed, kept)
        if progress is not None:
            progress(block.stop, len(users))
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


def largest(scores: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and values (B, n) of the largest scores (B, I) of each row, best first, ties by lower index.

    The n best items lie in the n chunks of neighbouring items whose largest scores are the highest, so that all scores
    are read once and only those chunks are sorted. Where more chunks tie at the limit, all scores are.
    """
    whole = scores.shape[1] // CHUNK
    if whole < 4 * n:
        return _largest_of_all(scores, n)
    table = torch.from_numpy(scores)
    tops = table[:, : whole * CHUNK].unflatten(1, (whole, CHUNK)).amax(-1)  # (B, I / CHUNK)
    chunks = tops.topk(n).indices.sort().values
    inside = (chunks.unsqueeze(-1) * CHUNK + torch.arange(CHUNK)).flatten(1)
    rest = torch.arange(whole * CHUNK, scores.shape[1]).expand(len(scores), -1)
    places = torch.cat([inside, rest], 1)  # ascending, so that ties go by index
    found, values = _largest_of_all(table.gather(1, places).numpy(), n)
    items = np.take_along_axis(places.numpy(), found, axis=1)
    reached = (tops >= torch.from_numpy(values[:, -1:])).sum(1) > n
    tied = (reached & torch.from_numpy(values[:, -1] > -np.inf)).numpy()
    if tied.any():
        items[tied], values[tied] = _largest_of_all(scores[tied], n)
    return items, values


def _largest_of_all(scores: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
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
