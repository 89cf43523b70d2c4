"""Products of pairs of rows of two tables."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hardgnn.ops.native.library import native
from hardgnn.ops.native.pairs import WHOLE, NativePairs


def pair_products(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor, slope: float = 1.0) -> Tensor:
    """`Σ_d σ(l ⊙ r)` of row `rows[p]` of left and row `columns[p]` of right, for each pair p; σ is LeakyReLU.

    With the slope 1 these are inner products. Shapes: left (A, d), right (B, d), rows and columns (P,) -> (P,).
    """
    functions = native(left, right) if left.shape[1] % WHOLE == 0 else None
    if functions is not None:
        found: Tensor = NativePairs.apply(left, right, functions, rows, columns, slope)
        return found
    products = left.index_select(0, rows) * right.index_select(0, columns)
    return (products if slope == 1 else F.leaky_relu(products, slope)).sum(-1)
