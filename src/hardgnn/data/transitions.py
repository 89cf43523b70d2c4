"""How items go together in training: cosine over users, and who follows whom, as sparse I × I matrices."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError

FORWARD_STEPS = 5
BLOCK_ITEMS = 1024


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

    Args:
        dataset: the prepared data set.
        neighbours: each item j to be scored keeps its so many most similar items i, its column; None = all.

    Source: Sarwar et al., Item-based collaborative filtering recommendation algorithms, 2001.
    """
    if neighbours is not None and neighbours < 1:
        raise HardGNNError(f"the number of neighbours must be at least 1, got {neighbours}")
    users = training_matrix(dataset)  # (U, I)
    norms = np.sqrt(np.maximum(users.sum(axis=0), 1)).astype(np.float32)  # (I,)
    unit = users @ sparse.diags_array(1 / norms, format="csr")
    transposed = unit.T.tocsr()  # (I, U)
    columns = []  # of S; before the cut S is symmetric, so its rows do
    for start in range(0, dataset.n_items, BLOCK_ITEMS):
        block = (transposed[start : start + BLOCK_ITEMS] @ unit).tocoo()
        off = block.row + start != block.col
        values = sparse.csr_array((block.data[off], (block.row[off], block.col[off])), shape=block.shape)
        columns.append(values if neighbours is None else _largest_per_row(values, neighbours))
    return sparse.vstack(columns, format="csr").T.tocsr()


def forward_similarity(dataset: Dataset, steps: int = FORWARD_STEPS, backward: float = 0.0) -> sparse.csr_array:
    """How often j came at most `steps` after i in a training sequence, weighted 1 / distance: (I, I) float32.

    Divided by `sqrt(n_i n_j)`, the items' training counts, so that it has the scale of the cosine. j as far before i
    counts `backward` times as much.
    """
    train, n_items = dataset.train, dataset.n_items
    total = sparse.csr_array((n_items, n_items), dtype=np.float32)
    owners = np.repeat(np.arange(len(train.lengths)), train.lengths)
    for distance in range(1, steps + 1):
        together = np.flatnonzero(owners[:-distance] == owners[distance:])
        pairs = (train.items[together], train.items[together + distance])
        weights = np.full(len(together), 1 / distance, dtype=np.float32)
        total = total + sparse.csr_array((weights, pairs), shape=total.shape)
    if backward > 0:
        total = total + np.float32(backward) * total.T.tocsr()
    counts = train.item_counts(n_items)
    scale = sparse.diags_array((1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32), format="csr")
    total = (scale @ total @ scale).tocsr()
    total.setdiag(0)
    total.eliminate_zeros()
    return total


def training_matrix(dataset: Dataset) -> sparse.csr_array:
    """Who interacted with what in training, (U, I) float32 of ones."""
    users, items = np.divmod(dataset.train.keys(dataset.n_items), dataset.n_items)
    ones = np.ones(len(users), dtype=np.float32)
    return sparse.csr_array((ones, (users, items)), shape=(dataset.n_users, dataset.n_items))


def _largest_per_row(matrix: sparse.csr_array, n: int) -> sparse.csr_array:
    """The `n` largest values of each row, ties by lower column."""
    entries = matrix.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))  # rank within the row
    kept = order[place < n]
    return sparse.csr_array((entries.data[kept], (entries.row[kept], entries.col[kept])), shape=matrix.shape)
