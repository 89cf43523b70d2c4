"""The resume state of a run: parameters, their average, Adam's moments and the loop's few numbers, replaced as one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def tensors_of(network: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a training as tensors: its own, not copies."""
    tensors = {f"parameters/{name}": value.detach() for name, value in network.named_parameters()}
    tensors |= {f"buffers/{name}": value for name, value in buffers(network).items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{name}": value for name, value in moments.items()}
    return tensors


def put(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> None:
    """Puts a state that `tensors_of` gave into a training of the same network."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name in tensors:
        kind, key = name.split("/", 1)
        if kind == "adam":
            index, moment = key.split("/")
            moments.setdefault(int(index), {})[moment] = tensors[name].clone()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(tensors[f"parameters/{name}"])
        for name, value in buffers(network).items():
            value.copy_(tensors[f"buffers/{name}"])
        for name, value in average.items():
            value.copy_(tensors[f"average/{name}"])
    document = optimiser.state_dict()
    document["state"] = moments
    optimiser.load_state_dict(document)


def buffers(network: nn.Module) -> dict[str, Tensor]:
    """What a network keeps beside its parameters, as the running means of a normalisation."""
    kept = network.state_dict()
    return {name: value for name, value in network.named_buffers() if name in kept}


def save(
    folder: Path,
    progress: Progress,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor] | None = None,
    *,
    of: str,
) -> None:
    """Writes the state after an epoch in one file, so that a kill leaves the one before; `of` tells whose it is."""
    tensors = {name: value.cpu() for name, value in tensors_of(network, optimiser, average or {}).items()}
    with writing(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
    save_tensors(
        folder / FOLDER / STATE, tensors, json.dumps({"of": of, "progress": asdict(progress)}), make_parent=False
    )


def load(
    folder: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor] | None = None,
    *,
    of: str,
) -> Progress | None:
    """Puts the saved state into `network`, `optimiser` and `average`; None where there is none.

    Raises:
        HardGNNError: the file is damaged or of another training.
    """
    path = folder / FOLDER / STATE
    if not os.path.lexists(path):
        return None
    with open_tensors(path, REMEDY) as (stored, note):
        progress = _progress(path, note, of)
        names = stored.keys()
        put({name: stored.get_tensor(name) for name in names}, network, optimiser, average or {})
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
