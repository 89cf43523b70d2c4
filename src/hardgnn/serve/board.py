"""What a service's parent and its workers show each other in memory that they share: signs of life, runs, the phase."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

READY, RELOADING, DRAINING, STARTING = range(4)
PHASES = ("ready", "reloading", "draining", "starting")
"""What the service is about: every worker has the newest run it was told of, a newer one is on its way, the end has
begun, not every worker has its first run yet."""
LARGEST = 255  # numbers go on with 1 after it: a byte is written at once, whoever reads


class Board:
    """A byte for each thing that is shown; made by the parent before it forks.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        self._memory, self._workers = mmap.mmap(-1, 2 * workers + 1), workers

    @property
    def phase(self) -> int:
        """`READY`, `RELOADING`, `DRAINING` or `STARTING`."""
        return self._memory[2 * self._workers]

    @phase.setter
    def phase(self, value: int) -> None:
        self._memory[2 * self._workers] = value

    def clear(self, slot: int) -> None:
        """A worker is about to begin in this slot."""
        self._memory[slot] = self._memory[self._workers + slot] = 0

    def beat(self, slot: int) -> None:
        """A worker lives."""
        self._memory[slot] = self._memory[slot] % LARGEST + 1

    def sign(self, slot: int) -> int:
        """A number that changes as long as the worker lives; 0 before its first sign."""
        return self._memory[slot]

    def take(self, slot: int, serial: int) -> None:
        """A worker answers from the run `serial`."""
        self._memory[self._workers + slot] = _byte(serial)

    def has(self, slot: int, serial: int) -> bool:
        """Whether a worker answers from the run `serial`, the newest."""
        return self._memory[self._workers + slot] == _byte(serial)


def _byte(serial: int) -> int:
    return serial % LARGEST + 1


@dataclass(frozen=True)
class Place:
    """A worker's place on the board; a service without a parent has one to itself."""

    board: Board
    slot: int = 0
