"""Writing files and folders so that a reader never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; on success it takes `path`'s place, on failure it is removed.

    Raises:
        HardGNNError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        _tell_full_disk(path, error)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, marker: str) -> Iterator[Path]:
    """Yields a new folder beside `path` which then takes its place.

    An older folder of the same kind is replaced: one that is empty or holds the file `marker`.

    Raises:
        HardGNNError: `path` holds something else, which is left alone; or the disk is full.
    """
    if path.exists() and not path.is_dir():
        raise HardGNNError(f"{path}: a file is in the way of the folder to be written")
    if path.is_dir() and any(path.iterdir()) and not (path / marker).exists():
        raise HardGNNError(f"{path}: the folder is not empty and holds no {marker}, so it is left alone")
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = uuid.uuid4().hex[:8]
    temporary = path.with_name(f".{path.name}.{stamp}.tmp")
    old = path.with_name(f".{path.name}.{stamp}.old")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except Exception as error:
        _tell_full_disk(path, error)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _tell_full_disk(path: Path, error: Exception) -> None:
    """Raises one sentence if a full disk is behind `error`, which each library reports in its own words."""
    words = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in words or "code: 28" in words:
        raise HardGNNError(f"{path}: no space left on the disk; nothing was written") from None


def write_json(path: Path, document: Any) -> None:
    """Writes `document` as indented JSON with sorted keys, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """The JSON document at `path`.

    Raises:
        HardGNNError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise HardGNNError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HardGNNError(f"{path}: not valid JSON ({error})") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
