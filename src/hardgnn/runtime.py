"""Seeds, threads and the record of what a run ran on."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import sys
from typing import Any

import numpy as np
import torch

from hardgnn.version import __version__

MALLOC_TRIM_THRESHOLD, MALLOC_TOP_PAD, MALLOC_MMAP_MAX = -1, -2, -4  # the parameters of glibc's mallopt
PACKAGES = ("torch", "numpy", "scipy", "polars", "pydantic", "safetensors")


def epoch_generators(seed: int, epoch: int) -> tuple[np.random.Generator, torch.Generator]:
    """The generators of one epoch, from the seed and the epoch alone, so that a resumed run draws the same numbers."""
    sequence = np.random.SeedSequence([seed, epoch])
    generator = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence), generator


def use_threads(threads: int) -> None:
    """Sets torch's threads; 0 takes what OMP_NUM_THREADS says, or all processors that this process may use."""
    if threads or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or usable_processors())


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
        "threads": torch.get_num_threads(),
        "packages": {"hardgnn": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
    }
