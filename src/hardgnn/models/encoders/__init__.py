"""What makes one vector, or one at every position, of a window of items."""

from hardgnn.models.encoders import attention, causal, none
from hardgnn.models.encoders.base import Encoder, Frame, encoder

__all__ = ["Encoder", "Frame", "attention", "causal", "encoder", "none"]
