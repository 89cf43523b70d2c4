"""What a reader is, and how one is registered, found and guessed (docs/extending.md)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import polars as pl

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER
from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers.source import Columns, Source, listed, refuse_columns
from hardgnn.errors import HardGNNError
from hardgnn.parts import Parts, blamed, home_of

Answer = Source | pl.DataFrame | pl.LazyFrame
Function = TypeVar("Function", bound=Callable[..., Answer])
RESERVED = ("auto", "selfgnn")


class Fit(IntEnum):
    """How sure a reader is that a file is one of its own."""

    NO = 0
    DEFAULT = 1
    NAME = 2
    CONTENT = 3
    SURE = 4
    """By its content, which might do for a more general reader too."""


@dataclass(frozen=True)
class Reader:
    """A registered reader; `sample` makes the bytes of a small log that it reads."""

    name: str
    function: Callable[..., Answer]
    columns: bool = False
    fits: Callable[[RawFile], Fit] | None = None
    sample: Callable[[], bytes] | None = None

    def source(self, raw: RawFile, wanted: Columns) -> Source:
        """What the reader finds in a file, not checked yet.

        Raises:
            HardGNNError: it refuses the file, fails, or answers no table; or column names are given in vain.
        """
        if not self.columns:
            refuse_columns(raw, wanted, self.name)
        with self._blamed(raw):
            answer = self.function(raw, wanted) if self.columns else self.function(raw)
        if isinstance(answer, Source):
            return answer
        whose = f"{raw.label}: {self._whose}"
        if not isinstance(answer, (pl.DataFrame, pl.LazyFrame)):
            kind = f"{type(answer).__module__.split('.')[0]} {type(answer).__name__}"
            raise HardGNNError(f"{whose}: expected a polars DataFrame or LazyFrame, got a {kind}")
        names = answer.lazy().collect_schema().names()
        if missing := [name for name in (USER, ITEM, TIMESTAMP) if name not in names]:
            raise HardGNNError(f"{whose}: its table has no column '{missing[0]}'; columns found: {listed(names)}")
        kept = [name for name in (USER, ITEM, TIMESTAMP, RATING) if name in names]
        return Source(answer.lazy().select(kept), lambda row: f"row {row + 1}", False, names=dict(zip(kept, kept)))

    def fit(self, raw: RawFile) -> Fit:
        """How well the file fits.

        Raises:
            HardGNNError: it looks like one of the reader's and cannot be.
        """
        if self.fits is None:
            return Fit.NO
        with self._blamed(raw):
            return self.fits(raw)

    @property
    def _whose(self) -> str:
        return f"reader '{self.name}' ({home_of(self.function)})"

    def _blamed(self, raw: RawFile) -> AbstractContextManager[None]:
        """Names the reader in what it raises, but for sentences, the system's refusals, and polars' words."""
        return blamed(f"{raw.label}: {self._whose}", OSError, pl.exceptions.PolarsError)


READERS: Parts[Reader] = Parts("reader", "hardgnn.readers")


def reader(
    name: str,
    *,
    columns: bool = False,
    fits: Callable[[RawFile], Fit] | None = None,
    sample: Callable[[], bytes] | None = None,
) -> Callable[[Function], Function]:
    """Registers a function as the reader of the format `name`: of a raw file, it answers a table.

    The function gets a `RawFile`, whose `open()` is a stream of its bytes without compression and archive, and whose
    `path` is the file. It answers a polars table with the columns user, item, timestamp and perhaps rating, in the
    order of the file; others are left out. That is checked by the same rules as every log. A `Source` instead may be
    read lazily, names lines in errors, and may go without a timestamp.

    Args:
        name: as `--format` has it.
        columns: the user may name the columns, and the function takes these names second; they are refused otherwise.
        fits: how well a file fits, for the format `auto`; without it the format is never guessed.
        sample: makes the bytes of a small log in this format, of two rows at least, for the test of all readers.

    Raises:
        HardGNNError: the name cannot be, or is taken.
    """

    def register(function: Function) -> Function:
        if name in RESERVED:
            raise HardGNNError(f"reader '{name}': this name means something else to --format; choose another")
        READERS.add(name, Reader(name, function, columns, fits, sample), function)
        return function

    return register


def formats() -> list[str]:
    """Everything that `--format` may be, readers of installed packages among them."""
    return [RESERVED[0], *READERS.names(), *RESERVED[1:]]


def guess_format(raw: RawFile) -> str:
    """The format of a file: that of the reader which it fits best, of those that are loaded.

    Raises:
        HardGNNError: it has four fields and no header, but its values are not those of a log of ratings.
    """
    return max(READERS.loaded(), key=lambda one: one.fit(raw)).name


def named(*endings: str) -> Callable[[RawFile], Fit]:
    """Fits files whose name ends so."""
    return lambda raw: Fit.NAME if raw.name.endswith(endings) else Fit.NO


def text_sample(*lines: str) -> Callable[[], bytes]:
    """A sample of these lines."""
    return lambda: "".join(f"{line}\n" for line in lines).encode()
