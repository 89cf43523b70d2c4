"""HardGNN: sequential recommendation with SelfGNN and HardGNN, honestly measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardgnn.api import HardGNN
    from hardgnn.data.dataset import Dataset
    from hardgnn.errors import HardGNNError
    from hardgnn.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Dataset", "HardGNN", "HardGNNError", "Recommender", "__version__"]

_HOMES = {"Dataset": "data.dataset", "HardGNN": "api", "HardGNNError": "errors", "Recommender": "recommender"}


def __getattr__(name: str) -> Any:
    """Loads the public classes when they are first asked for, so that `hardgnn --help` does not load torch."""
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"hardgnn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hardgnn' has no attribute '{name}'")
