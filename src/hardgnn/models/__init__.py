"""What scores items for users, behind one protocol: two networks, neighbours, a linear model, popularity."""

from hardgnn.models import linear, neighbours, popularity, selfgnn, transformer
from hardgnn.models.base import Abilities, ClosedForm, Model, model

__all__ = ["Abilities", "ClosedForm", "Model", "linear", "model", "neighbours", "popularity", "selfgnn", "transformer"]
