"""A small search that is the same for everybody: a preset's own list of settings, the best of which is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError, shown
from hardgnn.runs.folder import is_started
from hardgnn.runs.train import check_new, copy_run, train
from hardgnn.storage.files import atomic_path
from hardgnn.storage.records import write_json
from hardgnn.storage.texts import read_toml
from hardgnn.training.callbacks import Callback
from hardgnn.wording import option, said

TUNING = "tuning.json"
Watch = Callable[[str], AbstractContextManager[Callback]]
"""Shows how far the training of a name is."""


@dataclass(frozen=True)
class Try:
    """One of the settings tried: what it changes of the preset, and its config."""

    words: tuple[str, ...]
    config: Config


def tries(preset: str, n: int | None, words: Sequence[str] = (), seed: int | None = None) -> list[Try]:
    """The preset itself and the first `n` - 1 settings of its list, or all of it; `words` go over all.

    Raises:
        HardGNNError: the preset has no list, or not so many; or a setting that cannot be.
    """
    listed = resources.files("hardgnn") / "configs" / "tuning" / f"{preset}.toml"
    if not listed.is_file():
        raise HardGNNError(
            f"{tuning()}: the preset '{preset}' has no list of settings to try; search with `hardgnn sweep`"
        )
    lists = [(), *(tuple(one["set"]) for one in read_toml(Path(str(listed)), "a list of settings")["tries"])]
    n = len(lists) if n is None else n
    if not 1 <= n <= len(lists):
        raise HardGNNError(f"{tuning(n)}: the preset '{preset}' has {len(lists)} settings to try")
    found = [Try(one, settings.resolve(preset, settings=[*one, *words], seed=seed)) for one in lists[:n]]
    for one in found:
        if leaking := settings.leaks(one.config):
            raise HardGNNError(f"{tuning()}: {' and '.join(leaking)}; a search never chooses by the test part")
        if one.config.run.final:
            raise HardGNNError(
                f"{tuning()}: run.learn_from=train+valid leaves no validation to choose by; refit the best"
            )
    return found


def tuning(n: int | None = None) -> str:
    """What is asked for, in words."""
    return said("--tune" if n is None else f"--tune {n}", "tune" if n is None else f"tune(n={n})")


def tune(data: Dataset, tried: Sequence[Try], out: Path, watch: Watch, **how: Any) -> list[dict[str, Any]]:
    """Trains each, in folders beside `out`, and copies the best on validation there; stopped, it goes on when called
    again.

    Args:
        data: the prepared data set.
        tried: the settings, of which the first is the best among equals.
        out: the run folder to write.
        watch: shows each training.
        how: further arguments of `hardgnn.runs.train.train`.

    Returns:
        Settings, validation figures and seconds of each, as `tuning.json` in the run folder keeps them.

    Raises:
        HardGNNError: `out` holds a run already, or as `train`.
    """
    if is_started(out):
        raise HardGNNError(f"{shown(out)}: holds a run already; choose another {option('out')}")
    check_new(out)
    place = out.with_name(f"{out.name}-tuning")
    told: list[dict[str, Any]] = []
    for number, one in enumerate(tried):
        folder = place / str(number)
        with watch(f"{out.name} {number + 1}/{len(tried)}") as callback:
            result = train(data, one.config, folder, resume=True, callbacks=[callback], **how)
        line = {"set": list(one.words), "valid": dict(result.metrics), "best_epoch": result.best_epoch}
        told.append(line | {"seconds": result.training_seconds})
    choosing = tried[0].config.train
    assert choosing is not None
    best = max(range(len(told)), key=lambda number: told[number]["valid"][choosing.metric])
    for number, line in enumerate(told):
        line["chosen"] = number == best
    # Before the copy, which takes it along: so that there is no run without it.
    with atomic_path(place / str(best) / TUNING, make_parent=False) as temporary:
        write_json(temporary, told)
    copy_run(place / str(best), out)
    return told
