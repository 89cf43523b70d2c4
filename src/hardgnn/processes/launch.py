"""What a launcher (torchrun, Slurm, Ray Train, Fabric) tells each process of a command; it loads no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hardgnn.errors import TRACEBACK, HardGNNError, shown

WORLD, RANK = "WORLD_SIZE", "RANK"
LOCAL_WORLD, LOCAL_RANK = "LOCAL_WORLD_SIZE", "LOCAL_RANK"
HOST, PORT = "MASTER_ADDR", "MASTER_PORT"
ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
PATIENCE, PATIENCE_S = "HARDGNN_RENDEZVOUS_S", 60.0
_voice: int | None = None


@dataclass(frozen=True)
class Launched:
    """The number of a process among all, and among those of its host."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    host: str = ""
    """Where process 0 is."""
    port: int = 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world}"

    @property
    def first_here(self) -> bool:
        """Whether it is the first of its host, as far as the launcher says which that is."""
        return self.local_rank == 0 or LOCAL_RANK not in os.environ


@dataclass(frozen=True)
class Cause:
    """Why all processes end: what became of one."""

    rank: int
    status: int
    sentence: str
    kind: Literal["failed", "stopped", "gone"] = "failed"
    """An error, told before; Ctrl-C or SIGTERM; or without a word."""


class Ended(HardGNNError):
    """This process ends because another one has ended; it has that one's status."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.sentence)
        self.status = cause.status


def launched(told: Mapping[str, str] = os.environ) -> Launched:
    """What the environment says; one process where it says nothing.

    Raises:
        HardGNNError: it says a part alone, or what cannot be.
    """
    if WORLD not in told and RANK not in told:
        return Launched()
    for one, other in ((RANK, WORLD), (WORLD, RANK)):
        if one not in told:
            raise HardGNNError(f"{other} is set and {one} is not: start all processes with torchrun, or unset {other}")
    rank, world = _number(told, RANK), _number(told, WORLD)
    if not 0 <= rank < world:
        raise HardGNNError(f"{RANK}={rank} is none of {WORLD}={world} processes; expected 0 to {world - 1}")
    if world == 1:
        return Launched()
    for name in (HOST, PORT):
        if not told.get(name):
            raise HardGNNError(f"{WORLD}={world}, and {name} is not set: it tells where process 0 is; torchrun sets it")
    local_rank, local_world = _number(told, LOCAL_RANK, rank), _number(told, LOCAL_WORLD, world)
    if not 0 <= local_rank < local_world <= world:
        raise HardGNNError(f"{LOCAL_RANK}={local_rank} is none of {LOCAL_WORLD}={local_world} processes of this host")
    port = _number(told, PORT)
    if not 0 < port < 2**16:
        raise HardGNNError(f"{PORT}={port} is no port; expected 1 to 65535")
    return Launched(rank, world, local_rank, local_world, told[HOST], port)


def patience_s(told: Mapping[str, str] = os.environ) -> float:
    """How many seconds the processes wait for each other at the start: `HARDGNN_RENDEZVOUS_S`, 60 by default.

    Raises:
        HardGNNError: it is no number above 0.
    """
    text = told.get(PATIENCE, str(PATIENCE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise HardGNNError(f"{PATIENCE}={shown(text)}: expected seconds, a number above 0")
    return seconds


def several() -> bool:
    """Whether several processes were started; not where the environment is broken."""
    try:
        return launched().world > 1
    except HardGNNError:
        return False


def alone(command: str) -> None:
    """For a command that is done by one process.

    Raises:
        HardGNNError: several were started.
    """
    if several():  # a broken environment is nothing that such a command looks at
        raise HardGNNError(
            f"{command} is done by one process, and {launched().world} were started; start it without torchrun "
            "(train alone is for several)"
        )


def quiet() -> None:
    """All processes but the first say nothing from here on, whatever prints; with tracebacks asked for, they do."""
    global _voice
    if not several():
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # torch says in lines of its own what we say in a sentence
    if launched().rank > 0:
        _voice = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in (1,) if TRACEBACK in os.environ else (1, 2):
            os.dup2(nowhere, number)
        os.close(nowhere)


def speak() -> None:
    """Lets a process that is quiet say what it has to, as where the first one is gone."""
    if _voice is not None:
        os.dup2(_voice, 2)


def _number(told: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    if otherwise is not None and name not in told:
        return otherwise
    try:
        return int(told[name])
    except ValueError:
        raise HardGNNError(f"{name}={shown(told[name])}: expected a whole number, as torchrun sets it") from None
