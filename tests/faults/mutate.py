"""Damage: to the bytes of a file, to a JSON document, to a folder of files."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP = 5000
WIDTHS = ((1, 255), (4, 2**31 - 1), (4, 2**31), (4, 2**32 - 1), (8, 2**40), (8, 2**63 - 1), (8, 2**63))
NUMBERS = (0, -1, 1, 7, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**64 - 1)
TEXTS = (
    "0", "-1", "1e999", "nan", "inf", "-0", "9" * 30, "1e12", "", '"', "\x00", "\t", ",", "\r\n", "\ufeff", "é",
    "\ud800",
)  # fmt: skip


def flip(data: bytearray, rng: random.Random) -> str:
    """One to eight bits."""
    places = [rng.randrange(len(data) * 8) for _ in range(rng.choice([1, 1, 1, 8]))]
    for place in places:
        data[place // 8] ^= 1 << place % 8
    return f"bits {places}"


def scribble(data: bytearray, rng: random.Random) -> str:
    """Random bytes over a stretch."""
    start, length = _stretch(data, rng)
    data[start : start + length] = rng.randbytes(length)
    return f"random bytes over {start}:{start + length}"


def zero(data: bytearray, rng: random.Random) -> str:
    """Zeros over a stretch, as after a lost page."""
    start, length = _stretch(data, rng)
    data[start : start + length] = bytes(length)
    return f"zeros over {start}:{start + length}"


def splice(data: bytearray, rng: random.Random) -> str:
    """A stretch of the file in another place too."""
    start, length = _stretch(data, rng)
    at = rng.randrange(len(data))
    data[at:at] = data[start : start + length]
    return f"{start}:{start + length} again at {at}"


def leave_out(data: bytearray, rng: random.Random) -> str:
    """A stretch is missing."""
    start, length = _stretch(data, rng)
    del data[start : start + length]
    return f"without {start}:{start + length}"


def truncate(data: bytearray, rng: random.Random) -> str:
    """The end is missing."""
    length = rng.randrange(len(data))
    del data[length:]
    return f"cut to {length} bytes"


def number(data: bytearray, rng: random.Random) -> str:
    """A whole number at the end of what its kind can hold, as little-endian bytes."""
    width, value = rng.choice(WIDTHS)
    at = rng.randrange(max(1, len(data) - width))
    data[at : at + width] = value.to_bytes(width, "little")
    return f"{value} in {width} bytes at {at}"


def word(data: bytearray, rng: random.Random) -> str:
    """A field of a text becomes something else."""
    separators = b",\t\n:|"
    ends = [place for place, byte in enumerate(data[:100_000]) if byte in separators]
    if len(ends) < 2:
        return flip(data, rng)
    n = rng.randrange(len(ends) - 1)
    text = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    data[ends[n] + 1 : ends[n + 1]] = text
    return f"{text!r} as the field at {ends[n] + 1}"


def nothing(data: bytearray, rng: random.Random) -> str:
    """The file is empty."""
    data.clear()
    return "empty"


KINDS: tuple[Callable[[bytearray, random.Random], str], ...] = (
    flip, flip, flip, scribble, zero, splice, leave_out, truncate, number, word, word,
)  # fmt: skip


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The damaged bytes, and what was done."""
    changed = bytearray(data)
    kind = nothing if rng.random() < 0.02 or not data else rng.choice(KINDS)
    told = kind(changed, rng)
    return bytes(changed), told


def damage_json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A JSON document with one value changed, removed or nested."""
    document = json.loads(data)
    places = list(_places(document))
    if not places:
        return damage(data, rng)
    holder, key = rng.choice(places)
    old = holder[key]
    how = rng.choice(["type", "number", "gone", "deep", "text"])
    told = f"{key!r}: {str(old)[:30]!r}"
    if how == "gone":
        del holder[key]
        told += " left out"
    elif how == "deep":
        holder[key] = "@deep@"
        text = json.dumps(document).replace('"@deep@"', "[" * DEEP + "]" * DEEP)
        return text.encode(), f"{told} nested {DEEP} deep"
    else:
        value = {
            "type": rng.choice([None, True, 1.5, "text", [], {}, [1, 2], {"a": 1}]),
            "number": rng.choice([*NUMBERS, 1e308, 10**400 if rng.random() < 0.3 else 0.1]),
            "text": rng.choice(["../../etc", "/", "x" * 100_000, "\u202e", "$x$", "[red]"]),
        }[how]
        holder[key] = value
        told += f" as {str(value)[:30]!r}"
    return json.dumps(document).encode(), told


def _places(document: Any) -> Any:
    if isinstance(document, dict | list):
        entries = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in list(entries):
            yield document, key
            yield from _places(value)


def _stretch(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data) - start, rng.choice([1, 4, 16, 64, 512, 4096]))


def files(folder: Path) -> list[str]:
    """All files below a folder, locks left out."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "lock" not in path.name]
    return sorted(found)


def linked(source: Path, target: Path) -> None:
    """A copy of a folder whose files are hard links, so that it costs nothing; no command writes in place."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            if "lock" not in name:
                os.link(Path(folder, name), place / name)


def damage_folder(folder: Path, other: Path, rng: random.Random) -> str:
    """Damages one file of a folder of links; `other` is the same kind of folder of another log."""
    names = files(folder)
    name = rng.choice(names)
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    how = rng.random()
    if how < 0.03:
        return f"{name}: gone"
    if how < 0.05:
        path.mkdir()
        return f"{name}: a folder"
    if how < 0.06:
        os.mkfifo(path)
        return f"{name}: a fifo"
    if how < 0.08:
        path.symlink_to(rng.choice([path.name, "nowhere", "/dev/zero", "/dev/null"]))
        return f"{name}: a link to {os.readlink(path)}"
    if how < 0.14 and (other / name).is_file():
        shutil.copyfile(other / name, path)
        return f"{name}: that of another log"
    if how < 0.18:
        source = rng.choice([one for one in names if one != name] or names)
        path.write_bytes((folder / source).read_bytes() if source != name else data)
        return f"{name}: a copy of {source}"
    if name.endswith(".json") and how < 0.6:
        changed, told = damage_json(data, rng)
    else:
        changed, told = damage(data, rng)
    path.write_bytes(changed)
    return f"{name}: {told}"
