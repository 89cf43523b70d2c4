"""Item titles, from a file beside the log or one that the user names."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from pathlib import Path

import polars as pl

from hardgnn.data.log import ITEM, TITLE
from hardgnn.errors import HardGNNError

ITEM_NAMES = ("item", "itemid", "iid", "movieid", "productid", "parentasin", "asin", "businessid", "bookid")
TITLE_NAMES = ("title", "movietitle", "itemtitle", "name", "itemname")
MOVIELENS = {"u": ("u.item",), "ratings": ("movies.csv", "movies.dat")}


def find_titles(
    log: Path, items_file: str | Path | None, movielens: bool, member: str | None = None
) -> pl.DataFrame | None:
    """The titles of a log's items, as columns item and title (both String); None where there are none.

    Without `items_file`, `<stem>.item` beside the log is read, or the file that its MovieLens name goes with: beside
    the log, or beside the `member` of the zip archive `log`.

    Raises:
        HardGNNError: the file cannot be read, or `items_file` has no item and title columns.
    """
    if items_file is not None:
        return read_titles(Path(items_file))
    if member is not None:
        return packed_titles(log, member) if movielens and zipfile.is_zipfile(log) else None
    stem = log.name.removesuffix(".gz").rsplit(".", 1)[0]
    every = tuple(name for names in MOVIELENS.values() for name in names) if movielens else ()
    names = (f"{stem}.item", *MOVIELENS.get(stem, every))
    beside = [log.with_name(name + ending) for name in names for ending in ("", ".gz")]
    found = next((path for path in beside if path.is_file() and path != log), None)
    return None if found is None else read_titles(found, required=False)


def packed_titles(archive: Path, member: str) -> pl.DataFrame | None:
    """The titles of a MovieLens zip archive, which lie in the folder of its log `member`."""
    folder, _, name = member.rpartition("/")
    with zipfile.ZipFile(archive) as packed:
        for title_name in MOVIELENS.get(name.split(".")[0].lower(), ()):
            inside = f"{folder}/{title_name}" if folder else title_name
            if inside in packed.namelist():
                return parse_titles(decoded(packed.read(inside)), f"{archive}: {inside}", required=False)
    return None


def read_titles(path: Path, required: bool = True) -> pl.DataFrame | None:
    """The columns item and title of a .item file, a CSV, or MovieLens' u.item and movies.dat.

    Raises:
        HardGNNError: the file cannot be read, or (when `required`) has no such columns.
    """
    return parse_titles(read_text(path), str(path), required)


def parse_titles(text: str, label: str, required: bool) -> pl.DataFrame | None:
    """The columns item and title of a text; `label` names it in errors.

    Raises:
        HardGNNError: it is no table, or (when `required`) has no such columns.
    """
    header = text.split("\n", 1)[0].rstrip("\r")
    fields = re.split(r"\||::", header)
    if ("::" in header or header.count("|") > 5) and fields[0].strip().isdigit():  # u.item and movies.dat: no header
        parts = pl.Series("line", text.splitlines()).str.split("::" if "::" in header else "|")
        table = pl.DataFrame({ITEM: parts.list.get(0, null_on_oob=True), TITLE: parts.list.get(1, null_on_oob=True)})
        return table.drop_nulls()
    atomic = "\t" in header and ":" in header  # RecBole does not quote
    separator = max(",\t;|", key=header.count)
    try:
        table = pl.read_csv(text.encode(), separator=separator, quote_char=None if atomic else '"', infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise HardGNNError(f"{label}: cannot be read as a table of items ({str(error).splitlines()[0]})") from None
    plain = {name: re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower()) for name in table.columns}
    picked = [
        next((name for usual in names for name in table.columns if plain[name] == usual), None)
        for names in (ITEM_NAMES, TITLE_NAMES)
    ]
    if None in picked:
        if required:
            listed = ", ".join(table.columns)[:300]
            raise HardGNNError(f"{label}: no columns of item ids and titles; columns found: {listed}")
        return None
    item, title = picked
    return table.select(pl.col(str(item)).alias(ITEM), pl.col(str(title)).alias(TITLE)).drop_nulls()


def read_text(path: Path) -> str:
    """The text of a file, decompressed; UTF-8, or Latin-1 as ml-100k's u.item is.

    Raises:
        HardGNNError: the file is missing, empty, binary or a damaged gzip.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise HardGNNError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise HardGNNError(f"{path}: a folder, expected a file of item titles") from None
    except (EOFError, zlib.error, OSError) as error:
        raise HardGNNError(f"{path}: cannot be read ({error})") from None
    if b"\0" in data:
        raise HardGNNError(f"{path}: binary data, expected a table of items")
    if not data.strip():
        raise HardGNNError(f"{path}: the file is empty")
    return decoded(data)


def decoded(data: bytes) -> str:
    """UTF-8 or Latin-1 bytes as text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
