"""What a trained model does for one user: the paper's case study, as data and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hardgnn.config import Config
from hardgnn.data.dataset import VALID, Dataset
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.noise import NOISE, with_noise
from hardgnn.models.base import part_of
from hardgnn.models.network import Network
from hardgnn.models.query import PARAMETERS
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.ops.graph import InteractionGraph
from hardgnn.parts import MODELS
from hardgnn.report.canvas import Figure
from hardgnn.report.plots import panels
from hardgnn.runs.folder import AGAIN, MODEL, check_version, load_config, load_data
from hardgnn.runs.models import StoredTensors, load_model
from hardgnn.storage.documents import Document
from hardgnn.storage.tensors import open_tensors
from hardgnn.training.samplers import hardest


@dataclass(frozen=True)
class Item(Document):
    """An item by its raw id, and its title where the data has titles."""

    item: str
    title: str | None

    @property
    def label(self) -> str:
        """The title, or the raw id."""
        return self.title or self.item


@dataclass(frozen=True)
class WindowItem(Item):
    """An item of the window, and the attention on it by layer, None where nothing is attended to."""

    attention: tuple[float, ...] | None


@dataclass(frozen=True)
class NearItem(Item):
    """An item by its cosine to the anchor, and whether training has it for the user."""

    similarity: float
    seen: bool


@dataclass(frozen=True)
class HardItem(Item):
    """A hard negative by its cosine to the anchor; a false one is the validation item."""

    similarity: float
    false_negative: bool


@dataclass(frozen=True)
class Interval(Document):
    """A time interval, counted from 1: the user's interactions, and w_t, None without the self-augmented loss."""

    interval: int
    interactions: int
    weight: float | None


@dataclass(frozen=True)
class Inspection(Document):
    """What a model sees and thinks of one user: similarities are to `anchor`, the window is oldest first.

    Where training mines no hard negatives (`mined`), they are the nearest items that the user has not.
    """

    user: str
    anchor: str
    window: tuple[WindowItem, ...]
    intervals: tuple[Interval, ...]
    nearest: tuple[NearItem, ...]
    mined: bool
    hard_negatives: tuple[HardItem, ...]


def inspect_user(folder: Path, user: str, n: int = 10, data: Path | None = None) -> Inspection:
    """What the model sees and thinks of one user, as training saw them: without validation and test items.

    Args:
        folder: a run folder.
        user: a raw id.
        n: nearest items, and hard negatives where the config mines none.
        data: the prepared folder, if it is not where the run was trained.

    Raises:
        HardGNNError: no such run, data or user, or a user without training interactions.
    """
    load_model(folder)  # tells what is wrong with the folder
    config = load_config(folder)
    prepared = load_data(folder, data)
    noise = check_version(folder)["data"]["manifest"].get(NOISE)
    if noise is not None:
        prepared = with_noise(prepared, **noise)
    found = np.flatnonzero((prepared.user_ids == user).to_numpy())
    if len(found) == 0:
        hint = nearest(user, prepared.user_ids.to_list()) if prepared.n_users <= 10_000 else ""
        raise HardGNNError(f"unknown user '{user}'{': ' + hint if hint.startswith('did') else ''}")
    index = found[:1]
    if prepared.train.lengths[index[0]] == 0:
        raise HardGNNError(f"user '{user}' has no training interactions, so the model has not seen them")
    network = load_network(folder, config, prepared)
    with torch.no_grad():
        return _seen(user, prepared, network, config, index, n)


def load_network(folder: Path, config: Config, data: Dataset) -> Network:
    """The whole network of a run's best epoch, which scoring alone does not need.

    Raises:
        HardGNNError: the file is missing, damaged, or of another network.
    """
    kind = MODELS.find(config.model.kind)
    if not issubclass(kind, Network):
        raise HardGNNError(f"{folder}: its model is {config.model.kind}, which has no vectors to look into")
    network = kind.build(config.model, data, torch.Generator())
    with open_tensors(folder / MODEL, AGAIN) as (stored, _):
        weights = part_of(StoredTensors(stored), PARAMETERS)
    table = weights.get("item_embedding")
    if table is not None and table.dim() > network.tables()[-1].dim():  # of an earlier version
        weights["item_embedding"] = table.flatten(0, 1)
        weights.pop("user_embedding", None)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise HardGNNError(f"{folder / MODEL}: not of this config or version ({reason}); {AGAIN}") from None
    return network.eval()


def _seen(user: str, data: Dataset, network: Network, config: Config, index: np.ndarray, n: int) -> Inspection:
    found = network.vectors()
    items = found.items  # (I, d)
    own = found.users[torch.from_numpy(index)] if network.with_users else found.users  # (1, d), or (0, d)
    window = torch.from_numpy(data.train.windows(index, network.scoring.frame.window))  # (1, m)
    choice = getattr(config.objective, "hard", None)  # an objective of somebody else may mine nothing
    active = choice is not None and choice.active
    anchor, query = _anchor(network, getattr(choice, "rank_by", "user"), active, items, own, window)
    similarity = F.normalize(items, dim=-1, eps=1e-6) @ F.normalize(query[0], dim=-1, eps=1e-6)  # (I,)
    history = data.train.take(index)
    mined = choice is not None and choice.mined and hasattr(choice, "rank_by")
    hard, valid = hardest(query, items, history, choice.k if choice is not None and mined else n)
    users, targets = data.targets(VALID)
    target = targets[users == index[0]]
    nearest_items = torch.topk(similarity, min(n, len(similarity))).indices.tolist()
    known = set(history.items.tolist())
    attention = None
    if network.sequence_encoder.attends:
        attention = network.sequence_encoder.attention(items, window)[:, 0].tolist() or None
    weights, per_interval = None, [len(history.items)]
    if isinstance(network, SelfGNN):
        per_interval = _per_interval(network.graph, int(index[0]))
        if network.auxiliary is not None:
            long = own.expand(len(per_interval), -1)
            weights = network.user_weight(long, found.short.users[:, index[0]]).tolist()
    return Inspection(
        user=user,
        anchor=anchor,
        window=tuple(
            WindowItem(*_named(data, item), None if attention is None else tuple(layer[place] for layer in attention))
            for place, item in enumerate(window[0].tolist())
        ),
        intervals=tuple(
            Interval(number + 1, count, None if weights is None else weights[number])
            for number, count in enumerate(per_interval)
        ),
        nearest=tuple(NearItem(*_named(data, item), float(similarity[item]), item in known) for item in nearest_items),
        mined=mined,
        hard_negatives=tuple(
            HardItem(*_named(data, item), float(similarity[item]), bool((target == item).any()))
            for item in hard[0][valid[0]].tolist()
        ),
    )


def _anchor(
    network: Network, rank_by: str, mining: bool, items: Tensor, own: Tensor, window: Tensor
) -> tuple[str, Tensor]:
    """What similarities are to, in words and as a vector (1, d): what the run's hard negatives are ranked by."""
    if mining and rank_by == "positive":
        return "the last training item, as the positive", items[window[:, -1]]
    if network.sequence_encoder.silent:
        return "the user's long-term vector, as there is no sequence encoder", own
    return "the sequence vector of the window", network.sequence(items, window)


def _per_interval(graph: InteractionGraph, user: int) -> list[int]:
    """The user's training interactions in each interval."""
    intervals, users, _ = graph.shape
    offsets = graph.rows[0].numpy()
    rows = np.arange(intervals) * users + user
    return (offsets[rows + 1] - offsets[rows]).tolist()


def _named(data: Dataset, item: int) -> tuple[str, str | None]:
    """Raw id and title."""
    return data.item_ids[item], None if data.item_titles is None else data.item_titles[item]


def draw(found: Inspection, shown: int = 15) -> Figure:
    """The figure of `inspect_user`: attention on the last items, weights by interval, hard negatives."""
    parts: list[tuple[str, Sequence[str], Sequence[float]]] = []
    window = found.window[-shown:]
    last = [row.attention[-1] for row in window if row.attention is not None]
    if last:
        layers = len(window[0].attention or ())
        names = [row.label for row in window]
        parts.append((f"attention of layer {layers} on the last {len(window)} items", names, last))
    weights = [row.weight for row in found.intervals if row.weight is not None]
    if weights:
        names = [f"{row.interval} ({row.interactions} items)" for row in found.intervals]
        parts.append(("weight w of each interval", names, weights))
    names = [row.label + (" ✗" if row.false_negative else "") for row in found.hard_negatives]
    kind = "hard negatives" if found.mined else "nearest items not seen"
    parts.append((f"similarity of the {kind}", names, [row.similarity for row in found.hard_negatives]))
    return panels(f"user-{found.user}", f"What the model sees of user {found.user}", parts)
