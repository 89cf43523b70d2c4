"""Devices, seeds, threads and the record of what a run ran on."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import resource
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import torch

from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.processes.group import processes
from hardgnn.version import __version__

MALLOC_TRIM_THRESHOLD, MALLOC_TOP_PAD, MALLOC_MMAP_MAX = -1, -2, -4  # the parameters of glibc's mallopt
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
PRECISIONS = ("float32", "bfloat16")
Part = TypeVar("Part")
_threads = ContextVar("threads", default=0)
PACKAGES = ("torch", "numpy", "scipy", "polars", "pydantic", "safetensors")


def device_of(name: str) -> torch.device:
    """The device that a name means: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` is the first CUDA device, or else the processor; Apple's `mps` has to be asked for. Of processes that work
    together each has a CUDA device of its own.

    Raises:
        HardGNNError: there is no such name, or no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?|mps", name):
        raise HardGNNError(f"unknown device '{shown(name)}'; known: {', '.join(DEVICES)}")
    if name not in (there := devices()):
        raise HardGNNError(f"device '{name}': not on this machine, which has {', '.join(there)}")
    return torch.device(name) if processes().world == 1 else _own_device(name)


def _own_device(name: str) -> torch.device:
    """The device of one of several processes."""
    if name == "cpu":
        return torch.device(name)
    if name != "cuda":
        raise HardGNNError(f"run.device={name}: one device for {processes().world} processes; set cuda, or cpu")
    mine, there = processes().launched.local_rank, torch.cuda.device_count()
    if mine >= there:
        local = processes().launched.local_world
        raise HardGNNError(f"{local} processes on a machine of {there} GPUs: start as many, or set run.device=cpu")
    torch.cuda.set_device(mine)
    return torch.device("cuda", mine)


def devices() -> list[str]:
    """The names, but `auto`, of what this machine has."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Within it products run in `precision`: `float32`, as everything does, or `bfloat16` (autocast; weights stay).

    On a processor bfloat16 leaves the fast forms of `hardgnn.ops` aside and costs time: `hardgnn.ops.precision` has a
    better one where it can.

    Raises:
        HardGNNError: there is no such precision, or the device has none.
    """
    if precision not in PRECISIONS:
        raise HardGNNError(f"unknown precision '{shown(precision)}'; {nearest(precision, PRECISIONS)}")
    if precision == "float32":
        return nullcontext()
    without = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    if without or not torch.amp.is_autocast_available(device.type):
        raise HardGNNError(f"device '{device}': does not compute in bfloat16; set run.precision=float32")
    return torch.autocast(device.type, torch.bfloat16)


def epoch_generators(
    seed: int, epoch: int, device: torch.device | str = "cpu"
) -> tuple[np.random.Generator, torch.Generator]:
    """The generators of one epoch, from the seed and the epoch alone, so that a resumed run draws the same numbers.

    The second is on the device, for dropout; each kind of device draws numbers of its own.
    """
    sequence = np.random.SeedSequence([seed, epoch])
    generator = torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence), generator


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Numbers that nobody passes a generator for come from this one's seed, yet are others; then all is as it was."""
    device = generator.device
    seed = int(np.random.SeedSequence([generator.initial_seed(), 1]).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def use_threads(threads: int, earlier: int = 0) -> None:
    """Sets torch's threads; 0 takes what OMP_NUM_THREADS says, or as many as there are processors that are free now.

    Processes that work together on a host share them out, and all have as many as process 0, for with as many they
    come to the same numbers.
    `earlier` is how many a run began with that goes on: with as many it comes to the same numbers.
    """
    if threads or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or earlier or max(1, free_processors() // processes().launched.local_world))
    spins = not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()  # torch was imported before hardgnn
    if threads > 1 and spins and (free := free_processors()) < threads:
        warnings.warn(
            f"run.threads={threads}: {free} of the processors are free now, and torch was imported before hardgnn, so "
            "that its threads spin while they wait for each other, which may take several times as long: import "
            "hardgnn first, set OMP_WAIT_POLICY=PASSIVE, or take fewer threads",
            stacklevel=2,
        )


def threads() -> int:
    """Among how many threads work is shared out: as many as torch has, or had before `torch_on_one`."""
    return _threads.get() or torch.get_num_threads()


@contextmanager
def torch_on_one() -> Iterator[None]:
    """Within it an operation of torch has one thread; `side_by_side` and what is in C have as many as before.

    Operations that take less than a millisecond lose more by waking and waiting for a thread than they gain.
    """
    before, token = torch.get_num_threads(), _threads.set(threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _threads.reset(token)


def side_by_side(work: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """`work` of each part, on as many `threads` of Python, within each of which torch has one alone.

    So no thread waits for another within an operation, which torch's do by spinning.
    """
    if min(threads(), len(parts)) < 2:
        share_out(work, parts)
        return
    with torch_on_one():
        share_out(work, parts)


def share_out(work: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """`work` of each part, here and on helping threads, each of which takes the next part when it is done with one.

    What `work` shares out within a part stays on the part's thread. The first error ends it, once no thread is at work.
    """
    helping = min(threads(), len(parts)) - 1
    if helping < 1:
        for part in parts:
            work(part)
        return
    left = deque(parts)

    def take() -> None:
        token = _threads.set(1)
        try:
            while left:
                try:
                    part = left.popleft()
                except IndexError:  # another thread was quicker
                    return
                work(part)
        except BaseException:
            left.clear()
            raise
        finally:
            _threads.reset(token)

    helpers = _helpers(os.getpid(), threads() - 1)
    running = [helpers.submit(copy_context().run, take) for _ in range(helping)]
    try:
        take()
    finally:
        running = [one for one in running if not one.cancel()]  # those that have begun
        wait(running)
    for one in running:
        one.result()


@cache
def _helpers(process: int, count: int) -> ThreadPoolExecutor:
    """So many threads, kept, since to begin one takes as long as a short part; those of a parent end with a fork."""
    before, begun = torch.get_num_threads(), Barrier(count + 1)
    helpers = ThreadPoolExecutor(count, "hardgnn", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for _ in range(count):
            helpers.submit(begun.wait)
        begun.wait()
    except BaseException:
        begun.abort()
        helpers.shutdown()
        raise
    torch.set_num_threads(before)  # of threads that begin later
    return helpers


def free_processors(seconds: float = 0.1) -> int:
    """How many of `usable_processors` others leave idle, watched for so long; at least one.

    Threads that share busy processors wait for each other at every operation, so fewer of them are faster. Where the
    system does not tell how busy it is, all count as free.
    """
    before = _idle_ticks()
    if before is None:
        return usable_processors()
    time.sleep(seconds)
    after = _idle_ticks()
    assert after is not None
    idle = [after[each][0] - before[each][0] for each in before]
    total = [after[each][1] - before[each][1] for each in before]
    free = sum(part / whole if whole else 1.0 for part, whole in zip(idle, total))
    return max(1, min(usable_processors(), round(free)))


def _idle_ticks() -> dict[int, tuple[int, int]] | None:
    """Of each processor that this process may use, the ticks that it was idle, and all; None where nobody tells."""
    try:
        lines = Path("/proc/stat").read_text("ascii").splitlines()
    except OSError:
        return None
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    found = {}
    for line in lines:
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in allowed:
            numbers = [int(tick) for tick in ticks[:8]]
            found[int(name[3:])] = numbers[3] + numbers[4], sum(numbers)  # idle, and waiting for a disk
    return found or None


def usable_processors() -> int:
    """The processors that this process is allowed to run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Tells glibc to keep large freed blocks for the next tensor instead of returning them to the system.

    A step makes and frees the same large tensors over and over; taken from the system anew, each page of them is
    faulted in and zeroed again, which costs more than the arithmetic (docs/performance.md, Allocator). It holds for
    the whole process, so it is called where a run begins and not on import.

    Returns:
        Whether anything was set: False on systems without glibc, where nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((MALLOC_MMAP_MAX, 0), (MALLOC_TRIM_THRESHOLD, 2**31 - 1), (MALLOC_TOP_PAD, 16 * 2**20))
    done = [mallopt(parameter, value) for parameter, value in wanted]  # each, whatever the one before said
    return all(done)


def peak_memory_mb() -> float:
    """The largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def environment() -> dict[str, Any]:
    """Versions and machine, for the run folder."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "packages": {"hardgnn": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
    }
