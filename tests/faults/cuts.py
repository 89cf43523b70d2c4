"""Faults at file operations: each call that changes the disk is counted, and one of them is cut.

The wrappers are installed once, before `hardgnn` is imported, and do nothing until `arm` is called. Native writers
(polars, safetensors, usearch) are one operation each, and `torn` leaves half of what they wrote.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 137
KINDS = ("kill", "torn", "full")
real_write = os.write


class Armed:
    """The fault of this process and of those it forks, which count together.

    Args:
        root: operations elsewhere do not count.
        at: the number, from 1, of the operation to cut; 0 only counts.
        how: `kill` ends the process before the operation, `torn` in the middle of it, `full` says ENOSPC once.
        trace: a handle that a line is written to for each operation.
    """

    def __init__(self, root: str, at: int, how: str, trace: int) -> None:
        self.root, self.at, self.how, self.trace = os.path.realpath(root), at, how, trace
        self.shared = mmap.mmap(-1, 8)

    def now(self, what: str, path: str) -> bool:
        """Counts an operation; whether this one is to be cut."""
        (count,) = struct.unpack("q", self.shared[:])
        self.shared[:] = struct.pack("q", count + 1)
        place = path.removeprefix(self.root).lstrip("/") or "."
        real_write(self.trace, f"{os.getpid()}\t{what}\t{place}\n".encode("utf-8", "surrogateescape"))
        return count + 1 == self.at

    def strike(self, path: str) -> None:
        """The fault."""
        if self.how == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os._exit(KILLED)


armed: Armed | None = None


def arm(root: str, at: int, how: str, trace: int) -> None:
    """Begins to count the operations under `root`."""
    global armed
    armed = Armed(root, at, how, trace)


def ours(path: Any, dir_fd: int | None = None) -> str | None:
    """The whole path of a file or handle under the armed root; None of any other."""
    if armed is None:
        return None
    try:
        if isinstance(path, int):
            text = os.readlink(f"/proc/self/fd/{path}")
        else:
            folder = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
            text = os.path.join(os.path.realpath(folder), os.fsdecode(path))
    except (OSError, TypeError):
        return None
    head, tail = os.path.split(text)
    text = os.path.join(os.path.realpath(head), tail)
    return text if text == armed.root or text.startswith(armed.root + "/") else None


def cut(what: str, path: str | None) -> bool:
    """Counts an operation and strikes; True where the caller is to tear it."""
    if armed is None or path is None or not armed.now(what, path):
        return False
    if armed.how == "torn":
        return True
    armed.strike(path)
    return False


class CutFile(io.FileIO):
    """A file whose writes count."""

    def write(self, data: Any) -> int:  # type: ignore[override]
        """Writes, or half of it and no more."""
        if cut("write", ours(self.fileno())):
            view = memoryview(data).cast("B")
            super().write(view[: len(view) // 2])
            os._exit(KILLED)
        return super().write(data)


def _open(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        path = ours(file) if set(mode) & set("wax+") else None
        if path is None:
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int) and cut(f"open {mode}", path):
            os._exit(KILLED)
        raw = CutFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffer = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, size)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)

    return opened


def _counted(name: str) -> Callable[..., Any]:
    real = getattr(os, name)

    @functools.wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        if armed is None:
            return real(*arguments, **options)
        moved = name in ("rename", "replace", "link", "symlink")
        place = arguments[1] if moved else arguments[0]
        folder = options.get("dst_dir_fd") if moved else options.get("dir_fd")
        writes = name != "open" or arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if name == "mkdir" and os.path.isdir(place):
            writes = False
        what = f"{name} {os.path.basename(os.fsdecode(arguments[0]))}" if moved else name
        if writes and cut(what, ours(place, folder)):
            if name in ("write", "pwrite"):
                real(arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
            os._exit(KILLED)
        return real(*arguments, **options)

    return call


def _native(owner: Any, name: str, target: int) -> None:
    """A writer that is not Python: argument number `target` is its file."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        file = arguments[target] if len(arguments) > target else options.get("file", options.get("path"))
        path = ours(file) if isinstance(file, (str, bytes, os.PathLike)) else None
        torn = cut(name, path)
        done = real(*arguments, **options)
        if torn:
            assert path is not None
            os.truncate(path, os.path.getsize(path) // 2)
            os._exit(KILLED)
        return done

    setattr(owner, name, call)


OPERATIONS = (
    "open", "write", "pwrite", "ftruncate", "truncate", "fsync", "fdatasync", "sendfile", "rename", "replace", "link",
    "symlink", "mkdir", "rmdir", "unlink", "remove", "chmod", "mkfifo",
)  # fmt: skip


def install() -> None:
    """Puts the wrappers in; before `hardgnn` is imported, for its modules bind some names."""
    import polars as pl
    import safetensors.torch
    import usearch.index

    builtins.open = io.open = _open(io.open)  # type: ignore[assignment]
    for name in OPERATIONS:
        setattr(os, name, _counted(name))
    for name in ("write_parquet", "write_csv"):
        _native(pl.DataFrame, name, 1)
    _native(pl.LazyFrame, "sink_parquet", 1)
    _native(safetensors.torch, "save_file", 1)
    _native(usearch.index.Index, "save", 1)


def install_exchange(possible: bool = True) -> None:
    """Counts the exchange of two folders, which the system makes in one step; or says that the system has none."""
    from hardgnn.storage import files

    real = files._exchange

    def exchange(one: Path, other: Path) -> bool:
        if not possible:
            return False
        if cut(f"exchange {one.name}", ours(other)):
            os._exit(KILLED)
        return real(one, other)

    files._exchange = exchange
