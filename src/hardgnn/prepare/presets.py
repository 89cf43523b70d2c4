"""Named settings of `hardgnn prepare`: a TOML file each in `configs/prepare/`, for the papers' data sets."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError, nearest


def prepare_presets() -> dict[str, Path]:
    """The presets by name."""
    folder = Path(str(resources.files("hardgnn"))) / "configs" / "prepare"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def preset_settings(name: str) -> dict[str, Any]:
    """A preset's settings: `format`, and those of `hardgnn.prepare.pipeline.PrepareConfig`.

    Raises:
        HardGNNError: an unknown name; tells the nearest.
    """
    known = prepare_presets()
    if name not in known:
        raise HardGNNError(f"unknown preset '{name}' of prepare: {nearest(name, known)}")
    return tomllib.loads(known[name].read_text("utf-8"))
