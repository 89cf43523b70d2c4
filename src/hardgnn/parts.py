"""Parts of one kind by name: ours, those that a program registers, and those of installed packages."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from hardgnn.errors import HardGNNError, machine_fault, nearest, reason, shown

Part = TypeVar("Part")
Registered = TypeVar("Registered", bound=type)
NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Parts(Generic[Part]):
    """A table of parts, to which a decorator adds and in which a name finds.

    Args:
        kind: what sentences call one, as in "metric".
        group: the entry points (`importlib.metadata`) under which installed packages announce theirs, as
            `NAME = "package.module"`; that module is loaded when the name is first asked for, and registers it.
        home: the module of ours that registers our own, loaded when a name is first asked for.
    """

    def __init__(self, kind: str, group: str, home: str = "") -> None:
        self.kind, self.group, self.home = kind, group, home
        self._known: dict[str, tuple[Part, str]] = {}

    def add(self, name: str, part: Part, made_by: Callable[..., Any]) -> None:
        """Registers a part under a name; the same function again, as a notebook's cell run twice, replaces it.

        Raises:
            HardGNNError: the name cannot be, or is that of another part.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise HardGNNError(
                f"{self.kind} {shown(repr(name))}: expected a name of small letters, digits, _ and -, a letter first"
            )
        home = home_of(made_by)
        if name in self._known and self._known[name][1] != home:
            raise HardGNNError(
                f"{self.kind} '{name}': {self._known[name][1]} and {home} both have this name; rename one"
            )
        self._known[name] = part, home

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """A decorator that registers a class, which is the part itself.

        Raises:
            HardGNNError: as `add`; or the class lacks what every part of its kind has.
        """

        def registered(found: Registered) -> Registered:
            if missing := sorted(getattr(found, "__abstractmethods__", ())):
                raise HardGNNError(f"{self.kind} '{shown(name)}' ({home_of(found)}): lacks {', '.join(missing)}")
            self.add(name, found, found)  # type: ignore[arg-type]
            return found

        return registered

    def find(self, name: str) -> Part:
        """The part of that name, loaded where an installed package has it.

        Raises:
            HardGNNError: there is none, naming the nearest; or the package's own fails.
        """
        self._ours()
        if name not in self._known:
            self._load(name)
        return self._known[name][0]

    def sound(self) -> Iterator[tuple[str, Part]]:
        """All parts with their names, but for those that cannot be loaded, which is told where they are asked for."""
        for name in self.names():
            with suppress(HardGNNError):
                yield name, self.find(name)

    def loaded(self) -> list[Part]:
        """The parts that are registered by now, in their order."""
        return [part for part, _ in self._known.values()]

    def names(self) -> list[str]:
        """All names, those of installed packages that are not loaded yet among them."""
        self._ours()
        return [*dict.fromkeys([*self._known, *(point.name for point in self._announced())])]

    def __contains__(self, name: object) -> bool:
        self._ours()  # installed packages are asked only for what is not ours: reading their records takes a while
        return name in self._known or any(point.name == name for point in self._announced())

    def _ours(self) -> None:
        if self.home:
            importlib.import_module(self.home)

    def _announced(self) -> list[EntryPoint]:
        return list(entry_points(group=self.group))

    def _load(self, name: str) -> None:
        point = next((point for point in self._announced() if point.name == name), None)
        if point is None:
            raise HardGNNError(f"unknown {self.kind} '{shown(name)}'; {nearest(name, self.names())}")
        whose = f"{self.kind} '{name}' of the package {point.dist.name if point.dist else point.value}"
        try:
            point.load()
        except (HardGNNError, MemoryError):
            raise
        except Exception as error:
            raise HardGNNError(f"{whose} cannot be loaded: {type(error).__name__}: {reason(error)}") from error
        if name not in self._known:
            raise HardGNNError(f"{whose}: {point.value} was loaded and registers no {self.kind} of that name")


def home_of(made_by: Any) -> str:
    """Where a function or class is from, as sentences name it."""
    return f"{made_by.__module__}.{made_by.__qualname__}"


@contextmanager
def blamed(whose: str, *told: type[Exception]) -> Iterator[None]:
    """Names a part in what its code raises, but for sentences, what the machine lacks, and errors `told` elsewhere.

    Raises:
        HardGNNError: the code fails.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (HardGNNError, *told)) or machine_fault(error):
            raise
        raise HardGNNError(f"{whose} fails: {type(error).__name__}: {reason(error)}") from error


MODELS: Parts[Any] = Parts("model", "hardgnn.models", "hardgnn.models")
ENCODERS: Parts[Any] = Parts("encoder", "hardgnn.encoders", "hardgnn.models.encoders")
OBJECTIVES: Parts[Any] = Parts("objective", "hardgnn.objectives", "hardgnn.training.objectives")
SAMPLERS: Parts[Any] = Parts("sampler", "hardgnn.samplers", "hardgnn.training.samplers")
LOSSES: Parts[Any] = Parts("loss", "hardgnn.losses", "hardgnn.training.losses")
CALLBACKS: Parts[Any] = Parts("callback", "hardgnn.callbacks", "hardgnn.training.loggers")
