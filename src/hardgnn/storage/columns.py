"""Long columns of numbers, in memory or memory-mapped from files without a name, and walks through them by blocks.

A file without a name is gone with the process, however that ends, so nothing is left to be cleaned up.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hardgnn.errors import HardGNNError, MachineError, machine_fault, shown, told

BLOCK = 1 << 20  # rows that are looked at at once
MAPPED_BYTES = 256 << 20  # columns that are read are mapped where they have more in all
DIGIT = 16  # bits of a number that one pass of `smallest` looks at

_mapped: dict[int, tuple[weakref.ref[mmap.mmap], Path]] = {}  # by where they begin in memory


@dataclass(frozen=True)
class Shelf:
    """Where columns are kept: in memory, or in files without a name on the disk of `folder`."""

    folder: Path | None = None

    def column(self, dtype: DTypeLike) -> Column:
        """A new column, empty."""
        return Column(np.dtype(dtype), self.folder)

    def put(self, values: NDArray[Any]) -> NDArray[Any]:
        """The same values, kept here."""
        if self.folder is None:
            return values
        column = self.column(values.dtype)
        column.add(values)
        return column.done()


class Column:
    """A column that grows; on a disk it is written through the system, so that a full one is an error and no signal."""

    def __init__(self, dtype: np.dtype[Any], folder: Path | None) -> None:
        self.dtype, self._folder = dtype, folder
        self._parts: list[NDArray[Any]] = []
        self._file = None if folder is None else _nameless(folder)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, values: NDArray[Any]) -> None:
        """Appends values (n,), which become of the column's type.

        Raises:
            MachineError: the disk is full.
        """
        values = np.ascontiguousarray(values, dtype=self.dtype)
        self._length += len(values)
        if self._file is None:
            self._parts.append(values)
            return
        left = values.view(np.uint8).data
        try:
            while len(left):
                left = left[self._file.write(left) :]
        except OSError as error:
            where = f"{shown(self._folder)}: {machine_fault(error) or told(error)}"
            raise MachineError(f"{where}; columns that do not fit into memory are kept there for a while") from None

    def done(self) -> NDArray[Any]:
        """The whole column, (N,), read-only where it is mapped; nothing is added any more."""
        if self._file is None:
            whole = self._parts[0] if len(self._parts) == 1 else np.concatenate([np.empty(0, self.dtype), *self._parts])
            self._parts = []
            return whole
        with self._file as file:
            if not self._length:
                return np.empty(0, self.dtype)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        array = np.frombuffer(content, self.dtype)
        address = array.ctypes.data
        assert self._folder is not None
        _mapped[address] = weakref.ref(content, lambda _: _mapped.pop(address, None)), self._folder
        return array


def _nameless(folder: Path) -> Any:
    """A file without a name.

    Raises:
        HardGNNError: the folder may not be written.
    """
    try:
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise HardGNNError(
            f"{told(error, folder)}; columns that do not fit into memory are kept there for a while"
        ) from None


def shelf_for(size: int, folder: Path) -> Shelf:
    """Where so many bytes, which `folder` holds in another form, are read to: memory, or a disk if they are many."""
    if size < MAPPED_BYTES:
        return Shelf()
    return Shelf(folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir()))


def shelf_of(values: NDArray[Any]) -> Shelf:
    """Where a column is kept, for what is made of it."""
    found = _place(values)
    return Shelf() if found is None else Shelf(found[2])


def blocks(*columns: NDArray[Any], rows: int | None = None) -> Iterator[tuple[NDArray[Any], ...]]:
    """The columns (N,) by stretches of rows; what was mapped of a stretch is let go of after it."""
    rows = rows or BLOCK
    for start in range(0, len(columns[0]), rows):
        part = tuple(column[start : start + rows] for column in columns)
        yield part
        for one in part:
            release(one)


def release(values: NDArray[Any]) -> None:
    """Lets go of the memory of a mapped stretch, which is read again when it is asked for; nothing for any other."""
    found = _place(values)
    if found is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    content, start, _ = found
    first = start - start % mmap.PAGESIZE
    end = start + (len(values) - 1) * values.strides[0] + values.itemsize
    content.madvise(mmap.MADV_DONTNEED, first, end - first)


def _place(values: NDArray[Any]) -> tuple[mmap.mmap, int, Path] | None:
    """The mapping that values lie in, where they begin in it, and the folder of its file."""
    address = values.ctypes.data
    for start, (reference, folder) in list(_mapped.items()):
        content = reference()
        if content is not None and start <= address < start + len(content) and values.nbytes:
            return content, address - start, folder
    return None


def counted(values: NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """How often each whole number from 0 to `size` - 1 occurs, (size,)."""
    found = np.zeros(size, dtype=np.int64)
    for (block,) in blocks(values):
        tally(found, block)
    return found


def tally(counts: NDArray[np.int64], numbers: NDArray[np.integer]) -> None:
    """Adds to `counts` (n,) how often each of the numbers occurs, in a time that does not depend on n."""
    if len(numbers) > len(counts):
        counts += np.bincount(numbers, minlength=len(counts))
    else:
        np.add.at(counts, numbers, 1)


def places_of(values: NDArray[np.integer], number: int) -> NDArray[np.int64]:
    """The rows where a number stands, (n,)."""
    found, before = [np.empty(0, np.int64)], 0
    for (block,) in blocks(values):
        found.append(np.flatnonzero(block == number) + before)
        before += len(block)
    return np.concatenate(found)


def least(values: NDArray[Any]) -> Any:
    """The smallest of the values (N,), N > 0."""
    return min(block.min() for (block,) in blocks(values))


def most(values: NDArray[Any]) -> Any:
    """The largest of the values (N,), N > 0."""
    return max(block.max() for (block,) in blocks(values))


def smallest(
    values: Callable[[], Iterable[NDArray[np.float64]]], places: Sequence[int] | NDArray[np.integer]
) -> NDArray[np.float64]:
    """What stands at these places, (n,), of values in ascending order; exact, in bounded memory.

    `values` gives them by blocks, anew at each call. A radix selection: each pass counts the next `DIGIT` bits of those
    that still may be one of those wanted.
    """
    left = np.array(places, dtype=np.int64)
    if sum(map(len, values())) <= BLOCK:
        return np.sort(np.concatenate([np.empty(0), *values()]))[left]
    known = np.zeros(len(left), dtype=np.uint64)  # the upper bits of what is looked for
    for shift in range(64 - DIGIT, -1, -DIGIT):
        groups, which = np.unique(known, return_inverse=True)
        counts = np.zeros(len(groups) << DIGIT, dtype=np.int64)
        for block in values():
            keys = _in_order(block)
            upper = keys >> np.uint64(shift)
            group = upper >> np.uint64(DIGIT)
            at = np.minimum(np.searchsorted(groups, group), len(groups) - 1)
            inside = groups[at] == group
            digits = (upper & np.uint64((1 << DIGIT) - 1)).astype(np.int64)
            tally(counts, ((at << DIGIT) + digits)[inside])
        before = np.cumsum(counts.reshape(len(groups), -1), axis=1)[which]
        digit = (before <= left[:, None]).sum(axis=1)
        left -= np.where(digit > 0, before[np.arange(len(left)), np.maximum(digit - 1, 0)], 0)
        known = (known << np.uint64(DIGIT)) | digit.astype(np.uint64)
    sign = np.uint64(1) << np.uint64(63)
    return np.where(known & sign, known ^ sign, ~known).view(np.float64)


def quantiles(values: Callable[[], Iterable[NDArray[np.float64]]], shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """The values at these shares (n,) of them, as numpy's quantiles of the method "higher"; none of no values."""
    count = sum(map(len, values()))
    if count == 0:
        return np.empty(0)
    return smallest(values, np.ceil(np.asarray(shares) * (count - 1)).astype(np.int64))


def by_blocks(column: NDArray[Any]) -> Callable[[], Iterator[NDArray[Any]]]:
    """One column as `smallest` and `quantiles` take it."""
    return lambda: (block for (block,) in blocks(column))


def _in_order(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Whole numbers in the order of the values."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    sign = np.uint64(1) << np.uint64(63)
    return np.where(bits & sign, ~bits, bits | sign)
