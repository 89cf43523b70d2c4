"""The bytes of a raw log: a file as it is, gzipped, or in a zip or tar archive; a stream, never unpacked."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hardgnn.errors import HardGNNError

HEAD_BYTES = 65_536
BLOCK_BYTES = 4 << 20  # larger blocks were neither faster nor smaller in memory
LONGEST_LINE = 64 << 20
BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = b"PK\x03\x04"
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
# what is looked for in an archive, best first; folders in front do not matter
MEMBERS = [
    re.compile(pattern + r"(\.gz)?")
    for pattern in (
        r"u\.data",
        r"ratings\.dat",
        r"ratings\.csv",
        r"yelp_academic_dataset_review\.json",
        r"yelp_dataset\.(tar|tgz)",
        r"(loc-)?gowalla_totalcheckins\.txt",
        r"ratings_\w+\.csv",
    )
]
# what reading a damaged archive or gzip raises
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)


@dataclass(frozen=True)
class RawFile:
    """A raw log and where its bytes are.

    `member` is its path inside an archive, None for a file of its own; `name` is the file's name in lower case,
    without .gz; `head` its first bytes.
    """

    path: Path
    member: str | None
    name: str
    head: bytes

    @classmethod
    def find(cls, path: Path) -> RawFile:
        """The log in the file or archive `path`.

        Raises:
            HardGNNError: there is no such file, it is a folder, empty, unreadable, damaged, or an archive without
                a known log.
        """
        if path.is_dir():
            raise HardGNNError(f"{path}: a folder, expected a file")
        try:
            with opened(path) as (stream, name, member):
                head = stream.read(HEAD_BYTES)
        except FileNotFoundError:
            raise HardGNNError(f"{path}: no such file") from None
        except DAMAGE as error:
            raise HardGNNError(f"{path}: {damage(path, error)}") from None
        except OSError as error:
            raise HardGNNError(f"{path}: cannot be read ({error.strerror or error})") from None
        raw = cls(path, member, name.lower().removesuffix(".gz"), head)
        if not head.strip(BOM + b" \t\r\n"):
            raise HardGNNError(f"{raw.label}: the file is empty")
        return raw

    @property
    def label(self) -> str:
        """The log in words: the path, and the member if there is one."""
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"

    def first_line(self) -> str:
        """The first line that is not blank.

        Raises:
            HardGNNError: the file is not UTF-8 text.
        """
        if b"\0" in self.head:
            raise HardGNNError(f"{self.label}: binary data, expected a table in UTF-8 text")
        lines = self.head.decode("utf-8-sig", errors="replace").split("\n")
        return next((line.rstrip("\r") for line in lines if line.strip()), "")

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The log as a stream of bytes, without a mark at its begin."""
        with opened(self.path) as (stream, _, _):
            if stream.peek(len(BOM))[: len(BOM)] == BOM:
                stream.read(len(BOM))
            yield stream

    @contextmanager
    def open_text(self) -> Iterator[io.TextIOWrapper]:
        """The log as text, its line ends untouched."""
        with self.open() as stream:
            yield io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """The log in blocks of whole lines, each with the number, from 1, of its first line.

        Raises:
            HardGNNError: a line is longer than any log has.
        """
        line = 1
        with self.open() as stream:
            parts: list[bytes] = []
            while chunk := stream.read(BLOCK_BYTES):
                cut = chunk.rfind(b"\n") + 1
                if cut == 0 and sum(map(len, parts)) > LONGEST_LINE:
                    raise HardGNNError(f"{self.label}: line {line} is longer than {LONGEST_LINE >> 20} MiB")
                if cut:
                    block = b"".join([*parts, chunk[:cut]])
                    yield line, block
                    line += block.count(b"\n")
                    parts = []
                parts.append(chunk[cut:])
            if last := b"".join(parts):
                yield line, last


def damage(path: Path, error: Exception) -> str:
    """What is wrong with an archive or gzip, in words."""
    kind = "zip archive" if isinstance(error, (zipfile.BadZipFile, NotImplementedError)) else "gzip file"
    kind = "tar archive" if isinstance(error, tarfile.TarError) else kind
    return f"the {kind} is truncated or damaged ({error})"


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.BufferedReader, str, str | None]]:
    """The stream of a file's log, the log's name, and its path inside an archive, if it is in one.

    Raises:
        HardGNNError: an archive without a known log.
    """
    with ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("rb"))
        name, member = path.name, None
        while True:
            stream = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw, 1 << 18)
            start = stream.peek(512)
            if start.startswith(GZIP_MAGIC):
                raw = stack.enter_context(gzip.GzipFile(fileobj=stream))
            elif start.startswith(ZIP_MAGIC) and member is None:
                archive = stack.enter_context(zipfile.ZipFile(stream))
                member = best_member([one.filename for one in archive.infolist() if not one.is_dir()], path)
                raw, name = stack.enter_context(zip_member(archive, member, path)), base(member)
            elif start[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
                tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
                member, raw = tar_member(tar, path)
                name = base(member)
            else:
                yield stream, name, member
                return


def base(member: str) -> str:
    """A member's name without its folders."""
    return member.replace("\\", "/").rsplit("/", 1)[-1]


def best_member(members: list[str], path: Path) -> str:
    """The log among an archive's files: one of a known name, or the only file.

    Raises:
        HardGNNError: there is none; lists some of the files.
    """
    for pattern in MEMBERS:
        found = [one for one in members if pattern.fullmatch(base(one).lower())]
        if found:
            return min(found, key=len)
    if len(members) == 1:
        return members[0]
    raise HardGNNError(f"{path}: {no_log(members)}")


def no_log(members: list[str]) -> str:
    """Says that an archive holds no known log, and what it holds."""
    listed = ", ".join(members[:8]) + (", …" if len(members) > 8 else "") if members else "nothing"
    return f"the archive holds no known log such as ratings.csv or yelp_academic_dataset_review.json, but {listed}"


def zip_member(archive: zipfile.ZipFile, member: str, path: Path) -> IO[bytes]:
    """The stream of one file of a zip archive.

    Raises:
        HardGNNError: it is encrypted.
    """
    try:
        return archive.open(member)
    except RuntimeError as error:
        raise HardGNNError(f"{path}: {member} cannot be read ({error})") from None


def tar_member(tar: tarfile.TarFile, path: Path) -> tuple[str, IO[bytes]]:
    """The first known log of a tar archive, which is read from front to back, and its stream.

    Raises:
        HardGNNError: there is none; lists some of the files.
    """
    seen: list[str] = []
    for entry in tar:
        if entry.isfile():
            seen.append(entry.name)
            if any(pattern.fullmatch(base(entry.name).lower()) for pattern in MEMBERS):
                stream = tar.extractfile(entry)
                assert stream is not None  # entry is a regular file
                return entry.name, stream
    raise HardGNNError(f"{path}: {no_log(seen)}")
