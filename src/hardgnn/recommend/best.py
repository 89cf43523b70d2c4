"""The best items for each user, in blocks; and what to say where nothing is known of a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import Progress, Ranker
from hardgnn.evaluation.topn import NO_ITEM, lists, top_n
from hardgnn.models.base import Abilities, Model
from hardgnn.models.popularity import Popularity

UNKNOWN = -1
SOURCES = ("user+sequence", "user", "sequence", "popularity")
"""What a recommendation is made of; `meaning` says what that is of a model and a user."""
USER_AND_SEQUENCE, USER_ALONE, SEQUENCE_ALONE, POPULARITY = range(len(SOURCES))


@dataclass(frozen=True)
class Best:
    """The answer for B users: `items` (B, n) int32, best first, `scores` (B, n) float32, `sources` (B,) uint8.

    An item -1 is none. A source is an index into `SOURCES`: the terms of the score, or popularity, whose score is the
    number of training interactions, but for a model that asks nothing of anybody.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    sources: NDArray[np.uint8]


class Anonymous:
    """Scores from the sequence term alone, for somebody the model does not know (specification, section 2, Score)."""

    def __init__(self, model: Model) -> None:
        self.model, self.name = model, model.name

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I) of all items; `users` are not looked at."""
        return self.model.scores(None, histories)

    @property
    def direct(self) -> bool:
        """See `hardgnn.evaluation.topn.Lister`; and `best`."""
        return lists(self.model)

    def best(self, users: NDArray[np.integer], *given: Any) -> Any:
        return self.model.best(None, *given)  # type: ignore[attr-defined]


def sources(model: Model, users: NDArray[np.integer], histories: Histories) -> NDArray[np.uint8]:
    """What speaks for each user (B,): an index into `SOURCES`; a user -1 is unknown."""
    listens = (histories.lengths > 0) & model.abilities.histories
    known = (users >= 0) & model.abilities.known_users
    found = np.where(listens, np.where(known, USER_AND_SEQUENCE, SEQUENCE_ALONE), POPULARITY)
    return np.where(known & ~listens, USER_ALONE, found).astype(np.uint8)


def meaning(source: str, abilities: Abilities, known: bool) -> str:
    """What a source means of a user of a model, in words.

    Args:
        source: one of `SOURCES`.
        abilities: the model's.
        known: whether the run has the user, though perhaps without training interactions.
    """
    if source == SOURCES[USER_AND_SEQUENCE]:
        return "what the model has learnt of the user, and their recent items"
    if source == SOURCES[USER_ALONE]:
        return "what the model has learnt of the user" + (", who has no items" if abilities.histories else "")
    if source == SOURCES[SEQUENCE_ALONE]:
        if not abilities.known_users:
            return "recent items alone, for this model learns nothing of single users"
        return "recent items alone, for " + (
            "training had none of the user" if known else "the model does not know the user"
        )
    if not (abilities.histories or abilities.known_users):
        return "the same for everybody, for this model asks nothing of anybody"
    return "the most popular items, for nothing is known " + ("of what the user had" if known else "of the user")


def best_items(
    model: Model,
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
    gets the most popular items, or what a model says that asks nothing of anybody. An item without training
    interactions is recommended to nobody: its vector is as random as it was at the start, and so is its score.

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
    impersonal = not (model.abilities.histories or model.abilities.known_users)
    items = np.full((len(users), n), NO_ITEM, dtype=np.int32)
    scores = np.full((len(users), n), -np.inf, dtype=np.float32)
    rankers: dict[int, Ranker] = {
        USER_AND_SEQUENCE: model,
        USER_ALONE: model,
        SEQUENCE_ALONE: Anonymous(model),
        POPULARITY: model if impersonal else Popularity(popularity),
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
