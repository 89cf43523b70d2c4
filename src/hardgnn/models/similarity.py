"""How items go together in training: cosine over users, and who follows whom, as sparse I × I matrices."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError
from hardgnn.ops.sparse import index_type
from hardgnn.storage.columns import counted

FORWARD_STEPS = 5
LONGEST = 3000  # items of one user that count together: their pairs are the square of it
BLOCK_PAIRS = 2**22  # pairs of items counted at once, so that memory is bounded
Columns = Callable[[int, int], sparse.csr_array]


def decayed_history(histories: Histories, decay: float, last: int | None, n_items: int) -> sparse.csr_array:
    """Each history as weights of its `last` items (None = all), `decay` to the power of their age: (B, I) float32."""
    lengths = histories.lengths
    age = np.repeat(histories.offsets[1:], lengths) - 1 - np.arange(len(histories.items))
    kept = slice(None) if last is None else age < last
    rows = np.repeat(np.arange(len(lengths)), lengths)[kept]
    weights = (decay ** age[kept]).astype(np.float32)
    return sparse.csr_array((weights, (rows, histories.items[kept])), shape=(len(lengths), n_items))


def cosine_similarity(dataset: Dataset, neighbours: int | None) -> sparse.csr_array:
    """`S[i, j] = |U_i ∩ U_j| / sqrt(|U_i| |U_j|)` over training users, zero on the diagonal: (I, I) float32.

    Of a user with more than `LONGEST` different items only the most recent count; a warning tells how many there are.

    Args:
        dataset: the prepared data set.
        neighbours: each item j to be scored keeps its so many most similar items i, its column; None = all.

    Raises:
        HardGNNError: `neighbours` is below 1.

    Source: Sarwar et al., Item-based collaborative filtering recommendation algorithms, 2001.
    """
    columns, pairs = cosines(dataset, neighbours, slice(0, dataset.n_items))
    found = [columns(start, stop) for start, stop in blocks_of(pairs)]
    del columns
    return _turned(found, dataset.n_items)


def cosines(dataset: Dataset, neighbours: int | None, mine: slice) -> tuple[Columns, NDArray[np.int64]]:
    """What gives columns `start` to `stop` - 1 among those `mine` (m of them) of `cosine_similarity`, each as a row.

    And how many pairs each counts (m,). Whoever counts more columns has the same numbers in them.
    """
    if neighbours is not None and neighbours < 1:
        raise HardGNNError(f"the number of neighbours must be at least 1, got {neighbours}")
    unit = recent_matrix(dataset)  # (U, I)
    every = unit if dataset.train.lengths.max(initial=0) <= LONGEST else training_matrix(dataset)
    norms = np.sqrt(np.maximum(counted(every.indices, dataset.n_items), 1).astype(np.float32))  # (I,)
    del every
    unit.data = (1 / norms)[unit.indices]
    transposed = unit[:, mine].T.tocsr()  # (m, U)
    ends = np.concatenate([[0], np.cumsum(np.diff(unit.indptr).astype(np.int64)[transposed.indices])])
    pairs = np.minimum(np.diff(ends[transposed.indptr]), dataset.n_items)
    del ends

    def columns(start: int, stop: int) -> sparse.csr_array:  # before the cut S is symmetric, so its rows are they
        block = (transposed[start:stop] @ unit).tocoo()
        off = block.row + (mine.start + start) != block.col
        values = sparse.csr_array((block.data[off], (block.row[off], block.col[off])), shape=block.shape)
        return values if neighbours is None else _largest_per_row(values, neighbours)

    return columns, pairs


def forward_similarity(dataset: Dataset, steps: int = FORWARD_STEPS, backward: float = 0.0) -> sparse.csr_array:
    """How often j came at most `steps` after i in a training sequence, weighted 1 / distance: (I, I) float32.

    Divided by `sqrt(n_i n_j)`, the items' training counts, so that it has the scale of the cosine. j as far before i
    counts `backward` times as much.
    """
    columns = followers(dataset, steps, backward, slice(0, dataset.n_items))
    pairs = 2 * steps * dataset.train.item_counts(dataset.n_items)
    return sparse.vstack([columns(start, stop) for start, stop in blocks_of(pairs)], format="csr").T.tocsr()


def followers(dataset: Dataset, steps: int, backward: float, mine: slice) -> Columns:
    """What gives columns `start` to `stop` - 1 among those `mine` of `forward_similarity`, each as a row."""
    items, n_items, counts = dataset.train.items, dataset.n_items, dataset.train.item_counts(dataset.n_items)
    kind = index_type(len(items))
    owners = np.repeat(np.arange(len(dataset.train.lengths), dtype=np.int32), dataset.train.lengths)
    own = np.flatnonzero((items >= mine.start) & (items < mine.stop)).astype(kind, copy=False)
    order = own[np.argsort(items[own], kind="stable")]  # where each item occurs, one item after the other
    ends = np.concatenate([[0], np.cumsum(counts[mine])])
    scale = (1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)

    def columns(start: int, stop: int) -> sparse.csr_array:
        places = order[ends[start] : ends[stop]]
        first, shape = mine.start + start, (stop - start, n_items)
        total = [sparse.csr_array(shape, dtype=np.float32) for _ in range(2)]  # what comes before, and after
        for distance in range(1, steps + 1):
            for way, sign in enumerate((-1, 1) if backward > 0 else (-1,)):
                others = np.asarray(places + sign * distance)
                inside = (others >= 0) & (others < len(items))
                here, there = places[inside], others[inside]
                same = owners[here] == owners[there]
                pairs = items[here[same]] - first, items[there[same]]
                weights = np.full(len(pairs[0]), 1 / distance, dtype=np.float32)
                total[way] = total[way] + sparse.csr_array((weights, pairs), shape=shape)
        found = total[0] + np.float32(backward) * total[1] if backward > 0 else total[0]
        entries = found.tocoo()
        off = (entries.row + first != entries.col) & (entries.data != 0)
        column, row = entries.row[off], entries.col[off]
        values = scale[row] * entries.data[off] * scale[column + first]
        found = sparse.csr_array((values, (column, row)), shape=shape)
        found.sort_indices()
        return found

    return columns


def training_matrix(dataset: Dataset) -> sparse.csr_array:
    """Who interacted with what in training, (U, I) float32 of ones: 12 bytes a pair at most."""
    return _matrix(dataset, lambda block: block.keys(dataset.n_items))


def recent_matrix(dataset: Dataset) -> sparse.csr_array:
    """As `training_matrix`, but of each user the `LONGEST` different items that came last."""
    long = 0

    def latest(block: Histories) -> NDArray[np.int64]:
        nonlocal long
        if block.lengths.max(initial=0) <= LONGEST:
            return block.keys(dataset.n_items)
        owners = np.repeat(np.arange(len(block.lengths), dtype=np.int64), block.lengths)
        keys = (owners * dataset.n_items + block.items)[::-1]  # each user's latest first
        _, last = np.unique(keys, return_index=True)
        by_recency = keys[np.sort(last)]  # users descending, each one's latest first
        counts = np.bincount(by_recency // dataset.n_items, minlength=len(block.lengths))[::-1]
        place = np.arange(len(by_recency)) - np.repeat(np.cumsum(counts) - counts, counts)
        long += int((counts > LONGEST).sum())
        return np.sort(by_recency[place < LONGEST])

    found = _matrix(dataset, latest)
    if long > 0:
        warnings.warn(
            f"{dataset.name}: {long:,} users have more than {LONGEST:,} different items; only their most recent "
            f"{LONGEST:,} count in the similarity of items",
            stacklevel=2,
        )
    return found


def _matrix(dataset: Dataset, keys: Callable[[Histories], NDArray[np.int64]]) -> sparse.csr_array:
    """Ones (U, I) where the `keys` of blocks of users, `user * I + item`, ascending, are."""
    lengths, items = [np.zeros(1, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
    for block in dataset.train.blocks():
        user, item = np.divmod(keys(block), dataset.n_items)
        lengths.append(np.bincount(user, minlength=len(block.lengths)))
        items.append(item.astype(np.int32))
    ends = np.cumsum(np.concatenate(lengths))
    kind = index_type(max(int(ends[-1]), dataset.n_users, dataset.n_items))
    columns = np.concatenate(items).astype(kind, copy=False)
    del items
    shape = (dataset.n_users, dataset.n_items)
    return sparse.csr_array((np.ones(len(columns), dtype=np.float32), columns, ends.astype(kind)), shape=shape)


def blocks_of(pairs: NDArray[np.integer], most: int | None = None) -> Iterator[tuple[int, int]]:
    """Bounds of blocks of rows (R,) with `most` of their `pairs` (`BLOCK_PAIRS`) in each, or of one row with more."""
    ends, start = np.cumsum(pairs), 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + (most or BLOCK_PAIRS), side="right")))
        yield start, stop
        start = stop


def _turned(blocks: list[sparse.csr_array], n_items: int) -> sparse.csr_array:
    """The transpose (I, I) of blocks of rows below each other, which are used up: twice its memory at most."""
    counts = np.zeros(n_items, dtype=np.int64)
    for block in blocks:
        counts += np.bincount(block.indices, minlength=n_items)
    ends = np.concatenate([[0], np.cumsum(counts)])
    kind = index_type(max(int(ends[-1]), n_items))
    columns, values = np.empty(ends[-1], dtype=kind), np.empty(ends[-1], dtype=np.float32)
    free, start = ends[:-1].copy(), 0
    blocks.reverse()
    while blocks:
        block = blocks.pop().tocsc()
        block.sort_indices()
        lengths = np.diff(block.indptr)
        places = np.repeat(free - block.indptr[:-1], lengths) + np.arange(block.nnz)
        columns[places], values[places] = block.indices + start, block.data
        free += lengths
        start += block.shape[0]
    return sparse.csr_array((values, columns, ends.astype(kind)), shape=(n_items, n_items))


def _largest_per_row(matrix: sparse.csr_array, n: int) -> sparse.csr_array:
    """The `n` largest of each row of positive float32 values, whose columns are sorted; ties by lower column."""
    if np.diff(matrix.indptr).max(initial=0) <= n:
        return matrix
    entries = matrix.tocoo()
    # One key, for three take thrice as long: positive numbers are in the order of their bits, columns are sorted.
    falling = np.uint64(2**32 - 1) - entries.data.view(np.uint32)
    order = np.argsort((entries.row.astype(np.uint64) << np.uint64(32)) | falling, kind="stable")
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))  # rank within the row
    kept = order[place < n]
    return sparse.csr_array((entries.data[kept], (entries.row[kept], entries.col[kept])), shape=matrix.shape)
