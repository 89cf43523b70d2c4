"""Fitting a network: objectives, samplers, losses, callbacks, and one trainer. Parts of your own begin here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardgnn.training.callbacks import Callback, callback
    from hardgnn.training.losses import CandidateScores, Scores, loss
    from hardgnn.training.objectives import Objective, Term, TermedObjective, objective
    from hardgnn.training.samplers import sampler

__all__ = [
    "Callback",
    "CandidateScores",
    "Objective",
    "Scores",
    "Term",
    "TermedObjective",
    "callback",
    "loss",
    "objective",
    "sampler",
]

_HOMES = {
    "callbacks": ("Callback", "callback"),
    "losses": ("CandidateScores", "Scores", "loss"),
    "objectives": ("Objective", "Term", "TermedObjective", "objective"),
    "samplers": ("sampler",),
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for, and no more: the modules here load torch."""
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"hardgnn.training.{home}"), name)
    raise AttributeError(f"module 'hardgnn.training' has no attribute '{name}'")
