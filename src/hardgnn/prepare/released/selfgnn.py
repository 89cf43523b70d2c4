"""SelfGNN's released pickles, `sequence`, `test_dict`, `trn_mat_time` and `tst_int`, as a prepared data set.

What the released loader (DataHandler.py, model.py) makes of them, users and items counted from 0:

- `sequence`: per user a list of items, oldest first; the last one is held out for validation.
- `tst_int`: per user the test item, or None.
- `trn_mat_time`: the training matrix (U x I), a list of T matrices, one per interval, whose values are times in
  seconds, and a matrix of interval numbers, which the loader never uses.
- `test_dict`: user to negatives, both counted from 1; the first 999 are ranked with the target.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.dataset import TEST, TRAIN, VALID, Candidates, Dataset
from hardgnn.data.intervals import cut
from hardgnn.data.provenance import Provenance, Step, versions
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.prepare.released.pickled_values import check_range, entries, ragged, sparse_entries, whole_numbers
from hardgnn.prepare.released.pickles import Refused, load_pickle
from hardgnn.storage.records import sha256

FILES = ("sequence", "test_dict", "trn_mat_time", "tst_int")
NEGATIVES = 999  # the released code ranks the target among 1,000
MOST_INTERVALS = 1000
UNEQUAL = "the released intervals are not of equal width in time: the number of the interval stands for each time"


@dataclass(frozen=True)
class Released:
    """The four files, decoded.

    Shapes: `offsets` (U + 1,) and `items` (S,): user u's sequence is `items[offsets[u]:offsets[u + 1]]`; `test` (U,)
    with -1 for none; `edge_user`, `edge_item`, `edge_time`, `edge_interval` (E,); `negative_users` (V,) and
    `negatives` (V, C), -1 where there are fewer. All numbers from 0.
    """

    n_items: int
    intervals: int
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    test: NDArray[np.int64]
    edge_user: NDArray[np.int64]
    edge_item: NDArray[np.int64]
    edge_time: NDArray[np.float64]
    edge_interval: NDArray[np.int64]
    negative_users: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.test)


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


def decode(folder: Path) -> Released:
    """Reads the four files and checks them against each other.

    Raises:
        HardGNNError: a file cannot be read as a pickle of numbers.
        Refused: it holds something else than it should, or does not fit the others.
    """
    size = sum((folder / name).stat().st_size for name in FILES)
    matrices = entries(load_pickle(folder / "trn_mat_time"), "trn_mat_time")
    if len(matrices) < 2:
        raise Refused("trn_mat_time: expected the training matrix and a list of matrices, one per interval")
    (n_users, n_items), *_ = sparse_entries(matrices[0], "trn_mat_time: the training matrix")
    if max(n_users, n_items) > size:
        raise Refused(f"trn_mat_time: {n_users} users and {n_items} items are more than {size} bytes can hold")
    parts = entries(matrices[1], "trn_mat_time: the intervals")
    if len(parts) > MOST_INTERVALS:
        raise Refused(f"trn_mat_time: {len(parts)} intervals are more than {MOST_INTERVALS}")
    edges = []
    room = size
    for number, part in enumerate(parts):
        what = f"trn_mat_time: interval {number}"
        shape, user, item, time = sparse_entries(part, what)
        room -= len(user) + (0 if part.form == "coo" else n_users)
        if room < 0:  # one matrix, named again and again
            raise Refused(f"trn_mat_time: the intervals have more edges than {size} bytes can hold")
        if shape != (n_users, n_items):
            raise Refused(f"{what} has shape {shape}, the training matrix {(n_users, n_items)}")
        if len(time) and not np.isfinite(time).all():
            raise Refused(f"{what}: a time is not finite")
        edges.append((user, item, time.astype(np.float64), np.full(len(user), number)))
    if not sum(len(user) for user, *_ in edges):
        raise Refused("trn_mat_time: the intervals are without a single edge")
    edge_user, edge_item, edge_time, edge_interval = (np.concatenate(column) for column in zip(*edges))

    lists = entries(load_pickle(folder / "sequence"), "sequence")
    if len(lists) != n_users:
        raise Refused(f"sequence has {len(lists)} users, trn_mat_time {n_users}")
    offsets, items = ragged(lists, "sequence: user", size)
    check_range(items, n_items, "sequence: item", "trn_mat_time")

    targets = load_pickle(folder / "tst_int")
    listed = [-1 if one is None else one for one in entries(targets, "tst_int")]
    if len(listed) != n_users:
        raise Refused(f"tst_int has {len(listed)} users, trn_mat_time {n_users}")
    test = whole_numbers(listed, "tst_int")
    check_range(test[test != -1], n_items, "tst_int: item", "trn_mat_time")

    drawn = load_pickle(folder / "test_dict")
    if type(drawn) is not dict:
        raise Refused(f"test_dict: a {type(drawn).__name__}, expected a dictionary of user to negatives")
    users = whole_numbers(drawn, "test_dict: user") - 1
    check_range(users, n_users, "test_dict: user", "trn_mat_time", first=1)
    starts, flat = ragged(list(drawn.values()), "test_dict: entry", size)
    flat = flat - 1
    check_range(flat, n_items, "test_dict: item", "trn_mat_time", first=1)
    lengths = np.minimum(np.diff(starts), NEGATIVES)
    place = np.arange(int(lengths.max(initial=0)))
    if len(lengths) * len(place) > size:  # one long list would widen all
        raise Refused("test_dict: the numbers of negatives differ too much")
    inside = place < lengths[:, None]
    negatives = np.full(inside.shape, -1, dtype=np.int64)
    negatives[inside] = flat[(starts[:-1, None] + place)[inside]]
    order = np.argsort(users)
    return Released(
        n_items,
        len(parts),
        offsets,
        items,
        test,
        edge_user,
        edge_item,
        edge_time,
        edge_interval,
        users[order],
        negatives[order],
    )


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
