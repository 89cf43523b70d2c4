"""What a step of training asks: pairs of items, or the next item at every position; each with its sampler and terms."""

from hardgnn.training.objectives import next_item, pairwise
from hardgnn.training.objectives.base import Objective, Term, TermedObjective, objective

__all__ = ["Objective", "Term", "TermedObjective", "next_item", "objective", "pairwise"]
