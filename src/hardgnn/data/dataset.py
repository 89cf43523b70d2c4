"""The prepared data set: dense ids, per-user order, the split, the stored candidates; kept as a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.histories import Histories
from hardgnn.data.log import InteractionLog
from hardgnn.errors import HardGNNError
from hardgnn.files import atomic_folder
from hardgnn.kinds import mistaken
from hardgnn.records import read_json, write_json

TRAIN, VALID, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Candidates:
    """Sampled negatives, the same for every model: `users` (V,) int32 and `items` (V, C) int32.

    A row holds items its user never interacted with, in any part; where there are fewer than C, -1 fills it.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]


@dataclass(frozen=True)
class Dataset:
    """Interactions with dense ids, sorted by user and, within a user, by time.

    Shapes: `user`, `item` (N,) int32, `timestamp` (N,) float64 seconds since 1970, `part` (N,) uint8
    (0 train, 1 valid, 2 test); `user_ids` (U,) and `item_ids` (I,) the raw ids as strings, `item_titles` (I,).
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    timestamp: NDArray[np.float64]
    part: NDArray[np.uint8]
    user_ids: pl.Series
    item_ids: pl.Series
    item_titles: pl.Series | None
    candidates: Candidates
    manifest: dict[str, Any]

    @staticmethod
    def read(path: str | Path, **options: Any) -> InteractionLog:
        """Reads a raw log; see `hardgnn.data.readers.read_log` for the options."""
        return InteractionLog.read(path, **options)

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items I."""
        return len(self.item_ids)

    @property
    def name(self) -> str:
        """The source's name, as the manifest has it."""
        return str(self.manifest.get("name", "data"))

    @property
    def time_span(self) -> tuple[float, float] | None:
        """The seconds between which intervals are cut, where the source tells them: released pickles do."""
        span = self.manifest.get("time_span_s")
        return None if span is None else (float(span[0]), float(span[1]))

    @cached_property
    def train(self) -> Histories:
        """Each user's training items."""
        return self.before(VALID)

    @cached_property
    def everything(self) -> Histories:
        """Each user's items of all parts: what serving knows, never what training or evaluating may see."""
        return self.before(TEST + 1)

    def before(self, part: int) -> Histories:
        """What may be known when `part` is predicted: the training items, and at test time the validation items.

        Source: SPEC section 5, "at test time the validation item belongs to the user's history".
        """
        kept = self.part < part
        counts = np.bincount(self.user[kept], minlength=self.n_users)
        return Histories(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), self.item[kept])

    def targets(self, part: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The users that `part` judges and the item each should get: (V,) and (V,), sorted by user.

        The target is the user's first interaction of the part; users with nothing before it are left out.
        """
        rows = np.flatnonzero(self.part == part)
        users, first = np.unique(self.user[rows], return_index=True)
        known = self.before(part).lengths[users] > 0
        return users[known].astype(np.int32), self.item[rows[first[known]]]

    def save(self, folder: str | Path) -> None:
        """Writes the prepared folder (see CLI.md) in one step: it is there whole or not at all."""
        folder = Path(folder)
        with atomic_folder(folder, MANIFEST) as out:
            order = np.arange(len(self.user)) - np.repeat(self.everything.offsets[:-1], self.everything.lengths)
            pl.DataFrame(
                {
                    "user": self.user,
                    "item": self.item,
                    "timestamp": self.timestamp,
                    "order": order.astype(np.int32),
                    "part": self.part,
                }
            ).write_parquet(out / "interactions.parquet")
            write_ids(out / "users.parquet", self.user_ids)
            write_ids(out / "items.parquet", self.item_ids, self.item_titles)
            np.savez_compressed(out / "candidates.npz", users=self.candidates.users, items=self.candidates.items)
            write_json(out / MANIFEST, self.manifest)

    @classmethod
    def load(cls, folder: str | Path) -> Dataset:
        """Reads a prepared folder.

        Raises:
            HardGNNError: the folder is missing, incomplete, damaged or of another format version.
        """
        folder = Path(folder)
        if wrong := mistaken(folder, "a prepared folder"):
            raise HardGNNError(wrong)
        if not folder.is_dir():
            raise HardGNNError(f"{folder}: no such folder; make it with `hardgnn prepare SOURCE --out {folder}`")
        if not (folder / MANIFEST).exists():
            raise HardGNNError(f"{folder}: not a prepared data set, {MANIFEST} is missing")
        manifest = read_json(folder / MANIFEST)
        if manifest.get("format_version") != FORMAT_VERSION:
            raise HardGNNError(
                f"{folder}: prepared by another version (format {manifest.get('format_version')}, "
                f"this one reads {FORMAT_VERSION}); prepare it again"
            )
        try:
            rows = pl.read_parquet(folder / "interactions.parquet")
            user_ids, _ = read_ids(folder / "users.parquet")
            item_ids, titles = read_ids(folder / "items.parquet")
            with np.load(folder / "candidates.npz", allow_pickle=False) as stored:
                candidates = Candidates(stored["users"], stored["items"])
            return cls(
                user=rows["user"].to_numpy().astype(np.int32),
                item=rows["item"].to_numpy().astype(np.int32),
                timestamp=rows["timestamp"].to_numpy().astype(np.float64),
                part=rows["part"].to_numpy().astype(np.uint8),
                user_ids=user_ids,
                item_ids=item_ids,
                item_titles=titles,
                candidates=candidates,
                manifest=manifest,
            )
        except (OSError, pl.exceptions.PolarsError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise HardGNNError(f"{folder}: the prepared data set is damaged ({reason}); prepare it again") from None


def write_ids(path: Path, raw: pl.Series, titles: pl.Series | None = None) -> None:
    """Writes the map from raw id to index, with titles where there are any."""
    columns: dict[str, Any] = {"raw_id": raw, "index": np.arange(len(raw), dtype=np.int32)}
    if titles is not None:
        columns["title"] = titles
    pl.DataFrame(columns).write_parquet(path)


def read_ids(path: Path) -> tuple[pl.Series, pl.Series | None]:
    """The raw ids, by index, and the titles if the file has them."""
    table = pl.read_parquet(path).sort("index")
    return table["raw_id"], table["title"] if "title" in table.columns else None
