"""The values of a log: ids, times and ratings, parsed and checked; a wrong one is named with its line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hardgnn.data.columns import ITEM, RATING, TIMESTAMP, USER, Reading
from hardgnn.data.ids import FRACTION, decoded, glance, id_text, is_number, no_ids
from hardgnn.data.readers.source import Source
from hardgnn.data.readers.times import COMPACT_DATES, DATES, ROWS, Times, Unit, no_times, times_of, unit_of
from hardgnn.errors import HardGNNError
from hardgnn.storage.columns import BLOCK, Column, Shelf, blocks, most, release, shelf_of
from hardgnn.wording import option

MOST_ROWS = 2**32 - 2  # of a table of polars


def checked_table(
    source: Source, label: str, kind: str, drop_missing: bool | None = None, room: Room | None = None
) -> tuple[pl.DataFrame, Reading]:
    """The log's table, its values parsed and checked, and how it was understood.

    Args:
        source: the table as it was found; without a timestamp, the place of a row among its user's becomes it.
        label: the log in words.
        kind: its format.
        drop_missing: rows without a user or an item are left out, and their number is told; None where it cannot be
            asked for.
        room: what may be kept in memory; everything by default.

    Raises:
        HardGNNError: a column is of a type that is not read, or an id or a time is missing or wrong; names the line
            and the value.
    """
    schema = source.table.collect_schema()
    refuse_types(source, schema, label)
    quick = {name: as_written(name, schema[name]) for name in (USER, ITEM)}
    every = {name: id_text(pl.col(name), schema[name]).cast(pl.Categorical).alias(name) for name in (USER, ITEM)}
    times = times_of(source.table, schema[TIMESTAMP]) if TIMESTAMP in schema else None
    if times is not None:
        quick[TIMESTAMP], every[TIMESTAMP] = times.quick, times.every
    if RATING in schema:
        quick[RATING] = every[RATING] = rating(schema[RATING])
    missing = pl.any_horizontal(nothing(name, schema[name]) for name in (USER, ITEM))
    remedy = "" if drop_missing is None else f"; {option('drop_missing', 'True')} drops such rows"
    rows = Rows(source, label, every, missing if drop_missing else None, remedy)
    parsed = rows.read(quick, room)
    table, skipped = parsed.table, rows.skipped()
    if source.rows not in (None, len(table) + skipped):
        raise HardGNNError(f"{label}: damaged, {source.rows} rows are declared and {len(table) + skipped} are there")
    if table.is_empty():
        raise HardGNNError(f"{label}: no data rows")
    seen = {name: glance(table[name], name) for name in (USER, ITEM)}
    late = times is not None and times.quick is not times.every and parsed.nulls[TIMESTAMP] > 0
    if late or any(one.changes for one in seen.values()):
        parsed = rows.read(every, room)
        table = parsed.table
    numeric = [name for name in (USER, ITEM) if seen[name].fractions]
    rows.refuse(parsed, [*wrong_ids(schema, numeric), *([] if times is None else wrong_times(times.dates))])

    told = [sentence for one in seen.values() for sentence in one.told]
    if skipped:
        told.append(f"{skipped:,} of {skipped + len(table):,} rows have no user or no item and are dropped")
    bad_rating = None
    if bad := parsed.bad_ratings:
        first = rows.first([Wrong(RATING, "rating {} is not a number", ~pl.col(RATING).is_finite())])
        bad_rating = f"{label}: {first}"
        told.append(f"{bad:,} of {len(table):,} ratings are no numbers and taken for none; the first: {first}")
        table = rebuilt(table, RATING, pl.when(pl.col(RATING).is_finite()).then(pl.col(RATING)))
    table, unit = in_seconds(table, times, rows)
    numbers = {name: str(schema[name]) for name in (USER, ITEM) if is_number(schema[name])}
    return table, Reading(kind, source.names, unit, tuple(told), bad_rating, numbers)


def in_seconds(table: pl.DataFrame, times: Times | None, rows: Rows) -> tuple[pl.DataFrame, str]:
    """The table with its times in seconds since 1970, and the unit they were in; places for times where it has none.

    Raises:
        HardGNNError: some numbers are in another unit than most; names a row of each.
    """
    if times is None:
        return table.insert_column(2, positions(table[USER])), ROWS
    if times.dates:
        return table, DATES
    found = unit_of(table[TIMESTAMP])
    if any(part.select(found.foreign.any()).item() for part in slices(table)):
        raise HardGNNError(f"{rows.label}: {two_units(rows, found)}")
    return rebuilt(table, TIMESTAMP, found.seconds), found.name


def refuse_types(source: Source, schema: Mapping[str, pl.DataType], label: str) -> None:
    """Refuses columns of types that cannot be what they should.

    Raises:
        HardGNNError: one is; names it and its type.
    """
    for name, dtype in schema.items():
        words = no_times(dtype) if name == TIMESTAMP else no_ids(dtype)
        if words is None or (name == RATING and dtype == pl.Boolean):
            continue
        expected = {TIMESTAMP: "numbers, texts or dates", RATING: "numbers"}.get(name, "texts or whole numbers")
        column = source.names.get(name, name)
        raise HardGNNError(
            f"{label}: column '{column}' cannot be the {name}: it holds {words} ({dtype}), expected {expected}"
        )


def nothing(name: str, dtype: pl.DataType) -> pl.Expr:
    """Marks the rows without a value in a column of ids."""
    value = pl.col(name)
    if dtype.is_float():
        return value.is_null() | value.is_nan()
    return value.is_null() | (value.cast(pl.String).str.strip_chars() == "")


def as_written(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of ids, each text kept once, without what `id_text` does to texts."""
    text = dtype in (pl.String, pl.Categorical, pl.Enum)
    return (pl.col(name).cast(pl.String) if text else id_text(pl.col(name), dtype)).cast(pl.Categorical).alias(name)


def rating(dtype: pl.DataType) -> pl.Expr:
    """The column of ratings: null where there is none, NaN where it is not a number."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return pl.col(RATING).cast(pl.Float64)
    text = pl.col(RATING).cast(pl.String).str.strip_chars()
    number = text.cast(pl.Float64, strict=False).fill_null(float("nan"))
    return pl.when(text != "").then(number).alias(RATING)


def positions(user: pl.Series) -> pl.Series:
    """The place, from 1, of each row among its user's (N,), as a time."""
    codes = user.to_physical().to_numpy()
    seen = np.zeros(int(most(codes)) + 1, dtype=np.int64)
    places = shelf_of(codes).column(np.float64)
    for (block,) in blocks(codes):
        order = np.argsort(block, kind="stable")
        alike = block[order]
        first = np.flatnonzero(np.append(True, alike[1:] != alike[:-1]))
        counts = np.diff(np.append(first, len(block)))
        place = np.empty(len(block))
        place[order] = seen[alike] + np.arange(1, len(block) + 1) - np.repeat(first, counts)
        places.add(place)
        seen[alike[first]] += counts
    return pl.Series(TIMESTAMP, places.done())


@dataclass(frozen=True)
class Wrong:
    """What may be wrong in a `column`: `words` with a place for the value, and the rows of the parsed table."""

    column: str
    words: str
    rows: pl.Expr


def wrong_ids(schema: Mapping[str, pl.DataType], numeric: Sequence[str]) -> list[Wrong]:
    """What may be wrong with ids; those of `numeric` columns are texts that must be whole numbers."""
    fraction = "the {} id {{}} is not a whole number, as ids of a column of numbers are"
    missing = {name: fraction if schema[name].is_numeric() else "the {} id is empty" for name in (USER, ITEM)}
    wrong = [Wrong(name, missing[name].format(name), pl.col(name).is_null()) for name in (USER, ITEM)]
    return wrong + [
        Wrong(name, fraction.format(name), pl.col(name).cast(pl.String).str.contains(FRACTION)) for name in numeric
    ]


def wrong_times(dates: bool) -> list[Wrong]:
    """What may be wrong with times, the first of which is a date, or a number or nothing of the kind."""
    time, kind = pl.col(TIMESTAMP), "an ISO date" if dates else "a number of seconds or milliseconds"
    other = f"time {{}} is not {kind} as the first is; times are all numbers or all ISO dates"
    return [
        Wrong(TIMESTAMP, other, time.is_null()),
        Wrong(TIMESTAMP, "time {} is not a finite number", time.is_not_null() & ~time.is_finite()),
        Wrong(TIMESTAMP, "time {} is negative, before 1970", time < 0),
    ]


@dataclass(frozen=True)
class Room:
    """Of a log with more than so many `rows` the columns are files without a name on the disk of `folder`."""

    rows: int
    folder: Path


@dataclass(frozen=True)
class Parsed:
    """A parsed table, how many values each column lacked, and how many ratings were no numbers.

    A table whose columns are mapped has other values for those that it lacks.
    """

    table: pl.DataFrame
    nulls: Mapping[str, int]
    bad_ratings: int

    @classmethod
    def of(cls, table: pl.DataFrame) -> Parsed:
        """A table in memory."""
        return cls(table, {name: table[name].null_count() for name in table.columns}, not_finite(table))

    @classmethod
    def mapped(cls, frames: Iterable[pl.DataFrame], folder: Path, label: str) -> Parsed:
        """Frames whose columns go to the disk of a folder.

        Raises:
            HardGNNError: they are more than a table can have.
        """
        columns: dict[str, Column] = {}
        ids: dict[str, pl.Series] = {}
        nulls: Counter[str] = Counter()
        bad = 0
        for frame in frames:
            for name, kind in frame.schema.items():
                values = frame[name]
                if name not in columns:
                    columns[name] = Shelf(folder).column(np.uint32 if kind == pl.Categorical else np.float64)
                if kind == pl.Categorical:
                    ids[name], values = values.clear(), values.to_physical()
                nulls[name] += values.null_count()
                columns[name].add(values.fill_null(float("nan") if values.dtype.is_float() else 0).to_numpy())
            bad += not_finite(frame)
            if len(columns[USER]) > MOST_ROWS:
                raise HardGNNError(
                    f"{label}: more than {MOST_ROWS:,} rows, which is the most that is prepared here; "
                    "docs/scale.md tells how Spark writes the same folder"
                )
        whole = {name: column.done() for name, column in columns.items()}
        table = {name: decoded(one, ids[name]) if name in ids else pl.Series(one) for name, one in whole.items()}
        return cls(pl.DataFrame(table), nulls, bad)


def used_up(first: list[pl.DataFrame], rest: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The first frames, each of which is let go of then, and the rest."""
    while first:
        yield first.pop(0)
    yield from rest


def not_finite(table: pl.DataFrame) -> int:
    """How many ratings there are that are no numbers."""
    if RATING not in table.columns:
        return 0
    return int(table.select((~pl.col(RATING).is_finite()).sum()).item())


def slices(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """A log's table by stretches of rows; what was mapped of one is let go of after it."""
    for part in table.iter_slices(BLOCK):
        yield part
        for name in part.columns:
            if not part[name].null_count():
                release(part[name].to_physical().to_numpy())


def rebuilt(table: pl.DataFrame, name: str, values: pl.Expr) -> pl.DataFrame:
    """The table with other numbers in a column, kept where the others are; what is mapped has NaN for nothing."""
    shelf = shelf_of(table[USER].to_physical().to_numpy())
    if shelf.folder is None:
        return table.with_columns(values.alias(name))
    column = shelf.column(np.float64)
    for part in slices(table):
        column.add(part.select(values.alias(name))[name].fill_null(float("nan")).to_numpy())
    return table.with_columns(pl.Series(name, column.done()))


class Rows:
    """The rows of a source without blank lines: read as a whole, or again to name one of them.

    Args:
        source: where they are.
        label: named in errors.
        parsed: how the columns are read when one is to be found.
        skipped: marks further rows that are left out.
        remedy: what to do about an empty id, for the end of a sentence.
    """

    def __init__(
        self,
        source: Source,
        label: str,
        parsed: Mapping[str, pl.Expr],
        skipped: pl.Expr | None = None,
        remedy: str = "",
    ) -> None:
        self.source, self.label, self.remedy = source, label, remedy
        self._parsed, self._skipped = parsed, skipped
        self._blank = pl.all_horizontal(pl.all().is_null()) if source.text else pl.lit(False)
        self._out = self._blank if skipped is None else self._blank | skipped

    def read(self, parsed: Mapping[str, pl.Expr], room: Room | None = None) -> Parsed:
        """The columns as `parsed` has them.

        Raises:
            HardGNNError: they are more than a table can have.
        """
        table = self.source.table.filter(~self._out).select(parsed.values())
        if room is None:
            return Parsed.of(table.collect(engine="streaming"))
        frames, rows = [table.collect_schema().to_frame()], 0
        batches = table.collect_batches(chunk_size=BLOCK, maintain_order=True, engine="streaming")
        for frame in batches:
            frames.append(frame)
            rows += frame.height
            if rows > room.rows:
                return Parsed.mapped(used_up(frames, batches), room.folder, self.label)
        return Parsed.of(pl.concat(frames))

    def skipped(self) -> int:
        """How many rows besides blank lines are left out."""
        if self._skipped is None:
            return 0
        left = self.source.table.select((~self._blank & self._skipped).sum())
        return int(left.collect(engine="streaming").item())

    def refuse(self, parsed: Parsed, wrong: Sequence[Wrong]) -> None:
        """Refuses a parsed table in which something is wrong.

        Raises:
            HardGNNError: names the first such row.
        """
        any_of_each = [one.rows.any().alias(str(n)) for n, one in enumerate(wrong)]
        nothing = any(parsed.nulls.get(name) for name in (USER, ITEM, TIMESTAMP))
        if nothing or any(any(part.lazy().select(any_of_each).collect().row(0)) for part in slices(parsed.table)):
            raise HardGNNError(f"{self.label}: {self.first(wrong)}")

    def first(self, wrong: Sequence[Wrong]) -> str:
        """The first row in which something is wrong, in a sentence; there is one."""
        flags = [one.rows.fill_null(False).alias(f"wrong_{n}") for n, one in enumerate(wrong)]
        raw = self.source.table.select(pl.all().name.prefix("raw_"), *self._parsed.values(), self._out.alias("out"))
        hits = raw.with_row_index("row").with_columns(flags).filter(~pl.col("out"))
        row = (
            hits.filter(pl.any_horizontal(f"wrong_{n}" for n in range(len(wrong)))).head(1).collect().row(0, named=True)
        )
        one = next(one for n, one in enumerate(wrong) if row[f"wrong_{n}"])
        value = row[f"raw_{one.column}"]
        place = self.source.place(row["row"])
        if value is None or str(value).strip() == "":
            words = one.words.format("(nothing)")
            if one.column in (USER, ITEM):
                words = f"the {one.column} id is empty{self.remedy}"
            return f"{place}: {words}"
        comma = re.fullmatch(r"\s*[+-]?\d+,\d+\s*", str(value))
        remark = " (a decimal comma; a point is expected)" if comma else ""
        return f"{place}: {one.words.format(repr(str(value)))}{remark}"


def two_units(rows: Rows, unit: Unit) -> str:
    """Names a time in the unit of most and one that is not, in the order of their size."""
    time = pl.col(TIMESTAMP)
    if unit.name == COMPACT_DATES:
        return rows.first([Wrong(TIMESTAMP, "time {} is no date such as 20140514, as most others are", unit.foreign)])
    odd = rows.first([Wrong(TIMESTAMP, f"time {{}} is not in {unit.name} as most others are", unit.foreign)])
    usual = rows.first([Wrong(TIMESTAMP, "time {} is", ~unit.foreign & (time > 0))])
    return f"{odd} ({usual}); write all times in one unit"
