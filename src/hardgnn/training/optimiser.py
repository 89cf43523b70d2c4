"""Adam and AdamW over a network's parameters: which decay, which take longer steps, and which go by rows."""

from __future__ import annotations

import torch
from torch import Tensor

from hardgnn.config.config import AdamWSettings, TrainSettings
from hardgnn.models.network import Network
from hardgnn.training.adam import Adam
from hardgnn.training.callbacks import MovingAverage
from hardgnn.training.rows import RowAdamW
from hardgnn.training.shared_tables import SharedRows


def by_rows(network: Network, settings: TrainSettings) -> tuple[str, ...]:
    """The tables whose steps and averages go by rows: AdamW's, as an L2 term's gradient has all rows."""
    return network.by_rows if isinstance(settings.optimiser, AdamWSettings) else ()


def optimiser_of(
    network: Network, settings: TrainSettings, average: MovingAverage | None = None
) -> torch.optim.Optimizer:
    """Adam, with the gradient 2 · l2 · θ of the L2 term added where that term applies; or AdamW (decoupled decay).

    Parameters that the network gives another rate are in groups of their own (`Network.rates`). Tables `by_rows`, and
    what `average` has of them, are from then on kept by the optimiser.
    """
    chosen = settings.optimiser
    if isinstance(chosen, AdamWSettings):
        # Single numbers are not decayed: their zero means nothing.
        decay = chosen.weight_decay
        decayed: list[Tensor] = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    else:
        decay, decayed = 2 * chosen.l2, network.decayed(chosen.l2_over)
    weight_decay = dict.fromkeys(map(id, decayed), decay)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        rate = next((value for prefix, value in network.rates().items() if name.startswith(prefix)), 1.0)
        groups.setdefault((weight_decay.get(id(parameter), 0.0), rate), []).append(parameter)
    alike = [{"params": params, "weight_decay": key[0], "rate": key[1]} for key, params in groups.items()]
    fused = network.device.type in ("cpu", "cuda")
    if not isinstance(chosen, AdamWSettings):
        return Adam(alike, lr=settings.lr, fused=fused)
    names = by_rows(network, settings)
    tables = [
        (getattr(network, name), None if average is None else (getattr(average.network, name).detach(), average.past))
        for name in names
    ]
    found = RowAdamW(alike, tables, lr=settings.lr, fused=fused)
    network.kept = {
        name: SharedRows(kept, network.shares[name]) if name in network.shares else kept
        for name, kept in zip(names, found.rows.values(), strict=True)
    }
    return found
