"""Answers out of one packed run: recommendations, what is near an item, why, and searching for users and items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.histories import Histories
from hardgnn.data.provenance import Provenance
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import informed
from hardgnn.evaluation.topn import NO_ITEM
from hardgnn.recommend.best import POPULARITY, SEQUENCE_ALONE, SOURCES, UNKNOWN, best_items, meaning, sources
from hardgnn.recommend.export import INDEX, open_index
from hardgnn.recommend.why import alike, attention, example_users, reasons, window_of
from hardgnn.runs.folder import check_version
from hardgnn.runs.models import load_model
from hardgnn.serve.pack import DESCRIPTION
from hardgnn.serve.strings import Strings, mapped
from hardgnn.storage.records import check_file, read_json


@dataclass(frozen=True)
class Ask:
    """One request for recommendations, in raw ids; `items` are newer than what the run knows, oldest first."""

    user: str | None = None
    items: Sequence[str] = ()
    n: int = 10
    exclude_seen: bool = True
    allow: Sequence[str] | None = None
    block: Sequence[str] = ()
    explain: bool = False


class Engine:
    """A packed run, opened.

    Args:
        folder: what `hardgnn.serve.pack.pack` wrote.

    Raises:
        HardGNNError: a file of it is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        def load(name: str) -> Any:
            path = folder / f"{name}.npy"
            return mapped(path) if path.exists() else None

        description = read_json(folder / DESCRIPTION)
        for name, record in description["files"].items():
            check_file(folder / name, record, "pack the run again")
        self.model: Any = load_model(folder)
        self.version: str = description["version"]
        self.model.name = description["run"]
        self.users, self.items = Strings(folder, "users"), Strings(folder, "items")
        self.titles = Strings(folder, "titles") if (folder / "titles.text").exists() else None
        self.times, self.intervals = load("times"), load("intervals")
        manifest = check_version(folder)["data"]["manifest"]
        self.dated = self.times is not None and Provenance.of(manifest).dated
        self.histories = Histories(load("offsets"), load("history"), self.times)
        self.model = informed(self.model, self.histories)
        self.intervals_of_time: int = getattr(getattr(self.model, "scoring", None), "intervals", None) or 1
        self.trained, self.popularity = load("trained"), load("popularity")
        self.index: Any = None
        if (folder / INDEX).exists():
            self.index = open_index(folder)

    def answer(self, asks: Sequence[Ask]) -> list[dict[str, Any]]:
        """One answer for each request; those with the same filters are scored together.

        Raises:
            HardGNNError: none of a request's items to allow is known.
        """
        found: list[dict[str, Any]] = [{} for _ in asks]
        alike: dict[tuple[Any, ...], list[int]] = {}
        for place, ask in enumerate(asks):
            filtered = ask.allow is not None or ask.block
            alike.setdefault((ask.exclude_seen, place if filtered else None), []).append(place)
        for places in alike.values():
            for place, one in zip(places, self._answer([asks[place] for place in places]), strict=True):
                found[place] = one
        return found

    def _answer(self, asks: list[Ask]) -> list[dict[str, Any]]:
        rows = np.array([UNKNOWN if ask.user is None else self.users.find(ask.user) for ask in asks])
        newer = [[self.items.find(item) for item in ask.items] for ask in asks]
        histories = Histories.from_lists(
            [
                np.concatenate([self._history(row), np.array([item for item in items if item >= 0], np.int32)])
                for row, items in zip(rows, newer, strict=True)
            ]
        )
        users = np.array([row if row >= 0 and self.trained[row] else UNKNOWN for row in rows])
        n = min(max(ask.n for ask in asks), len(self.items))
        items, scores, which, approximate = self._best(asks[0], users, histories, n)
        answers = []
        for place, ask in enumerate(asks):
            best = [(int(item), float(score)) for item, score in zip(items[place], scores[place]) if item != NO_ITEM]
            history = histories.of(place)
            why = self._reasons(history, [item for item, _ in best[: ask.n]]) if ask.explain else None
            answers.append(
                {
                    "user": ask.user,
                    "known_user": bool(rows[place] >= 0),
                    "source": SOURCES[which[place]],
                    "meaning": meaning(SOURCES[which[place]], self.model.abilities, bool(rows[place] >= 0)),
                    "approximate": approximate,
                    "items": [
                        {
                            **self.named(item),
                            "score": score,
                            "rank": rank,
                            "because": None if why is None else why[rank - 1],
                        }
                        for rank, (item, score) in enumerate(best[: ask.n], 1)
                    ],
                    "attention": self._attention(history) if ask.explain else None,
                    "skipped_items": [raw for raw, item in zip(ask.items, newer[place]) if item < 0],
                }
            )
        return answers

    def _best(
        self, ask: Ask, users: NDArray[np.int64], histories: Histories, n: int
    ) -> tuple[NDArray[np.integer], NDArray[np.floating], NDArray[np.uint8], bool]:
        blocked = self._blocked(ask)
        which = sources(self.model, users, histories)
        if self.index is not None and blocked is None and not (which == POPULARITY).any():
            items, scores = self._search(users, histories, which, n, ask.exclude_seen)
            return items, scores, which, True
        best = best_items(
            self.model, self.popularity, users, histories, n, exclude_seen=ask.exclude_seen, blocked=blocked
        )
        return best.items, best.scores, best.sources, False

    def _search(
        self, users: NDArray[np.int64], histories: Histories, which: NDArray[np.uint8], n: int, exclude_seen: bool
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """The index's best items; it is asked for as many more as are left out."""
        items = np.full((len(users), n), NO_ITEM, dtype=np.int64)
        scores = np.full((len(users), n), -np.inf, dtype=np.float32)
        for alone in (True, False):
            rows = np.flatnonzero((which == SEQUENCE_ALONE) == alone)
            if len(rows) == 0:
                continue
            known = histories.take(rows)
            queries = self.model.queries(None if alone else users[rows], known).numpy()
            more = int(known.lengths.max(initial=0)) if exclude_seen else 0
            more += max(0, len(self.index) - int(np.count_nonzero(self.popularity)))  # an index of an earlier version
            matches = self.index.search(queries, min(n + more, len(self.items)))
            keys, distances = np.atleast_2d(matches.keys), np.atleast_2d(matches.distances)
            for place, row in enumerate(rows):
                kept = self.popularity[keys[place]] > 0
                if exclude_seen:
                    kept &= ~np.isin(keys[place], known.of(place))
                best, far = keys[place][kept][:n], distances[place][kept][:n]
                items[row, : len(best)], scores[row, : len(best)] = best, 1 - far  # usearch's distance is 1 - product
        return items, scores

    def _history(self, row: int) -> NDArray[np.int32]:
        return self.histories.of(row) if row >= 0 else np.empty(0, np.int32)

    def _blocked(self, ask: Ask) -> NDArray[np.int64] | None:
        if ask.allow is None and not ask.block:
            return None
        allowed = np.full(len(self.items), ask.allow is None)
        if ask.allow is not None:
            known = [item for item in map(self.items.find, ask.allow) if item >= 0]
            if not known:
                raise HardGNNError("none of the items to allow is one that the run knows")
            allowed[known] = True
        allowed[[item for item in map(self.items.find, ask.block) if item >= 0]] = False
        return np.flatnonzero(~allowed)

    def similar(self, item: int, n: int) -> list[dict[str, Any]]:
        """The `n` items with the highest cosine to an item, itself left out; of one that training never saw none.

        Nor is such an item near to anything: its vector is random.
        """
        return [{**self.named(one), "similarity": value} for one, value in alike(self.model, self.popularity, item, n)]

    def history(self, row: int, most: int) -> list[dict[str, Any]]:
        """The last items of a user, oldest first, each with its time and the number of its interval."""
        first, last = int(self.histories.offsets[row]), int(self.histories.offsets[row + 1])
        return [
            {
                **self.named(int(self.histories.items[place])),
                "time": float(self.times[place]) if self.dated else None,
                "interval": None if self.intervals is None else int(self.intervals[place]) + 1,
            }
            for place in range(max(first, last - most), last)
        ]

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """A few users whom training knows, evenly spread from the least to the most active."""
        lengths = np.diff(self.histories.offsets)
        rows = example_users(np.where(self.trained, lengths, 0)).tolist()
        return [{"user": self.users[row], "interactions": int(lengths[row])} for row in rows]

    def search_users(self, text: str, n: int) -> list[str]:
        """Ids of users that start with `text`, then such as contain it."""
        both = itertools.chain(self.users.starting(text), self.users.containing(text))
        return [self.users[row] for row in _first(both, n)]

    def search_items(self, text: str, n: int) -> list[dict[str, Any]]:
        """Items whose id is `text`, whose title contains it, or whose id starts with it."""
        exact = self.items.find(text)
        titled = self.titles.containing(text) if self.titles is not None else iter(())
        every = itertools.chain([exact] if exact >= 0 else [], titled, self.items.starting(text))
        return [self.named(item) for item in _first(every, n)]

    def named(self, item: int) -> dict[str, Any]:
        """An item's id, and its title where the run knows titles."""
        return {"item": self.items[item], "title": None if self.titles is None else self.titles[item] or None}

    def _reasons(self, history: NDArray[np.int32], best: list[int]) -> list[list[dict[str, Any]]]:
        """For each recommended item the items of the window that speak for it most."""
        found = reasons(self.model, self.popularity, history, np.array(best, dtype=np.int64))
        return [[{**self.named(item), "similarity": value} for item, value in one] for one in found]

    def _attention(self, history: NDArray[np.int32]) -> list[dict[str, Any]] | None:
        """The last layer's weight of each item of the window, oldest first; None where there is no such thing."""
        weights = attention(self.model, history)
        if weights is None:
            return None
        window = window_of(self.model, history)
        return [{**self.named(int(item)), "weight": weight} for item, weight in zip(window, weights)]


def _first(numbers: Any, n: int) -> list[int]:
    """The first `n` distinct numbers."""
    return list(itertools.islice(dict.fromkeys(itertools.islice(numbers, 4 * n)), n))
