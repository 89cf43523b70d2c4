"""What a trained model does for one user: the paper's case study, as data and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
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
from hardgnn.report.plots import Figure, panels
from hardgnn.runs.folder import AGAIN, MODEL, check_version, load_config, load_data
from hardgnn.runs.models import Stored, load_model
from hardgnn.storage.tensors import open_tensors
from hardgnn.training.samplers import hardest


def inspect_user(folder: Path, user: str, n: int = 10, data: Path | None = None) -> dict[str, Any]:
    """What the model sees and thinks of one user, as training saw them: without validation and test items.

    Args:
        folder: a run folder.
        user: a raw id.
        n: nearest items, and hard negatives where the config mines none.
        data: the prepared folder, if it is not where the run was trained.

    Returns:
        user; anchor (what similarities are to); window: item, title, attention by layer (None where the window is
        one token), oldest first; intervals: number, interactions, weight w_t (None without the self-augmented loss);
        nearest: item, title, similarity, seen; hard_negatives: item, title, similarity, false_negative (it is the
        validation item); mined, whether training mines them.

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
    model = load_network(folder, config, prepared)
    with torch.no_grad():
        return {"user": user, **_seen(model, prepared, config, index, n)}


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
        weights = part_of(Stored(stored), PARAMETERS)
    table = weights.get("item_embedding")
    if table is not None and table.dim() > network.tables()[-1].dim():  # of an earlier version
        weights["item_embedding"] = table.flatten(0, 1)
        weights.pop("user_embedding", None)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise HardGNNError(f"{folder / MODEL}: not of this config or version ({reason}); {AGAIN}") from None
    return network


def _seen(network: Network, data: Dataset, config: Config, index: np.ndarray, n: int) -> dict[str, Any]:
    found = network.vectors()
    items = found.items  # (I, d)
    own = found.users[torch.from_numpy(index)] if network.with_users else found.users  # (1, d), or (0, d)
    window = torch.from_numpy(data.train.windows(index, network.scoring.frame.window))  # (1, m)
    choice = config.objective.hard  # type: ignore[union-attr]
    anchor, query = _anchor(network, getattr(choice, "rank_by", "user"), choice.active, items, own, window)
    similarity = F.normalize(items, dim=-1, eps=1e-6) @ F.normalize(query[0], dim=-1, eps=1e-6)  # (I,)
    history = data.train.take(index)
    mined = choice.mined and hasattr(choice, "rank_by")
    hard, valid = hardest(query, items, history, choice.k if mined else n)
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
    return {
        "anchor": anchor,
        "window": [
            {**_named(data, item), "attention": None if attention is None else [layer[place] for layer in attention]}
            for place, item in enumerate(window[0].tolist())
        ],
        "intervals": [
            {"interval": number + 1, "interactions": count, "weight": None if weights is None else weights[number]}
            for number, count in enumerate(per_interval)
        ],
        "nearest": [
            {**_named(data, item), "similarity": float(similarity[item]), "seen": item in known}
            for item in nearest_items
        ],
        "mined": mined,
        "hard_negatives": [
            {
                **_named(data, item),
                "similarity": float(similarity[item]),
                "false_negative": bool((target == item).any()),
            }
            for item in hard[0][valid[0]].tolist()
        ],
    }


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


def _named(data: Dataset, item: int) -> dict[str, Any]:
    titles: pl.Series | None = data.item_titles
    return {"item": data.item_ids[item], "title": None if titles is None else titles[item]}


def label(row: dict[str, Any]) -> str:
    """An item's title, or its raw id."""
    return str(row["title"] or row["item"])


def draw(document: dict[str, Any], shown: int = 15) -> Figure:
    """The figure of `inspect_user`: attention on the last items, weights by interval, hard negatives."""
    parts: list[tuple[str, list[str], list[float]]] = []
    window = document["window"][-shown:]
    if window[0]["attention"] is not None:
        layers = len(window[0]["attention"])
        names = [label(row) for row in window]
        parts.append((f"attention of layer {layers} on the last {len(window)} items", names, _last(window)))
    intervals = document["intervals"]
    if intervals[0]["weight"] is not None:
        names = [f"{row['interval']} ({row['interactions']} items)" for row in intervals]
        parts.append(("weight w of each interval", names, [row["weight"] for row in intervals]))
    hard = document["hard_negatives"]
    names = [label(row) + (" ✗" if row["false_negative"] else "") for row in hard]
    kind = "hard negatives" if document["mined"] else "nearest items not seen"
    parts.append((f"similarity of the {kind}", names, [row["similarity"] for row in hard]))
    return panels(f"user-{document['user']}", f"What the model sees of user {document['user']}", parts)


def _last(window: list[dict[str, Any]]) -> list[float]:
    return [row["attention"][-1] for row in window]
