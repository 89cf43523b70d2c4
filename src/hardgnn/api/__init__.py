"""The library in the field's manner: `fit`, `evaluate`, `recommend`."""

from hardgnn.api.answers import Answer
from hardgnn.api.comparison import Compared, compare
from hardgnn.api.explanation import Explanation
from hardgnn.api.model import HardGNN

__all__ = ["Answer", "Compared", "Explanation", "HardGNN", "compare"]
