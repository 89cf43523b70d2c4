"""What a config has otherwise than its preset: as options that make it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hardgnn.config.config import Config, toml_value
from hardgnn.config.layout import Tables, flat
from hardgnn.config.resolve import presets, resolve

ABSENT = object()


def known_preset(name: object) -> str | None:
    """The name of a preset, or of a stack of them, that is there; None for any other name."""
    known = presets()
    return name if isinstance(name, str) and all(one in known for one in name.split("+")) else None


def difference(config: Config, preset: str | None) -> Tables:
    """The options with which `resolve(preset, options=…, seed=…)` gives `config`, the seed apart."""
    found: Tables = {}
    for section, key, value, _ in _changed(config, preset):
        found.setdefault(section, {})[key] = value
    if resolve(preset, options=found, seed=config.run.seed) == config:
        return found
    # Where a kind differs, what the preset does not say comes from another kind's defaults: then all is said.
    every = flat(config)
    return every | {"run": {key: value for key, value in every["run"].items() if key != "seed"}}


def differences(config: Config, preset: str) -> list[str]:
    """What differs from a preset, as `model.dim=32 (64)`: what it is, and what it is in the preset, if it is there.

    Raises:
        HardGNNError: as `resolve`.
    """
    return [
        f"{section}.{key}={_word(value)}" + ("" if before is ABSENT else f" ({_word(before)})")
        for section, key, value, before in _changed(config, preset)
    ]


def _changed(config: Config, preset: str | None) -> Iterator[tuple[str, str, Any, Any]]:
    """Section, key, value and value in the preset (`ABSENT`: none) of what differs from it, the seed apart."""
    plain = flat(resolve(preset))
    for section, fields in flat(config).items():
        for key, value in fields.items():
            before = plain.get(section, {}).get(key, ABSENT)
            if (section, key) != ("run", "seed") and value != before:
                yield section, key, value, before


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_words(options: dict[str, dict[str, Any]]) -> list[str]:
    """Options as `resolve` takes settings: `model.dim=64`."""
    return [
        f"{section}.{key}={toml_value(value)}" for section, fields in options.items() for key, value in fields.items()
    ]
