"""Counts outcomes, prints them as a table, and keeps examples that can be had again."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

SEED = int(os.environ.get("HARDGNN_SEED", "1"))
SHOWN = int(os.environ.get("HARDGNN_SHOWN", "3"))


def setting(name: str, default: int) -> int:
    """A number from the environment."""
    return int(os.environ.get(name, default))


@dataclass
class Tally:
    """The outcomes of one kind of fault."""

    title: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def good(self, what: str, kind: str) -> None:
        """One that ended as promised."""
        self.counts[what, kind] += 1

    def wrong(self, what: str, kind: str, example: str) -> None:
        """One that did not."""
        self.counts[what, kind] += 1
        self.bad.setdefault((what, kind), []).append(example)

    def table(self) -> str:
        """Rows are what was done, columns how it ended; below them examples of what should not be."""
        kinds = sorted({kind for _, kind in self.counts})
        rows = sorted({what for what, _ in self.counts})
        lines = [f"{self.title} (seed {SEED})", "| |" + "|".join(kinds) + "|", "|---|" + "---:|" * len(kinds)]
        lines += [f"|{row}|" + "|".join(str(self.counts[row, kind] or "") for kind in kinds) + "|" for row in rows]
        total = [str(sum(self.counts[row, kind] for row in rows)) for kind in kinds]
        lines.append("|all|" + "|".join(total) + "|")
        for (what, kind), examples in sorted(self.bad.items()):
            lines.append(f"BAD {what}: {kind}: {len(examples)}")
            lines += [f"    {example}" for example in examples[:SHOWN]]
        return "\n".join(lines)

    def settle(self) -> None:
        """Prints the table, keeps it where `HARDGNN_TALLIES` names a file, and fails if anything was wrong."""
        print("\n" + self.table())
        if path := os.environ.get("HARDGNN_TALLIES"):
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(self.table() + "\n\n")
        count = sum(len(examples) for examples in self.bad.values())
        assert not count, f"{count} of {sum(self.counts.values())} went wrong\n{self.table()}"
