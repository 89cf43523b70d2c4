"""The settings of a preparation, with their meaning."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from hardgnn.config import Section
from hardgnn.errors import HardGNNError, nearest
from hardgnn.prepare.presets import preset_settings


def moment(value: Any) -> datetime:
    """A date, a time or a year as a moment in UTC; what has no zone is taken as UTC."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = datetime.fromisoformat(f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text)
        except ValueError:
            value = None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError("expected a date such as 2010-01-01, a year, or a time such as 2010-01-01T12:00:00Z")
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("expected a moment in the years 1 to 9999 of UTC") from None


Moment = Annotated[datetime, BeforeValidator(moment)]


class PrepareConfig(Section):
    """What is kept of a log, how it is split, and which candidates are stored with it."""

    drop_missing: bool = False
    """Rows whose user or item is a word for a missing value, such as NA, nan or None, are dropped; `read_log` takes
    the same name for rows where it is empty, and `hardgnn prepare --drop-missing` asks for both."""
    since: Moment | None = None
    """Earlier interactions are dropped; a date is its first moment in UTC. None keeps all."""
    until: Moment | None = None
    """Interactions at this moment or later are dropped; a date is its first moment in UTC. None keeps all."""
    min_rating: float | None = Field(None, allow_inf_nan=False)
    """Rows with a lower rating, or none, are dropped; None keeps all (implicit feedback)."""
    repeats: Literal["first", "last", "all"] = "first"
    """Which of a user's interactions with one item are kept: the earliest, the latest or all."""
    thresholds: Literal["k_core", "selfgnn"] = "k_core"
    """How rare users and items are dropped: iterative `k_core`, or SelfGNN's one-pass `passes`."""
    k_core: int = Field(5, ge=0)
    """Fewest interactions of a user and of an item (`thresholds` = k_core); 0 and 1 keep all."""
    passes: tuple[int, ...] = Field((20, 15, 5), min_length=1)
    """Fewest different items of a user, one pass each (`thresholds` = selfgnn)."""
    item_passes: int = Field(1, ge=0)
    """The first so many of `passes` also drop items, by their number of different users; SelfGNN's code: 1."""
    split: Literal["leave-one-out", "global-time"] = "leave-one-out"
    """A user's last two interactions, or all interactions after two cut times."""
    valid_share: float = Field(0.1, gt=0, lt=1)
    """Share of interactions between the cut times (`split` = global-time)."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of interactions after the second cut time (`split` = global-time)."""
    candidates: int = Field(999, ge=1)
    """Stored negatives per user, for the protocol sampled-999."""
    candidate_users: int | None = Field(10_000, ge=1)
    """Users with stored negatives at most, drawn at random; None stores them for all."""
    candidate_seed: int = Field(100, ge=0)
    """Seed of the stored negatives and of the draw of their users."""

    @model_validator(mode="after")
    def _shares_leave_training(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share must leave something to train on")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("since must be earlier than until")
        return self

    @classmethod
    def checked(cls, preset: str | None = None, **settings: Any) -> PrepareConfig:
        """The config from keyword settings over those of a preset.

        Raises:
            HardGNNError: an unknown preset or setting (names the nearest), or a value that does not fit.
        """
        if preset is not None:
            settings = preset_settings(preset) | settings
            settings.pop("format", None)  # for the reader
        for name in settings:
            if name not in cls.model_fields:
                raise HardGNNError(f"unknown setting '{name}' of prepare: {nearest(name, cls.model_fields)}")
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            got = f"{field}: {message}, got {first['input']!r}" if field else message
            raise HardGNNError(f"prepare: {got}") from None
