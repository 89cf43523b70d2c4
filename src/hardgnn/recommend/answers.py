"""Recommendations as a file: block by block, whole or not at all, and for a spreadsheet without formulas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from hardgnn.errors import HardGNNError
from hardgnn.storage.files import atomic_path, scratch_folder

FORMULA = "^[=+@\t\r\n＝＋－＠-]"  # what a spreadsheet takes for the beginning of one


def write_blocks(blocks: Iterator[pl.DataFrame], path: Path, csv_safe: bool = False) -> int:
    """Writes tables one after the other as .parquet or .csv, with one of them in memory at a time; answers the rows.

    The file is there whole or not at all: its blocks gather in a folder beside it.

    Args:
        blocks: the tables.
        path: the file.
        csv_safe: write text of a CSV as `safe_for_spreadsheets` has it.

    Raises:
        HardGNNError: another ending, or a place that may not be written.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise HardGNNError(f"{path}: expected a name that ends in .parquet or .csv")
    if csv_safe and path.suffix != ".csv":
        raise HardGNNError(f"{path}: only a .csv is made safe for spreadsheets, a .parquet is read as what it is")
    rows = 0
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            with temporary.open("wb") as handle:
                for number, block in enumerate(blocks):
                    text = safe_for_spreadsheets(block) if csv_safe else block
                    text.write_csv(handle, include_header=number == 0)
                    rows += block.height
            return rows
        with scratch_folder(path) as parts:
            written = []
            for number, block in enumerate(blocks):
                written.append(parts / f"{number:06}.parquet")
                block.write_parquet(written[-1])
                rows += block.height
            pl.scan_parquet(written, glob=False).sink_parquet(temporary)
    return rows


def safe_for_spreadsheets(table: pl.DataFrame) -> pl.DataFrame:
    """The table with `'` before each text that a spreadsheet would run as a formula: the ids are no longer the same."""
    text = pl.selectors.string()
    return table.with_columns(pl.when(text.str.contains(FORMULA)).then("'" + text).otherwise(text).name.keep())
