"""Where the bytes of a raw log lie: in a file, or in a copy of what came through a pipe."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.wording import option

STANDARD_INPUT = ("-", "/dev/stdin")
PIPE_BYTES = 8 << 30  # what comes through a pipe is kept on the disk until it is read
PATIENCE_S = 3.0  # a pipe without a writer waits as long for one
CHUNK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 18  # of the streams over one another


@dataclass(frozen=True)
class Stored:
    """The bytes of a log: those of the file `path`, or of the open file `copy`. `label` names them in errors."""

    path: Path
    label: str
    copy: IO[bytes] | None = None

    @classmethod
    def find(cls, path: Path, max_bytes: int | None = None) -> Stored:
        """The bytes behind a path; a pipe, and standard input as `-`, is read to its end into a file without a name.

        Raises:
            MachineError: the disk is full.
            HardGNNError: there is no such file, it may not be read, it is a folder or a device, nobody writes into
                the pipe, or more than `max_bytes` (8 GiB by default) comes out of it.
        """
        if str(path) in STANDARD_INPUT:
            label = "standard input"
            with reading(label):
                return cls(path, label, _copied(_standard_input(), label, max_bytes))
        label = shown(path)
        with reading(label):
            mode = path.stat().st_mode
            if stat.S_ISFIFO(mode):
                return cls(path, label, _copied(_pipe(path, label), label, max_bytes))
            if stat.S_ISDIR(mode):
                raise HardGNNError(f"{label}: a folder, expected a file")
            if not stat.S_ISREG(mode):
                raise HardGNNError(f"{label}: a device or a socket, expected a file or a pipe")
        return cls(path, label)

    def open(self) -> Counted:
        """A new reader of the bytes, from their begin.

        Raises:
            OSError: the file cannot be opened.
        """
        return Counted(self.path.open("rb", buffering=0)) if self.copy is None else Counted(self.copy, owned=False)


class Counted(io.RawIOBase):
    """A reader with a place of its own in an open file, which counts what it reads."""

    def __init__(self, file: Any, owned: bool = True) -> None:
        self.file, self.owned, self.at, self.count = file, owned, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.at}.get(whence)
        self.at = self.file.seek(offset, whence) if start is None else self.file.seek(start + offset)
        return self.at

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.at)
        size = self.file.readinto(buffer) or 0
        self.at += size
        self.count += size
        return size

    def close(self) -> None:
        if self.owned and not self.closed:
            self.file.close()
        super().close()


def _copied(chunks: Iterator[bytes], label: str, max_bytes: int | None) -> IO[bytes]:
    """What comes, in a file that is gone with its last reader."""
    most, size = max_bytes or PIPE_BYTES, 0
    copy = tempfile.TemporaryFile(prefix="hardgnn-")  # noqa: SIM115 (the log is read from it later)
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise HardGNNError(f"{label}: more than {most:,} bytes came; {allow()}")
        copy.write(chunk)
    copy.flush()
    return copy


def _standard_input() -> Iterator[bytes]:
    """What comes through standard input, as long as something comes."""
    if sys.stdin is None or sys.stdin.isatty() or _is_device(sys.stdin):
        raise HardGNNError("standard input is a terminal or a device; send the log through a pipe")
    while chunk := sys.stdin.buffer.read(CHUNK_BYTES):
        yield chunk


def _is_device(file: IO[str]) -> bool:
    try:
        return stat.S_ISCHR(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):  # replaced by something that is no file of the system
        return False


def _pipe(path: Path, label: str) -> Iterator[bytes]:
    """What comes through a pipe until its last writer is gone; a writer must come soon, and may take its time then."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        begun, until = False, time.monotonic() + PATIENCE_S
        while True:
            try:
                chunk = os.read(handle, CHUNK_BYTES)
            except BlockingIOError:  # somebody has it open for writing
                begun = True
                select.select([handle], [], [])
                continue
            if chunk:
                begun = True
                yield chunk
            elif begun:
                return
            elif time.monotonic() > until:
                raise HardGNNError(f"{label}: nobody wrote into this pipe within {PATIENCE_S:.0f} s")
            else:
                time.sleep(0.02)
    finally:
        os.close(handle)


def allow() -> str:
    """What to do where more bytes are meant than are allowed."""
    return f"if that is meant, allow more with {option('max_bytes')}"
