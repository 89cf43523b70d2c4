"""What a config has otherwise than its preset: as options that make it again."""

from __future__ import annotations

from typing import Any

from hardgnn.config.config import Config, toml_value
from hardgnn.config.layout import Tables, flat
from hardgnn.config.resolve import presets, resolve


def known_preset(name: object) -> str | None:
    """The name of a preset, or of a stack of them, that is there; None for any other name."""
    known = presets()
    return name if isinstance(name, str) and all(one in known for one in name.split("+")) else None


def difference(config: Config, preset: str | None) -> Tables:
    """The options with which `resolve(preset, options=…, seed=…)` gives `config`, the seed apart."""
    mine, plain = flat(config), flat(resolve(preset))
    mine["run"] = {key: value for key, value in mine["run"].items() if key != "seed"}
    changed = {
        section: {key: value for key, value in fields.items() if plain.get(section, {}).get(key) != value}
        for section, fields in mine.items()
    }
    found = {section: fields for section, fields in changed.items() if fields}
    # Where a kind differs, what the preset does not say comes from another kind's defaults: then all is said.
    return found if resolve(preset, options=found, seed=config.run.seed) == config else mine


def as_words(options: dict[str, dict[str, Any]]) -> list[str]:
    """Options as `resolve` takes settings: `model.dim=64`."""
    return [
        f"{section}.{key}={toml_value(value)}" for section, fields in options.items() for key, value in fields.items()
    ]
