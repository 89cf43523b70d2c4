"""The resume state of a run: parameters, their average, Adam's moments and the loop's few numbers, replaced as one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from hardgnn.errors import HardGNNError, shown
from hardgnn.storage.files import writing
from hardgnn.storage.tensors import open_tensors, save_tensors

FOLDER, STATE = "checkpoint", "state.safetensors"
REMEDY = "the run cannot go on, begin another one"


@dataclass
class Progress:
    """Where a run stands after an epoch."""

    epoch: int = 0
    """Epochs done."""
    best_epoch: int = 0
    """The epoch with the best validation; 0 before the first."""
    best_metric: float = -1.0
    """Its validation figure."""
    waited: int = 0
    """Validations since then."""
    seconds: float = 0.0
    """Training time so far, without validation."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """The figures of each epoch, as `metrics.jsonl` has them."""


def save(
    folder: Path,
    progress: Progress,
    model: torch.nn.Module,
    optimiser: torch.optim.Adam,
    average: AveragedModel | None = None,
    *,
    of: str,
) -> None:
    """Writes the state after an epoch in one file, so that a kill leaves the one before; `of` tells whose it is."""
    tensors = {f"parameters/{name}": value.detach() for name, value in model.named_parameters()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in _averaged(average).items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{name}": value for name, value in moments.items()}
    with writing(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
    save_tensors(
        folder / FOLDER / STATE, tensors, json.dumps({"of": of, "progress": asdict(progress)}), make_parent=False
    )


def load(
    folder: Path, model: torch.nn.Module, optimiser: torch.optim.Adam, average: AveragedModel | None = None, *, of: str
) -> Progress | None:
    """Puts the saved state into `model`, `optimiser` and `average`; None where there is none.

    Raises:
        HardGNNError: the file is damaged or of another model.
    """
    path = folder / FOLDER / STATE
    if not os.path.lexists(path):
        return None
    moments: dict[int, dict[str, Tensor]] = {}
    with open_tensors(path, REMEDY) as (stored, note):
        progress = _progress(path, note, of)
        for name in stored.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            kind, key = name.split("/", 1)
            if kind == "adam":
                index, moment = key.split("/")
                moments.setdefault(int(index), {})[moment] = stored.get_tensor(name)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(stored.get_tensor(f"parameters/{name}"))
            for name, value in ({} if average is None else _averaged(average)).items():
                value.copy_(stored.get_tensor(f"average/{name}"))
        document = optimiser.state_dict()
        document["state"] = moments
        optimiser.load_state_dict(document)
    return progress


def whole(folder: Path, of: str) -> Progress:
    """Where the run stands that a file says it is of; checks the file without a model.

    Raises:
        HardGNNError: it is missing, damaged, or of another run.
    """
    path = folder / FOLDER / STATE
    with open_tensors(path, REMEDY) as (_, note):
        return _progress(path, note, of)


def _progress(path: Path, note: str, of: str) -> Progress:
    noted = json.loads(note)
    if noted.get("of", of) != of:
        raise HardGNNError(f"{shown(path)}: of another run than the rest of its folder; {REMEDY}")
    return Progress(**noted.get("progress", noted))  # earlier versions kept nothing else


def _averaged(average: AveragedModel) -> dict[str, Tensor]:
    """The average's weights, and the number of steps in it, by name."""
    return {name: value.detach() for name, value in (*average.named_parameters(), *average.named_buffers())}
