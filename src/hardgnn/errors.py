"""What goes wrong, in one sentence: the input, the machine, and the boundary that tells them apart."""

from __future__ import annotations

import difflib
import errno
import re
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
    "not enough memory": MACHINE[errno.ENOMEM],
    "bad_alloc": MACHINE[errno.ENOMEM],
    "Storage size calculation overflowed": MACHINE[errno.ENOMEM],
    "failed to map segment": MACHINE[errno.ENOMEM],
    "Resource temporarily unavailable": "no more threads or memory to be had",
    "can't start new thread": "too many processes or threads are running",
}
"""The same in the words of libraries that have exceptions of their own."""
LONGEST_REASON = 300
FAULT = 70  # the exit status of a fault of the program
TRACEBACK = "HARDGNN_TRACEBACK"
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Controls, lone surrogates (a byte that is not UTF-8 is one), and what is invisible or turns the writing."""


class HardGNNError(Exception):
    """Bad input, told in one sentence that a user can act on. The command line prints it and exits with `status`."""

    status = 2


class NotFittedError(HardGNNError, ValueError, AttributeError):
    """Something was asked of a model that is not fitted yet; of the kinds of error that scikit-learn's is of."""


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
    return shown(lines[0][:LONGEST_REASON]) if lines else type(error).__name__


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


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit status of a command that ended with `error`, and the sentence that it says of it."""
    if isinstance(error, HardGNNError):
        return error.status, str(error)
    fault = machine_fault(error)
    if fault is not None:
        where = getattr(error, "filename", None)
        return MachineError.status, fault if where is None else f"{where}: {fault}"
    if isinstance(error, OSError) and error.errno is not None:
        return HardGNNError.status, told(error)
    if isinstance(error, UnicodeError):
        return HardGNNError.status, f"text that is not in the encoding it should be in ({reason(error)})"
    if isinstance(error, RecursionError):
        return HardGNNError.status, "the input is nested too deeply"
    fault = f"{type(error).__name__}: {reason(error)}"
    return FAULT, f"{fault}; this is a fault of the program, {TRACEBACK}=1 shows where it is"


def shown(text: object) -> str:
    """A path, id, title or message as it can be shown, on one line and whatever it is made of.

    Escaped are bytes that are not UTF-8, control characters (line breaks and terminal sequences among them), and
    characters that nobody sees or that turn the direction of writing.
    """
    plain = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else str(text)
    return UNSEEN.sub(_escaped, plain)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else found[0].encode("unicode_escape").decode()


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the valid name closest to `name`, or lists them all when none is close."""
    names = sorted(known)
    if not names:
        return "none is known"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
