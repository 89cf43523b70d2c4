"""From a raw log to a prepared data set: filter, number, order, split, draw candidates (specification, section 1)."""

from __future__ import annotations

import platform
import re
import warnings
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from hardgnn.config import Section
from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from hardgnn.data.dataset import FORMAT_VERSION, PARTS, TEST, VALID, Candidates, Dataset
from hardgnn.data.ids import MISSING, id_text
from hardgnn.data.log import InteractionLog, prepares, read_log
from hardgnn.errors import HardGNNError, nearest
from hardgnn.forks import enter
from hardgnn.prepare import doubts
from hardgnn.prepare.candidates import draw_candidates
from hardgnn.prepare.presets import preset_settings
from hardgnn.prepare.released.selfgnn import is_released, read_selfgnn
from hardgnn.prepare.split import global_time, leave_one_out
from hardgnn.version import __version__

NO_TIMES = "no usable times: intervals will be cut by equal counts over positions"


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


class Kept:
    """The rows still kept, in time order, with a record of what each step left.

    Shapes: `rows` (n,) int64 places in the log, `user` and `item` (n,) uint32 codes.
    """

    def __init__(self, log: InteractionLog) -> None:
        table = log.table
        # ties in time keep the order of the file
        self.rows: NDArray[np.int64] = np.argsort(table[TIMESTAMP].to_numpy(), kind="stable")
        self.user, self.item = (codes(table[column])[self.rows] for column in (USER, ITEM))
        self.steps: list[dict[str, Any]] = []
        self.record("read")

    def keep(self, step: str, mask: NDArray[np.bool_], remedy: str = "") -> None:
        """Drops the rows outside `mask` (n,); `remedy` says what to do if none is left.

        Raises:
            HardGNNError: nothing is left; says what each step left.
        """
        if not mask.all():
            self.rows, self.user, self.item = self.rows[mask], self.user[mask], self.item[mask]
        self.record(step, remedy)

    def record(self, step: str, remedy: str = "") -> None:
        """Notes what `step` left."""
        counts = {
            "interactions": len(self.rows),
            USER + "s": int(np.count_nonzero(np.bincount(self.user))),
            ITEM + "s": int(np.count_nonzero(np.bincount(self.item))),
        }
        self.steps.append({"step": step, **counts})
        if not len(self.rows):
            told = "; ".join(
                "{step} left {interactions} interactions of {users} users and {items} items".format(**one)
                for one in self.steps
            )
            raise HardGNNError(f"the log is empty after {step}: {told}{remedy}")

    def distinct(self, which: Literal["first", "last"]) -> NDArray[np.bool_]:
        """Marks the first or last row of each (user, item) pair, (n,)."""
        pairs = pl.Series(self.user.astype(np.int64) * (int(self.item.max()) + 1) + self.item)
        return (pairs.is_first_distinct() if which == "first" else pairs.is_last_distinct()).to_numpy()


def prepare(log: InteractionLog, config: PrepareConfig | None = None) -> Dataset:
    """The prepared data set, in memory; `Dataset.save` writes the folder.

    The steps are those of specification, section 1, in its order. The same log and config give the same bytes.

    Raises:
        HardGNNError: nothing is left after a step, `min_rating` without ratings, or no user fits the split.
    """
    enter()
    config = config or PrepareConfig()
    kept = Kept(log)
    if config.drop_missing:
        words = pl.any_horizontal(pl.col(USER, ITEM).is_in(MISSING))
        kept.keep("drop_missing", ~log.table.select(words.alias("missing"))["missing"].to_numpy()[kept.rows])
    if config.since is not None or config.until is not None:
        time = log.table[TIMESTAMP].to_numpy()[kept.rows]
        first = -np.inf if config.since is None else config.since.timestamp()
        end = np.inf if config.until is None else config.until.timestamp()
        kept.keep("since, until", (time >= first) & (time < end))
    if config.min_rating is not None:
        if RATING not in log.table.columns:
            raise HardGNNError(f"min_rating={config.min_rating:g} needs ratings, but {log.name} has no rating column")
        if log.reading.bad_rating is not None:
            raise HardGNNError(
                f"min_rating={config.min_rating:g} needs ratings that are numbers: {log.reading.bad_rating}"
            )
        enough = log.table[RATING].ge(config.min_rating).fill_null(False).to_numpy()
        kept.keep("min_rating", enough[kept.rows])
    warnings = [*log.reading.warnings, *id_doubts(log, kept)]
    if config.repeats != "all":
        kept.keep("repeats", kept.distinct(config.repeats))
    if config.thresholds == "selfgnn":
        apply_passes(kept, config.passes, config.item_passes)
    elif config.k_core > 1:
        mask = k_core(kept.user, kept.item, config.k_core)
        kept.keep("k_core", mask, "" if mask.any() else lower_core(kept, config.k_core))

    user, user_ids = number(kept.user, kept.rows, log.table[USER])
    item, item_ids = number(kept.item, kept.rows, log.table[ITEM])
    order = np.argsort(user, kind="stable")  # by user, and in time order within one
    user, item = user[order], item[order]
    timestamp = log.table[TIMESTAMP].to_numpy()[kept.rows[order]]
    steps = kept.steps
    del kept, order
    warnings += time_doubts(log, user, timestamp, config)

    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": log.name,
        "source_sha256": log.sha256,
        "settings": config.model_dump(mode="json"),
        "steps": steps,
        "read": log.reading.told(),
        "warnings": warnings,
        "versions": {
            "hardgnn": __version__,
            "polars": pl.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if config.split == "leave-one-out":
        part = leave_one_out(user, len(user_ids))
    else:
        part, cuts = global_time(timestamp, config.valid_share, config.test_share)
        manifest["cut_times_s"] = {"valid": cuts[0], "test": cuts[1]}
    manifest["counts"] = {
        "users": len(user_ids),
        "items": len(item_ids),
        "interactions": len(user),
        **{name: int(np.count_nonzero(part == code)) for name, code in PARTS.items()},
    }
    none = Candidates(np.empty(0, np.int32), np.empty((0, config.candidates), np.int32))
    titles = titles_of(item_ids, log.titles)
    dataset = Dataset(user, item, timestamp, part, user_ids, item_ids, titles, none, manifest)
    for code, name in ((VALID, "validation"), (TEST, "test")):
        if not len(dataset.targets(code)[0]):
            raise HardGNNError(f"the {config.split} split leaves no user with a {name} target and a history before it")
    drawn = draw_candidates(dataset, config.candidates, config.candidate_users, config.candidate_seed)
    warnings += doubts.few_candidates(drawn.items, len(item_ids))
    return replace(dataset, candidates=drawn)


@prepares
def prepare_log(log: InteractionLog, preset: str | None, settings: dict[str, Any]) -> Dataset:
    """`InteractionLog.prepare`: the prepared data set, what makes its figures doubtful told as Python warnings."""
    data = prepare(log, PrepareConfig.checked(preset, **settings))
    for sentence in data.manifest["warnings"]:
        warnings.warn(sentence, stacklevel=3)
    return data


def id_doubts(log: InteractionLog, kept: Kept) -> list[str]:
    """What makes the ids of the rows still kept doubtful."""
    told: list[str] = []
    for name, coded in ((USER, kept.user), (ITEM, kept.item)):
        ids = log.table[name]
        told += [*doubts.missing_words(ids, coded, name), *doubts.dominance(ids, kept.rows, coded, name)]
    return told


def time_doubts(
    log: InteractionLog, user: NDArray[np.int32], timestamp: NDArray[np.float64], config: PrepareConfig
) -> list[str]:
    """What makes the times of the prepared rows (n,) doubtful."""
    if timestamp.min() == timestamp.max():
        return [NO_TIMES]
    if log.reading.is_order:
        told = [doubts.ORDERLY] if config.split == "global-time" else []
    else:
        told = [*doubts.implausible(timestamp), *doubts.uneven(timestamp)]
    return [*told, *doubts.tied(user, timestamp)]


def lower_core(kept: Kept, k: int) -> str:
    """Says which lower k leaves something, where `k` leaves nothing."""
    low, high = 1, k  # every log has a core of 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if k_core(kept.user, kept.item, middle).any() else (low, middle)
    mask = k_core(kept.user, kept.item, low)
    users, items = (len(np.unique(coded[mask])) for coded in (kept.user, kept.item))
    kept_then = f"{mask.sum():,} interactions of {users:,} users and {items:,} items"
    return f"; the highest k_core that leaves any is {low}, with {kept_then}"


def k_core(user: NDArray[np.integer], item: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Marks the largest set of rows in which every user and every item has `k` rows at least: (N,).

    `user` and `item` (N,) are small whole numbers.
    """
    rows = np.arange(len(user))
    while True:
        users, items = user[rows], item[rows]
        stays = (np.bincount(users) >= k)[users] & (np.bincount(items) >= k)[items]
        if stays.all():
            mask = np.zeros(len(user), dtype=bool)
            mask[rows] = True
            return mask
        rows = rows[stays]


def apply_passes(kept: Kept, passes: tuple[int, ...], item_passes: int) -> None:
    """SelfGNN's thresholds: each pass counts once, users by different items and items by different users.

    Source: specification, section 1; that only the first pass drops items is read in the released preprocessing.
    """
    for number_of_pass, fewest in enumerate(passes):
        once = kept.distinct("first")
        stays = (np.bincount(kept.user[once]) >= fewest)[kept.user]
        if number_of_pass < item_passes:
            stays &= (np.bincount(kept.item[once]) >= fewest)[kept.item]
        kept.keep(f"pass {number_of_pass + 1}: at least {fewest}", stays)


def codes(ids: pl.Series) -> NDArray[np.uint32]:
    """A number for each raw id (N,): equal for equal ids, otherwise arbitrary."""
    return ids.cast(pl.Categorical).to_physical().cast(pl.UInt32).to_numpy()


def number(coded: NDArray[np.uint32], rows: NDArray[np.int64], ids: pl.Series) -> tuple[NDArray[np.int32], pl.Series]:
    """Dense indices (n,) in order of first appearance in the file, and the raw ids by index."""
    absent = len(ids)
    first = np.full(int(coded.max()) + 1, absent, dtype=np.int64)
    np.minimum.at(first, coded, rows)
    used = np.flatnonzero(first < absent)
    used = used[np.argsort(first[used])]
    index = np.empty(len(first), dtype=np.int32)
    index[used] = np.arange(len(used), dtype=np.int32)
    # through a list, so that the few ids do not hold on to the text of the whole log
    return index[coded], pl.Series("raw_id", ids.gather(first[used]).to_list(), dtype=pl.String)


def titles_of(item_ids: pl.Series, titles: pl.DataFrame | None) -> pl.Series | None:
    """The title of each item (I,), null where it has none; None if no item has one."""
    if titles is None:
        return None
    known = titles.with_columns(id_text(pl.col(ITEM), pl.String())).unique(ITEM, keep="first", maintain_order=True)
    found = item_ids.to_frame(ITEM).join(known, on=ITEM, how="left", maintain_order="left")[TITLE]
    return None if found.null_count() == len(found) else found.alias("title")


def prepare_file(
    path: str | Path,
    preset: str | None = None,
    format: str | None = None,
    reading: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    allow_leaks: bool = False,
) -> Dataset:
    """Reads a raw log and prepares it, or takes SelfGNN's released pickles as they are split: `hardgnn prepare`.

    Args:
        path: the raw log, or the folder of the released pickles.
        preset: named settings; see `hardgnn.prepare.presets`.
        format: one of `hardgnn.data.readers.formats`; the preset's, or `auto`, by default.
        reading: further options of `hardgnn.data.log.read_log`.
        settings: fields of `PrepareConfig`, which win over the preset; None is as good as not given, and no
            `candidate_users` (0) is everybody.
        allow_leaks: see `hardgnn.prepare.released.selfgnn.read_selfgnn`.

    Raises:
        HardGNNError: as the functions named, or an option that would do nothing.
    """
    path = Path(path)
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    options = {name: value for name, value in (reading or {}).items() if value is not None}
    named = preset_settings(preset) if preset is not None else {}
    kind = format or named.get("format", "auto")
    if kind == "selfgnn" or (kind == "auto" and is_released(path)):
        if unused := [*given, *options, *(["preset"] if preset is not None else [])]:
            raise HardGNNError(f"{path}: the released split is taken as it is, so {unused[0]} would do nothing")
        return read_selfgnn(path, allow_leaks)
    if allow_leaks:
        raise HardGNNError(f"{path}: only released pickles can leak, so allow_leaks would do nothing")
    if given.get("candidate_users") == 0:
        given["candidate_users"] = None
    config = PrepareConfig.checked(preset, **given)
    return prepare(read_log(path, format=kind, **options), config)
