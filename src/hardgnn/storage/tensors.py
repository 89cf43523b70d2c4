"""Tensor files (safetensors) that show damage: the hash of the whole file stands in its header."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.storage.files import atomic_path

KEY = "sealed"  # one key alone, for safetensors writes several in random order: the seal, then the note
SEAL = re.compile(rb'"sealed":"([^"]{64})')
BLANK = b"0" * 64
UNSEALED = {"epoch", "progress"}  # the keys that earlier versions wrote
TYPES = {torch.bool: "BOOL", torch.uint8: "U8", torch.int32: "I32", torch.float32: "F32", torch.float64: "F64"}
TYPES |= {torch.int64: "I64"}  # in the order of the library
LONGEST_HEADER = 100 << 20  # what safetensors itself allows


class Streamed(Protocol):
    """A tensor that comes block by block, none of which need be in memory before."""

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""

    def blocks(self) -> Iterator[Tensor]:
        """All of it, rows after rows, on the processor."""


def save_tensors(path: Path, tensors: Mapping[str, Any], note: str, make_parent: bool = True) -> None:
    """Writes tensors, or `Streamed` ones, atomically; `note` is kept with them. The same tensors give the same bytes,
    however they come."""
    with atomic_path(path, make_parent) as temporary:
        if all(isinstance(one, Tensor) for one in tensors.values()):
            save_file(dict(tensors), temporary, metadata={KEY: BLANK.decode() + note})
        else:
            _save_blocks(temporary, tensors, BLANK.decode() + note)
        with temporary.open("r+b") as handle:
            header = _header(handle)
            found = SEAL.search(header)
            assert found is not None  # just written
            digest = hashlib.file_digest(_rewound(handle), "sha256").hexdigest()
            handle.seek(8 + found.start(1))
            handle.write(digest.encode())


def in_order(tensors: Mapping[str, Any]) -> list[str]:
    """The names in the order in which a file has the tensors: the widest numbers first, then by name.

    Raises:
        ValueError: a type of numbers that is not written by blocks.
    """
    return sorted(tensors, key=lambda name: (-[*TYPES].index(tensors[name].dtype), name))


def follow_tensors(tensors: Mapping[str, Any]) -> None:
    """Goes through the blocks of streamed tensors as writing does, where another process writes them."""
    streamed = {name: one for name, one in tensors.items() if not isinstance(one, Tensor)}
    for name in in_order(streamed):
        for _ in streamed[name].blocks():
            pass


def _save_blocks(path: Path, tensors: Mapping[str, Any], sealed: str) -> None:
    """Writes a file of safetensors as that library would."""
    header: dict[str, Any] = {"__metadata__": {KEY: sealed}}
    start = 0
    for name in in_order(tensors):
        one = tensors[name]
        stop = start + math.prod(one.shape) * one.dtype.itemsize
        header[name] = {"dtype": TYPES[one.dtype], "shape": list(one.shape), "data_offsets": [start, stop]}
        start = stop
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)
    with path.open("wb") as handle:
        handle.write(len(told).to_bytes(8, "little") + told)
        for name in in_order(tensors):
            one = tensors[name]
            for block in (one,) if isinstance(one, Tensor) else one.blocks():
                handle.write(block.contiguous().flatten().view(torch.uint8).numpy().data)
        if handle.tell() != 8 + len(told) + start:
            raise ValueError(f"{handle.tell()} bytes where {8 + len(told) + start} were announced")


@contextmanager
def open_tensors(path: Path, remedy: str) -> Iterator[tuple[Any, str]]:
    """The open file and its note, once its hash is checked; a file of an earlier version has none.

    Raises:
        HardGNNError: it is missing or damaged; so are errors of what is done with it inside.
    """
    if not path.is_file():
        raise HardGNNError(f"{shown(path)}: no such file; {remedy}")
    with reading(path, remedy):
        with path.open("rb") as handle:
            header = _header(handle)
            found = SEAL.search(header)
            if found is not None:
                blank = header[: found.start(1)] + BLANK + header[found.end(1) :]
                digest = hashlib.sha256(len(header).to_bytes(8, "little") + blank)
                while part := handle.read(1 << 20):
                    digest.update(part)
                if digest.hexdigest().encode() != found.group(1):
                    raise HardGNNError(f"{shown(path)}: damaged, its content is not what was written; {remedy}")
        with safe_open(path, "pt") as stored:
            noted = stored.metadata() or {}
            if found is None and not UNSEALED.intersection(noted):
                raise HardGNNError(f"{shown(path)}: damaged, its header is not what was written; {remedy}")
            yield stored, noted[KEY][len(BLANK) :] if found is not None else next(iter(noted.values()))


def read_seal(path: Path) -> str:
    """The hash that stands in a file's header, unchecked; empty in a file of an earlier version."""
    with reading(path), path.open("rb") as handle:
        found = SEAL.search(_header(handle))
        return "" if found is None else found.group(1).decode("ascii", "replace")


def _header(handle: Any) -> bytes:
    """The JSON header of a tensor file, which is then read up to its end."""
    length = int.from_bytes(handle.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    header: bytes = handle.read(length)
    if len(header) < length:
        raise ValueError("the file ends in its header")
    return header


def _rewound(handle: Any) -> Any:
    handle.seek(0)
    return handle
