"""What is around a raw log, compression or an archive, taken off as it is read; swelling and damage are told."""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from hardgnn.data.raw.archives import TheOnlyFile, tar_member, zip_entry
from hardgnn.data.raw.stored import BUFFER_BYTES, Counted, Stored, allow
from hardgnn.errors import HardGNNError, MachineError, machine_fault, reason, told
from hardgnn.wording import said

# real logs are packed 3 to 20 times smaller, deflate can pack 1,000 times, the others without bound
RATIO, FREE_BYTES, MOST_BYTES = 50, 32 << 20, 64 << 30
XZ_MEMORY = 256 << 20
DEEPEST = 6
ENDINGS = (".gz", ".bz2", ".xz", ".zst")
ZIP_MAGIC = b"PK\x03\x04"
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257


def zstandard() -> Any:
    """The decompressor of Zstandard, which Python has since 3.14.

    Raises:
        HardGNNError: Python is older and the package is missing.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return importlib.import_module(name).ZstdDecompressor()
    raise HardGNNError(
        "reading .zst needs Python 3.14 or the package backports.zstd: pip install 'hardgnn[zstd]'; "
        + said("or unpack it into a pipe: zstd -dc LOG | hardgnn prepare - --out DATA", "or unpack it first")
    )


COMPRESSIONS: dict[bytes, tuple[str, Callable[[io.BufferedReader], Any]]] = {
    rb"\x1f\x8b": ("gzip file", lambda stream: Unpacked(stream, Inflating)),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": ("bzip2 file", lambda stream: Unpacked(stream, bz2.BZ2Decompressor)),
    rb"\xfd7zXZ\x00": ("xz file", lambda stream: Unpacked(stream, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY))),
    rb"\x28\xb5\x2f\xfd": ("zst file", lambda stream: Unpacked(stream, zstandard)),
}
"""What a compressed file begins with, its kind, and how it is opened."""


class Inflating:
    """zlib's decompressor of gzip with the interface of the others; Python's own reader of gzip takes twice as long."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        """Whether the member is at its end, its checksum compared."""
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""
        return self.inner.unused_data

    @property
    def needs_input(self) -> bool:
        """Whether nothing is left of what it got."""
        return not self.inner.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most so many bytes of the content."""
        return self.inner.decompress(self.inner.unconsumed_tail + data, most)


class Unpacked(io.RawIOBase):
    """The content of a compressed file of one member or several; it is asked for no more than is wanted."""

    def __init__(self, stream: io.BufferedReader, new: Callable[[], Any]) -> None:
        self.stream, self.new, self.member = stream, new, new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = 0
        while size < len(buffer):
            more = b""
            if self.member.eof:
                more = self.member.unused_data or self.stream.read(BUFFER_BYTES)
                if not more.strip(b"\0"):  # some fill up with them
                    break
                self.member = self.new()
            elif self.member.needs_input:
                more = self.stream.read(BUFFER_BYTES)
                if not more:
                    raise EOFError("it ends too early")
            data = self.member.decompress(more, len(buffer) - size)
            buffer[size : size + len(data)] = data
            size += len(data)
        return size


class Watched(io.RawIOBase):
    """The content of one layer, its damage told in a sentence and its size bounded."""

    def __init__(self, content: Any, kind: str, label: str, source: Counted, max_bytes: int | None) -> None:
        self.content, self.kind, self.label = content, kind, label
        self.source, self.max_bytes, self.count = source, max_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with undamaged(self.label, self.kind):
            size = int(self.content.readinto(buffer))
        self.count += size
        refuse_swelling(self.count, self.source.count, self.kind, self.label, self.max_bytes)
        return size


def refuse_swelling(size: int, packed: int, kind: str, label: str, max_bytes: int | None) -> None:
    """Refuses content that is far larger than what it is packed in.

    Args:
        size, packed: bytes so far, of the content and of the file.
        kind, label: what it is, and of which file.
        max_bytes: the most that the user allows, instead of the usual bounds.

    Raises:
        HardGNNError: it is.
    """
    if max_bytes is not None:
        if size > max_bytes:
            raise HardGNNError(f"{label}: the {kind} holds more than the {max_bytes:,} bytes that are allowed")
    elif size > MOST_BYTES:
        raise HardGNNError(f"{label}: the {kind} holds more than {MOST_BYTES >> 30} GiB; {allow()}")
    elif size > FREE_BYTES + RATIO * packed:
        raise HardGNNError(
            f"{label}: the {kind} swells to {size >> 20:,} MiB, more than {RATIO} times its size, as no log does; "
            f"{allow()}"
        )


@contextmanager
def undamaged(label: str, kind: str) -> Iterator[None]:
    """Turns what reading a layer raises into a sentence.

    Raises:
        MachineError: a fault of the machine.
        HardGNNError: anything else.
    """
    try:
        yield
    except (HardGNNError, TheOnlyFile):
        raise
    except Exception as error:  # damaged archives raise nearly anything
        fault = machine_fault(error)
        if fault is not None:
            raise MachineError(f"{label}: cannot be read: {fault}") from None
        if isinstance(error, OSError) and error.strerror:
            raise HardGNNError(told(error, label)) from None
        raise HardGNNError(f"{label}: the {kind} is truncated or damaged ({reason(error)})") from None


@contextmanager
def opened(
    stored: Stored, wanted: tuple[str, ...] = (), max_bytes: int | None = None
) -> Iterator[tuple[io.BufferedReader, tuple[str, ...]]]:
    """The stream of a file's log, and its path in each of the archives that it is in, from the outermost.

    Args:
        stored: the file.
        wanted: a path in each archive; without it the log is looked for.
        max_bytes: the most that may come out of it; by default 32 MiB and 50 times the size of the file.

    Raises:
        HardGNNError: an archive without a known log, a damaged one, or one that swells too much.
        TheOnlyFile: `wanted` must be told to get at it.
    """
    label, members = stored.label, list[str]()
    with ExitStack() as stack:
        source = stack.enter_context(stored.open())
        stream: io.BufferedReader = io.BufferedReader(source, BUFFER_BYTES)
        for _ in range(DEEPEST):
            start = stream.peek(TAR_MAGIC_AT + len(TAR_MAGIC))
            packed = next((one for magic, one in COMPRESSIONS.items() if re.match(magic, start, re.DOTALL)), None)
            member = wanted[len(members)] if len(members) < len(wanted) else None
            content: Any
            if packed is not None:
                kind, unpack = packed
                with undamaged(label, kind):
                    content = unpack(stream)
            elif start.startswith(ZIP_MAGIC) and not members:
                kind = "zip archive"
                with undamaged(label, kind):
                    archive = stack.enter_context(zipfile.ZipFile(stream))
                    entry = zip_entry(archive, member, label)
                    refuse_swelling(entry.file_size, entry.compress_size, kind, label, max_bytes)
                    content = archive.open(entry)
                members.append(entry.filename)
            elif start[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
                kind = "tar archive"
                try:
                    with undamaged(label, kind):
                        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
                        found, content = tar_member(tar, member, label)
                except TheOnlyFile as only:
                    only.members = (*members, *only.members)
                    raise
                members.append(found)
            else:
                yield stream, tuple(members)
                return
            stream = io.BufferedReader(Watched(content, kind, label, source, max_bytes), BUFFER_BYTES)
        raise HardGNNError(f"{label}: packed more than {DEEPEST - 1} times over")


def bare(name: str) -> str:
    """A file's name without the ending of its compression."""
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)
