"""Public data sets from their origin: resumed, checksummed, ready to be prepared; or how to get them by hand."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hardgnn.data.readers import RawFile, guess_format
from hardgnn.errors import HardGNNError, nearest
from hardgnn.storage.files import atomic_path, flush, sweep, writing
from hardgnn.storage.locks import locked
from hardgnn.storage.records import read_json, sha256, write_json

TIMEOUT_S = 5.0
TRIES = 3
CHUNK_BYTES = 1 << 18
RECORD = "download.json"
RECORD_VERSION = 2

Progress = Callable[[int, int | None], None]
"""Is told the bytes so far, and the bytes in all where they are known."""
Say = Callable[[str], None]
"""Is told in a sentence what happens."""


@dataclass(frozen=True)
class Wheel:
    """A second home of a data set: files inside a Python package, by the path there, with name and SHA-256."""

    requirement: str
    files: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """A file at its origin.

    `md5` is the sum that the origin publishes; where it publishes none, the file must be whole and of the format
    `kind`. `members` are unpacked under other names; without any the file stays as it is, for the readers take it so.
    `log` is what `hardgnn prepare` is given, with `preset` if there is one. `terms` are those of the data, in a line.
    """

    base: str
    archive: str
    log: str
    terms: str
    md5: str | None = None
    kind: str = "movielens"
    members: dict[str, str] = field(default_factory=dict)
    preset: str | None = None
    wheel: Wheel | None = None


MOVIELENS = "https://files.grouplens.org/datasets/movielens"
SNAP = "https://snap.stanford.edu/data"
RESEARCH = (
    "GroupLens allows research that cites Harper and Konstan 2015 (doi:10.1145/2827872) and implies no endorsement; "
    "commercial use needs its permission"
)
KEPT = f"{RESEARCH}, and so does passing the data on"
SHARED = f"{RESEARCH}; the data may be passed on under the same terms"


def archive(name: str, md5: str, terms: str, preset: str | None = None) -> Source:
    """One of GroupLens' larger archives, which is read as it is."""
    return Source(base=MOVIELENS, archive=f"{name}.zip", log=f"{name}.zip", terms=terms, md5=md5, preset=preset)


# the MD5 sums are those that GroupLens publishes beside the archives (NAME.zip.md5); SNAP publishes none
SOURCES: dict[str, Source] = {
    "ml-100k": Source(
        base=MOVIELENS,
        archive="ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        members={"ml-100k/u.data": "u.data", "ml-100k/u.item": "u.item"},
        log="u.data",
        terms=KEPT,
        wheel=Wheel(
            requirement="recbole==1.2.1",
            files={
                "recbole/dataset_example/ml-100k/ml-100k.inter": (
                    "ml-100k.inter",
                    "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                ),
                "recbole/dataset_example/ml-100k/ml-100k.item": (
                    "ml-100k.item",
                    "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                ),
            },
        ),
    ),
    "ml-1m": Source(
        base=MOVIELENS,
        archive="ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
        members={"ml-1m/ratings.dat": "ratings.dat", "ml-1m/movies.dat": "movies.dat"},
        log="ratings.dat",
        terms=KEPT,
    ),
    "ml-10m": archive("ml-10m", "ce571fd55effeba0271552578f2648bd", KEPT, "movielens-10m"),
    "ml-20m": archive("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", f"{RESEARCH}; its README tells the rest"),
    "ml-25m": archive("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada", KEPT),
    "ml-32m": archive("ml-32m", "d472be332d4daa821edc399621853b57", SHARED),
    "amazon-book": Source(
        base=f"{SNAP}/amazon/productGraph/categoryFiles",
        archive="ratings_Books.csv",
        log="ratings_Books.csv",
        terms="no licence is published with it; publications cite McAuley, Targett, Shi, van den Hengel (SIGIR 2015)",
        kind="amazon",
        preset="amazon-book",
    ),
    "gowalla": Source(
        base=SNAP,
        archive="loc-gowalla_totalCheckins.txt.gz",
        log="loc-gowalla_totalCheckins.txt.gz",
        terms="no licence is published with it; publications cite Cho, Myers, Leskovec (KDD 2011)",
        kind="gowalla",
        preset="gowalla",
    ),
}
BY_HAND = {
    "yelp": "the Yelp data set may be had only after accepting its licence: do so at https://www.yelp.com/dataset, "
    "download the JSON there as {to}/yelp_dataset.tar, and leave it packed; then run: "
    "hardgnn prepare {to}/yelp_dataset.tar --preset yelp --out {to}/prepared",
}


class Unreachable(Exception):
    """The origin does not answer, or not with the file."""


def download(
    name: str,
    to: str | Path,
    *,
    progress: Progress | None = None,
    say: Say | None = None,
    base_url: str | None = None,
) -> Path:
    """Fetches a data set into the folder `to` and answers the path of its log there.

    Nothing is fetched when the folder holds the verified files already. A broken transfer is resumed, here or at
    the next call. Where the origin cannot be reached and a Python package carries the data too, it is taken there.

    Args:
        progress: is called with the bytes so far and in all.
        say: is called with a sentence about what happens.
        base_url: another address of the folder that holds the archive.

    Raises:
        HardGNNError: an unknown name, a data set to be got by hand, no way to reach it, or a wrong checksum.
    """
    if name in BY_HAND:
        raise HardGNNError(f"{name} cannot be downloaded for you: {BY_HAND[name].format(to=to)}")
    if name not in SOURCES:
        raise HardGNNError(f"unknown data set '{name}': {nearest(name, [*SOURCES, *BY_HAND])}")
    source, to, tell = SOURCES[name], Path(to), say or (lambda _: None)
    if to.exists() and not to.is_dir():
        raise HardGNNError(f"{to}: a file is in the way of the folder to be written")
    tell(f"terms: {source.terms}")
    present = verified(name, to)
    if present is not None:
        (to / f".{source.archive}.part").unlink(missing_ok=True)  # of a call that was killed at its end
        tell(f"{present}: already there and verified")
        tell_next(name, present, tell)
        return present
    made = not to.exists()
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
    try:
        with locked(to):
            sweep(to)
            log = brought(name, source, to, progress, tell, base_url)
    finally:
        if made and not any(to.iterdir()):
            to.rmdir()
    told = "verified" if source.md5 else f"whole; no checksum is published for it, its SHA-256 is {sha256(log)}"
    tell(f"{log}: {told}")
    tell_next(name, log, tell)
    return log


def brought(name: str, source: Source, to: Path, progress: Progress | None, tell: Say, base_url: str | None) -> Path:
    """The log, fetched from its origin or out of its Python package into the folder `to`.

    Raises:
        HardGNNError: neither has it, or what came is not what was published.
    """
    url = f"{(base_url or source.base).rstrip('/')}/{source.archive}"
    part = to / f".{source.archive}.part"
    try:
        with writing(part):
            tell(f"fetching {url}")
            fetch(url, part, source, progress)
            log = unpack(name, part, to) if source.members else keep(name, part, to)
    except Unreachable as reason:
        if source.wheel is None:
            raise HardGNNError(f"{name} could not be fetched: {reason}") from None
        tell(f"{reason}; taking {name} out of the Python package {source.wheel.requirement}")
        log = unpack_wheel(name, source.wheel, to, str(reason))
    part.unlink(missing_ok=True)
    return log


def tell_next(name: str, log: Path, tell: Say) -> None:
    """Says how to go on with a log that has settings of its own."""
    if (preset := SOURCES[name].preset) is not None:
        tell(f"next: hardgnn prepare {log} --preset {preset} --out {log.parent / 'prepared'}")


def verified(name: str, folder: Path) -> Path | None:
    """The log in `folder` if an earlier download recorded it and every file still has its checksum."""
    if not (folder / RECORD).is_file():
        return None
    try:
        record = read_json(folder / RECORD)
        if record["name"] != name or record["log"] not in record["files"]:
            return None
        for file, digest in record["files"].items():
            if not (folder / file).is_file() or sha256(folder / file) != digest:
                return None
        return folder / record["log"]
    except (HardGNNError, KeyError, TypeError, AttributeError):
        return None  # a record of another kind counts as none


def fetch(url: str, part: Path, source: Source, progress: Progress | None) -> None:
    """Brings the file at `url` to `part`, going on where an earlier transfer stopped.

    Raises:
        Unreachable: no answer, an error status, or a transfer that breaks again and again.
        HardGNNError: the file is whole but not the one that was published.
    """
    for _ in range(TRIES):
        resumed = part.exists() and part.stat().st_size > 0
        if not transfer(url, part, progress):
            continue
        wrong = complaint(part, source)
        if wrong is None:
            return
        part.unlink()
        if not resumed:  # what was kept from an earlier transfer may be to blame: then try from the start
            raise HardGNNError(f"{url}: {wrong}, so the file was thrown away")
    raise Unreachable(f"{url}: the transfer broke {TRIES} times; call again to go on where it stopped")


def complaint(part: Path, source: Source) -> str | None:
    """What is wrong with a file that came whole: another checksum, or, without a published one, another content."""
    if source.md5 is not None:
        with part.open("rb") as handle:
            digest = hashlib.file_digest(handle, "md5").hexdigest()
        return None if digest == source.md5 else f"wrong checksum (MD5 {digest}, published {source.md5})"
    try:
        raw = RawFile.find(part)
        found = guess_format(raw)
        for _ in raw.blocks():  # to the end of a gzip, whose own checksum is there
            pass
    except HardGNNError as error:
        return str(error).removeprefix(f"{part}: ")
    return None if found == source.kind else f"not the expected {source.kind} file but one of format {found}"


def transfer(url: str, part: Path, progress: Progress | None) -> bool:
    """One request, appended to `part`; whether the file is whole afterwards.

    Raises:
        Unreachable: no answer, or an error status.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what is there: whole, or of another file
            size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if size.isdigit() and int(size) != have:
                part.unlink()
                return False
            return True
        raise Unreachable(f"{url}: answered {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(f"{url}: cannot be reached ({getattr(error, 'reason', error)})") from None
    with response:
        if response.status != 206:  # the server sends the whole file
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with part.open("ab" if have else "wb") as out:
            try:
                while chunk := response.read(CHUNK_BYTES):
                    out.write(chunk)
                    have += len(chunk)
                    if progress is not None:
                        progress(have, total)
            except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException):
                return False
    return total is None or have == total


def unpack(name: str, archive: Path, to: Path) -> Path:
    """Takes the wanted members out of a verified archive."""
    source = SOURCES[name]
    with zipfile.ZipFile(archive) as packed:
        members = {member: (file, None) for member, file in source.members.items()}
        return install(name, packed, members, to, source.log)


def keep(name: str, part: Path, to: Path) -> Path:
    """Gives a verified file its name, and records it."""
    log = to / SOURCES[name].log
    flush(part)
    os.replace(part, log)
    flush(to)
    write_record(to, name, {log.name: sha256(log)}, log.name)
    return log


def unpack_wheel(name: str, wheel: Wheel, to: Path, reason: str) -> Path:
    """Takes the data set out of a Python package that pip fetches.

    Raises:
        HardGNNError: pip cannot fetch the package, or its files are not the expected ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, wheel.requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            told = errors[-1] if errors else f"exit status {done.returncode}"
            raise HardGNNError(f"{name} could not be fetched: {reason}; nor {wheel.requirement} with pip ({told})")
        with zipfile.ZipFile(wheels[0]) as packed:
            log = next(iter(wheel.files.values()))[0]
            return install(name, packed, wheel.files, to, log)


def install(
    name: str, packed: zipfile.ZipFile, members: Mapping[str, tuple[str, str | None]], to: Path, log: str
) -> Path:
    """Unpacks `members` (path there: name here, SHA-256 if it is known) into `to`, and records what lies there.

    Raises:
        HardGNNError: a member is missing or not the expected one; nothing is left behind.
    """
    written: dict[str, str] = {}
    try:
        for member, (file, expected) in members.items():
            with atomic_path(to / file) as temporary:
                with packed.open(member) as inside, temporary.open("wb") as out:
                    shutil.copyfileobj(inside, out)
                digest = sha256(temporary)
                if expected not in (None, digest):
                    raise HardGNNError(f"{member}: wrong checksum (SHA-256 {digest}, expected {expected})")
            written[file] = digest
    except (HardGNNError, KeyError, zipfile.BadZipFile) as error:
        for file in written:
            (to / file).unlink()
        if isinstance(error, HardGNNError):
            raise
        raise HardGNNError(f"{packed.filename}: not the expected archive ({error})") from None
    write_record(to, name, written, log)
    return to / log


def write_record(to: Path, name: str, files: dict[str, str], log: str) -> None:
    """Notes last of all what is there, each file with its SHA-256."""
    document = {"format_version": RECORD_VERSION, "name": name, "files": files, "log": log}
    write_json(to / RECORD, document, sealed=True)
