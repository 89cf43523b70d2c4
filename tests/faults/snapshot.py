"""What lies in a folder, in pieces that can be compared: JSON by value, tensors one by one, other files by hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
from pathlib import Path
from typing import Any

LITTER = re.compile(r"\..+\.(tmp|old|part|parts|tmp\.parts)")
LOCKS = re.compile(r"\..*lock.*")
CLOCK = re.compile(r"seconds|peak_memory|^(bytes|sha256|seal|number)$")
"""Not compared: times, which two undisturbed runs may agree on by chance; sizes and hashes of files, whose content is;
the number of a trial, for one that was killed is asked for again under the next."""

Snapshot = dict[str, str]


def snapshot(root: Path) -> Snapshot:
    """Every file under `root` (or the file itself), without locks: its path, or path and field, to its content."""
    if not os.path.lexists(root):
        return {}
    if not root.is_dir():
        return pieces(root, root.name)
    found: Snapshot = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not LITTER.fullmatch(name)]
        for name in names:
            path = Path(folder, name)
            if not LOCKS.fullmatch(name) and not LITTER.fullmatch(name):
                found |= pieces(path, str(path.relative_to(root)))
    return found


def pieces(path: Path, name: str) -> Snapshot:
    """One file's pieces."""
    if path.is_symlink():
        return {name: f"link to {os.readlink(path)}"}
    if not path.is_file():
        return {name: "no ordinary file"}
    data = path.read_bytes()
    found = {name: "here"}
    if path.suffix == ".json":
        try:
            return found | leaves(json.loads(data), name)
        except ValueError:
            return {name: f"no JSON {hashlib.sha256(data).hexdigest()}"}
    if path.suffix == ".jsonl":
        for number, line in enumerate(data.decode().splitlines()):
            found |= leaves(json.loads(line), f"{name}:{number}")
        return found
    if path.suffix == ".safetensors":
        return found | tensors(data, name)
    return found | {f"{name}#": hashlib.sha256(data).hexdigest()}


def leaves(document: Any, name: str) -> Snapshot:
    """The values of a JSON document by their place."""
    if isinstance(document, dict | list) and document:
        entries = document.items() if isinstance(document, dict) else enumerate(document)
        found: Snapshot = {}
        for key, value in entries:
            if not CLOCK.search(str(key)):
                found |= leaves(value, f"{name}/{key}")
        return found
    return {name + "/": json.dumps(document)}


def tensors(data: bytes, name: str) -> Snapshot:
    """The tensors of a safetensors file, read by hand."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        content = data[8 + length + begin : 8 + length + end]
        found[f"{name}/{key}"] = f"{entry['dtype']} {entry['shape']} {hashlib.sha256(content).hexdigest()}"
    return found


def litter(root: Path) -> list[str]:
    """Temporary names anywhere under `root`."""
    return [
        str(Path(folder, name).relative_to(root))
        for folder, folders, names in os.walk(root)
        for name in (*folders, *names)
        if LITTER.fullmatch(name)
    ]


def differences(one: Snapshot, other: Snapshot, volatile: frozenset[str] = frozenset()) -> list[str]:
    """The pieces that differ."""
    keys = (one.keys() | other.keys()) - volatile
    return sorted(key for key in keys if one.get(key) != other.get(key))


def copied(source: Path, target: Path) -> None:
    """A copy of a file or folder, without its locks."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=lambda _, names: [n for n in names if LOCKS.fullmatch(n)])
    else:
        shutil.copyfile(source, target)
