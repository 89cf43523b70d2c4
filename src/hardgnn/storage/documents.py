"""Frozen dataclasses as JSON documents: what rooms hand to each other, and commands print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

OPTIONAL = {"optional": True}
"""Metadata of a field that a document is without where it is None."""


def called(name: str, **more: Any) -> dict[str, Any]:
    """Metadata of a field that documents call otherwise than the code."""
    return {"name": name, **more}


class Document:
    """What a frozen dataclass inherits to become JSON."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the fields in their order, tuples as lists."""
        found = {}
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if value is not None or not one.metadata.get("optional"):
                found[one.metadata.get("name", one.name)] = plain(value)
        return found


def plain(value: Any) -> Any:
    """A value as JSON has it, documents in it included."""
    if isinstance(value, Document):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
