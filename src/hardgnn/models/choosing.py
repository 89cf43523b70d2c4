"""What a fit in one go chooses on validation: a setting that is not given, among a few."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from hardgnn.models.base import Quality

CHOSEN: Final = "chosen"  # the value of a setting that is not given


def tried(given: Any, grid: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is tried of a setting: the value given, or a grid."""
    return grid if given == CHOSEN else (given,)


class BestOf:
    """The best of the models asked; of equals the first, and one alone without being asked."""

    def __init__(self, quality: Quality) -> None:
        self._quality = quality
        self._found: Any = None
        self._value = -np.inf

    def ask(self, candidate: Any) -> None:
        """Compares one more."""
        if self._found is None:
            self._found = candidate
            return
        if self._value == -np.inf:
            self._value = self._quality(self._found)
        if (value := self._quality(candidate)) > self._value:
            self._found, self._value = candidate, value

    @property
    def best(self) -> Any:
        """The one with the best figure."""
        return self._found
