"""A fitted model in a file of its run folder: written whole, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hardgnn.arguments import as_path
from hardgnn.config import Config
from hardgnn.errors import HardGNNError, shown
from hardgnn.evaluation.ranks import ranks_files
from hardgnn.forks import enter
from hardgnn.models.base import Model
from hardgnn.models.query import PARAMETERS, QueryModel
from hardgnn.parts import MODELS
from hardgnn.runs.folder import AGAIN, MODEL, check_identity, check_version, identity, load_config, run_name
from hardgnn.runtime import device_of
from hardgnn.storage.tensors import open_tensors, read_seal, save_tensors
from hardgnn.wording import said


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of an open file, read when they are asked for."""

    def __init__(self, handle: Any) -> None:
        self._handle, self._names = handle, list(handle.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise ValueError(f"{name} is missing")
        found: Tensor = self._handle.get_tensor(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def save_model(folder: Path, model: Model, epoch: int) -> None:
    """Writes a fitted model into its run folder, atomically; ranks of an earlier one are gone with it."""
    kept = own_tensors(model)
    for stale in ranks_files(folder):
        stale.unlink(missing_ok=True)
    save_tensors(folder / MODEL, kept, json.dumps({"epoch": epoch, "run": identity(folder)}), make_parent=False)


def own_tensors(model: Model) -> dict[str, Any]:
    """All that `model_of` needs, on the processor, each tensor with memory of its own."""
    kept: dict[str, Any] = {}
    places: set[int] = set()
    for name, value in model.tensors().items():
        if not isinstance(value, Tensor):  # it comes block by block
            kept[name] = value
            continue
        tensor = value.detach().cpu().contiguous()
        # What is shared has two names; safetensors wants every tensor to own its memory.
        shared = tensor.numel() > 0 and tensor.untyped_storage().data_ptr() in places
        kept[name] = tensor.clone() if shared or _is_part(tensor) else tensor
        places.add(tensor.untyped_storage().data_ptr())
    return kept


def model_of(config: Config, stored: Mapping[str, Tensor], whole: bool = False) -> Any:
    """The model out of its tensors; with `whole` also with its network's weights, which scoring does not need."""
    model = MODELS.find(config.model.kind).restore(config.model, stored)
    if whole and isinstance(model, QueryModel):
        model.weights = {name: stored[name] for name in stored if name.startswith(PARAMETERS)}
    return model


def _is_part(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()


def load_model(folder: str | Path, device: str = "cpu", whole: bool = False) -> Model:
    """The best epoch of a run, whatever device it was trained on; it has the seal of its file as `seal`.

    Args:
        folder: the run folder.
        device: where a network is to score; other models score on the processor.
        whole: with what scoring does not need, so that it can be written again.

    Raises:
        HardGNNError: no run folder, no finished epoch yet, a damaged file or another format version.
    """
    enter()
    folder = as_path(folder, "folder")
    record = check_version(folder)
    config = load_config(folder)
    if not (folder / MODEL).exists():
        how = said("`hardgnn train … --resume`", "fit(data, out, resume=True)")
        raise HardGNNError(f"{shown(folder)}: no trained model yet; go on with {how}")
    counts = record["data"]["manifest"].get("counts", {})
    with open_tensors(folder / MODEL, AGAIN) as (handle, note):
        check_identity(folder, folder / MODEL, run_of(note))
        model = model_of(config, StoredTensors(handle), whole)
        _check_sizes(model, counts)
    model.name, model.seal = run_name(folder), read_seal(folder / MODEL)
    found: Model = model.to(device_of(device)) if isinstance(model, QueryModel) else model
    return found


def run_of(note: str) -> str:
    """The run that a file of tensors says it is of; empty where an earlier version wrote it."""
    noted = json.loads(note) if note.startswith("{") else {}
    return str(noted.get("run", ""))


def _check_sizes(model: Any, counts: dict[str, Any]) -> None:
    """Compares a model's vectors with the numbers of users and items of its run.

    Raises:
        ValueError: they differ.
    """
    users = getattr(model, "user_vectors", ())
    if len(users) not in (0, counts.get("users", len(users))):
        raise ValueError(f"vectors of {len(users):,} users, expected {counts['users']:,}")
    if model.n_items != counts.get("items", model.n_items):
        raise ValueError(f"a model of {model.n_items:,} items, expected {counts['items']:,}")
