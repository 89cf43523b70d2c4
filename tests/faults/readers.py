"""Independent slow readers of raw logs, with Python's own csv, json, gzip, zipfile and tarfile.

They answer rows (user, item, seconds), or say that a file cannot be read, or that what it means is open.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import statistics
import tarfile
import zipfile
import zlib
from datetime import UTC, datetime

Rows = list[tuple[str, str, float]]
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
NAMES = {"user": ("user", "userid"), "item": ("item", "itemid", "movieid"), "time": ("timestamp",)}
OBJECTS = {"yelp": ("user_id", "business_id", "date"), "json": ("reviewerID", "asin", "unixReviewTime")}
UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))


class Broken(Exception):
    """No reader may make a log of it."""


class Open(Exception):
    """What it means is a matter of taste."""


def same_id(text: str) -> str:
    """An id without what may or may not be kept of it: blanks around it, and forms of one number."""
    text = text.strip()
    if NUMBER.fullmatch(text) and len(text) < 16 and math.isfinite(float(text)):
        return f"{float(text):g}"
    return text


def rows(data: bytes, kind: str) -> Rows:
    """The rows of a file of this kind, in file order.

    Raises:
        Broken, Open: there are none.
    """
    text = _text(_unpacked(data, kind))
    if kind in OBJECTS:
        return _timed(_objects(text, OBJECTS[kind]))
    if '"' in text and kind != "csv":
        raise Open("quotes")
    if kind == "csv":
        return _timed(_table(text))
    if kind == "inter":
        return _timed(_inter(text))
    separator, order, width = {
        "u.data": ("\t", (0, 1, 3), 4),
        "ratings.dat": ("::", (0, 1, 3), 4),
        "amazon": (",", (0, 1, 3), 4),
        "gowalla": ("\t", (0, 4, 1), 5),
    }[kind]
    found = []
    for line in text.split("\n"):
        if line.strip():
            fields = line.split(separator)
            if len(fields) < width or any(field.strip() for field in fields[width:]):
                raise Broken(f"{len(fields)} fields")
            found.append(tuple(fields[place] for place in order))
    return _timed(found)


def _unpacked(data: bytes, kind: str) -> bytes:
    try:
        for _ in range(4):
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            elif data[:4] == b"PK\x03\x04":
                with zipfile.ZipFile(io.BytesIO(data)) as packed:
                    names = [one for one in packed.namelist() if re.search(r"u\.data$|ratings\.(csv|dat)$", one)]
                    if not names:
                        raise Open("no log by its name")
                    data = packed.read(names[0])
            elif data[257:262] == b"ustar":
                with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as packed_tar:
                    for entry in packed_tar:
                        if entry.name.endswith("review.json"):
                            stream = packed_tar.extractfile(entry)
                            if stream is None:
                                raise Open("no file")
                            data = stream.read()
                            if len(data) != entry.size:
                                raise Broken("the archive ends early")
                            break
                    else:
                        raise Broken("no reviews")
            else:
                return data
    except (Broken, Open):
        raise
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise Broken(str(error)) from None
    except Exception as error:
        raise Open(f"{type(error).__name__}: {error}") from None
    return data


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Broken("not UTF-8") from None
    text = text.replace("\r\n", "\n")
    if "\r" in text or "\0" in text or "\ufeff" in text:
        raise Open("line ends, zeros")
    return text


def _header(names: list[str]) -> tuple[int, int, int]:
    plain = [re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower()) for name in names]
    places = []
    for usual in NAMES.values():
        fits = [place for name in usual for place, found in enumerate(plain) if found == name]
        if len(fits) != 1:
            raise Open("a header of other names")
        places.append(fits[0])
    return places[0], places[1], places[2]


def _picked(lines: list[list[str]]) -> list[tuple[str, ...]]:
    lines = [fields for fields in lines if any(field.strip() for field in fields)]
    if not lines:
        raise Broken("no lines")
    places, width = _header(lines[0]), len(lines[0])
    found = []
    for fields in lines[1:]:
        if len(fields) > width:
            raise Broken(f"{len(fields)} fields")
        found.append(tuple(fields[place] if place < len(fields) else "" for place in places))
    return found


def _inter(text: str) -> list[tuple[str, ...]]:
    return _picked([line.split("\t") for line in text.split("\n")])


def _table(text: str) -> list[tuple[str, ...]]:
    first = next((line for line in text.split("\n") if line.strip()), "")
    separator = max(",\t;|", key=first.count)
    try:
        return _picked(list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)))
    except csv.Error as error:
        raise Open(str(error)) from None


def _objects(text: str, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    found = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            review = json.loads(line)
        except (ValueError, RecursionError):
            raise Broken("no JSON") from None
        if not isinstance(review, dict):
            raise Broken("no object")
        fields = [review.get(name) for name in names]
        if not all(type(field) in (str, int) for field in fields):
            raise Open("fields of other kinds")
        if any(line.count(f'"{name}"') > 1 for name in names):
            raise Open("a field twice")
        found.append(tuple(map(str, fields)))
    return found


def _timed(found: list[tuple[str, ...]]) -> Rows:
    if not found:
        raise Broken("no rows")
    times, dates = [], 0
    for user, item, time in found:
        if not user.strip() or not item.strip():
            raise Broken("an empty id")
        time = time.strip()
        if NUMBER.fullmatch(time):
            times.append(float(time))
            continue
        try:
            moment = datetime.fromisoformat(time)
        except ValueError:
            raise (Broken if not time or not re.search(r"\d", time) else Open)(f"time {time!r}") from None
        dates += 1
        times.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if 0 < dates < len(found):
        raise Open("numbers and dates")
    if not all(math.isfinite(time) and time >= 0 for time in times):
        raise Broken("a time that is none")
    if not dates:
        median = statistics.median(times)
        factor = next((factor for start, factor in UNITS if median > start), 1.0)
        times = [time / factor for time in times]
    return [(same_id(user), same_id(item), time) for (user, item, _), time in zip(found, times)]
