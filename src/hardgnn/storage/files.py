"""Writing files and folders so that a reader never sees half of one and a crash loses nothing.

What is written gets a temporary name that its writer holds a lock on, is forced to the disk, and then takes its
place. A kill leaves at most the temporary name, which nobody holds then: the next writer of that name removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardgnn.errors import HardGNNError, MachineError, machine_fault, shown, told

try:
    import fcntl
except ImportError:  # Windows has no such locks: then nothing is held, and nothing is swept
    fcntl = None  # type: ignore[assignment]

AT_CWD, EXCHANGE = -100, 2  # of renameat2
LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(tmp|old)", re.DOTALL)
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@contextmanager
def atomic_path(path: Path, make_parent: bool = True) -> Iterator[Path]:
    """Yields a temporary name beside `path`; on success it takes `path`'s place, on failure it is removed.

    A symbolic link stays, and what it points to is replaced. The file gets the mode that the umask gives.

    Args:
        path: the file to write.
        make_parent: make its folder where there is none; without it a folder that is gone is an error.

    Raises:
        MachineError: the disk is full, or another fault of the machine.
        HardGNNError: `path` is no ordinary file, or may not be written.
    """
    path = followed(path)
    with writing(path):
        if path.exists() and not path.is_file():
            raise HardGNNError(f"{shown(path)}: not an ordinary file, so nothing is written there")
        if make_parent:
            path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        temporary, handle = _temporary_file(path)
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        try:
            yield temporary
            os.chmod(temporary, mode)  # some writers choose their own
            flush(temporary)
            os.replace(temporary, path)
            confirm(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def atomic_folder(path: Path, marker: str) -> Iterator[Path]:
    """Yields a new folder beside `path` which then takes its place in one step.

    An older folder of the same kind is replaced: one that is empty or holds the file `marker`.

    Raises:
        MachineError: the disk is full, or another fault of the machine.
        HardGNNError: `path` holds something else, which is left alone, or may not be written.
    """
    path = followed(path)
    with writing(path):
        recover(path)
        if path.exists() and not path.is_dir():
            raise HardGNNError(f"{shown(path)}: a file is in the way of the folder to be written")
        if path.is_dir() and any(path.iterdir()) and not (path / marker).exists():
            raise HardGNNError(f"{shown(path)}: the folder is not empty and holds no {marker}, so it is left alone")
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        with scratch_folder(path) as temporary:  # which after an exchange is the older folder
            try:
                yield temporary
                for folder, _, files in os.walk(temporary):
                    for one in files:
                        flush(Path(folder, one))
                    flush(Path(folder))
                _put(temporary, path)
            except HardGNNError as error:
                error.args = (str(error).replace(str(temporary), str(path)),)  # nobody knows the temporary name
                raise


@contextmanager
def scratch_folder(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """Yields a new folder beside `path` that is removed at the end; what a kill leaves a sweep of that name removes.

    Args:
        path: whose name the folder's begins with.
        mode: of the folder, before the umask.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        temporary = _temporary_name(path)
        temporary.mkdir(mode)
        handle = os.open(temporary, os.O_RDONLY)
        if _hold(handle, temporary):
            break
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says while `path` is written into a sentence.

    Raises:
        MachineError: a fault of the machine; says that nothing was written.
        HardGNNError: a place that may not be written, or is gone.
    """
    try:
        yield
    except HardGNNError:
        raise
    except Exception as error:
        fault = machine_fault(error)
        if fault is not None:
            raise MachineError(f"{shown(path)}: {fault}; nothing was written") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise HardGNNError(f"{told(error, path)}; nothing was written") from None
        raise


def followed(path: Path) -> Path:
    """Where writing to `path` ends: the path itself, or what it links to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def recover(path: Path) -> None:
    """Puts a folder back that a kill between two renames left under its old name; removes older leftovers."""
    for old in _leftovers(path.parent, path.name, "old"):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes what killed commands left in `folder`: temporary names, of the file `name` or of all, nobody holds."""
    if fcntl is None:
        return
    for leftover in _leftovers(folder, name, "tmp"):
        with suppress(OSError):
            handle = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            finally:
                os.close(handle)


def is_leftover(path: Path) -> bool:
    """Whether a name is one that a killed command leaves, and a sweep removes."""
    return LEFTOVER.fullmatch(path.name) is not None


def _leftovers(folder: Path, name: str | None, ending: str) -> list[Path]:
    """What killed commands left in a folder with this ending, of the file `name` or of all."""
    try:
        every = [(Path(one.path), LEFTOVER.fullmatch(one.name)) for one in os.scandir(folder)]
    except OSError:
        return []
    return [path for path, found in every if found and found[2] == ending and name in (None, found[1])]


def _temporary_file(path: Path) -> tuple[Path, int]:
    """A new temporary file beside `path`, and the handle that holds it."""
    while True:
        temporary = _temporary_name(path)
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _hold(handle, temporary):
            return temporary, handle


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _hold(handle: int, path: Path) -> bool:
    """Locks a new temporary name; False where a sweep was faster."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks: its leftovers are never swept
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if is_same(handle, path):
        return True
    os.close(handle)
    return False


def is_same(handle: int, path: Path) -> bool:
    """Whether `path` is still the file or folder that `handle` has open."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def flush(path: Path) -> None:
    """Forces a file, or the names in a folder, to the disk.

    Raises:
        OSError: the disk cannot keep it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some file systems cannot flush a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def confirm(path: Path) -> None:
    """Forces the new name of what was written to the disk.

    Raises:
        MachineError: the disk cannot; what was written is there now, and may be gone after a power cut.
    """
    try:
        flush(path.parent)
    except OSError as error:
        raise MachineError(f"{shown(path)}: was written, but the disk does not confirm it: {told(error)}") from None


def _put(temporary: Path, path: Path) -> None:
    """Gives the new folder its name; an older one takes the temporary name in the same step, where that can be."""
    if not path.exists():
        temporary.rename(path)
    elif not _exchange(temporary, path):
        old = path.with_name(temporary.name.removesuffix("tmp") + "old")
        path.rename(old)  # a kill after this line is mended by `recover`
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    confirm(path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two folders at once; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        status = libc.renamex_np(*names, EXCHANGE)
    elif hasattr(libc, "renameat2"):
        status = libc.renameat2(AT_CWD, names[0], AT_CWD, names[1], EXCHANGE)
    else:
        return False
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code in NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))
