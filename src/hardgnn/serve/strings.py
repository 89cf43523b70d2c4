"""Many strings in memory-mapped files, so that workers share them: by number, by value, by prefix, by part."""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

NEWLINE = b"\n"


class Strings:
    """Strings 0 to n - 1 out of the files that `write` made under one name."""

    def __init__(self, folder: Path, name: str) -> None:
        self._offsets = mapped(folder / f"{name}.offsets.npy")
        self._order = mapped(folder / f"{name}.order.npy")
        self._text = _map(folder / f"{name}.text")
        self._folded = _map(folder / f"{name}.folded")
        self._starts = mapped(folder / f"{name}.starts.npy")

    @staticmethod
    def write(folder: Path, name: str, values: Iterable[str]) -> None:
        """Writes the strings, their order by bytes, and their case-folded form for searching parts."""
        whole = [value.encode() for value in values]
        folded = [value.decode().casefold().replace("\n", " ").encode() for value in whole]
        order = sorted(range(len(whole)), key=whole.__getitem__)
        (folder / f"{name}.text").write_bytes(b"".join(whole))
        (folder / f"{name}.folded").write_bytes(NEWLINE.join(folded))
        np.save(folder / f"{name}.offsets.npy", _ends([len(value) for value in whole]))
        np.save(folder / f"{name}.starts.npy", _ends([len(value) + 1 for value in folded])[:-1])
        np.save(folder / f"{name}.order.npy", np.array(order, dtype=np.int32))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> str:
        return self._bytes(number).decode()

    def find(self, value: str) -> int:
        """The number of a string, -1 where it is none of them."""
        wanted = value.encode("utf-8", "surrogatepass")
        place = self._place(wanted)
        if place < len(self) and self._bytes(int(self._order[place])) == wanted:
            return int(self._order[place])
        return -1

    def starting(self, prefix: str) -> Iterator[int]:
        """The numbers of the strings that start with `prefix`, in order."""
        wanted = prefix.encode("utf-8", "surrogatepass")
        for place in range(self._place(wanted), len(self)):
            number = int(self._order[place])
            if not self._bytes(number).startswith(wanted):
                return
            yield number

    def containing(self, part: str) -> Iterator[int]:
        """The numbers of the strings that contain `part` in any case, ascending."""
        wanted = part.casefold().replace("\n", " ").encode("utf-8", "surrogatepass")
        at = 0
        while wanted and (at := self._folded.find(wanted, at)) >= 0:
            number = int(np.searchsorted(self._starts, at, side="right")) - 1
            yield number
            if number + 1 >= len(self):
                return
            at = int(self._starts[number + 1])

    def _bytes(self, number: int) -> bytes:
        return bytes(self._text[int(self._offsets[number]) : int(self._offsets[number + 1])])

    def _place(self, wanted: bytes) -> int:
        return bisect.bisect_left(range(len(self)), wanted, key=lambda place: self._bytes(int(self._order[place])))


def mapped(path: Path) -> np.ndarray:
    """The array in a `.npy` file, mapped; unlike numpy's own map it holds no handle, of which a process has few."""
    with path.open("rb") as handle:
        np.lib.format.read_magic(handle)
        shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
        start = handle.tell()
    whole = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).numpy()
    array = whole[start:].view(dtype).reshape(shape)
    array.flags.writeable = False
    return array


def _map(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as handle:
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return b""
        return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)


def _ends(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.array(lengths, dtype=np.int64))]).astype(np.int64)
