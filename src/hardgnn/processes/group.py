"""What the processes of one training exchange: values, tensors and sums in one order, by torch.distributed."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hardgnn.errors import HardGNNError, MachineError, machine_fault, reason, shown
from hardgnn.processes.ends import Ends
from hardgnn.processes.launch import ATTEMPT, HOST, PATIENCE, Cause, Launched, launched, patience_s, speak

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = timedelta(days=7)  # that one process waits for another that lives: it may be writing, or ranking
CAUSE_S = 3.0  # to hear why a connection broke
RESOLVE_S = 0.5  # between two looks for a name of a host
HOUSE = Path(__file__).parent.parent
Value = TypeVar("Value")


class Group:
    """One process, alone; see `Together` for what several do."""

    def __init__(self, launched: Launched | None = None) -> None:
        self.launched = launched or Launched()
        self.sent = 0
        """Bytes of `added`, `summed` and `exchanged` so far."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that reads, writes and speaks for all."""
        return self.launched.rank == 0

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.launched.world

    def told(self, value: Value) -> Value:
        """What process 0 says."""
        return value

    def gathered(self, value: Value) -> list[Value]:
        """What each process says, in their order."""
        return [value]

    def spread(self, tensor: Tensor) -> None:
        """Puts the numbers that process 0 has into the tensor of each."""

    def added(self, parts: Tensor) -> Tensor:
        """The sum (n,) of the parts (k, n) that each process has, added in their order, however many processes."""
        return _in_order(parts)

    def summed(self, tensor: Tensor) -> None:
        """Puts into the tensor of each the sum of those of all; exact where but one has other numbers than 0."""

    def exchanged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What each process has for this one, in their order, of what each has for each: (n,) of any length."""
        return list(tensors)

    def handed(self, tensor: Tensor, source: int, target: int) -> None:
        """Puts the numbers of one process into the tensor of another; these two call it."""

    def agree(self, on: Mapping[str, str]) -> None:
        """Makes sure that all processes have the same as process 0: names, and what tells one from another.

        Raises:
            HardGNNError: one has another; all raise it.
        """
        first, *others = self.gathered(dict(on))
        for rank, other in enumerate(others, 1):
            for name, value in first.items():
                if other.get(name) != value:
                    raise HardGNNError(
                        f"process {rank} of {self.world} has another {name} than process 0; start all with the same"
                    )

    def shards(self, count: int) -> range:
        """Which of so many parts of a whole this process has; as many as any other.

        Raises:
            HardGNNError: they cannot be shared out evenly.
        """
        if count % self.world:
            raise HardGNNError(
                f"train.shards={count} cannot be shared out over {self.world} processes: set train.shards="
                f"{-(-count // self.world) * self.world}, or another multiple of {self.world}"
            )
        each = count // self.world
        return range(self.launched.rank * each, (self.launched.rank + 1) * each)


class Together(Group):
    """One process of several. Each method is called by all of them, in the same order.

    Raises:
        Ended: another process has ended, so that nobody answers.
        KeyboardInterrupt: it was stopped.
    """

    def __init__(self, launched: Launched, ends: Ends) -> None:
        super().__init__(launched)
        self._ends = ends

    def told(self, value: Value) -> Value:
        import torch.distributed as dist

        box = [value if self.first else None]
        self._by(dist.broadcast_object_list, box, src=0)
        return box[0]  # type: ignore[return-value]

    def gathered(self, value: Value) -> list[Value]:
        import torch.distributed as dist

        box: list[Any] = [None] * self.world
        self._by(dist.all_gather_object, box, value)
        return box

    def spread(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        self._by(dist.broadcast, tensor, src=0)

    def summed(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        self._by(dist.all_reduce, tensor)
        self.sent += 2 * (self.world - 1) * tensor.numel() * tensor.element_size() // self.world

    def exchanged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `Group.exchanged`: their lengths, and then all of them."""
        import torch
        import torch.distributed as dist

        lengths = torch.tensor([len(one) for one in tensors], device=tensors[0].device)
        sizes = torch.empty_like(lengths)
        self._by(dist.all_to_all_single, sizes, lengths)
        own, others = lengths.tolist(), sizes.tolist()
        found = tensors[0].new_empty(sum(others))
        self._by(dist.all_to_all_single, found, torch.cat(list(tensors)), others, own)
        self.sent += (sum(own) - own[self.launched.rank]) * found.element_size() + (self.world - 1) * 8
        return list(found.split(others))

    def handed(self, tensor: Tensor, source: int, target: int) -> None:
        import torch.distributed as dist

        if self.launched.rank == source:
            self._by(dist.send, tensor.contiguous(), target)
        else:
            self._by(dist.recv, tensor, source)

    def added(self, parts: Tensor) -> Tensor:
        """See `Group.added`: each process adds a slice of all parts, and then has the slices of all."""
        import torch.distributed as dist
        from torch.nn import functional as F

        k, n = parts.shape
        width = -(-n // self.world)
        padded = F.pad(parts, (0, self.world * width - n)) if n % self.world else parts
        slices = padded.view(k, self.world, width).transpose(0, 1).contiguous()
        mine = slices.new_empty(self.world, k, width)  # of each process its parts, in the order of all
        self._by(dist.all_to_all_single, mine, slices)
        slice_sum = _in_order(mine.view(-1, width))
        found = slice_sum.new_empty(self.world, width)
        self._by(dist.all_gather, list(found.unbind()), slice_sum)
        self.sent += (self.world - 1) * (k + 1) * width * parts.element_size()
        return found.view(-1)[:n]

    def _by(self, exchange: Callable[..., object], *what: Any, **how: Any) -> None:
        try:
            exchange(*what, **how)
        except KeyboardInterrupt:
            if self._ends.cause is None or self._ends.cause.kind == "stopped":
                raise
            raise self._ends.ended(self._ends.cause) from None
        except RuntimeError as error:
            if machine_fault(error) is not None and self._ends.cause is None:
                raise
            cause = self._ends.why(CAUSE_S)
            if cause is not None and cause.kind == "stopped":
                raise KeyboardInterrupt from None
            broken = f"the connection of the processes broke ({reason(error)})"
            raise self._ends.ended(cause or Cause(-1, MachineError.status, broken, "gone")) from None


def _in_order(parts: Tensor) -> Tensor:
    found = parts[0].clone()
    for part in parts[1:]:
        found += part
    return found


_group = Group()


def processes() -> Group:
    """The processes that this one works with; itself alone outside of `together`."""
    return _group


@contextmanager
def together() -> Iterator[Group]:
    """Within it the processes that a launcher started are one group; where one of them fails or is stopped all end.

    Raises:
        HardGNNError: the environment is broken, or the processes do not find each other in time.
        Ended: another process has ended.
    """
    global _group
    found = launched()
    if found.world == 1:
        yield _group
        return
    try:
        ends = _meet(found)
    except HardGNNError:
        if found.first_here:  # the first of all may be on a host that nobody reaches, or not be there
            speak()
        raise
    _group = Together(found, ends)
    try:
        with ends.hearing():
            yield _group
            _group.told(None)  # nobody leaves before the first one has written all
        ends.leave()
        _parted()
    except BaseException as error:
        other = ends.failed(error)
        if other is error:
            raise
        raise other from None
    finally:
        _group = Group()


def _meet(found: Launched) -> Ends:
    import torch.distributed as dist

    if not dist.is_available():
        raise HardGNNError("this torch was built without torch.distributed; start one process, without torchrun")
    seconds = patience_s()
    done: Future[Ends] = Future()

    def meet() -> None:
        try:
            done.set_result(_met(found, seconds))
        except BaseException as error:
            done.set_exception(error)

    # In a thread, since no Ctrl-C is heard in a library that waits.
    threading.Thread(target=meet, daemon=True).start()
    while True:
        try:
            return done.result(timeout=0.1)
        except TimeoutError:
            if done.done():
                raise
        except (RuntimeError, ValueError) as error:
            raise HardGNNError(
                f"{found.world} processes did not find each other at {found.host}:{found.port} within {seconds:g} s "
                f"({PATIENCE} sets how long they wait): {reason(error)}"
            ) from None


def _parted() -> None:
    """Ends what torch has running for the group: threads that are left at the end of a process may abort it."""
    import torch.distributed as dist

    dist.destroy_process_group()


def _resolved(found: Launched, seconds: float) -> float:
    """The seconds that are left once the name of process 0's host is known: where hosts just start, it comes late.

    Raises:
        HardGNNError: it is not known in time.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            socket.getaddrinfo(found.host, found.port)
            return max(end - time.monotonic(), 1.0)
        except (OSError, UnicodeError) as error:
            if time.monotonic() + RESOLVE_S > end:
                raise HardGNNError(
                    f"{HOST}={shown(found.host)}: no such host is known after {seconds:g} s ({reason(error)}); it "
                    f"tells where process 0 is ({PATIENCE} sets how long processes wait)"
                ) from None
            time.sleep(RESOLVE_S)


def _met(found: Launched, seconds: float) -> Ends:
    import torch
    import torch.distributed as dist

    seconds = _resolved(found, seconds)
    patience = timedelta(seconds=seconds)
    shared, _, _ = next(iter(dist.rendezvous("env://", timeout=patience)))
    # torchrun keeps its store when it starts all anew: what an earlier attempt left there is not for this one.
    store = dist.PrefixStore(f"hardgnn/{os.environ.get(ATTEMPT, '0')}", shared)
    store.set_timeout(patience)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=found.rank, world_size=found.world, timeout=LONGEST)

    def share(where: str) -> str:
        if found.rank == 0:
            store.set("ends", where)
        return bytes(store.get("ends")).decode()

    ends = Ends(found, share, seconds)
    store.set_timeout(LONGEST)
    return ends


@cache
def code() -> str:
    """What tells this version of the code from others: its files and torch's version."""
    import torch

    found = hashlib.sha256(torch.__version__.encode())
    for path in sorted(HOUSE.rglob("*.py")):
        found.update(path.relative_to(HOUSE).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


__all__ = ["Group", "Together", "code", "processes", "together"]
