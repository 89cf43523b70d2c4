"""Texts that are not UTF-8, read as if they were."""

from __future__ import annotations

import codecs
import encodings.aliases
import io
from typing import Any

from hardgnn.data.raw.stored import BUFFER_BYTES
from hardgnn.errors import HardGNNError, nearest, reason, shown


class Recoded(io.RawIOBase):
    """A text of another encoding, in UTF-8."""

    def __init__(self, stream: io.BufferedReader, encoding: str, label: str) -> None:
        self.stream, self.encoding, self.label = stream, encoding, label
        self.decoder = codecs.getincrementaldecoder(encoding)()
        self.rest, self.line, self.ended = b"", 1, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.rest and not self.ended:
            chunk = self.stream.read(BUFFER_BYTES)
            self.ended = not chunk
            try:
                text = self.decoder.decode(chunk, final=self.ended)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(self.encoding, "ignore")
                at = self.line + before.count("\n")
                raise HardGNNError(f"{self.label}: line {at}: not {self.encoding} text ({error.reason})") from None
            except UnicodeError as error:
                raise HardGNNError(f"{self.label}: not {self.encoding} text ({reason(error)})") from None
            self.line += text.count("\n")
            self.rest = text.encode("utf-8", "replace")
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def known_encoding(name: str) -> str:
    """The name of an encoding of text that Python knows, unchanged.

    Raises:
        HardGNNError: there is none of that name; names the nearest.
    """
    if not _is_encoding(name):
        known = {one.replace("_", "-") for pair in encodings.aliases.aliases.items() for one in pair}
        raise HardGNNError(f"unknown encoding '{shown(name)}': {nearest(name, filter(_is_encoding, known))}")
    return name


def _is_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name).incrementaldecoder is not None and "".encode(name) is not None
    except (LookupError, ValueError):
        return False
