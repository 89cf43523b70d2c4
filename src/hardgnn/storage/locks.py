"""Locks on folders, which the system releases with the process that holds them, however it ends."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hardgnn.errors import HardGNNError, shown
from hardgnn.storage.files import fcntl, is_same, writing

LOCK = ".lock"


@dataclass(frozen=True)
class Held:
    """A lock that this process holds on a folder."""

    folder: Path
    handle: int
    name: str

    def check(self) -> None:
        """Makes sure that the folder is still the one that was locked.

        Raises:
            HardGNNError: it was removed, moved or replaced.
        """
        if fcntl is not None and not is_same(self.handle, self.folder / self.name):
            raise HardGNNError(
                f"{shown(self.folder)}: was removed, moved or replaced while this command worked in it; "
                "it stops, and nothing more is written"
            )


@contextmanager
def locked(folder: Path, patience_s: float = 0.0, name: str = LOCK, shared: bool = False) -> Iterator[Held]:
    """Holds a folder's lock, which the system releases with the process however that ends.

    Args:
        folder: an existing folder; the lock is the file `name` in it.
        patience_s: how long to wait for another process.
        name: of the lock file.
        shared: let others hold it too that ask for it as shared.

    Raises:
        HardGNNError: another process holds it for longer.
    """
    deadline = time.monotonic() + patience_s
    with writing(folder):
        while True:
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            if _locked_now(handle, shared) and is_same(handle, folder / name):
                break
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
            os.close(handle)
            if time.monotonic() > deadline:
                who = f" ({holder})" if holder else ""
                raise HardGNNError(f"{shown(folder)}: another process is at work there{who}")
            time.sleep(0.1)
    try:
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        yield Held(folder, handle, name)
    finally:
        with suppress(OSError):
            if not shared and is_same(handle, folder / name):
                (folder / name).unlink()  # whoever waits for it sees that it is gone, and asks anew
        os.close(handle)


def is_locked(folder: Path, name: str = LOCK) -> bool:
    """Whether a process holds a folder's lock."""
    try:
        handle = os.open(folder / name, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _locked_now(handle)
    finally:
        os.close(handle)


def _locked_now(handle: int, shared: bool = False) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
