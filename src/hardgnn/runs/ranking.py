"""Ranks of a fit's targets, which the processes of a training share out."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from hardgnn.data.dataset import Dataset
from hardgnn.evaluation.protocols import is_direct, rank_targets, targets_of
from hardgnn.processes.group import processes


def ranked(model: Any, data: Dataset, part: str, protocol: str, shards: int) -> pl.DataFrame:
    """What `rank_targets` gives; each process ranks for the users of its shards, and all have the ranks of all."""
    if is_direct(model) and model.in_turn:  # they rank together: each for all users, of its items
        return rank_targets(model, data, part, protocol)
    users = np.unique(targets_of(data, part, protocol)[0])
    cut = np.array_split(users, min(shards, len(users)))
    mine = [cut[shard] for shard in processes().shards(shards) if shard < len(cut)]
    found = [rank_targets(model, data, part, protocol, users=some if len(cut) > 1 else None) for some in mine]
    return pl.concat([frame for of_process in processes().gathered(found) for frame in of_process])
