"""The parameters of a model as scikit-learn has them: given at first, read and set by name, shown."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Self

from hardgnn import arguments
from hardgnn import config as settings
from hardgnn.api.answers import checked_output
from hardgnn.config import Config
from hardgnn.errors import HardGNNError, nearest

BETWEEN = "__"  # a section and its setting, as in model__dim
OWN: dict[str, Any] = {"preset": settings.DEFAULT_PRESET, "seed": 0, "verbose": 1, "output": "polars"}
"""The parameters that are not sections of settings, and what they are by default."""


class Parameters:
    """What a model is made with, and how that is read, set and shown; `HardGNN` tells what each is."""

    def __init__(
        self,
        preset: str | None = settings.DEFAULT_PRESET,
        seed: int = 0,
        *,
        verbose: int = 1,
        output: str = "polars",
        **options: Mapping[str, Any],
    ) -> None:
        self._set({"preset": preset, "seed": seed, "verbose": verbose, "output": output}, options)
        self._begin()

    def _begin(self) -> None:
        """What else a model has that was never fitted."""

    def _set(self, own: dict[str, Any], options: dict[str, Any]) -> None:
        """Takes checked parameters, all or none; they are kept as they came, so that a clone finds the same ones."""
        if own["preset"] is not None:
            arguments.text(own["preset"], "preset")
        seed = arguments.whole(own["seed"], "seed", least=0)
        arguments.whole(own["verbose"], "verbose", least=0)
        checked_output(own["output"])
        for name, value in options.items():
            _check_section(name, value, settings.resolve(own["preset"]))
        self.config: Config = settings.resolve(own["preset"], seed=seed, options=options)
        """All settings, the preset's and the options."""
        self.preset: str | None = own["preset"]
        self.seed: int = own["seed"]
        self.verbose: int = own["verbose"]
        self.output: str = own["output"]
        self._options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as given; with `deep` also each option alone, as `model__dim`."""
        found = {name: getattr(self, name) for name in OWN} | self._options
        if deep:
            for section, fields in self._options.items():
                found |= {f"{section}{BETWEEN}{key}": value for key, value in fields.items()}
        return found

    def set_params(self, **parameters: Any) -> Self:
        """Sets parameters for the next fit; a fitted model goes on answering as it is.

        A section replaces that of before (`model={"dim": 32}`), a single setting is put into it (`model__dim=32`).

        Raises:
            HardGNNError: an unknown name or a value that does not fit; nothing is changed then.
        """
        own = {name: parameters.pop(name, getattr(self, name)) for name in OWN}
        options = dict(self._options)
        for name, value in sorted(parameters.items(), key=lambda one: BETWEEN in one[0]):
            section, single, key = name.partition(BETWEEN)
            if not single:
                _check_section(name, value, self.config)
            options[section] = {**options.get(section, {}), key: value} if single else value
        self._set(own, options)
        return self

    def set_output(self, output: str) -> Self:
        """Answers are tables of "polars" or "pandas" from here on."""
        return self.set_params(output=output)

    @property
    def name(self) -> str:
        """What tables call the model: its preset, or its kind where it has none; of a fitted one what was fitted."""
        fitted = getattr(self, "_trained", None)
        if fitted is not None:
            return str(fitted.preset or fitted.config.model.kind)
        return self.preset or self.config.model.kind

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator; nobody else calls it, so that it need not be installed."""
        utils = importlib.import_module("sklearn.utils")
        return utils.Tags(estimator_type=None, target_tags=utils.TargetTags(required=False))

    def __repr__(self) -> str:
        mine = self.get_params(deep=False)
        told = [f"{name}={value!r}" for name, value in mine.items() if name not in OWN or value != OWN[name]]
        return f"{type(self).__name__}({', '.join(told)})"


def _check_section(name: str, value: object, config: Config) -> None:
    """Refuses what is no section of settings, and names what was meant, perhaps a setting without its section."""
    if isinstance(value, Mapping):
        return
    every = settings.flat(config)
    if name in every:
        arguments.refuse(name, "settings by name, as in model={'dim': 32}", value)
    sections = [section for section, fields in every.items() if name in fields]
    meant = f"did you mean '{sections[0]}{BETWEEN}{name}'?" if sections else nearest(name, [*OWN, *every])
    raise HardGNNError(f"unknown parameter '{name}': {meant}")
