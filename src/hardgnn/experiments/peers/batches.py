"""What a neural peer learns from in an epoch: windows with all their targets, or pairs with a negative each.

Indices are one higher than ours: 0 is padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.data.histories import Histories
from hardgnn.data.negatives import UniformNegatives


def windows(
    items: NDArray[np.integer], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Tensor, NDArray[np.int64]]:
    """The `sizes` items from each of `starts`, one higher, aligned to the left and padded with 0: (B, M), (B,)."""
    steps = np.arange(max(1, int(sizes.max(initial=0))))
    inside = steps < sizes[:, None]
    places = np.where(inside, starts[:, None] + steps, 0)
    return torch.from_numpy(np.where(inside, items[places] + 1, 0).astype(np.int64)), sizes


def sequence_batches(
    train: Histories, length: int, batch: int, rng: np.random.Generator
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Each training item but a user's first is a target once, after at most `length` items before it.

    A sequence longer than `length` is cut at other places in each epoch. Chunks of like size share a batch.

    Returns:
        Pairs of what the model is asked (item_list (B, M), length (B,), item (P,), the targets) and the mask (B, M)
        of the P positions that have one.
    """
    inputs = np.maximum(train.lengths - 1, 0)
    shift = np.where(inputs > length, rng.integers(0, length, len(inputs)), 0)
    chunks = np.where(inputs > 0, (inputs + shift + length - 1) // length, 0)
    owner = np.repeat(np.arange(len(inputs)), chunks)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    first = np.maximum(number * length - shift[owner], 0)
    sizes = np.minimum((number + 1) * length - shift[owner], inputs[owner]) - first
    starts = train.offsets[owner] + first
    order = np.lexsort((rng.random(len(owner)), sizes))
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes[order]) // batch)) + 1
    bounds = np.concatenate([[0], cuts, [len(order)]])
    for place in rng.permutation(len(bounds) - 1):
        chosen = order[bounds[place] : bounds[place + 1]]
        window, _ = windows(train.items, starts[chosen], sizes[chosen])
        after, _ = windows(train.items, starts[chosen] + 1, sizes[chosen])
        real = window > 0
        yield {"item_list": window, "length": torch.from_numpy(sizes[chosen]), "item": after[real]}, real


def pair_batches(
    train: Histories, negatives: UniformNegatives, batch: int, rng: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """Every training interaction once, with an item that its user has not in training: user, item, neg_item (B,)."""
    owners = np.repeat(np.arange(len(train.lengths)), train.lengths)
    order = rng.permutation(len(owners))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        drawn = negatives.sample(owners[chosen], rng)
        rows: dict[str, NDArray[np.integer]] = {
            "user": owners[chosen],
            "item": train.items[chosen],
            "neg_item": drawn,
        }
        yield {name: torch.from_numpy(values.astype(np.int64) + 1) for name, values in rows.items()}
