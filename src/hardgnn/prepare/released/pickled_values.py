"""What the parsed pickles hold: lists of numbers and sparse matrices, checked and as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgnn.prepare.released.pickles import PickledArray, PickledSparse, Refused, is_shape

SparseEntries = tuple[tuple[int, int], NDArray[np.int64], NDArray[np.int64], NDArray[Any]]


def numbers(value: Any, what: str) -> NDArray[np.int64]:
    """A list or array of whole numbers (n,).

    Raises:
        Refused: it is anything else.
    """
    if isinstance(value, PickledArray):
        value = value.values
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise Refused(f"{what}: an array of dtype {value.dtype} in {value.ndim} dimensions, expected whole numbers")
        return value.astype(np.int64)
    return whole_numbers(entries(value, what), what)


def indices(value: Any, what: str) -> NDArray[np.int64]:
    """The indices of a sparse matrix (n,), which scipy keeps in 32 or 64 bits; narrower ones would swell.

    Raises:
        Refused: they are anything else.
    """
    array = value.values if isinstance(value, PickledArray) else value
    if not isinstance(array, np.ndarray) or array.dtype.itemsize < 4:
        raise Refused(f"{what}: indices that are not of 32 or 64 bits")
    return numbers(value, what)


def entries(value: Any, what: str) -> list[Any]:
    """The entries of a list, a tuple, or an array of objects.

    Raises:
        Refused: it is anything else.
    """
    if isinstance(value, PickledArray):
        value = value.values.tolist() if isinstance(value.values, np.ndarray) else value.values
    if not isinstance(value, (list, tuple)):
        raise Refused(f"{what}: a {type(value).__name__}, expected a list")
    return list(value)


def whole_numbers(values: Iterable[Any], what: str) -> NDArray[np.int64]:
    """Plain whole numbers as an array (n,).

    Raises:
        Refused: one is of another type, or too large.
    """
    values = list(values)
    if strange := set(map(type, values)) - {int}:
        raise Refused(f"{what}: a {min(kind.__name__ for kind in strange)}, expected whole numbers")
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise Refused(f"{what}: a number of more than 64 bits") from None


def sparse_entries(matrix: Any, what: str) -> SparseEntries:
    """The shape of a sparse matrix, and row, column and value of each entry, each (n,), row by row.

    Raises:
        Refused: it is no sparse matrix, or its parts do not fit together.
    """
    if not isinstance(matrix, PickledSparse):
        raise Refused(f"{what}: a {type(matrix).__name__}, expected a sparse matrix")
    state = matrix.state
    shape: Any = state.get("_shape", state.get("shape"))
    if not is_shape(shape) or len(shape) != 2:
        raise Refused(f"{what}: a sparse matrix without a shape")
    data = state.get("data")
    values = data.values if isinstance(data, PickledArray) else None
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise Refused(f"{what}: a sparse matrix without values")
    rows, columns = coordinates(matrix, shape, what)
    if not len(rows) == len(columns) == len(values):
        raise Refused(f"{what}: a sparse matrix of {len(values)} values at {len(rows)} rows and {len(columns)} columns")
    for index, size in ((rows, shape[0]), (columns, shape[1])):
        if len(index) and (index.min() < 0 or index.max() >= size):
            raise Refused(f"{what}: a sparse matrix with an entry outside its shape {shape}")
    order = np.lexsort((columns, rows))
    return shape, rows[order], columns[order], values[order]


def coordinates(
    matrix: PickledSparse, shape: tuple[int, int], what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each entry of a sparse matrix, (n,) and (n,), not compared with its shape yet.

    Raises:
        Refused: it has none, or row starts that do not fit.
    """
    state = matrix.state
    if matrix.form == "coo":
        both: Any = state.get("coords", (state.get("row"), state.get("col")))
        if type(both) is not tuple or len(both) != 2:
            raise Refused(f"{what}: a sparse matrix without coordinates")
        return indices(both[0], what), indices(both[1], what)
    starts, inner = indices(state.get("indptr"), what), indices(state.get("indices"), what)
    size = shape[0] if matrix.form == "csr" else shape[1]
    if len(starts) != size + 1 or starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] != len(inner):
        raise Refused(f"{what}: a sparse matrix whose row starts do not fit its shape {shape}")
    outer = np.repeat(np.arange(size), np.diff(starts))
    return (outer, inner) if matrix.form == "csr" else (inner, outer)


def ragged(lists: list[Any], what: str, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lists of whole numbers as offsets and one array.

    Raises:
        Refused: an entry is of another type, or a list is named again and again until there are more than `most`.
    """
    plain: list[Any] = [one.values if isinstance(one, PickledArray) else one for one in lists]
    for place, one in enumerate(plain):
        if not isinstance(one, (list, tuple, np.ndarray)) or (isinstance(one, np.ndarray) and one.ndim != 1):
            raise Refused(f"{what} {place}: a {type(one).__name__}, expected a list of items")
    lengths = [len(one) for one in plain]
    if sum(lengths) > most:
        raise Refused(f"{what}s: {sum(lengths)} items are more than {most} bytes can hold")
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if all(isinstance(one, np.ndarray) for one in plain):
        arrays = [numbers(PickledArray(one), what) for one in plain]
        return offsets, np.concatenate([np.empty(0, np.int64), *arrays])
    flat = chain.from_iterable(one.tolist() if isinstance(one, np.ndarray) else one for one in plain)
    return offsets, whole_numbers(flat, what + "s")


def check_range(values: NDArray[np.int64], size: int, what: str, other: str, first: int = 0) -> None:
    """Checks that numbers, counted from 0, are below `size`; errors count from `first`.

    Raises:
        Refused: one is not.
    """
    wrong = values[(values < 0) | (values >= size)]
    if len(wrong):
        raise Refused(f"{what} {wrong[0] + first}, but {other} has numbers from {first} to {size - 1 + first}")
