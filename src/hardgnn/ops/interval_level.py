"""The interval level: a recurrent network over T states of each node, then attention over them, averaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hardgnn.ops.dropout import dropout, kept_numbers, scale
from hardgnn.ops.form import fast
from hardgnn.ops.interval_blocks import Blocks, encode_blocks
from hardgnn.ops.native.level import encode_natively, serves
from hardgnn.ops.native.library import native


@dataclass(frozen=True)
class Level:
    """The layers of one side.

    `qkv` (3d, d) holds queries, keys and values of all heads; `output`, where there is one, projects what was attended
    to. LayerNorm goes over the d numbers of a state, or over the T states of a node together (`over_states`); `norm`
    has its gain and offset (d,), `epsilon` is that of the root.
    """

    recurrent: nn.RNNBase
    norm: nn.LayerNorm | None
    qkv: nn.Linear
    output: nn.Linear | None
    heads: int
    over_states: bool
    epsilon: float


def encode(x: Tensor, level: Level, share: float, generator: torch.Generator | None) -> Tensor:
    """The long-term vectors (N, d) of short-term vectors (T, N, d).

    `h = GRU(x)`, dropout of a `share` of its numbers (with a generator only), LayerNorm, multi-head self-attention over
    T, mean over T (SelfGNN, section 3.2; specification, section 2).
    """
    if not fast(x):
        return _reference(x, level, share, generator)
    blocks = Blocks(**vars(level))
    kept, times = None, 1.0
    if share > 0 and generator is not None:
        kept, times = _kept(x, blocks, share, generator), scale(share)
    functions = native(x) if serves(level.recurrent, x.shape[2]) else None
    if functions is not None:
        return encode_natively(x, functions, blocks, kept, times)
    return encode_blocks(x, blocks, kept, times)


def _kept(x: Tensor, blocks: Blocks, share: float, generator: torch.Generator) -> Tensor:
    """The numbers that dropout keeps, (d, T, N), drawn block by block: all versions draw the same."""
    intervals, _, dim = x.shape
    drawn = [
        kept_numbers((dim, intervals, size), share, generator)[:, :, : rows.stop - rows.start]
        for rows, size in blocks.parts(x)
    ]
    return drawn[0].contiguous() if len(drawn) == 1 else torch.cat(drawn, 2)


def _reference(x: Tensor, level: Level, share: float, generator: torch.Generator | None) -> Tensor:
    intervals, nodes, dim = x.shape
    hidden: Tensor = dropout(level.recurrent(x)[0], share, generator)  # (T, N, d)
    if level.norm is not None:
        over = (0, 2) if level.over_states else (2,)
        centred = hidden - hidden.mean(over, keepdim=True)
        deviation = (centred.square().mean(over, keepdim=True) + level.epsilon).rsqrt()
        hidden = centred * deviation * level.norm.weight + level.norm.bias
    joined = level.qkv(hidden).view(intervals, nodes, 3, level.heads, dim // level.heads)
    query, key, value = joined.permute(2, 1, 3, 0, 4)  # (N, H, T, d / H) each
    looks = (query @ key.transpose(-1, -2) * (dim // level.heads) ** -0.5).softmax(-1)  # (N, H, T, T)
    pooled = (looks.mean(2, keepdim=True) @ value).reshape(nodes, dim)
    return pooled if level.output is None else level.output(pooled)  # linear, so after the mean as well as before
