"""Item titles, from a file beside the log or one that the user names."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from hardgnn.data.columns import ITEM, TITLE
from hardgnn.data.raw.file import NotUnicode, RawFile, not_unicode
from hardgnn.data.raw.layers import ENDINGS, bare
from hardgnn.data.raw.quoted import Dialect, parsed, read_header, row_blocks
from hardgnn.data.readers.source import listed
from hardgnn.data.readers.tables import USUAL_NAMES, likely_separator, plain
from hardgnn.errors import HardGNNError, reading, shown

ITEM_NAMES = (*USUAL_NAMES[ITEM], "bookid")
TITLE_NAMES = ("title", "movietitle", "itemtitle", "name", "itemname")
MOVIELENS = {"u": ("u.item",), "ratings": ("movies.csv", "movies.dat")}


def find_titles(
    log: Path,
    items_file: str | Path | None,
    movielens: bool,
    member: str | None = None,
    encoding: str | None = None,
) -> pl.DataFrame | None:
    """The titles of a log's items, as columns item and title (both String); None where there are none.

    Without `items_file`, `<stem>.item` beside the log is read, or the file that its MovieLens name goes with: beside
    the log, or beside the `member` of the zip archive `log`. Titles are UTF-8, or in the `encoding` of the log, or in
    Latin-1 as ml-100k's are.

    Raises:
        HardGNNError: the file cannot be read, or `items_file` has no item and title columns.
    """
    if items_file is not None:
        return read_titles(RawFile.find(Path(items_file)), encoding)
    if member is not None:
        return packed_titles(log, member, encoding) if movielens else None
    stem = bare(log.name).rsplit(".", 1)[0]
    every = tuple(name for names in MOVIELENS.values() for name in names) if movielens else ()
    names = (f"{stem}.item", *MOVIELENS.get(stem, every))
    beside = [log.with_name(name + ending) for name in names for ending in ("", *ENDINGS)]
    found = next((path for path in beside if path.is_file() and path != log), None)
    return None if found is None else read_titles(RawFile.find(found), encoding, required=False)


def packed_titles(archive: Path, member: str, encoding: str | None = None) -> pl.DataFrame | None:
    """The titles of a MovieLens zip archive, which lie in the folder of its log `member`."""
    folder, _, name = member.rpartition("/")
    with reading(shown(archive)):
        if not zipfile.is_zipfile(archive):
            return None
        with zipfile.ZipFile(archive) as packed:
            inside = packed.namelist()
    for title_name in MOVIELENS.get(name.split(".")[0].lower(), ()):
        wanted = f"{folder}/{title_name}" if folder else title_name
        if wanted in inside:
            return read_titles(RawFile.find(archive, member=wanted), encoding, required=False)
    return None


def read_titles(raw: RawFile, encoding: str | None = None, required: bool = True) -> pl.DataFrame | None:
    """The columns item and title of a .item file, a CSV, or MovieLens' u.item and movies.dat.

    Raises:
        HardGNNError: the file cannot be read, or (when `required`) has no such columns.
    """
    try:
        return titles_of(raw, required)
    except NotUnicode:
        if b"\0" in raw.head:
            raise
        return titles_of(raw.recoded(encoding or "latin-1"), required)


def titles_of(raw: RawFile, required: bool) -> pl.DataFrame | None:
    """The columns item and title of a text in a known encoding; the other columns are never kept.

    Raises:
        NotUnicode: it is in another encoding.
        HardGNNError: it is no table, or (when `required`) has no such columns.
    """
    header = raw.first_line()
    fields = re.split(r"\||::", header)
    with reading(raw.label):
        if ("::" in header or header.count("|") > 5) and fields[0].strip().isdigit():  # u.item and movies.dat
            return pl.concat(leading(raw, "::" if "::" in header else "|")).drop_nulls()
        atomic = "\t" in header and ":" in header  # RecBole does not quote
        separator = likely_separator(raw)
        names, skip = read_header(raw, separator, not atomic)
        bare_names = [plain(name) for name in names]
        item, title = (
            next((bare_names.index(usual) for usual in known if usual in bare_names), None)
            for known in (ITEM_NAMES, TITLE_NAMES)
        )
        if item is None or title is None:
            if required:
                raise HardGNNError(f"{raw.label}: no columns of item ids and titles; columns found: {listed(names)}")
            return None
        dialect = Dialect(separator, not atomic, len(names))
        columns = {ITEM: item, TITLE: title}
        empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        tables = (parsed(raw, block, dialect, columns) for block in row_blocks(raw, dialect, skip))
        return pl.concat([empty, *tables]).drop_nulls()


def leading(raw: RawFile, separator: str) -> Iterator[pl.DataFrame]:
    """The first two fields of each line, null where there are fewer."""
    for line, block in raw.blocks():
        try:
            text = block.decode()
        except UnicodeDecodeError:
            raise not_unicode(raw, block, line) from None
        parts = pl.Series("line", text.split("\n")).str.strip_chars_end("\r").str.split(separator)
        yield pl.DataFrame({ITEM: parts.list.get(0, null_on_oob=True), TITLE: parts.list.get(1, null_on_oob=True)})
