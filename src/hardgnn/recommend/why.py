"""Whom to look at, which items of a history speak for an item, which a model looks at, and which items are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.errors import HardGNNError
from hardgnn.evaluation.topn import best_of_rows
from hardgnn.models.base import Model

EXAMPLES = 5  # users to begin with
REASONS = 3  # items of the history that a recommendation is told to be near to


def window_of(model: Model, history: NDArray[np.int32]) -> NDArray[np.int32]:
    """What the model looks at of a history (m,), oldest first."""
    return history if model.window is None else history[-model.window :]


def reasons(
    model: Any,
    popularity: NDArray[np.integer],
    history: NDArray[np.int32],
    items: NDArray[np.integer],
    n: int = REASONS,
) -> list[list[tuple[int, float]]]:
    """For each of `items` the items of the window that speak for it most, best first, and how much each does.

    Args:
        model: fitted.
        popularity: (I,) training interactions of each item; one without any speaks for nothing.
        history: a user's items, oldest first.
        items: (K,) those that are to be explained.
        n: reasons of each at most.
    """
    window = np.array(list(dict.fromkeys(window_of(model, history).tolist())), dtype=np.int64)
    window = window[popularity[window] > 0]
    if len(window) == 0 or len(items) == 0 or not model.abilities.similar:
        return [[] for _ in items]
    near = model.reasons(window, np.asarray(items))  # (K, m)
    places = np.argsort(-near, axis=1, kind="stable")[:, :n]
    return [[(int(window[place]), float(near[row, place])) for place in columns] for row, columns in enumerate(places)]


def attention(model: Any, history: NDArray[np.int32]) -> list[float] | None:
    """The last layer's weight of each item of the window (m,), oldest first; None where there is no such thing."""
    if not model.abilities.attention or len(history) == 0:
        return None
    layers = model.attention(window_of(model, history))
    return layers[-1] if layers else None


def alike(model: Any, popularity: NDArray[np.integer], item: int, n: int) -> list[tuple[int, float]]:
    """The `n` items most like an item, itself left out, and how like each is; of one that training never saw none.

    Nor is such an item near to anything: its vector is random.

    Raises:
        HardGNNError: the model cannot tell.
    """
    if not model.abilities.similar:
        raise HardGNNError(f"{model.name}: the model cannot tell which items are alike")
    if popularity[item] == 0:
        return []
    likeness = np.array(model.similarity(item), dtype=np.float32)
    likeness[item] = -np.inf
    likeness[popularity == 0] = -np.inf
    found, values = best_of_rows(likeness[None], min(n, int(np.count_nonzero(popularity)) - 1))
    return [(int(one), float(value)) for one, value in zip(found[0], values[0], strict=True)]


def example_users(interactions: NDArray[np.integer]) -> NDArray[np.int64]:
    """A few users to begin with, by number, evenly from the least to the most active.

    Args:
        interactions: (U,) how many each user has; one with none is no example.
    """
    known = np.flatnonzero(interactions > 0)
    order = known[np.argsort(interactions[known], kind="stable")]
    places = np.linspace(0, len(order) - 1, EXAMPLES + 2)[1:-1] if len(order) > EXAMPLES + 2 else np.arange(len(order))
    return order[places.astype(int)][:EXAMPLES]
