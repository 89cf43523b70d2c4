"""SelfGNN's released pickles, `sequence`, `test_dict`, `trn_mat_time` and `tst_int`, decoded and checked.

What the released loader (DataHandler.py, model.py) makes of them, users and items counted from 0:

- `sequence`: per user a list of items, oldest first; the last one is held out for validation.
- `tst_int`: per user the test item, or None.
- `trn_mat_time`: the training matrix (U x I), a list of T matrices, one per interval, whose values are times in
  seconds, and a matrix of interval numbers, which the loader never uses.
- `test_dict`: user to negatives, both counted from 1; the first 999 are ranked with the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.prepare.released.pickled_values import check_range, entries, ragged, sparse_entries, whole_numbers
from hardgnn.prepare.released.pickles import Refused, load_pickle

FILES = ("sequence", "test_dict", "trn_mat_time", "tst_int")
NEGATIVES = 999  # the released code ranks the target among 1,000
MOST_INTERVALS = 1000


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


def decode(folder: Path) -> Released:
    """Reads the four files and checks them against each other.

    Raises:
        HardGNNError: a file cannot be read as a pickle of numbers.
        Refused: it holds something else than it should, or does not fit the others.
    """
    size = sum((folder / name).stat().st_size for name in FILES)
    shape, intervals, edges = decode_graphs(load_pickle(folder / "trn_mat_time"), size)
    n_users, n_items = shape
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
    return Released(
        n_items,
        intervals,
        offsets,
        items,
        test,
        *edges,
        *decode_negatives(load_pickle(folder / "test_dict"), shape, size),
    )


Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def decode_graphs(pickled: Any, size: int) -> tuple[tuple[int, int], int, Edges]:
    """The shape (U, I) of `trn_mat_time`, how many intervals T it has, and user, item, time and interval of edges (E,).

    Args:
        pickled: what the file holds.
        size: bytes of all four files, which bound what can be in them.

    Raises:
        Refused: it holds something else than it should.
    """
    matrices = entries(pickled, "trn_mat_time")
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
    user, item, time, interval = (np.concatenate(column) for column in zip(*edges))
    return (n_users, n_items), len(parts), (user, item, time, interval)


def decode_negatives(pickled: Any, shape: tuple[int, int], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The users (V,) of `test_dict` in their order, and their negatives (V, C), -1 where there are fewer.

    Args:
        pickled: what the file holds.
        shape: numbers of users and items (U, I).
        size: bytes of all four files.

    Raises:
        Refused: it holds something else than it should.
    """
    if type(pickled) is not dict:
        raise Refused(f"test_dict: a {type(pickled).__name__}, expected a dictionary of user to negatives")
    users = whole_numbers(pickled, "test_dict: user") - 1
    check_range(users, shape[0], "test_dict: user", "trn_mat_time", first=1)
    starts, flat = ragged(list(pickled.values()), "test_dict: entry", size)
    flat = flat - 1
    check_range(flat, shape[1], "test_dict: item", "trn_mat_time", first=1)
    lengths = np.minimum(np.diff(starts), NEGATIVES)
    place = np.arange(int(lengths.max(initial=0)))
    if len(lengths) * len(place) > size:  # one long list would widen all
        raise Refused("test_dict: the numbers of negatives differ too much")
    inside = place < lengths[:, None]
    negatives = np.full(inside.shape, -1, dtype=np.int64)
    negatives[inside] = flat[(starts[:-1, None] + place)[inside]]
    order = np.argsort(users)
    return users[order], negatives[order]
