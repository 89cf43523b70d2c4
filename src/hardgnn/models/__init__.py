"""What scores items for users, behind one protocol: two networks, neighbours, a linear model, popularity."""

from hardgnn.models import ensemble, linear, neighbours, popularity, selfgnn, transformer
from hardgnn.models.base import Abilities, ClosedForm, Exported, Model, model
from hardgnn.models.encoders import Encoder, Frame, encoder
from hardgnn.models.network import Network, NetworkSettings, Seen, Vectors
from hardgnn.models.query import Scoring

__all__ = [
    "Abilities",
    "ClosedForm",
    "Encoder",
    "Exported",
    "Frame",
    "Model",
    "Network",
    "NetworkSettings",
    "Scoring",
    "Seen",
    "Vectors",
    "encoder",
    "ensemble",
    "linear",
    "model",
    "neighbours",
    "popularity",
    "selfgnn",
    "transformer",
]
