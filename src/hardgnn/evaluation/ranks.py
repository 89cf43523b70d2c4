"""The ranks that a run or a baseline keeps: a table for each split and protocol, and of which weights they are."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from hardgnn.errors import HardGNNError, shown
from hardgnn.evaluation.protocols import SUCCESSIVE
from hardgnn.storage.files import atomic_path
from hardgnn.storage.frames import read_frame, write_frame

SCHEMA = {"user": pl.Int32, "target": pl.Int32, "rank": pl.Int32, "candidates": pl.Int32}
AGAIN = "remove the file, and it is ranked again"


def ranks_path(folder: Path, split: str, protocol: str) -> Path:
    """Where a run keeps its ranks."""
    return folder / f"ranks-{split}-{protocol}.parquet"


def ranks_files(folder: Path) -> list[Path]:
    """All ranks that a folder keeps."""
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"ranks-.+\.parquet", path.name))


def write_ranks(path: Path, frame: pl.DataFrame, weights: str = "") -> None:
    """Keeps the frame of `protocols.rank_targets` in an existing folder; `weights` is the seal of its model."""
    with atomic_path(path, make_parent=False) as temporary:
        write_frame(temporary, frame, SCHEMA, weights)


def read_ranks(path: Path, weights: str = "") -> pl.DataFrame:
    """Ranks that were kept.

    Args:
        path: the file.
        weights: the seal of the model they should be of; what earlier versions wrote does not tell.

    Raises:
        HardGNNError: they are missing, damaged, or of another model.
    """
    frame, of = read_frame(path, SCHEMA, AGAIN)
    if weights and of and of != weights:
        raise HardGNNError(f"{shown(path)}: ranked by another model than the folder holds; {AGAIN}")
    least = 0 if SUCCESSIVE in path.name else 1  # a row for each target, or for each user
    if frame.is_empty() or (frame["user"].diff().drop_nulls() < least).any():
        raise HardGNNError(f"{shown(path)}: damaged, expected one row for each user, in order; {AGAIN}")
    wrong = frame.filter((pl.col("rank") < 0) | (pl.col("rank") >= pl.col("candidates")))
    if wrong.height:
        row = wrong.row(0, named=True)
        raise HardGNNError(
            f"{shown(path)}: damaged, rank {row['rank']} among {row['candidates']} for user {row['user']}; {AGAIN}"
        )
    return frame
