"""The largest numbers of each row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardgnn.ops.form import fast

TOGETHER = 64  # numbers at most whose largest stands for them


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k, dim=1)`: (B, I) -> values (B, k), descending, and columns (B, k)."""
    return _by_chunks(scores, k) if fast(scores) else _reference(scores, k)


def _reference(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, columns = scores.topk(k, dim=1)
    return values, columns


def _by_chunks(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """By the largest of each chunk: the k largest lie in the k chunks with the largest ones."""
    size = min(TOGETHER, math.isqrt(scores.shape[1] // k))  # then as many chunks as numbers are left, about
    if size < 4:
        return _reference(scores, k)
    whole = scores.shape[1] // size
    chunks = scores[:, : whole * size].view(-1, whole, size)
    best = chunks.amax(2).topk(k, dim=1).indices  # (B, k)
    near = chunks.gather(1, best.unsqueeze(2).expand(-1, -1, size)).flatten(1)
    columns = (best.unsqueeze(2) * size + torch.arange(size)).flatten(1)
    rest = torch.arange(whole * size, scores.shape[1]).expand(len(scores), -1)
    values, places = torch.cat([near, scores[:, whole * size :]], 1).topk(k, dim=1)
    return values, torch.cat([columns, rest], 1).gather(1, places)
