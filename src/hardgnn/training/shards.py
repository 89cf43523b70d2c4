"""A step whose users are cut into fixed parts, which processes share out: the weights do not depend on how many."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardgnn.errors import HardGNNError
from hardgnn.models.network import Network
from hardgnn.models.shared_edges import SharedEdges
from hardgnn.processes.group import processes
from hardgnn.runtime import seeded
from hardgnn.training import checkpoint
from hardgnn.training.callbacks import Callback, MovingAverage
from hardgnn.training.exchange import Exchange
from hardgnn.training.objectives.base import TermedObjective
from hardgnn.training.shared_tables import SharedRows
from hardgnn.training.trainer import Trainer, total


class Shards:
    """Loss and gradients of a step as the sum over its parts, each with random numbers of its own.

    A part's come from the seed, epoch, step and its number alone, those of what parts have in common from the number
    after the last; the sum is in the order of the parts. Each process computes as many parts, and one exchange carries
    what they add up: gradients, of tables those rows alone that the step touches, and losses.

    Args:
        network: what learns.
        objective: cuts the batches, and tells what they touch.
        shards: into how many parts.
        seed: of the training.
        device: where the network is.
        autocast: makes the context that losses are computed in.

    Raises:
        HardGNNError: there are not as many parts for each process, or the network has running means, which would be
            another's in each.
    """

    def __init__(
        self,
        network: Network,
        objective: TermedObjective,
        shards: int,
        seed: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.network, self.objective, self.count, self.seed = network, objective, shards, seed
        self.device, self.autocast = device, autocast
        self.mine = processes().shards(shards)
        if running := checkpoint.buffers(network):
            raise HardGNNError(
                f"the network keeps running means ({', '.join(running)}), which parts of a step cannot share; "
                "set train.shards=1"
            )
        nobody = torch.empty(0, dtype=torch.int64, device=device)
        if processes().world > 1 and not network.touched(nobody, nobody):
            warnings.warn(
                f"each of the {processes().world} processes computes the graphs of all items, so that they gain less "
                "than threads of one process do (run.threads)",
                stacklevel=2,
            )

    def __call__(self, batch: Any, epoch: int, step: int, _: torch.Generator) -> tuple[float, dict[str, float]]:
        """Leaves the gradients of the whole step; answers its loss and terms."""
        touched = self.objective.touched(batch)
        self._check(touched)
        with self.autocast():
            generator = self._generator(epoch, step, self.count)
            parts, common = self.objective.common(self.objective.cut(batch, self.count), self.mine, generator)
        names = [term.name for term in self.objective.terms]
        self._gather(parts, touched)
        exchange = Exchange(self.network, touched, common, len(self.mine))
        for shard in self.mine:
            self.network.zero_grad()
            exchange.pack(self._backward(parts[shard], names, epoch, step, shard))
        loss, *terms = exchange.unpack()
        return loss, dict(zip(names, terms))

    def _check(self, touched: dict[str, Tensor]) -> None:
        """Raises HardGNNError where processes share out a table, and nobody knows its rows of the step in time."""
        for name in self.network.shares:
            if name not in touched:
                raise HardGNNError(
                    f"train.shard_tables: objective.kind={self.objective.settings.kind} does not know before a step "
                    f"which rows of {name} it touches, as where hard negatives are searched among all items; set "
                    "train.shard_tables=false"
                )

    def _gather(self, parts: list[Any], touched: dict[str, Tensor]) -> None:
        """Brings the rows and edges that the step asks for from their owners, where processes share out tables."""
        for name in self.network.shares:
            kept = self.network.kept[name]
            assert isinstance(kept, SharedRows)
            kept.gather(touched[name])
        counted = self.network.counted
        if counted is not None and isinstance(counted.edges, SharedEdges):
            each = len(self.mine)
            of_all = [parts[first : first + each] for first in range(0, len(parts), each)]
            counted.edges.gather([self.objective.walked(of_one) for of_one in of_all])

    def _backward(self, part: Any, names: list[str], epoch: int, step: int, shard: int) -> Tensor:
        """Leaves the gradients of one part, perhaps of nobody; answers its loss and terms (1 + n,)."""
        if part is None:
            return torch.zeros(1 + len(names), device=self.device)
        generator = self._generator(epoch, step, shard)
        with seeded(generator), self.autocast():
            terms = self.objective.losses(part, generator)
        loss = total(terms)
        loss.backward()
        return torch.stack([loss.detach(), *(terms[name][1].detach() for name in names)]).float()

    def _generator(self, epoch: int, step: int, number: int) -> torch.Generator:
        """Of a part by its number, or the one after all parts of what they have in common."""
        sequence = np.random.SeedSequence([self.seed, epoch, step, number])
        return torch.Generator(self.device).manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


class Alike(Callback):
    """All processes begin with the weights, moments and progress of process 0, which alone has read them, and stay so.

    Raises:
        HardGNNError: after an epoch one has other weights, as where its processor rounds in another way.
    """

    def __init__(self, average: MovingAverage | None) -> None:
        self.average = average

    def restore(self, trainer: Trainer) -> None:
        """Takes them over."""
        average = {} if self.average is None else self.average.state()
        own = checkpoint.tensors_of(trainer.network, trainer.optimiser, average)
        shared = checkpoint.shared_of(trainer.network, trainer.optimiser)  # each has its own rows already
        rows = {name: own.pop(name) for name in shared if name in own}
        shapes = processes().told({name: (value.shape, value.dtype, value.device.type) for name, value in own.items()})
        found = {}
        for name, (shape, dtype, kind) in shapes.items():
            where = trainer.device if kind != "cpu" else "cpu"
            found[name] = own[name] if processes().first else torch.empty(shape, dtype=dtype, device=where)
            processes().spread(found[name])
        trainer.progress = processes().told(trainer.progress)
        if not processes().first:
            checkpoint.put(found | rows, trainer.network, trainer.optimiser, average)

    def epoch(self, line: dict[str, Any]) -> None:
        """Compares the weights."""
        network = self.trainer.network
        assert isinstance(network, Network)
        first, *others = processes().gathered(fingerprint(network))
        for rank, other in enumerate(others, 1):
            if other != first:
                raise HardGNNError(
                    f"epoch {line['epoch']}: process {rank} has other weights than process 0, as where processors or "
                    "libraries differ; start all of them on hosts of one kind"
                )


@torch.no_grad()
def fingerprint(network: Network) -> list[int]:
    """A sum of the bits of each parameter that all processes have."""
    alike = [one for name, one in network.named_parameters() if name not in network.shares]
    return [int(one.reshape(-1).view(torch.int32).sum(dtype=torch.int64)) for one in alike]
