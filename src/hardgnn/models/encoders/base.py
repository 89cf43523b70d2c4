"""What an encoder of windows is, and how one is registered (docs/extending.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hardgnn.config.sections import PartSettings
from hardgnn.errors import HardGNNError
from hardgnn.parts import ENCODERS, home_of


@dataclass(frozen=True)
class Frame:
    """What a network's settings tell its encoder: sizes, and how its layers are made."""

    dim: int
    """Size d of the vectors."""
    window: int
    """The longest window M."""
    heads: int = 1
    dropout: float = 0.0
    attention_projection: bool = True
    layer_norm: bool = True
    norm_epsilon: float = 1e-5
    leaky_slope: float = 0.5


class Encoder(nn.Module, ABC):
    """A window of items as one vector.

    Registered by `@encoder("name")`. It needs `__init__(settings, frame)` and `forward`; with `every` it can be trained
    for the next item at every position, with `attention` it can tell what it looked at.
    """

    Settings: ClassVar[type[PartSettings]] = PartSettings
    every_position: ClassVar[bool] = False
    """Whether it has `every`."""
    attends: ClassVar[bool] = False
    """Whether it has `attention`."""
    torch_on_one: ClassVar[bool] = False
    """Whether training loses little where operations of torch have one thread (`Network.torch_on_one`)."""
    silent: ClassVar[bool] = False
    """Whether it says nothing at all: the score is then the user's own vector's alone."""

    def __init__(self, settings: Any, frame: Frame) -> None:
        super().__init__()
        self.settings, self.config = settings, frame

    def __call__(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """The vectors that `forward` answers, checked.

        Raises:
            HardGNNError: they are of another shape than (B, d).
        """
        found: Tensor = super().__call__(item_vectors, window)
        expected = (len(window), item_vectors.shape[1])
        if found.shape != expected:
            raise HardGNNError(
                f"encoder '{self.settings.kind}' ({home_of(type(self))}): expected vectors of shape {expected}, got "
                f"{tuple(found.shape)}"
            )
        return found

    @abstractmethod
    def forward(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """The vectors (B, d) of windows (B, m) of rows of `item_vectors` (n, d), -1 on the left where shorter."""

    def every(self, item_vectors: Tensor, window: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The vectors of all positions (B, m, d), of which each sees what came before; `generator` drives dropout."""
        raise HardGNNError(f"encoder '{self.settings.kind}' ({home_of(type(self))}): has no vectors of every position")

    def attention(self, item_vectors: Tensor, window: Tensor) -> Tensor:
        """How much the last position looks at each item in each layer, (L, B, m); rows sum to 1."""
        raise HardGNNError(f"encoder '{self.settings.kind}' ({home_of(type(self))}): does not tell what it looked at")

    def start(self, generator: torch.Generator) -> None:
        """Draws first weights other than the usual ones (Xavier)."""

    def decayed(self) -> list[Tensor]:
        """The weights that an L2 term over embeddings covers, too."""
        return []


def encoder(name: str) -> Callable[[type[Encoder]], type[Encoder]]:
    """Registers a class as the encoder of that name.

    Raises:
        HardGNNError: the name cannot be, or is taken; or the class lacks a method that every encoder has.
    """
    return ENCODERS.register(name)
