"""The files that docs/extending.md shows, by the name in their first line."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardgnn.data.readers import READERS
from hardgnn.metrics import METRICS
from hardgnn.parts import CALLBACKS, ENCODERS, LOSSES, MODELS, OBJECTIVES, SAMPLERS, Parts

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
KINDS: list[Parts[Any]] = [READERS, METRICS, LOSSES, ENCODERS, SAMPLERS, MODELS, OBJECTIVES, CALLBACKS]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = {
    "reader": ["plays"],
    "metric": ["rbp", "tail"],
    "loss": ["bpr"],
    "encoder": ["recent"],
    "sampler": ["tenth"],
    "model": ["successors", "factors"],
    "objective": ["last-item"],
    "callback": ["drift"],
}
"""The parts that the document adds."""


def blocks(language: str) -> list[str]:
    """The code of one language, in the document's order."""
    return [code for found, code in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")) if found == language]


def files() -> dict[str, str]:
    """The files that the document shows."""
    named = [code for language in ("python", "toml") for code in blocks(language)]
    return {code.splitlines()[0].removeprefix("# "): code for code in named}


def part_files() -> dict[str, str]:
    """Those of them that hold parts."""
    return {name: code for name, code in files().items() if name.startswith("my_")}


@contextmanager
def kept_apart() -> Iterator[None]:
    """Parts registered meanwhile, and the modules of the document, are gone afterwards."""
    for parts in KINDS:
        parts.names()  # ours are there before
    before = [dict(parts._known) for parts in KINDS]
    try:
        yield
    finally:
        for parts, known in zip(KINDS, before, strict=True):
            parts._known = known
        for name in part_files():
            sys.modules.pop(name.removesuffix(".py"), None)


@contextmanager
def shown_parts(folder: Path) -> Iterator[None]:
    """The parts of the document are registered, as by a program that imports its files from a folder."""
    for name, code in files().items():
        (folder / name).write_text(code, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        with kept_apart():
            importlib.invalidate_caches()
            for name in part_files():
                importlib.import_module(name.removesuffix(".py"))
            yield
    finally:
        sys.path.remove(str(folder))
