"""The page of the service, one document made of its parts, and what it may do."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib import resources

SCRIPTS = ("call.js", "combobox.js", "history.js", "cards.js", "page.js")


def _part(name: str) -> str:
    return resources.files("hardgnn.serve").joinpath("static", name).read_text("utf-8")


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


STYLE, SCRIPT = _part("page.css"), "\n".join(map(_part, SCRIPTS))
PAGE = _part("page.html").replace("{css}", STYLE).replace("{js}", SCRIPT)
POLICY = (
    f"default-src 'none'; script-src 'sha256-{_hash(SCRIPT)}'; style-src 'sha256-{_hash(STYLE)}'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""It runs its own script and style, by their hashes, and asks this service; nothing else."""
