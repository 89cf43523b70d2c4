"""What the columns of a log are called, and how a table was understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

USER, ITEM, TIMESTAMP, RATING, TITLE = "user", "item", "timestamp", "rating", "title"
ORDER = "order"  # how the unit of times that are none begins


@dataclass(frozen=True)
class Reading:
    """How a table was understood.

    `columns` tells what user, item, timestamp and rating are called in the source. `unit` is what its times were:
    seconds, milliseconds, microseconds, nanoseconds, dates, or some kind of order. `warnings` are sentences;
    `bad_rating` names the first rating that is no number, which counts as none. `numbers` has the type, as polars calls
    it, of those of user and item that are numbers in the source, in which Python gives them back.
    """

    format: str
    columns: Mapping[str, str]
    unit: str
    warnings: tuple[str, ...] = ()
    bad_rating: str | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_order(self) -> bool:
        """Whether times only tell what came first, and are no dates."""
        return self.unit.startswith(ORDER)

    def told(self) -> dict[str, str | None]:
        """As the manifest has it."""
        named = {name.replace(TIMESTAMP, "time"): self.columns.get(name) for name in (USER, ITEM, TIMESTAMP, RATING)}
        types = {f"{name}_type": kind for name, kind in self.numbers.items()}
        return {"format": self.format, **named, "time_unit": self.unit, **types}
