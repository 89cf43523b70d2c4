"""Recommendations in raw ids from a run folder, without the data it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn import arguments
from hardgnn.data import arguments as given
from hardgnn.data.align import places
from hardgnn.data.columns import ITEM, USER
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import Progress, informed
from hardgnn.evaluation.topn import NO_ITEM
from hardgnn.forks import enter
from hardgnn.models.base import Model
from hardgnn.recommend.best import SOURCES, UNKNOWN, best_items, shifted
from hardgnn.recommend.why import alike
from hardgnn.runs.folder import load_tables
from hardgnn.runs.models import load_model
from hardgnn.runs.tables import RunTables
from hardgnn.runs.users import load_users
from hardgnn.runtime import keep_freed_memory
from hardgnn.wording import warn

SHOWN = 5  # unknown ids that a sentence lists
HINTED = 10_000  # ids at most among which the nearest is looked for
BLOCK_USERS = 16_384  # users whose recommendations are one table, so that memory is bounded,
BLOCK_ROWS = 2**22  # and rows of it, where many items are asked for
SOURCE = pl.Enum(SOURCES)
Ids = str | int | Iterable[str | int]  # one raw id, or several: see `hardgnn.data.arguments.ids`


@dataclass(frozen=True)
class Choice:
    """What may be recommended. Items that training never saw are not, whatever is chosen.

    Args:
        exclude_seen: nothing of the user's history, new items included.
        allow: raw ids of the only items to recommend; None is all.
        block: raw ids of items never to recommend.
    """

    exclude_seen: bool = True
    allow: Ids | None = None
    block: Ids = ()


class Recommender:
    """A trained run with its id maps and histories; it answers in raw ids.

    Every answer is a table: user, item, score, rank (from 1), source, and title where the run knows titles. The source
    tells what the score is made of: `user+sequence` (what the model has learnt of the user, and their recent items),
    `user` (that alone: there are no items, or the model does not look at any), `sequence` (recent items alone: of
    everybody, where the model has nothing of single users, as `best`; otherwise of whom training did not have) or
    `popularity` (nothing is known, and the score is the number of training interactions; or the model is the same for
    everybody). `hardgnn.recommend.best.meaning` says it of a model and a user.

    Args:
        folder: a run folder, which may have been moved from another machine.
        say: told in one sentence about unknown users and items, which are skipped; a Python warning by default.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None] = warn) -> None:
        keep_freed_memory()
        self.tables = load_tables(Path(folder))
        self.model: Model = informed(load_model(folder), self.tables.histories)
        self.say = say
        self._rows: NDArray[np.int32] | None = None  # the model's indices of `tables.user_ids`; None where they count

    @classmethod
    def of_users(cls, folder: str | Path, users: range | Ids, say: Callable[[str], None] = warn) -> Recommender:
        """A run that knows some of its users alone: the histories of the others are not read into memory.

        Args:
            folder: the run folder.
            users: the only ones that it is to know: raw ids, or a stretch of all users in the run's order.
            say: as above.

        Raises:
            HardGNNError: no run folder, or a damaged one.
        """
        keep_freed_memory()
        some = load_users(Path(folder), users if isinstance(users, range) else given.ids(users, "users"))
        found = cls.__new__(cls)
        found.model, found.tables, found.say = informed(load_model(folder), some.everybody), some.tables, say
        found._rows = some.rows
        return found

    @classmethod
    def of(cls, model: Model, tables: RunTables, say: Callable[[str], None] = warn) -> Recommender:
        """A model in memory with its ids and histories."""
        found = cls.__new__(cls)
        found.model, found.tables, found.say = informed(model, tables.histories), tables, say
        found._rows = None
        return found

    def for_users(
        self,
        users: Ids | None = None,
        n: int = 10,
        exclude_seen: bool = True,
        progress: Progress | None = None,
        *,
        items: Ids | None = None,
        events: pl.DataFrame | None = None,
        allow: Ids | None = None,
        block: Ids = (),
    ) -> pl.DataFrame:
        """The best `n` items of users (all that the run knows by default); see `blocks` for the arguments."""
        choice = Choice(exclude_seen, allow, block)
        return pl.concat(list(self.blocks(users, n, choice, items=items, events=events, progress=progress)))

    def for_items(
        self,
        items: Ids,
        n: int = 10,
        exclude_seen: bool = True,
        *,
        allow: Ids | None = None,
        block: Ids = (),
    ) -> pl.DataFrame:
        """The best `n` items after the recent `items` (oldest first) of somebody the model does not know.

        The score is the sequence term alone (specification, section 2, Score); where no item is known, or by a model
        without sequence encoder, it is popularity. The column user is empty.
        """
        return self.for_users(None, n, exclude_seen, items=items, allow=allow, block=block)

    def blocks(
        self,
        users: Ids | None = None,
        n: int = 10,
        choice: Choice | None = None,
        *,
        items: Ids | None = None,
        events: pl.DataFrame | None = None,
        progress: Progress | None = None,
    ) -> Iterator[pl.DataFrame]:
        """The best `n` items of users, a table for each block of users, so that any number of users can be asked for.

        Args:
            users: raw ids, each answered once; all that the run knows by default, or with `items` nobody in particular.
                One that the run does not know is answered by the events it has, or by popularity.
            n: items per user; there are fewer where the run has no more to recommend.
            choice: what may be recommended.
            items: raw ids of newer items of the one user in `users`, or of somebody without an id, oldest first.
            events: columns user and item, and perhaps a time by which they are sorted, oldest first without: what users
                had since the run was made. It moves their recommendations at once, since the score is one vector; items
                that the run does not know are skipped.
            progress: called with the users done and the users in all.

        Raises:
            HardGNNError: an argument that cannot be, or nothing that may be recommended.
        """
        enter()
        n = min(arguments.whole(n, "n"), len(self.tables.item_ids))
        choice = choice or Choice()
        exclude_seen = arguments.flag(choice.exclude_seen, "exclude_seen")
        if users is not None:
            raw = given.ids(users, "users").alias(USER).unique(maintain_order=True)
        else:
            raw = self.tables.user_ids if items is None else pl.Series(USER, [None], dtype=pl.String)
        arguments.together(len(raw), items, events)
        rows = places(raw, self.tables.user_ids)
        blocked = self._blocked(choice)
        if items is not None:
            newer = np.array(self.known_items(items, "items", ordered=True), dtype=np.int32)
            owners = np.zeros(len(newer), dtype=np.int64)
        else:
            owners, newer = self._events(raw, events, told=users is None)
        without = np.setdiff1d(np.flatnonzero((rows == UNKNOWN) & raw.is_not_null().to_numpy()), owners)
        self._tell("unknown user", raw.gather(without), self.tables.user_ids, "popular items instead")
        step = min(BLOCK_USERS, max(1, BLOCK_ROWS // n))
        for start in range(0, max(1, len(raw)), step):
            block = slice(start, min(start + step, len(raw)))
            index = rows[block]
            histories = self._histories(index)
            first, last = np.searchsorted(owners, [block.start, block.stop])
            if first < last:
                histories = histories.extended(owners[first:last] - start, newer[first:last])
            known = self._known(index)
            told = None if progress is None else shifted(progress, start, len(raw))
            yield self._table(raw[block], known, histories, n, exclude_seen, blocked, told)

    def similar(self, items: Ids, n: int = 10) -> pl.DataFrame:
        """The `n` items most like each of `items`: item, similar, similarity, rank (from 1), and title of the similar.

        The similarity is the cosine of two item vectors, or, of neighbours and linear models, what one item adds to the
        other's score. An item that training never saw is like nothing.

        Raises:
            HardGNNError: the model cannot tell, or `items` are no ids; unknown ones are told and skipped.
        """
        enter()
        n = arguments.whole(n, "n")
        rows = [
            (item, one, value, rank)
            for item in dict.fromkeys(self.known_items(items, "items"))
            for rank, (one, value) in enumerate(alike(self.model, self.tables.popularity, item, n), 1)
        ]
        kinds = {"item": pl.Int64, "similar": pl.Int64, "similarity": pl.Float32, "rank": pl.Int32}
        found = pl.DataFrame(rows, schema=kinds, orient="row")
        if self.tables.titles is not None:
            found = found.with_columns(self.tables.titles.gather(found["similar"]).alias("title"))
        return found.with_columns(self.tables.item_ids.gather(found[name]).alias(name) for name in ("item", "similar"))

    def history(self, users: Ids) -> pl.DataFrame:
        """What the run knows that users had, oldest first: user, item, time (UTC; where times are kept, which of some
        logs are an order alone), and title.

        Raises:
            HardGNNError: `users` are no ids; unknown ones are told and skipped.
        """
        raw = given.ids(users, "users").alias(USER).unique(maintain_order=True)
        rows = places(raw, self.tables.user_ids)
        self._tell("unknown user", raw.filter(rows == UNKNOWN), self.tables.user_ids, "skipped")
        found = self.tables.histories.take(rows[rows != UNKNOWN])
        owners = np.repeat(np.flatnonzero(rows != UNKNOWN), found.lengths)
        columns = {USER: raw.gather(owners), ITEM: self.tables.item_ids.gather(found.items)}
        if found.times is not None:
            columns["time"] = pl.Series(found.times * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
        if self.tables.titles is not None:
            columns["title"] = self.tables.titles.gather(found.items)
        return pl.DataFrame(columns)

    def after(self, user: Ids | None, items: Ids | None = None) -> tuple[bool, NDArray[np.int32]]:
        """Whether the run has one user (None is nobody), and the indices of what they had, newer `items` behind it."""
        row = np.array([UNKNOWN]) if user is None else places(given.ids(user, "user"), self.tables.user_ids)
        if len(row) != 1:
            raise HardGNNError(f"user: expected one user, got {len(row):,}")
        newer = [] if items is None else self.known_items(items, "items", ordered=True)
        return bool(row[0] != UNKNOWN), np.concatenate([self._histories(row).items, np.array(newer, np.int32)])

    def known_items(self, raw: Ids, name: str, ordered: bool = False) -> list[int]:
        """The indices of the items of the argument `name` that the run knows; the others are told and skipped."""
        ids = given.ids(raw, name, ordered)
        found = places(ids, self.tables.item_ids)
        self._tell(
            "unknown item", ids.filter(found == UNKNOWN).unique(maintain_order=True), self.tables.item_ids, "skipped"
        )
        return found[found != UNKNOWN].tolist()

    def _events(
        self, users: pl.Series, events: pl.DataFrame | None, told: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Positions among `users` and item indices of the events (E,), by user, each user's oldest first.

        Events of others are left out, and `told` where nobody was named.
        """
        if events is None:
            return np.empty(0, np.int64), np.empty(0, np.int32)
        theirs = given.events(events)
        owners = places(theirs[USER], users)
        if told:
            others = theirs[USER].filter(owners == UNKNOWN).unique(maintain_order=True)
            self._tell("events of unknown user", others, users, "left out; name whom you ask for")
        theirs, owners = theirs.filter(owners != UNKNOWN), owners[owners != UNKNOWN]
        items = places(theirs[ITEM], self.tables.item_ids)
        unknown = theirs[ITEM].filter(items == UNKNOWN)
        self._tell("unknown item", unknown.unique(maintain_order=True), self.tables.item_ids, "skipped")
        owners, items = owners[items != UNKNOWN], items[items != UNKNOWN]
        order = np.argsort(owners, kind="stable")
        return owners[order], items[order].astype(np.int32)

    def _histories(self, index: NDArray[np.int64]) -> Histories:
        """The histories of users (B,), empty for one that is unknown."""
        known = self.tables.histories.take(index[index != UNKNOWN])
        lengths = np.zeros(len(index), dtype=np.int64)
        lengths[index != UNKNOWN] = known.lengths
        return Histories(np.concatenate([[0], np.cumsum(lengths)]), known.items)

    def _known(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The model's indices of users (B,) of `tables`; without training there is no user vector."""
        found = np.full(len(index), UNKNOWN, dtype=np.int64)
        here = np.flatnonzero(index != UNKNOWN)
        here = here[self.tables.user_interactions[index[here]] > 0]
        found[here] = index[here] if self._rows is None else self._rows[index[here]]
        return found

    def _blocked(self, choice: Choice) -> NDArray[np.int64] | None:
        """The indices of the items that `choice` rules out; None if none are."""
        allowed = np.full(len(self.tables.item_ids), choice.allow is None)
        if choice.allow is not None:
            allowed[self.known_items(choice.allow, "allow")] = True
            if not allowed.any():
                raise HardGNNError("none of the items to allow is one that the run knows")
        allowed[self.known_items(choice.block, "block")] = False
        blocked = np.flatnonzero(~allowed)
        return blocked if len(blocked) else None

    def _table(
        self,
        users: pl.Series,
        index: NDArray[np.integer],
        histories: Histories,
        n: int,
        exclude_seen: bool,
        blocked: NDArray[np.integer] | None,
        progress: Progress | None,
    ) -> pl.DataFrame:
        best = best_items(
            self.model,
            self.tables.popularity,
            index,
            histories,
            n,
            exclude_seen=exclude_seen,
            blocked=blocked,
            progress=progress,
        )
        rows = np.repeat(np.arange(len(users)), n)
        flat = best.items.ravel()
        real = flat != NO_ITEM
        picked = flat[real]
        columns = {
            "user": users.gather(rows[real]),
            "item": self.tables.item_ids.gather(picked),
            "score": best.scores.ravel()[real],
            "rank": np.tile(np.arange(1, n + 1, dtype=np.int32), len(users))[real],
            "source": pl.Series(SOURCES, dtype=SOURCE).gather(best.sources[rows[real]]),
        }
        if self.tables.titles is not None:
            columns["title"] = self.tables.titles.gather(picked)
        return pl.DataFrame(columns)

    def _tell(self, what: str, raw: pl.Series, known: pl.Series, then: str) -> None:
        if len(raw) == 0:
            return
        listed = ", ".join(f"'{one}'" for one in raw.head(SHOWN))
        rest = f" and {len(raw) - SHOWN:,} more" if len(raw) > SHOWN else ""
        hint = nearest(raw[0], known) if len(known) <= HINTED else ""
        self.say(f"{what}{'s' * (len(raw) > 1)} {listed}{rest}, {then}{'; ' + hint if hint.startswith('did') else ''}")
