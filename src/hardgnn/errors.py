"""What goes wrong, in one sentence: the input, the machine, and the boundary that tells them apart."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MACHINE = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
    errno.ENOMEM: "not enough memory",
}
"""What the operating system says when it is the machine that cannot."""
WORDS = {
    "No space left": MACHINE[errno.ENOSPC],
    "code: 28": MACHINE[errno.ENOSPC],
    "os error 28": MACHINE[errno.ENOSPC],
    "Disk quota": MACHINE[errno.EDQUOT],
    "File too large": MACHINE[errno.EFBIG],
    "Too many open files": MACHINE[errno.EMFILE],
    "allocate memory": MACHINE[errno.ENOMEM],
    "out of memory": MACHINE[errno.ENOMEM],
    "memory allocation": MACHINE[errno.ENOMEM],
    "bad_alloc": MACHINE[errno.ENOMEM],
    "failed to map segment": MACHINE[errno.ENOMEM],
    "Resource temporarily unavailable": "no more threads or memory to be had",
    "can't start new thread": "no more threads to be had",
}
"""The same in the words of libraries that have exceptions of their own."""
LONGEST_REASON = 300


class HardGNNError(Exception):
    """Bad input, told in one sentence that a user can act on. The command line prints it and exits with `status`."""

    status = 2


class MachineError(HardGNNError):
    """The machine and not the input is at fault: a full disk, too little memory, a place that may not be written."""

    status = 3


def machine_fault(error: BaseException) -> str | None:
    """What the machine could not do, in words; None where `error` is none of the machine's."""
    if isinstance(error, MemoryError):
        return MACHINE[errno.ENOMEM]
    if isinstance(error, OSError) and error.errno in MACHINE:
        return MACHINE[error.errno]
    text = str(error)
    return next((words for sign, words in WORDS.items() if sign in text), None)


def reason(error: BaseException) -> str:
    """The first line of an error's message, printable and not too long; its type where it has none."""
    lines = str(error).strip().splitlines()
    text = "".join(c if c.isprintable() else "?" for c in lines[0]) if lines else ""
    return text[:LONGEST_REASON] if text else type(error).__name__


@contextmanager
def reading(path: Path | str, remedy: str = "") -> Iterator[None]:
    """Turns whatever goes wrong while the file or folder `path` is read into one sentence.

    Args:
        path: named in the sentence.
        remedy: what to do about a damaged file, as in "prepare it again".

    Raises:
        MachineError: too little memory, too many open files, a failing disk.
        HardGNNError: anything else but an interrupt.
    """
    try:
        yield
    except (HardGNNError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the panics of polars are no Exception
        fault = machine_fault(error)
        if fault is not None:
            raise MachineError(f"{path}: cannot be read: {fault}") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise HardGNNError(told(error, path)) from None
        then = f"; {remedy}" if remedy else ""
        raise HardGNNError(f"{path}: damaged ({reason(error)}){then}") from None


def told(error: OSError, path: Path | str | None = None) -> str:
    """What the operating system refuses, as a sentence that names the file."""
    where = error.filename or path
    words = {
        errno.ENOENT: "no such file or folder",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.EISDIR: "a folder, expected a file",
        errno.ENOTDIR: "a file is where a folder is expected",
        errno.ENAMETOOLONG: "the name is too long",
        errno.ELOOP: "symbolic links that go round in circles",
    }
    said = words.get(error.errno or 0) or error.strerror or reason(error)
    return f"{shown(where)}: {said}" if where is not None else said


def shown(path: object) -> str:
    """A path or name as it can be printed, whatever bytes it is made of."""
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else str(path)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the valid name closest to `name`, or lists them all when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
