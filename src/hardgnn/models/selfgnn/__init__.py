"""SelfGNN (SIGIR 2024): graphs of intervals, a recurrent network and attention over them, an encoder of the window."""

from hardgnn.models.selfgnn.network import SelfGNN
from hardgnn.models.selfgnn.settings import SelfGNNSettings

__all__ = ["SelfGNN", "SelfGNNSettings"]
