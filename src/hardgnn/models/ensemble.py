"""Several fitted models as one: the mean of what each says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.config import Config, build
from hardgnn.config.sections import PartSettings
from hardgnn.data.dataset import Dataset
from hardgnn.data.histories import Everybody, Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.base import Abilities, ClosedForm, Exported, Model, Quality, Stored, model, part_of
from hardgnn.parts import MODELS
from hardgnn.storage.texts import parsed_toml

CONFIG, COUNT = "config", "members"


class EnsembleSettings(PartSettings):
    """Which runs it was made of: `hardgnn ensemble RUN RUN --out OUT` makes one."""

    runs: str = ""
    """Their names, as in best-0,best-1."""


@model("ensemble")
class Ensemble(ClosedForm):
    """Scores by the mean over models of the log of the softmax over all items.

    For networks, whose scores are logarithms of how likely an item is. Those of other models are on scales of their
    own, and count as much as these are large. Source: product of experts, Hinton 2002.

    Args:
        members: the models, of the same users and items.
        configs: that of each.
    """

    Settings = EnsembleSettings
    name = "ensemble"
    learns = False

    def __init__(self, members: Sequence[Any], configs: Sequence[Config]) -> None:
        self.members, self.configs = list(members), list(configs)
        each: list[Abilities] = [one.abilities for one in self.members]
        self.abilities = Abilities(
            known_users=any(one.known_users for one in each), histories=any(one.histories for one in each)
        )
        windows = [one.window for one in self.members]
        self.window = None if None in windows else max(windows)

    @property
    def n_items(self) -> int:
        found: int = self.members[0].n_items
        return found

    @property
    def parameters(self) -> int:
        return sum(one.parameters for one in self.members)

    @classmethod
    def fit(cls, data: Dataset, settings: EnsembleSettings, quality: Quality) -> Self:
        """Refused: it is made of runs.

        Raises:
            HardGNNError: always.
        """
        raise HardGNNError("model.kind=ensemble is made of finished runs: `hardgnn ensemble RUN RUN --out OUT`")

    def knowing(self, histories: Everybody) -> Ensemble:
        """See `Model.knowing`."""
        found = Ensemble([one.knowing(histories) for one in self.members], self.configs)
        found.name, found.seal = self.name, self.seal
        return found

    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        total: Tensor | None = None
        for one in self.members:
            logs = torch.log_softmax(torch.from_numpy(one.scores(users, histories)), 1)
            total = logs if total is None else total.add_(logs)
        assert total is not None
        return (total / len(self.members)).numpy()

    def tensors(self) -> dict[str, Tensor]:
        found = {COUNT: torch.tensor([len(self.members)])}
        for number, (one, config) in enumerate(zip(self.members, self.configs)):
            found |= {f"{number}/{name}": tensor for name, tensor in one.tensors().items()}
            found[f"{number}/{CONFIG}"] = torch.tensor([*config.to_toml().encode()], dtype=torch.uint8)
        return found

    def exported(self) -> Exported:
        raise HardGNNError(f"{self.name}: an ensemble has no formula of its own; export each of its runs")

    @classmethod
    def restore(cls, settings: EnsembleSettings, stored: Stored) -> Self:
        members: list[Model] = []
        configs: list[Config] = []
        for number in range(int(stored[COUNT])):
            parts = part_of(stored, f"{number}/")
            text = bytes(parts.pop(CONFIG).tolist()).decode()
            config = build(parsed_toml(text, f"the config of member {number}"), f"member {number}")
            members.append(MODELS.find(config.model.kind).restore(config.model, parts))
            configs.append(config)
        return cls(members, configs)
