"""The items with the largest products with each query, among those that it does not avoid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.ops.form import fast
from hardgnn.ops.native import nearest as native_nearest
from hardgnn.ops.native.library import native
from hardgnn.ops.product import product
from hardgnn.ops.topk import largest

BLOCK = 4_000_000  # products held at once
DEVICE_BLOCK = 2**28  # the same where memory is far and many cores wait for work: 1 GiB of float32


def nearest(
    query: Tensor, items: Tensor, offsets: NDArray[np.int64], avoided: NDArray[np.integer], k: int
) -> tuple[Tensor, Tensor]:
    """The k largest products of each query with all items but `avoided[offsets[q] : offsets[q + 1]]`; no gradient.

    Shapes: query (B, d), items (I, d), offsets (B + 1,) -> values (B, k), descending, -inf where fewer are left, and
    columns (B, k); k at most I.
    """
    query, items = query.detach(), items.detach()
    functions = native(query, items) if native_nearest.serves(query.shape[1]) else None
    if functions is not None:
        return native_nearest.nearest(functions, query, items, offsets, avoided, k)
    rows = max(1, (BLOCK if fast(query) else DEVICE_BLOCK) // max(1, len(items)))
    found = []
    for start in range(0, len(query), rows):
        products = product(query[start : start + rows], items)  # (b, I)
        ends = offsets[start : start + rows + 1]
        cells = np.repeat(np.arange(len(products)), np.diff(ends)), avoided[ends[0] : ends[-1]].astype(np.int64)
        products[torch.from_numpy(np.stack(cells)).to(products.device).unbind()] = -torch.inf
        found.append(largest(products, k))
    values, columns = zip(*found, strict=True)
    return torch.cat(values), torch.cat(columns)
