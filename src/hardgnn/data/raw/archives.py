"""Which file of an archive is the log: one that is asked for, of a known name, or the only one."""

from __future__ import annotations

import re
import tarfile
import zipfile
from typing import IO

from hardgnn.errors import HardGNNError, shown

MOST_ENTRIES = 100_000  # of a tar archive
# what is looked for in an archive, best first; folders in front do not matter
MEMBERS = [
    re.compile(pattern + r"(\.(gz|bz2|xz|zst))?")
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


class TheOnlyFile(Exception):
    """Names the only file of a tar archive, which is behind the reader by then."""

    def __init__(self, member: str) -> None:
        super().__init__(member)
        self.members: tuple[str, ...] = (member,)


def base(member: str) -> str:
    """A member's name without its folders."""
    return member.replace("\\", "/").rsplit("/", 1)[-1]


def is_known(member: str) -> bool:
    """Whether a member has the name of a published log."""
    return any(pattern.fullmatch(base(member).lower()) for pattern in MEMBERS)


def is_hidden(member: str) -> bool:
    """Whether a member is what a system puts beside the files, as `__MACOSX/._log.csv` and `.DS_Store`."""
    return base(member).startswith(".") or "__MACOSX" in member.replace("\\", "/").split("/")


def zip_entry(archive: zipfile.ZipFile, wanted: str | None, label: str) -> zipfile.ZipInfo:
    """The wanted file of a zip archive, or the log.

    Raises:
        HardGNNError: there is none, or it is encrypted.
    """
    files = [one for one in archive.infolist() if not one.is_dir() and not is_hidden(one.filename)]
    member = wanted or best_member([one.filename for one in files], label)
    entry = archive.getinfo(member)
    if entry.flag_bits & 1:
        raise HardGNNError(f"{label}: {shown_member(member)} is encrypted; unpack it with its password")
    return entry


def best_member(members: list[str], label: str) -> str:
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
    raise HardGNNError(f"{label}: {no_log(members)}")


def no_log(members: list[str]) -> str:
    """Says that an archive holds no known log, and what it holds."""
    some = [shown_member(one) for one in members[:8]]
    listed = ", ".join(some) + (", …" if len(members) > 8 else "") if members else "nothing"
    return f"the archive holds no known log such as ratings.csv or yelp_academic_dataset_review.json, but {listed}"


def shown_member(member: str) -> str:
    """A member's name as it can be printed."""
    return shown(member[:100])


def tar_member(tar: tarfile.TarFile, wanted: str | None, label: str) -> tuple[str, IO[bytes]]:
    """The wanted file of a tar archive, or its first known log, and its stream; it is read from front to back.

    Raises:
        HardGNNError: there is none; lists some of the files.
        TheOnlyFile: it is of an unknown name.
    """
    seen: list[str] = []
    for count, entry in enumerate(tar):
        if count > MOST_ENTRIES:
            raise HardGNNError(f"{label}: the archive holds more than {MOST_ENTRIES:,} files")
        if entry.isfile() and (entry.name == wanted or not is_hidden(entry.name)):
            seen.append(entry.name)
            if entry.name == wanted or (wanted is None and is_known(entry.name)):
                stream = tar.extractfile(entry)
                assert stream is not None  # entry is a regular file
                return entry.name, stream
    if len(seen) == 1 and wanted is None:
        raise TheOnlyFile(seen[0])
    raise HardGNNError(f"{label}: {no_log(seen)}")
