"""SelfGNN's released pickles as a prepared data set, with the released split, candidates and intervals."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.dataset import TEST, TRAIN, VALID, Candidates, Dataset
from hardgnn.data.intervals import cut
from hardgnn.data.provenance import Provenance, Step, versions
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.prepare.released.decode import FILES, NEGATIVES, Released, decode
from hardgnn.prepare.released.pickles import Refused
from hardgnn.storage.records import sha256

UNEQUAL = "the released intervals are not of equal width in time: the number of the interval stands for each time"


def is_released(path: Path) -> bool:
    """Whether `path` is a folder with the four files."""
    return path.is_dir() and all((path / name).is_file() for name in FILES)


def read_selfgnn(folder: str | Path, allow_leaks: bool = False) -> Dataset:
    """The released pickles as a prepared data set with the released split, candidates and intervals.

    Test is `tst_int`, validation the last of a user's sequence, training the rest. Where a user's test item stands in
    the sequence too, it is taken out there, unless `allow_leaks` asks for the sequence as it is. An item of the
    sequence has the time of its edge; those without one, validation and test among them, follow at the time of the
    item before. The raw ids are the released numbers, from 0. `provenance.released` holds what was found.

    Raises:
        HardGNNError: a file is missing, holds anything but numbers, or does not fit the others.
    """
    folder = Path(folder)
    where = shown(folder)
    with reading(where):
        if not folder.is_dir():
            raise HardGNNError(f"{where}: no such folder; selfgnn expects one with {', '.join(FILES)}")
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise HardGNNError(f"{where}: no file {missing[0]}; selfgnn expects {', '.join(FILES)}")
        try:
            released = decode(folder)
        except Refused as error:
            raise HardGNNError(f"{where}: {error}") from None
        return to_dataset(folder, released, allow_leaks)


def to_dataset(folder: Path, released: Released, allow_leaks: bool) -> Dataset:
    """Puts the released split together and says in the manifest what was found.

    Raises:
        HardGNNError: no user has a validation or test item and a history before it.
    """
    n_users, n_items = released.n_users, released.n_items
    lengths = np.diff(released.offsets)
    user = np.repeat(np.arange(n_users), lengths)
    own_test = released.items == released.test[user]
    last = np.zeros(len(user), dtype=bool)
    last[released.offsets[1:][lengths > 0] - 1] = True
    found = {
        "users": n_users,
        "items": n_items,
        "intervals": released.intervals,
        "sequence_items": len(user),
        "users_without_items": int((lengths == 0).sum()),
        "graph_edges": len(released.edge_user),
        "test_users": int((released.test >= 0).sum()),
        "test_items_in_sequence_users": len(np.unique(user[own_test])),
        "test_items_in_sequence": int(own_test.sum()),
        "test_items_last_in_sequence": int((own_test & last).sum()),
        "test_items_in_graphs": int((released.edge_item == released.test[released.edge_user]).sum()),
    }
    steps = [Step("sequence and tst_int", found["sequence_items"] + found["test_users"], n_users, n_items)]
    items = released.items
    if not allow_leaks and own_test.any():
        user, items = user[~own_test], items[~own_test]
        steps.append(Step("test item out of the sequence", len(user) + found["test_users"], n_users, n_items))

    lengths = np.bincount(user, minlength=n_users)
    ends = np.cumsum(lengths)
    held_out = np.zeros(len(user), dtype=bool)
    held_out[ends[lengths >= 2] - 1] = True
    edge_time, span = timed_edges(released)
    time = sequence_times(released, edge_time, user, items, held_out)
    judged = np.flatnonzero(released.test >= 0)
    # the test item goes behind its user's sequence, at the time of the item before it
    before = ends[judged]
    known = time[np.maximum(before - 1, 0)] if len(time) else np.zeros(len(judged))
    dataset = Dataset(
        user=np.insert(user, before, judged).astype(np.int32),
        item=np.insert(items, before, released.test[judged]).astype(np.int32),
        timestamp=np.insert(time, before, np.where(lengths[judged] > 0, known, edge_time.max())),
        part=np.insert(np.where(held_out, VALID, TRAIN), before, TEST).astype(np.uint8),
        user_ids=pl.Series("raw_id", np.arange(n_users)).cast(pl.String),
        item_ids=pl.Series("raw_id", np.arange(n_items)).cast(pl.String),
        item_titles=None,
        candidates=candidates(released),
        manifest={},
    )
    found |= compare_graphs(released, dataset, edge_time, span)
    found |= compare_candidates(released, dataset)
    warnings = [UNEQUAL] if span == (0.0, float(released.intervals)) else []
    leaks = []
    if count := found["test_items_in_sequence_users"]:
        where = f"the test item of {count:,} of {found['test_users']:,} users stands in their training sequence"
        if allow_leaks:
            leaks.append(where)
        warnings.append(f"{where}, and was {'left there' if allow_leaks else 'taken out'}")
    provenance = Provenance(
        name=folder.resolve().name,
        source_sha256=hashlib.sha256("".join(sha256(folder / name) for name in FILES).encode()).hexdigest(),
        settings={"format": "selfgnn", "allow_leaks": allow_leaks},
        time_span_s=span,
        steps=tuple(steps),
        released=found,
        leaks=tuple(leaks),
        warnings=tuple(warnings),
        counts=dataset.counts,
        versions=versions(),
    )
    if lacking := dataset.lacking:
        raise HardGNNError(f"{folder}: no user has a {lacking} item and a history before it")
    return replace(dataset, manifest=provenance.manifest())


def candidates(released: Released) -> Candidates:
    """The released negatives of the users with a test item, as they are: repeats stay, in their order."""
    judged = released.test[released.negative_users] >= 0
    return Candidates(released.negative_users[judged].astype(np.int32), released.negatives[judged].astype(np.int32))


def timed_edges(released: Released) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The time of each edge (E,), and the span whose T equal widths are exactly the released intervals.

    Where no span is, the middle of the interval's number stands for the time, and the span is (0, T).
    """
    from scipy.optimize import linprog  # slow to import, and needed nowhere else

    present = np.unique(released.edge_interval)
    low = np.array([released.edge_time[released.edge_interval == one].min() for one in present])
    high = np.array([released.edge_time[released.edge_interval == one].max() for one in present])
    start, width = low.min(), max(high.max() - low.min(), 1.0)
    low, high = (low - start) / width, (high - start) / width
    # b + k w + m <= low_k and high_k + m <= b + (k + 1) w, as far from every time as it can be: the largest m
    one = np.ones(len(present))
    conditions = np.concatenate([np.stack([one, present, one], axis=1), np.stack([-one, -(present + 1), one], axis=1)])
    solved = linprog([0, 0, -1], conditions, np.concatenate([low, -high]), bounds=[(-2, 2), (0, 2), (0, 1)])
    if solved.success:
        begin, each, _ = solved.x
        span = (float(start + begin * width), float(start + (begin + released.intervals * each) * width))
        if (
            span[0] < span[1]
            and (cut(released.edge_time, released.intervals, span=span) == released.edge_interval).all()
        ):
            return released.edge_time, span
    return released.edge_interval.astype(np.float64) + 0.5, (0.0, float(released.intervals))


def sequence_times(
    released: Released,
    edge_time: NDArray[np.float64],
    user: NDArray[np.int64],
    items: NDArray[np.int64],
    held_out: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The time of each item of the sequences (S,).

    The n-th time an item stands in a sequence it takes the n-th time of its edges, or the last one if there are fewer,
    so no item comes into an interval whose graph it is not in. Items without an edge and those held out take the time
    of the item before, at the begin of a sequence that of the item behind, and without either the earliest of all.
    """
    edge_key = released.edge_user * released.n_items + released.edge_item
    order = np.lexsort((edge_time, edge_key))
    edge_key, edge_time = edge_key[order], edge_time[order]
    key = user * released.n_items + items
    first = np.searchsorted(edge_key, key)
    count = np.searchsorted(edge_key, key, side="right") - first
    by_key = np.argsort(key, kind="stable")
    grouped = key[by_key]
    nth = np.empty(len(key), dtype=np.int64)
    nth[by_key] = np.arange(len(key)) - np.searchsorted(grouped, grouped)
    known = (count > 0) & ~held_out
    place = np.where(known, first + np.minimum(nth, count - 1), 0)
    time = pl.DataFrame({"user": user, "time": np.where(known, edge_time[place], np.nan)}).select(
        pl.col("time").fill_nan(None).forward_fill().backward_fill().over("user").fill_null(edge_time.min())
    )
    return time["time"].to_numpy()


def compare_graphs(
    released: Released, dataset: Dataset, edge_time: NDArray[np.float64], span: tuple[float, float]
) -> dict[str, int]:
    """How the graphs that the data set gives differ from the released ones, and in what way times are out of order."""
    train = dataset.part == TRAIN
    user, item, time = (column[train] for column in (dataset.user, dataset.item, dataset.timestamp))
    pairs = released.n_users * released.n_items
    pair = user.astype(np.int64) * released.n_items + item
    ours = np.unique(cut(time, released.intervals, span=span).astype(np.int64) * pairs + pair)
    edge_pair = released.edge_user * released.n_items + released.edge_item
    theirs = np.unique(released.edge_interval * pairs + edge_pair)
    shared = len(np.intersect1d(ours, theirs, assume_unique=True))
    same_user = dataset.user[1:] == dataset.user[:-1]
    return {
        "training_items_without_edge": int((~np.isin(pair, edge_pair)).sum()),
        "edges_only_in_released_graphs": len(theirs) - shared,
        "edges_only_in_our_graphs": len(ours) - shared,
        "steps_back_in_time": int((same_user & (np.diff(dataset.timestamp) < 0)).sum()),
    }


def compare_candidates(released: Released, dataset: Dataset) -> dict[str, int]:
    """How the released negatives differ from 999 different items that their user never met."""
    users, items = dataset.candidates.users, dataset.candidates.items
    present = items >= 0
    ordered = np.sort(items, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    met = dataset.everything.keys(released.n_items)
    key = (users[:, None].astype(np.int64) * released.n_items + items)[present]
    at = np.searchsorted(met, key)
    return {
        "test_users_without_negatives": int((released.test >= 0).sum()) - len(users),
        "negatives": int(present.sum()),
        "fewest_negatives": int(present.sum(axis=1).min(initial=NEGATIVES)) if len(users) else 0,
        "negatives_drawn_twice": int(twice.sum()),
        "negatives_the_user_met": int((met[np.minimum(at, len(met) - 1)] == key).sum()),
    }
