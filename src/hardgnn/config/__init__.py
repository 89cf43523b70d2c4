"""Settings: checked once, at the border; each part of the house declares its own (`sections.Section`)."""

from hardgnn.config.config import Config, TrainSettings, leaks, search_space
from hardgnn.config.difference import as_words, difference, differences, known_preset
from hardgnn.config.layout import flat, known_keys
from hardgnn.config.resolve import DEFAULT_PRESET, build, load, preset_notes, presets, resolve
from hardgnn.config.sections import Chosen, PartSettings, Section, search

__all__ = [
    "DEFAULT_PRESET",
    "Chosen",
    "Config",
    "PartSettings",
    "Section",
    "TrainSettings",
    "as_words",
    "build",
    "difference",
    "differences",
    "flat",
    "known_keys",
    "known_preset",
    "leaks",
    "load",
    "preset_notes",
    "presets",
    "resolve",
    "search",
    "search_space",
]
