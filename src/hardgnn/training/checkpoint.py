"""The resume state of a run: parameters, their average, Adam's moments and the loop's few numbers, replaced as one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hardgnn.errors import HardGNNError, shown
from hardgnn.processes.group import processes
from hardgnn.processes.share import Share, Stretch
from hardgnn.storage.files import writing
from hardgnn.storage.tensors import follow_tensors, open_tensors, save_tensors

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


def shared_of(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Share]:
    """The names of a state's tensors whose rows processes share out, and which are this one's, in one order for all."""
    shares: dict[str, Share] = getattr(network, "shares", {})
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    found: dict[str, Share] = {}
    for table, share in shares.items():
        index = next(place for place, one in enumerate(parameters) if one is getattr(network, table))
        names = f"parameters/{table}", f"average/module.{table}", f"adam/{index}/exp_avg", f"adam/{index}/exp_avg_sq"
        found |= dict.fromkeys(names, share)
    return dict(sorted(found.items()))


def _stretches(
    network: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Stretch]]:
    """The state's tensors that all processes have, and those that they share out."""
    tensors = tensors_of(network, optimiser, average)
    shared = shared_of(network, optimiser)
    return tensors, {name: Stretch(share, tensors.pop(name)) for name, share in shared.items() if name in tensors}


def follow_save(network: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> None:
    """What the others do while process 0 calls `save`, where they share out tables."""
    follow_tensors(_stretches(network, optimiser, average)[1])


def follow_load(network: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> None:
    """What the others do while process 0 calls `load`, where they share out tables."""
    _, stretches = _stretches(network, optimiser, average)
    there = processes().told(False) if stretches else False
    if there:
        with torch.no_grad():
            for stretch in stretches.values():
                stretch.share.received(stretch.own.detach())


def put(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> None:
    """Puts a state that `tensors_of` gave into a training of the same network."""
    moments: dict[int, dict[str, Tensor]] = {}
    kept = optimiser.state_dict()["state"]
    for name in tensors:
        kind, key = name.split("/", 1)
        if kind == "adam":
            index, moment = key.split("/")
            own = kept.get(int(index), {}).get(moment)
            moments.setdefault(int(index), {})[moment] = own if own is tensors[name] else tensors[name].clone()
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
    own, stretches = _stretches(network, optimiser, average or {})
    tensors = {name: value.cpu() for name, value in own.items()} | stretches
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
    there = os.path.lexists(path)
    _, stretches = _stretches(network, optimiser, average or {})
    if stretches:
        processes().told(there)
    if not there:
        return None
    with open_tensors(path, REMEDY) as (stored, note):
        progress = _progress(path, note, of)
        tensors = {name: stored.get_tensor(name) for name in {*stored.keys()} - {*stretches}}
        for name, stretch in stretches.items():
            stretch.share.received(stretch.own.detach(), partial(_rows, stored.get_slice(name)))
            tensors[name] = stretch.own
        put(tensors, network, optimiser, average or {})
    return progress


def _rows(stored: Any, first: int, last: int) -> Tensor:
    found: Tensor = stored[first:last]
    return found


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
