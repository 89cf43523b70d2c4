"""Adam and AdamW over a network's parameters: which decay, and which take longer steps."""

from __future__ import annotations

import torch
from torch import Tensor

from hardgnn.config.config import AdamWSettings, TrainSettings
from hardgnn.models.network import Network
from hardgnn.training.light import Adam, AdamW


def optimiser_of(network: Network, settings: TrainSettings) -> torch.optim.Optimizer:
    """Adam, with the gradient 2 · l2 · θ of the L2 term added where that term applies; or AdamW (decoupled decay).

    Parameters that the network gives another rate are in groups of their own (`Network.rates`).
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
    kind = AdamW if isinstance(chosen, AdamWSettings) else Adam
    alike = [{"params": params, "weight_decay": key[0], "rate": key[1]} for key, params in groups.items()]
    return kind(alike, lr=settings.lr, fused=network.device.type in ("cpu", "cuda"))
