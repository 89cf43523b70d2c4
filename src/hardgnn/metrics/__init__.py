"""Metrics as parts: `users` and `lists` hold ours, `base` registers and finds them, `figures` computes them by name."""

from hardgnn.metrics.base import METRICS, list_metric, metric
from hardgnn.metrics.figures import (
    DEFAULT,
    FIGURE,
    MAIN,
    MAIN_AT,
    check_choice,
    in_order,
    mean_of,
    named,
    parted,
    per_user,
    split,
    summarise,
    summarise_lists,
)
from hardgnn.metrics.lists import coverage, gini, novelty, popularity, popularity_ratio
from hardgnn.metrics.users import average_precision, hit_rate, ndcg, precision, recall, reciprocal_rank

__all__ = [
    "DEFAULT",
    "FIGURE",
    "MAIN",
    "MAIN_AT",
    "METRICS",
    "average_precision",
    "check_choice",
    "coverage",
    "gini",
    "hit_rate",
    "in_order",
    "list_metric",
    "mean_of",
    "metric",
    "named",
    "ndcg",
    "novelty",
    "parted",
    "per_user",
    "popularity",
    "popularity_ratio",
    "precision",
    "recall",
    "reciprocal_rank",
    "split",
    "summarise",
    "summarise_lists",
]
