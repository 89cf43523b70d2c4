"""A raw log as bytes: a file as it is, compressed, in an archive or out of a pipe; a stream, never unpacked."""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hardgnn.data.raw.archives import TheOnlyFile, base, shown_member
from hardgnn.data.raw.layers import bare, opened
from hardgnn.data.raw.recoded import Recoded, known_encoding
from hardgnn.data.raw.stored import BUFFER_BYTES, Stored
from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.wording import option, said

HEAD_BYTES = 65_536
BLOCK_BYTES = 1 << 20  # larger blocks were neither faster nor smaller in memory
LONGEST_LINE = 8 << 20
BOM = b"\xef\xbb\xbf"
PARQUET_MAGIC = b"PAR1"
PARQUET_ENDINGS = (".parquet", ".pq")
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class NotUnicode(HardGNNError):
    """A text that is not UTF-8 though no other encoding was named."""


@dataclass(frozen=True)
class RawFile:
    """A raw log and where its bytes are.

    `members` is its path in each archive around it; `name` is the file's name in lower case, without .gz and the
    like; `head` its first bytes, in UTF-8. `encoding` is that of the text, None for UTF-8. `max_bytes` bounds what
    comes out of a compressed file. `parts` are the files of a log of several Parquet files.
    """

    stored: Stored
    members: tuple[str, ...] = ()
    name: str = ""
    head: bytes = b""
    encoding: str | None = None
    max_bytes: int | None = None
    parts: tuple[Path, ...] = ()

    @classmethod
    def find(
        cls, path: Path, encoding: str | None = None, max_bytes: int | None = None, member: str | None = None
    ) -> RawFile:
        """The log in the file or archive `path`, in the Parquet files of a folder, or in what comes through a pipe.

        Args:
            path: the file; `-` is standard input. It is a pattern of Parquet files only where it names no file.
            encoding: of a text, if it is not UTF-8.
            max_bytes: the most bytes that come out of it, where it is compressed or a pipe.
            member: the file inside an archive; without it the log is looked for.

        Raises:
            HardGNNError: there is no such file, it is a folder, empty, unreadable, damaged, or an archive without
                a known log.
        """
        if encoding is not None:
            encoding = known_encoding(encoding)
        with reading(shown(path)):
            if parts := parquet_files(path):
                name = path.name if path.is_dir() else path.parent.name
                stored = Stored(path, shown(path))
                return cls(stored, (), name.lower(), PARQUET_MAGIC, encoding, max_bytes, parts)
        members = () if member is None else (member,)
        raw = cls(Stored.find(path, max_bytes), members, encoding=encoding, max_bytes=max_bytes)
        return raw.looked_into()

    def looked_into(self) -> RawFile:
        """The same with its head, its name and its path in an archive.

        Raises:
            HardGNNError: as `find`.
        """
        with reading(self.label):
            try:
                with self.stream() as (stream, members):
                    head = stream.read(HEAD_BYTES)
            except TheOnlyFile as only:
                return replace(self, members=only.members).looked_into()
        name = base(members[-1]) if members else self.path.name if self.is_on_disk else "stdin"
        raw = replace(self, members=members, name=bare(name.lower()), head=head)
        if self.encoding is None and (mark := next((mark for mark in MARKS if head.startswith(mark)), None)):
            name = said(MARKS[mark], repr(MARKS[mark]))
            raise NotUnicode(f"{raw.label}: text in {MARKS[mark]}; say so with {option('encoding', name)}")
        if not head.strip(BOM + b" \t\r\n"):
            raise HardGNNError(f"{raw.label}: the file is empty")
        return raw

    def recoded(self, encoding: str | None) -> RawFile:
        """The same text read in another encoding."""
        return replace(self, encoding=encoding).looked_into()

    @property
    def path(self) -> Path:
        """The file, or the folder or pattern of several."""
        return self.stored.path

    @property
    def member(self) -> str | None:
        """Its path in the archive around it, None for a file of its own."""
        return self.members[-1] if self.members else None

    @property
    def label(self) -> str:
        """The log in words: the path, and the member if there is one."""
        return self.stored.label if self.member is None else f"{self.stored.label}: {shown_member(self.member)}"

    @property
    def is_on_disk(self) -> bool:
        """Whether it is a file with others beside it, and not what came through a pipe."""
        return self.stored.copy is None

    def sha256(self) -> str:
        """The SHA-256 of the file's bytes as they lie there, as hex; of several files that of all their sums."""
        digest = hashlib.sha256()
        with reading(self.stored.label):
            if self.parts:
                for part in self.parts:
                    with part.open("rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").hexdigest().encode())
                return digest.hexdigest()
            with self.stored.open() as file:
                while chunk := file.read(BLOCK_BYTES):
                    digest.update(chunk)
        return digest.hexdigest()

    def first_line(self) -> str:
        """The first line that is not blank.

        Raises:
            HardGNNError: the file is not UTF-8 text.
        """
        if b"\0" in self.head:
            raise NotUnicode(f"{self.label}: binary data, expected a table in UTF-8 text; {encoding()}")
        lines = self.head.removeprefix(BOM).split(b"\n")
        if len(lines) == 1 and self.head.strip().count(b"\r"):
            raise HardGNNError(f"{self.label}: its lines end in a carriage return alone; expected line feeds")
        return next((line.decode(errors="replace").rstrip("\r") for line in lines if line.strip()), "")

    def start(self) -> str:
        """The first line that is not blank, as far as it can be told; empty where there is none."""
        return next(iter(self.head_lines()), "")

    def head_lines(self) -> list[str]:
        """The lines at the begin of the file that are whole and not blank; of one long line what there is."""
        lines = self.head.decode("utf-8-sig", "replace").split("\n")
        whole = lines[:-1] if len(self.head) >= HEAD_BYTES and len(lines) > 1 else lines
        return [line.rstrip("\r") for line in whole if line.strip()]

    @contextmanager
    def stream(self) -> Iterator[tuple[io.BufferedReader, tuple[str, ...]]]:
        """The bytes, in UTF-8, and the path in each archive."""
        with opened(self.stored, self.members, self.max_bytes) as (stream, members):
            if self.encoding is not None:
                stream = io.BufferedReader(Recoded(stream, self.encoding, self.label), BUFFER_BYTES)
            yield stream, members

    @contextmanager
    def open(self, skip: int = 0) -> Iterator[io.BufferedReader]:
        """The log as a stream of bytes in UTF-8, without a mark at its begin and its first `skip` lines."""
        with self.stream() as (stream, _):
            if stream.peek(len(BOM))[: len(BOM)] == BOM:
                stream.read(len(BOM))
            for _ in range(skip):
                stream.readline(HEAD_BYTES)
            yield stream

    def blocks(self, skip: int = 0) -> Iterator[tuple[int, bytes]]:
        """The log, without its first `skip` lines, in blocks of whole lines, each with the number of its first line.

        Raises:
            HardGNNError: a line is longer than any log has.
        """
        line = skip + 1
        with reading(self.label), self.open(skip) as stream:
            rest = b""
            while chunk := stream.read(BLOCK_BYTES):
                cut = chunk.rfind(b"\n") + 1
                if cut:
                    block = rest + chunk[:cut]
                    yield line, block
                    line += block.count(b"\n")
                    rest = b""
                rest += chunk[cut:]
                if len(rest) > LONGEST_LINE:
                    raise HardGNNError(f"{self.label}: line {line} is longer than {LONGEST_LINE >> 20} MiB")
            if rest:
                yield line, rest


def parquet_files(path: Path) -> tuple[Path, ...]:
    """The Parquet files of a folder, or of a pattern that is no file's name; none for anything else.

    Raises:
        HardGNNError: a folder without any, or a pattern that fits other files too.
    """
    if path.is_dir():
        found = [one for one in path.iterdir() if one.suffix.lower() in PARQUET_ENDINGS and one.name[0] not in "._"]
        if not found:
            raise HardGNNError(f"{shown(path)}: a folder, expected a file or a folder of Parquet files")
        return tuple(sorted(found))
    if path.exists() or not {"*", "?"} & set(str(path)):
        return ()
    found = sorted(Path(one) for one in glob.glob(str(path).replace("[", "[[]")))  # brackets are never meant
    other = [one for one in found if one.suffix.lower() not in PARQUET_ENDINGS]
    if other and len(other) < len(found):
        raise HardGNNError(f"{shown(path)}: a pattern is for Parquet files, but {shown(other[0].name)} is none")
    return () if other else tuple(found)


def not_unicode(raw: RawFile, data: bytes, line: int) -> NotUnicode:
    """Says where bytes, which begin at a line of the log, are not UTF-8."""
    try:
        data.decode()
        at = line
    except UnicodeDecodeError as error:
        at = line + data.count(b"\n", 0, error.start)
    return NotUnicode(f"{raw.label}: line {at}: binary data or another encoding, expected UTF-8 text; {encoding()}")


def encoding() -> str:
    """What to do about a text in another encoding."""
    return f"name another encoding with {option('encoding')}, such as latin-1"
