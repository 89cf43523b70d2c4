"""The trained model: what scoring needs, out of the file of a run's best epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from hardgnn.arguments import as_path
from hardgnn.config import Config
from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError, shown
from hardgnn.evaluation.ranks import ranks_files
from hardgnn.forks import enter
from hardgnn.models.selfgnn import Encoder, SelfGNN, sequence_encoder
from hardgnn.models.transitions import TransitionGraph, Transitions, TransitionScores
from hardgnn.ops.product import product
from hardgnn.runs.folder import AGAIN, MODEL, check_identity, check_version, identity, load_config, run_name
from hardgnn.storage.tensors import open_tensors, read_seal, save_tensors

CANDIDATE_ROWS = 32  # users whose candidates are gathered at once: 8 MB for 1,000 of 64 numbers
PARAMETERS, VECTORS, MATRIX = "parameters/", "vectors/", "transitions/"
SEQUENCE_PREFIX = f"{PARAMETERS}sequence_encoder."


@dataclass
class TrainedModel:
    """Everything that scoring needs: final vectors, the sequence encoder and transitions, no graph.

    Shapes: `user_vectors` (U, d), zero rows for users without training interactions, or (0, d) where nothing asks for
    them (`SelfGNN.with_users`); `item_vectors` (I, d). It is a `hardgnn.evaluation.protocols.Ranker`.
    """

    name: str
    config: Config
    user_vectors: Tensor
    item_vectors: Tensor
    sequence_encoder: Encoder | None
    transitions: TransitionScores | None = None
    seal: str = ""
    """The hash of the file it came from."""

    @torch.no_grad()
    def queries(self, users: NDArray[np.integer] | None, histories: Histories) -> Tensor:
        """The query vectors ē^(u) + σ(ẽ^(u)), (B, d); without `users` σ(ẽ) alone (specification, section 2, Score)."""
        rows = np.arange(len(histories.offsets) - 1)
        window = torch.from_numpy(histories.windows(rows, self.config.model.window))
        own = None
        if users is not None and self.config.model.user_term:
            own = self.user_vectors[torch.from_numpy(users).long()]
        if self.sequence_encoder is None:
            return torch.zeros(len(rows), self.item_vectors.shape[1]) if own is None else own
        sequence = self.sequence_encoder(self.item_vectors, window)
        return SelfGNN.query_vector(self.config.model, own, sequence)

    @torch.no_grad()
    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        """The scores of all items for these users, (B, I)."""
        return self._added(product(self.queries(users, histories), self.item_vectors), histories).numpy()

    def _added(self, scores: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Scores (B, I), or (B, C) of `items` (B, C), with transitions added in place."""
        if self.transitions is not None:
            prior = self.transitions.scores(histories)
            scores += prior if items is None else prior.gather(1, items)
        return scores

    @torch.no_grad()
    def candidate_scores(
        self, users: NDArray[np.integer], histories: Histories, items: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The scores of `items` (B, C) for these users, (B, C): a gather of C vectors instead of a product with all."""
        queries = self.queries(users, histories).unsqueeze(-1)  # (B, d, 1)
        scores = torch.empty(items.shape)
        for rows in torch.arange(len(items)).split(CANDIDATE_ROWS):
            chosen = torch.from_numpy(items[rows.numpy()]).long()
            vectors = self.item_vectors.index_select(0, chosen.flatten()).view(*chosen.shape, -1)  # (b, C, d)
            scores[rows] = (vectors @ queries[rows]).squeeze(-1)
        return self._added(scores, histories, torch.from_numpy(items).long()).numpy()


def trained(
    name: str, config: Config, model: SelfGNN, users: Tensor, items: Tensor, graph: TransitionGraph | None
) -> TrainedModel:
    """The model as it now scores; `graph` holds the transitions where the config uses them."""
    transitions = None
    if graph is not None:
        matrix = graph.joined(model.transitions.forward_weight)
        transitions = TransitionScores(model.transitions, matrix, graph.counts, config.model.window)
    return TrainedModel(
        name,
        config,
        users,
        items,
        model.sequence_encoder if config.model.sequence != "none" else None,
        transitions,
    )


def save_model(
    folder: Path, model: SelfGNN, users: Tensor, items: Tensor, epoch: int, transitions: TransitionScores | None = None
) -> None:
    """Writes the parameters, the final vectors and the matrix of transitions, atomically."""
    tensors = {f"{PARAMETERS}{name}": value.contiguous() for name, value in model.state_dict().items()}
    # A shared recurrent network appears under two names; safetensors wants every tensor to own its memory.
    if model.config.interval_sharing == "shared":
        tensors = {name: value.clone() for name, value in tensors.items()}
    tensors |= {f"{VECTORS}users": users.contiguous(), f"{VECTORS}items": items.contiguous()}
    if transitions is not None:
        matrix = transitions.matrix
        parts = {"offsets": matrix.indptr.astype(np.int64), "columns": matrix.indices, "values": matrix.data}
        tensors |= {MATRIX + name: torch.from_numpy(part) for name, part in parts.items()}
        tensors[MATRIX + "counts"] = transitions.counts
    for stale in ranks_files(folder):
        stale.unlink(missing_ok=True)
    save_tensors(folder / MODEL, tensors, json.dumps({"epoch": epoch, "run": identity(folder)}), make_parent=False)


def load_model(folder: str | Path) -> TrainedModel:
    """The best epoch of a run.

    Raises:
        HardGNNError: no run folder, no finished epoch yet, a damaged file or another format version.
    """
    enter()
    folder = as_path(folder, "folder")
    record = check_version(folder)
    config = load_config(folder)
    if not (folder / MODEL).exists():
        raise HardGNNError(f"{shown(folder)}: no trained model yet; go on with `hardgnn train … --resume`")
    counts = record["data"]["manifest"].get("counts", {})
    with open_tensors(folder / MODEL, AGAIN) as (stored, note):
        check_identity(folder, folder / MODEL, run_of(note))
        users, items = stored.get_tensor(f"{VECTORS}users"), stored.get_tensor(f"{VECTORS}items")
        _check_vectors(users, items, config, counts)
        encoder, transitions = None, None
        if config.model.sequence != "none":
            encoder = sequence_encoder(config.model)
            encoder.load_state_dict(part_of(stored, SEQUENCE_PREFIX))
        if config.transitions.use:
            module = Transitions(config.transitions)
            module.load_state_dict(part_of(stored, f"{PARAMETERS}transitions."))
            parts = part_of(stored, MATRIX)
            matrix = _checked_matrix(parts, len(items))
            transitions = TransitionScores(module, matrix, parts["counts"], config.model.window)
    return TrainedModel(run_name(folder), config, users, items, encoder, transitions, read_seal(folder / MODEL))


def run_of(note: str) -> str:
    """The run that a file of tensors says it is of; empty where an earlier version wrote it."""
    noted = json.loads(note) if note.startswith("{") else {}
    return str(noted.get("run", ""))


def _check_vectors(users: Tensor, items: Tensor, config: Config, counts: dict[str, Any]) -> None:
    """Checks the final vectors.

    Raises:
        ValueError: their shapes or values cannot be.
    """
    dim, n_users, n_items = config.model.dim, counts.get("users"), counts.get("items")
    for name, vectors, count in (("users", users, n_users), ("items", items, n_items)):
        allowed = (count, 0) if name == "users" else (count,)
        if vectors.dim() != 2 or vectors.shape[1] != dim or (count is not None and len(vectors) not in allowed):
            raise ValueError(f"vectors of {name} have shape {tuple(vectors.shape)}, expected {count} x {dim}")
        if vectors.dtype != torch.float32 or not bool(torch.isfinite(vectors).all()):
            raise ValueError(f"vectors of {name} are not all finite numbers")


def _checked_matrix(parts: dict[str, Tensor], n_items: int) -> sparse.csr_array:
    """The matrix of transitions (I, I): a column out of bounds would make SciPy write anywhere.

    Raises:
        ValueError: its parts cannot be those of such a matrix.
    """
    values, columns, offsets = (parts[name].numpy() for name in ("values", "columns", "offsets"))
    counts = parts["counts"]
    fits = (
        offsets.shape == (n_items + 1,)
        and columns.ndim == values.ndim == 1
        and len(columns) == len(values) == offsets[-1]
        and offsets[0] == 0
        and (np.diff(offsets) >= 0).all()
        and columns.dtype.kind == "i"
    )
    if not fits or (len(columns) and (columns.min() < 0 or columns.max() >= n_items)):
        raise ValueError("the matrix of transitions points outside itself")
    if counts.shape != (n_items,) or not bool((torch.isfinite(counts) & (counts >= 0)).all()):
        raise ValueError("the items' counts cannot be")
    if not np.isfinite(values).all():
        raise ValueError("a transition is not a finite number")
    return sparse.csr_array((values, columns, offsets), shape=(n_items, n_items))


def part_of(stored: Any, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118 - no mapping
    return {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
