"""Refreshing: a new run on a grown log starts from the weights of an older one, matched by raw id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardgnn.config import Config, flat
from hardgnn.data.align import places
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.models.network import Network
from hardgnn.models.query import PARAMETERS
from hardgnn.runs.folder import AGAIN, MODEL, load_config, load_tables
from hardgnn.runs.models import load_model
from hardgnn.storage.records import sha256
from hardgnn.storage.tensors import open_tensors
from hardgnn.wording import said

FREE = ("model.dropout", "model.edge_dropout")  # settings of the network that a warm start may change
SHAPING = ("model", "encoder", "ssl")


@dataclass(frozen=True)
class WarmStart:
    """An older run that fits: `users` (U,) and `items` (I,) are the old rows of the new ids, -1 where they are new."""

    folder: Path
    users: NDArray[np.int64]
    items: NDArray[np.int64]

    @classmethod
    def plan(cls, folder: Path, config: Config, data: Dataset) -> WarmStart:
        """Compares the run in `folder` with a new config and a grown data set.

        Raises:
            HardGNNError: the networks differ in a setting, or no raw id is known to both.
        """
        load_model(folder)  # tells what is wrong with the folder
        _refuse_other_network(config, load_config(folder), folder)
        tables = load_tables(folder)
        users, items = places(data.user_ids, tables.user_ids), places(data.item_ids, tables.item_ids)
        for kind, rows in (("users", users), ("items", items)):
            if (rows < 0).all():
                raise HardGNNError(f"{folder}: knows none of the {kind} of {data.name}, by raw id")
        return cls(folder, users, items)

    @property
    def record(self) -> dict[str, Any]:
        """What the new run's folder says: the old run's name, its weights' hash, users and items matched and new."""
        counts: dict[str, int] = {}
        for kind, rows in (("users", self.users), ("items", self.items)):
            counts |= {f"{kind}_matched": int((rows >= 0).sum()), f"{kind}_new": int((rows < 0).sum())}
        return {"run": self.folder.resolve().name, "model_sha256": sha256(self.folder / MODEL), **counts}

    def apply(self, model: Network) -> None:
        """Puts the old weights into `model`; users and items that are new keep their fresh rows.

        Interval t starts from the old interval t: the T tables go by number, whatever times the new log cuts.

        Raises:
            HardGNNError: weights are missing or of another shape.
        """
        rows = {"user_embedding": self.users, "item_embedding": self.items}  # of parameters (T, n, d)
        with open_tensors(self.folder / MODEL, AGAIN) as (stored, _), torch.no_grad():
            names = set(stored.keys())
            for name, parameter in model.named_parameters():
                if parameter.numel() == 0:  # a table that this network has no use for
                    continue
                if PARAMETERS + name not in names and name.startswith(model.fresh):
                    continue
                if PARAMETERS + name not in names:
                    raise HardGNNError(f"{self.folder}: has no weights {name}, so it is no run of this network")
                of = rows.get(name)
                if of is not None and name in model.shares:
                    of = of[model.shares[name].mine]
                _put(parameter, stored.get_tensor(PARAMETERS + name), of, f"{self.folder}: {name}")


def _refuse_other_network(config: Config, old: Config, folder: Path) -> None:
    """The settings that shape the network or its meaning must be the same."""
    new, before = flat(config), flat(old)
    for section in SHAPING:
        for key, value in new.get(section, {}).items():
            was = before.get(section, {}).get(key)
            if f"{section}.{key}" not in FREE and value != was and not _unused(config, section, key):
                asked = said(f"--set {section}.{key}={was}", f"{section}={{{key!r}: {was!r}}}")
                hint = "" if was is None else f" ({asked})"
                raise HardGNNError(
                    f"{folder}: its {section}.{key} is {was}, not {value}; a warm start needs the same network{hint}"
                )


def _unused(config: Config, section: str, key: str) -> bool:
    """Whether a setting of the self-augmented loss shapes no weights."""
    return section == "ssl" and (key not in ("dim", "user_weight") or flat(config)["ssl"]["weight"] == 0)


def _put(parameter: Tensor, before: Tensor, rows: NDArray[np.int64] | None, label: str) -> None:
    if rows is None:
        if parameter.shape != before.shape:
            raise HardGNNError(f"{label} has shape {tuple(before.shape)}, expected {tuple(parameter.shape)}")
        parameter.copy_(before)
        return
    here, there = torch.from_numpy(np.flatnonzero(rows >= 0)), torch.from_numpy(rows[rows >= 0])
    if parameter.dim() < before.dim():  # earlier versions kept a single table as one of T
        before = before.flatten(0, 1)
    if parameter.dim() == 2:
        parameter[here] = before[there]
        return
    for table, old_table in zip(parameter, before, strict=True):  # one of the T intervals at a time
        table[here] = old_table[there]
