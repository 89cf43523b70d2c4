"""HardGNN: sequential recommendation with SelfGNN and HardGNN, honestly measured."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardgnn.api import HardGNN, compare
    from hardgnn.data.dataset import Dataset
    from hardgnn.data.log import InteractionLog
    from hardgnn.errors import HardGNNError, NotFittedError
    from hardgnn.recommend.recommender import Recommender

from hardgnn.version import __version__

__all__ = [
    "Dataset",
    "HardGNN",
    "HardGNNError",
    "InteractionLog",
    "NotFittedError",
    "Recommender",
    "__version__",
    "compare",
]

# Threads of torch that wait for each other spin for a long time before they sleep. On a machine with other busy
# processes they keep the very processor busy that the one they wait for needs (docs/performance.md, Threads).
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "0" if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 else "10000"

# the two that are data come with the room above, which prepares logs
_HOMES = {
    "Dataset": "prepare",
    "HardGNN": "api",
    "HardGNNError": "errors",
    "InteractionLog": "prepare",
    "NotFittedError": "errors",
    "Recommender": "recommend.recommender",
    "compare": "api",
}


def __getattr__(name: str) -> Any:
    """Loads the public classes when they are first asked for, so that `hardgnn --help` does not load torch."""
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"hardgnn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hardgnn' has no attribute '{name}'")
