"""Records and hashes: JSON documents that show damage, and files compared with what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.storage.files import atomic_path

SEAL = "seal"
LARGEST = 256 << 20  # bytes of a record
SEALED = (2, 3)  # documents of these `format_version`s have a seal


def write_json(path: Path, document: Any, sealed: bool = False, make_parent: bool = True) -> None:
    """Writes `document` as indented JSON with sorted keys, atomically.

    Args:
        path: the file.
        document: the document.
        sealed: add the hash of the rest and of the file's name under the key `seal`, which `read_json` checks; the
            document has a `format_version` then.
        make_parent: as in `atomic_path`.
    """
    whole = {**document, SEAL: digest([path.name, document])} if sealed else document
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with atomic_path(path, make_parent) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))  # a lone surrogate is a JSON escape then


def read_json(path: Path) -> Any:
    """The JSON document at `path`, without its seal, which is checked where there is one.

    Raises:
        HardGNNError: the file is missing, is not JSON, or is not what was written.
    """
    with reading(path):
        if path.exists() and not path.is_file():
            raise HardGNNError(f"{shown(path)}: not an ordinary file")
        if path.stat().st_size > LARGEST:
            raise HardGNNError(f"{shown(path)}: damaged, larger than {LARGEST >> 20} MiB")
        try:
            document = json.loads(path.read_text("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HardGNNError(f"{shown(path)}: not valid JSON ({error})") from None
        if not isinstance(document, dict):
            return document
        seal, version = document.pop(SEAL, None), document.get("format_version")
        if isinstance(version, int) and version not in (1, *SEALED):  # for whoever asked to refuse
            return document
        wanted = seal is not None or version in SEALED
        if wanted and seal != digest([path.name, document]):
            raise HardGNNError(f"{shown(path)}: damaged or changed by hand, it is not what was written there")
        return document


def digest(document: Any) -> str:
    """The hash of a JSON document, however it is laid out."""
    plain = json.loads(json.dumps(document))  # keys that are numbers become text, as in the file
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def recorded(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of files, as a record keeps them."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}


def check_file(path: Path, record: dict[str, Any] | None, remedy: str) -> None:
    """Checks a file against its record, if there is one (folders of earlier versions have none).

    Raises:
        HardGNNError: it is missing, or not what was written.
    """
    if not path.exists() or (path.is_dir() and record is not None):
        raise HardGNNError(f"{shown(path)}: missing; {remedy}")
    if record is None:
        return
    with reading(path):
        size = path.stat().st_size
        if size != record["bytes"]:
            wanted = f"{size:,} bytes where {record['bytes']:,} were written"
            raise HardGNNError(f"{shown(path)}: damaged, {wanted}; {remedy}")
        if sha256(path) != record["sha256"]:
            raise HardGNNError(f"{shown(path)}: damaged or replaced, its content is not what was written; {remedy}")
