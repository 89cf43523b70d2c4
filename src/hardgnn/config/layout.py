"""Which sections a document of settings has, by the kinds it names; and the config that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hardgnn.config.config import Config, own_fields
from hardgnn.config.sections import KIND, Kinds, Section, groups_of
from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.parts import MODELS, OBJECTIVES, Parts

Tables = dict[str, dict[str, Any]]
LONGEST_VALUE = 60  # characters of a value that a sentence repeats


@dataclass(frozen=True)
class Slot:
    """The class of a section, and what tells its kind, if it has several."""

    settings: type[Section]
    told: dict[str, Any]
    kinds: Kinds | None = None


def layout(document: Tables) -> dict[str, Slot]:
    """Where each section of a config of this document has its settings.

    Raises:
        HardGNNError: a kind that is none, naming the nearest.
    """
    found: dict[str, Slot] = {}

    def enter(settings: type[Section]) -> None:
        for name, group in groups_of(settings).items():
            if name not in found and (trained or name not in ("objective", "train")):
                found[name] = _place(name, group, document, objective)
                enter(found[name].settings)

    model = _place("model", groups_of(Config)["model"], document, None)
    objective = MODELS.find(model.told[KIND]).objective
    trained = objective is not None
    enter(Config)
    return found


def _place(name: str, group: Kinds | type[Section], document: Tables, objective: str | None) -> Slot:
    if not isinstance(group, Kinds):
        return Slot(group, {})
    default = objective if name == "objective" else group.default
    value = document.get(name, {}).get(group.told_by, default)
    if type(value) is not type(default) or value not in group:
        if isinstance(group.table, Parts) and isinstance(value, str) and value in group.table:
            group.find(value)  # a package that cannot be loaded is told
        known = group.values()
        near = nearest(value, known) if isinstance(value, str) and isinstance(default, str) else ""
        hint = f"; {near}" if near.startswith("did") else ""
        raise HardGNNError(f"{name}.{group.told_by}: expected {_either(known)}, got {repeated(value)}{hint}")
    return Slot(group.find(value), {group.told_by: value}, group)


def _either(values: list[Any]) -> str:
    words = [str(value).lower() if isinstance(value, bool) else f"'{value}'" for value in values]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 2 else words)


def known_keys(document: Tables) -> list[str]:
    """Every key that a document with these kinds may set, as `section.field`."""
    return [f"{name}.{key}" for name, slot in layout(document).items() for key in fields_of(slot.settings)]


def fields_of(settings: type[Section]) -> list[str]:
    """The names of a section's own settings."""
    inside = groups_of(settings)
    return [name for name in settings.model_fields if name not in inside]


def flat(config: Config) -> Tables:
    """The document of a config: its sections, each with all of its own settings."""
    return {name: dict(own_fields(section)) for name, section in config.sections().items()}


def built(document: Tables, where: str) -> Config:
    """The checked config of a document whose keys are known.

    Raises:
        HardGNNError: names the key, what was expected and the value it got.
    """
    slots = layout(document)

    def make(name: str, settings: type[Section], values: dict[str, Any]) -> Section:
        groups: dict[str, Section | None] = {}
        for inner in groups_of(settings):
            slot = slots.get(inner)
            own = None if slot is None else slot.told | document.get(inner, {})
            groups[inner] = None if slot is None or own is None else make(inner, slot.settings, own)
        try:
            return settings.model_validate(values | groups, strict=True)
        except ValidationError as error:
            raise HardGNNError(f"{where}: {_told(name, error)}") from None

    config = make("", Config, {})
    assert isinstance(config, Config)
    if config.objective is not None:
        refused = OBJECTIVES.find(config.objective.kind).refuses(config.objective, config.model)
        if refused:
            raise HardGNNError(f"{where}: {refused}")
    return config


def _told(name: str, error: ValidationError) -> str:
    """The first fault as a sentence: the key, what was expected, and what is there."""
    faults = error.errors(include_url=False)
    first = faults[0]
    if not first["loc"]:  # what several settings of a section are together
        return first["msg"].removeprefix("Value error, ")
    field = first["loc"][0]  # what comes after it names the choices of a union
    of_field = [fault for fault in faults if fault["loc"][0] == field]
    expected = " or ".join(dict.fromkeys(_expected(fault["msg"]) for fault in of_field))
    key = f"{name}.{field}" if name else str(field)
    return f"{key}: expected {expected}, got {repeated(first['input'])}"


def _expected(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected ")
    return text.replace("String should match pattern", "text that matches")


def repeated(value: Any) -> str:
    """A value as a sentence repeats it."""
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"a {type(value).__name__} that is too large"


def cut(text: str) -> str:
    """A text as a sentence repeats it: not too long, and printable."""
    return shown(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…")
