"""Builds the C sources with the compiler at hand, keeps what it made, and says why where it cannot."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardgnn.ops.form import COMPILED, fast, halved, wanted
from hardgnn.runtime import share_out

SOURCES = (
    "level.c", "graph.c", "dropout.c", "candidates.c", "nearest.c", "pairs.c", "transitions.c", "scores.c", "rows.c",
)  # fmt: skip
HEADERS = ("vectors.h", "products.h")
COMPILERS = ("cc", "gcc", "clang")
MACHINES = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
# Not -ffast-math: linked with it, a library rounds small numbers to zero in the whole process.
FLAGS = "-O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fassociative-math -freciprocal-math"
FLAGS += " -fno-signed-zeros -fPIC -shared"
ZEROS = 4096  # rows of a part
SECONDS = 120  # for the compiler, at most


@dataclass(frozen=True)
class Library:
    """What was built, or why it was not."""

    functions: ctypes.CDLL | None
    told: str
    tiles: bool = False
    """Whether the processor multiplies tiles of bfloat16 numbers, and this process may let it."""


@cache
def library() -> Library:
    """The C operations: from the cache, or built now, which takes a second or two.

    `CC` names another compiler; the cache is `hardgnn` in `XDG_CACHE_HOME`, or in `~/.cache`. It is built for this
    processor, and anew for another compiler, processor or version.
    """
    compiler = compiler_here()
    if compiler is None:
        return Library(None, f"no C compiler ({', '.join(COMPILERS)})")
    told = "it fails"
    for machine in MACHINES:
        try:
            path = _built([*compiler.split(), *machine])
            functions = ctypes.CDLL(str(path))
            return Library(functions, f"{compiler} {' '.join(machine)}".strip(), bool(functions.hardgnn_tiles()))
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error)
            told = (output.strip().splitlines() or [told])[0][:200]
    return Library(None, f"the C compiler {compiler}: {told}")


def compiler_here() -> str | None:
    """The C compiler that is asked for, or that there is."""
    return os.environ.get("CC") or next((name for name in COMPILERS if shutil.which(name)), None)


def _built(words: list[str]) -> Path:
    here = Path(__file__).parent
    known = [(here / name).read_bytes() for name in (*SOURCES, *HEADERS)]
    known += [" ".join([*words, FLAGS]).encode(), _run([*words, "-dM", "-E", "-x", "c", os.devnull]).encode()]
    target = _cache() / f"native-{hashlib.sha256(b''.join(known)).hexdigest()[:24]}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "native.so"
        _run([*words, *FLAGS.split(), "-o", str(made), *(str(here / name) for name in SOURCES), "-lm"])
        made.replace(target)  # others may build it at the same time
    return target


def _run(words: list[str]) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=SECONDS).stdout


def _cache() -> Path:
    """A folder of this user's own, that nobody else can write into: what lies there is carried out.

    Raises:
        OSError: there is none.
    """
    spare = Path(tempfile.gettempdir()) / f"hardgnn-{os.getuid()}"
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardgnn"
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = base if os.access(base, os.W_OK) else spare
    except (OSError, RuntimeError):  # without HOME the user may have no home
        found = spare
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = found.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise OSError(f"{found}: others may write there, expected a folder of your own (chmod go-w, or XDG_CACHE_HOME)")
    return found


def native(*tensors: Tensor) -> ctypes.CDLL | None:
    """The C operations where they serve these tensors: float32 on a processor; None where the torch forms do."""
    if wanted() not in COMPILED or not fast(*tensors) or any(one.dtype != torch.float32 for one in tensors):
        return None
    found = library()
    if found.functions is None:
        say(found.told)
    return found.functions


@cache
def say(told: str) -> None:
    warnings.warn(f"{told}: what is written in C runs in torch, at about half the speed", stacklevel=3)


def described() -> str:
    """The forms that operations on a processor have here, for the record of a run."""
    if torch.is_autocast_enabled("cpu"):
        return "reference (autocast)"
    if wanted() not in COMPILED:
        return wanted()
    found = library()
    if found.functions is None:
        return f"torch ({found.told})"
    return f"{wanted()} ({found.told}{('', '; bfloat16', '; tiles of bfloat16')[parts()]})"


def tiles() -> bool:
    """Whether C multiplies by tiles of bfloat16 numbers (AMX) here."""
    return wanted() == "native" and library().tiles


def parts() -> int:
    """How many bfloat16 numbers stand for one in C's products: two, 1e-5 apart from float32; one, 4e-3 apart, where
    bfloat16 is asked for; none without tiles.
    """
    return (1 if halved() else 2) if tiles() else 0


def over(size: int, step: int, work: Callable[[int, int], None]) -> None:
    """Calls work(first, last) for parts of 0 .. size, each of `step` but the last, shared out among threads.

    C functions leave Python's lock, so that threads run side by side. Parts do not depend on the number of threads.
    """
    share_out(lambda part: work(*part), [(first, min(first + step, size)) for first in range(0, size, step)])


def zeros(rows: int, dim: int) -> Tensor:
    """A table of zeros (rows, dim), written by all threads."""
    found = torch.empty(rows, dim)
    over(rows, ZEROS, lambda first, last: found.numpy()[first:last].fill(0))
    return found


def each(size: int, step: int, function: Any, *given: Any, of_part: Callable[[int], Any] = lambda _: ()) -> None:
    """`over` of a C function: a part's first and last number, what is `given`, and what part number i has by itself.

    Raises:
        MemoryError: a part says so, by anything but 0.
    """

    def work(first: int, last: int) -> None:
        if function(ctypes.c_long(first), ctypes.c_long(last), *given, *of_part(first // step)):
            raise MemoryError(function.__name__)

    over(size, step, work)


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's numbers are, for C; it must stay alive.

    Raises:
        ValueError: they do not follow each other.
    """
    if tensor is not None and not tensor.is_contiguous():
        raise ValueError("a tensor for C must be contiguous")
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
