"""Matrix products without gradient, through oneDNN where it serves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hardgnn.ops.form import fast


def _onednn() -> Callable[..., Tensor] | None:
    """torch's product by oneDNN, or None where this build of torch has none.

    torch takes MKL for float32, which leaves AVX-512 unused on processors of other makers: half the speed.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        found: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
    except AttributeError:  # a private operator, that another version may have renamed
        return None
    return found


ONEDNN = _onednn()


def product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right.T`, without gradient on a processor: (n, k), (m, k) -> (n, m).

    oneDNN prepares each new pair of shapes for about a millisecond, so it pays where shapes return.
    """
    if ONEDNN is None or left.dtype != torch.float32 or not fast(left, right) or 0 in (*left.shape, *right.shape):
        return left @ right.T
    return ONEDNN(_dense(left), _dense(right), None, "none", [], "")


def _dense(matrix: Tensor) -> Tensor:
    """A copy where neither rows nor columns follow each other, which oneDNN multiplies by its slow reference."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()
