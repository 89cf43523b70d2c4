"""How much memory a preparation may take, and what therefore goes to a disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hardgnn.data.columns import ITEM, USER
from hardgnn.data.log import InteractionLog
from hardgnn.data.readers.values import Room
from hardgnn.errors import HardGNNError, shown
from hardgnn.prepare.kept import PART_ROWS, codes
from hardgnn.storage.columns import most
from hardgnn.wording import option

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
BASE_BYTES = 300 * 10**6  # of the process before the first row, and of blocks
ROW_BYTES = 80  # of a row of a log that is prepared in memory
PART_BYTES = 100  # of a row of a part that is sorted
ID_BYTES = 142  # of a user or an item: its text, counts, places
LEAST_ROWS = 100_000  # of a part
LEAST_BYTES = 400 * 10**6
SHARE = 0.5  # of what is free is taken where nothing is said
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Budget:
    """So many bytes for a preparation, and whether a user asked for them; `folder` is on the disk that takes more."""

    size: int
    folder: Path
    asked: bool = True

    @classmethod
    def of(cls, memory: str | int | None, folder: Path) -> Budget:
        """What a user asks for, as in "2GB", or half of what is free.

        Raises:
            HardGNNError: it is no size, or too little to begin with.
        """
        size = int(SHARE * free_bytes()) if memory is None else size_of(memory)
        if memory is not None and size < LEAST_BYTES:
            raise HardGNNError(f"{option('memory', shown(memory))}: preparing takes {LEAST_BYTES // 10**6} MB at least")
        return cls(max(size, LEAST_BYTES), folder, memory is not None)

    @property
    def room(self) -> Room:
        """How many rows of a log are kept in memory, and where more of them go."""
        return Room((self.size - BASE_BYTES) // ROW_BYTES, self.folder)

    def part_rows(self, log: InteractionLog) -> int:
        """How many rows of a log are sorted at once: they take half of what its ids leave at most.

        Raises:
            HardGNNError: its ids do not fit into the memory that was asked for.
        """
        known = 1 + max(int(most(codes(log.table[name]))) for name in (USER, ITEM))
        needed = BASE_BYTES + ID_BYTES * known + 2 * PART_BYTES * LEAST_ROWS
        if self.asked and needed > self.size:
            raise HardGNNError(
                f"{log.name}: its {known:,} users and items do not fit into {self.size / 10**6:,.0f} MB; "
                f"give {option('memory', f'{-(-needed // 10**8) * 100}MB')}"
            )
        left = self.size - BASE_BYTES - ID_BYTES * known
        return max(LEAST_ROWS, min(PART_ROWS, left // 2 // PART_BYTES))


def size_of(text: str | int) -> int:
    """A size in bytes, such as 2GB, 1.5 GiB or 800M.

    Raises:
        HardGNNError: it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([kmgt]?i?)b?", str(text).strip().lower())
    if found is None or found[2] not in UNITS:
        raise HardGNNError(f"{option('memory', shown(text))}: expected a size such as 2GB or 800MB")
    return int(float(found[1]) * UNITS[found[2]])


def free_bytes() -> int:
    """The memory that this process may still take: what is free, or what its group has left."""
    found = []
    try:
        known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(known["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        found.append(8 * 10**9)  # a system that does not tell
    for limit, used in CGROUPS:
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such group, or no limit
            continue
    return max(0, min(found))
