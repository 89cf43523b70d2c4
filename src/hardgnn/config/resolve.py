"""The config from presets, files and single settings, the later over the earlier."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hardgnn.config.config import Config
from hardgnn.config.earlier import translated
from hardgnn.config.layout import Tables, built, cut, fields_of, known_keys, layout, repeated
from hardgnn.errors import HardGNNError, nearest
from hardgnn.metrics import check_choice
from hardgnn.parts import CALLBACKS, MODELS
from hardgnn.storage.texts import read_toml

DEFAULT_PRESET = "best"
"""What is trained where no preset is named: the strongest, as README recommends."""
A_CONFIG = "a TOML file of settings"
TELLS = ("kind", "use")  # which settings a section has


def presets() -> dict[str, Path]:
    """The presets by name."""
    folder = Path(str(resources.files("hardgnn"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def preset_notes() -> dict[str, tuple[str, str]]:
    """What each preset is and when to take it, as the first lines of its file say."""
    found = {}
    for name, path in presets().items():
        notes = {}
        for line in path.read_text("utf-8").splitlines():
            word, colon, rest = line.removeprefix("# ").partition(": ")
            if line.startswith("# ") and colon and word in ("What", "When"):
                notes[word] = rest
        found[name] = notes.get("What", ""), notes.get("When", "")
    return found


def resolve(
    preset: str | None = None,
    file: str | Path | None = None,
    settings: Sequence[str] = (),
    seed: int | None = None,
    options: dict[str, dict[str, Any]] | None = None,
) -> Config:
    """The config after precedence: `settings` ("model.dim=64") over `options` over `file` over `preset` over defaults.

    Presets may be stacked, the later over the earlier: "released+gowalla".

    Raises:
        HardGNNError: an unknown preset or key (names the nearest), or a value that does not fit.
    """
    document: Tables = {}
    if preset is not None:
        known = presets()
        for name in preset.split("+"):
            if name not in known:
                raise HardGNNError(f"unknown preset '{cut(name)}': {nearest(name, known)}")
            put(document, read_toml(known[name], A_CONFIG), str(known[name].name))
    if file is not None:
        put(document, read_toml(Path(file), A_CONFIG), str(file))
    if options:
        put(document, options, "options")
    words: dict[str, Tables] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or key.count(".") != 1:
            raise HardGNNError(f"--set {cut(setting)}: expected section.field=value, as in model.dim=64")
        section, field = key.strip().split(".")
        words[f"--set {cut(setting)}"] = {section: {field: _parse(text)}}
    # What names a kind goes first, whatever the order of the words: the other keys are those of that kind.
    for where, layer in sorted(words.items(), key=lambda word: not _names_kind(word[1])):
        put(document, layer, where)
    if seed is not None:
        document.setdefault("run", {})["seed"] = seed
    return _to_be_trained(built(document, "options" if options else "config"), "config")


def _names_kind(layer: Tables) -> bool:
    names = {*TELLS, "objective", "sequence", "weight_decay"}  # the last three are of earlier versions
    return any(key in names for fields in layer.values() for key in fields)


def build(document: dict[str, Any], where: str) -> Config:
    """The checked config from plain dictionaries.

    Raises:
        HardGNNError: names the key, what was expected and the value it got.
    """
    merged: Tables = {}
    put(merged, document, where)
    return built(merged, where)


def load(path: Path) -> Config:
    """The config saved in a run folder.

    Raises:
        HardGNNError: it is missing, no TOML, or holds a setting that cannot be.
    """
    return build(read_toml(path, A_CONFIG), str(path))


def put(document: Tables, layer: dict[str, Any], where: str) -> None:
    """Puts a `layer` of settings over `document`; keys of earlier versions under their new names.

    Where it names another kind for a section, what the document had there and the new kind has not is dropped.

    Raises:
        HardGNNError: a key that no config has, or that this one's kinds have not.
    """
    _check_tables(layer, document, where)
    try:
        layer = translated(layer, document)
    except HardGNNError as error:
        raise HardGNNError(f"{where}: {error}") from None
    _take_kinds(document, layer, where)
    places = _layout(document, where)
    for section, fields in layer.items():
        if section not in places:
            raise HardGNNError(f"{where}: {_no_section(section, document, list(places))}")
        for field in fields:
            if field not in fields_of(places[section].settings):
                raise HardGNNError(f"{where}: {_no_field(section, field, document)}")
        document.setdefault(section, {}).update(fields)


def _take_kinds(document: Tables, layer: Tables, where: str) -> None:
    """Puts the kinds that a layer names into `document`, and drops what its sections no longer have."""
    kinds = {name: {key: value for key, value in fields.items() if key in TELLS} for name, fields in layer.items()}
    if not any(kinds.values()):
        return
    for name, told in kinds.items():
        if told:
            document.setdefault(name, {}).update(told)
    places = _layout(document, where)
    for name in [name for name in document if name not in places and not kinds.get(name)]:
        del document[name]
    for name, fields in document.items():
        if name in places:
            kept = fields_of(places[name].settings)
            document[name] = {key: value for key, value in fields.items() if key in kept}


def _check_tables(layer: dict[str, Any], document: Tables, where: str) -> None:
    for section, fields in layer.items():
        if not isinstance(fields, dict):
            if section not in (known := list(_layout(document, where))):
                raise HardGNNError(f"{where}: {_no_section(section, document, known)}")
            raise HardGNNError(f"{where}: '{cut(str(section))}' must be a table of settings, got {repeated(fields)}")


def _layout(document: Tables, where: str) -> dict[str, Any]:
    try:
        return layout(document)
    except HardGNNError as error:
        raise HardGNNError(f"{where}: {error}") from error


def _no_section(section: str, document: Tables, known: list[str]) -> str:
    model = document.get("model", {}).get("kind", "selfgnn")
    for kind, _ in MODELS.sound():
        if kind != model and section in layout({"model": {"kind": kind}}):
            return f"'{section}': the model {model} has no such settings, {kind} has"
    return f"unknown key '{cut(section)}': {nearest(section, known)}"


def _no_field(section: str, field: str, document: Tables) -> str:
    key, known = f"{section}.{field}", known_keys(document)
    place = layout(document)[section]
    kind = place.told.get("kind")
    table = place.kinds
    others = [] if table is None else [one for one, settings in table.sound() if field in fields_of(settings)]
    if kind and others:
        has = f"{' and '.join(others)} {'have' if len(others) > 1 else 'has'}"
        return f"{key}: {section}.kind={kind} has no such setting, {has}"
    inside = [name for name in known if name.startswith(f"{section}.")]
    return f"unknown key '{cut(key)}': {nearest(key, inside)}"


def _to_be_trained(config: Config, where: str) -> Config:
    """The config of a run to be trained. A run that was trained is read without their packages.

    Raises:
        HardGNNError: `train.metric` is unknown, naming the nearest, or of whole lists; or a callback is unknown.
    """
    if config.train is not None:
        try:
            check_choice(config.train.metric)
        except HardGNNError as error:
            raise HardGNNError(f"{where}: train.metric: {error}") from error
        for name in filter(None, config.train.callbacks.split(",")):
            try:
                CALLBACKS.find(name)
            except HardGNNError as error:
                raise HardGNNError(f"{where}: train.callbacks: {error}") from error
    return config


def _parse(text: str) -> Any:
    """A value from the command line: TOML where it parses, a plain string otherwise."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text  # a line break in it would begin another key
