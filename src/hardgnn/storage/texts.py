"""Texts that a user writes: read whole, and refused in a sentence where they are none."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError, reading, shown


def read_text(path: Path, kind: str) -> str:
    """The text of a file, whole.

    Args:
        path: an ordinary file, or what the shell hands over (`/dev/stdin`, `<(command)`).
        kind: what is expected, as in "a TOML file".

    Raises:
        HardGNNError: it is missing, none that can be read to an end, may not be read, or not UTF-8.
        MachineError: a fault of the machine.
    """
    with reading(path):
        if path.is_dir():
            raise HardGNNError(f"{shown(path)}: a folder, expected {kind}")
        if not path.is_file() and path.exists() and not str(path).startswith(("/dev/stdin", "/dev/fd/")):
            raise HardGNNError(f"{shown(path)}: not an ordinary file, expected {kind}")
        content = path.read_bytes()
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise HardGNNError(f"{shown(path)}: line {line}: not text in UTF-8, expected {kind}") from None


def read_toml(path: Path, kind: str) -> dict[str, Any]:
    """The document of a TOML file.

    Args:
        path: as in `read_text`.
        kind: what is expected, as in "a TOML file of settings".

    Raises:
        HardGNNError: as `read_text`, or it is not TOML.
        MachineError: a fault of the machine.
    """
    return parsed_toml(read_text(path, kind), str(path))


def parsed_toml(text: str, where: str) -> dict[str, Any]:
    """The document of a text.

    Raises:
        HardGNNError: it is not TOML; names `where` it stands.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise HardGNNError(f"{where}: not valid TOML (nested too deeply)") from None
    except ValueError as error:  # a number of thousands of digits is no TOMLDecodeError
        raise HardGNNError(f"{where}: not valid TOML ({error})") from None
