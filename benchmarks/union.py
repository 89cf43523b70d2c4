"""Joins logs into one, their users and items kept apart: a large catalogue of which the right answers are known.

python benchmarks/union.py ../shared/data/*.inter.gz --out union.parquet
hardgnn prepare union.parquet --out data/union --k-core 5 && hardgnn train data/union --preset best --out runs/union
python benchmarks/union.py --run runs/union      # NDCG@10 (full) of each log's users

A model that loses nothing on a larger catalogue ranks each log's users as well as one trained on that log alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from hardgnn import InteractionLog
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import rank_targets
from hardgnn.metrics import summarise
from hardgnn.runs.folder import load_data
from hardgnn.runs.models import load_model
from hardgnn.storage.files import atomic_path

BETWEEN = ":"


def join(logs: list[Path]) -> pl.DataFrame:
    """One table of all interactions; ids begin with the name of their log."""
    tables = []
    for path in logs:
        log = InteractionLog.read(path)
        named = [
            pl.format(f"{log.name}{BETWEEN}{{}}", pl.col(column).cast(pl.String)).alias(column)
            for column in (USER, ITEM)
        ]
        tables.append(log.table.select(*named, TIMESTAMP))
    return pl.concat(tables)


def show(run: Path) -> None:
    """NDCG@10 on validation and test for the users of each log."""
    data, model = load_data(run), load_model(run)
    log = data.user_ids.str.split(BETWEEN).list.first()
    for part in ("valid", "test"):
        ranks = rank_targets(model, data, part)
        ranks = ranks.with_columns(log.gather(ranks["user"]).alias("log"))
        figures = {
            name: summarise(group["rank"], [10])["ndcg@10"]
            for (name,), group in ranks.group_by("log", maintain_order=True)
        }
        print(
            f"{part}: {summarise(ranks['rank'], [10])['ndcg@10']:.4f}; "
            + ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, help="the joined log, .parquet")
    parser.add_argument("--run", type=Path, help="a run on the joined log, whose figures are shown")
    options = parser.parse_args()
    if (options.run is None) == (options.out is None) or bool(options.logs) == (options.out is None):
        parser.error("give either logs and --out, or --run")
    try:
        if options.run is not None:
            show(options.run)
            return
        with atomic_path(options.out) as temporary:
            join(options.logs).write_parquet(temporary)
    except HardGNNError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
