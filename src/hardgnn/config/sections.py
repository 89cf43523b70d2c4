"""A group of settings: frozen, unknown keys refused; and which kind of a group a field holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationInfo, field_validator

from hardgnn.errors import HardGNNError
from hardgnn.parts import Parts

LARGEST = 2**31 - 1  # of a whole number: what counts items, users or steps fits
KIND = "kind"


def search(*choices: int, low: float = 0, high: float = 0, log: bool = False) -> dict[str, Any]:
    """Where `hardgnn sweep --trials` looks for a field's value: among `choices`, or from `low` to `high`."""
    return {"search": {"choices": list(choices)} if choices else {"low": low, "high": high, "log": log}}


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys.

    A field that is a group itself is a section of its own in files and on the command line, under its own name:
    `hard.k`, not `objective.hard.k`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, int) and value > LARGEST and field.field_name != "seed":
            raise ValueError(f"Input should be at most {LARGEST:,}")
        return value

    def leaks(self) -> list[str]:
        """How these settings let the test part steer training, in words; nothing, where they do not."""
        return []

    def walk(self, name: str = "") -> Iterator[tuple[str, Section]]:
        """This group, if it has a name, and all groups in it, each under its own."""
        if name:
            yield name, self
        for field in type(self).model_fields:
            if isinstance(value := getattr(self, field), Section):
                yield from value.walk(field)


class PartSettings(Section):
    """The settings of a part, whose `kind` is the name that it is registered under (docs/extending.md)."""

    kind: str


@dataclass(frozen=True)
class Kinds:
    """Which classes a group of settings may be of, told by one of its fields.

    `table` is a registry of parts, each with a class `Settings`, or the classes themselves by the field's value;
    `suits` tells which of the parts.
    """

    table: Parts[Any] | Mapping[Any, type[Section]]
    default: Any
    told_by: str = KIND
    suits: Callable[[Any], bool] | None = None

    def values(self) -> list[Any]:
        """What the field may be."""
        if not isinstance(self.table, Parts):
            return list(self.table)
        if self.suits is None:
            return self.table.names()
        return [name for name, part in self.table.sound() if self.suits(part)]

    def __contains__(self, value: object) -> bool:
        if not isinstance(self.table, Parts) or self.suits is None:
            return value in self.table
        if value not in self.table:
            return False
        try:
            return self.suits(self.table.find(str(value)))
        except HardGNNError:  # a package that cannot be loaded
            return False

    def sound(self) -> Iterator[tuple[Any, type[Section]]]:
        """The values and their classes, but for those of packages that cannot be loaded."""
        for value in self.values():
            with suppress(HardGNNError):
                yield value, self.find(value)

    def find(self, value: Any) -> type[Section]:
        """The class for a value of the field.

        Raises:
            HardGNNError: the part of that name cannot be loaded, or its settings are none.
        """
        if not isinstance(self.table, Parts):
            return self.table[value]
        found: type[Section] = self.table.find(value).Settings
        if not (isinstance(found, type) and issubclass(found, PartSettings)):
            raise HardGNNError(f"{self.table.kind} '{value}': its settings must be a subclass of PartSettings")
        return found


def Chosen(
    table: Parts[Any] | Mapping[Any, type[Section]],
    default: Any,
    told_by: str = KIND,
    suits: Callable[[Any], bool] | None = None,
) -> Any:
    """The type of a field that holds a group of one of several kinds; see `Kinds`."""
    return Annotated[SerializeAsAny[Section], Kinds(table, default, told_by, suits)]


def groups_of(settings: type[Section]) -> dict[str, Kinds | type[Section]]:
    """The fields of a class of settings that are groups themselves: of several kinds, or of one class."""
    found: dict[str, Kinds | type[Section]] = {}
    for name, field in settings.model_fields.items():
        kinds = next((one for one in field.metadata if isinstance(one, Kinds)), None)
        kind = next((one for one in (field.annotation, *get_args(field.annotation)) if _is_section(one)), None)
        if kinds is not None or kind is not None:
            found[name] = kinds or kind  # type: ignore[assignment]
    return found


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
