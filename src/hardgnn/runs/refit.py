"""Learning once more, from training and validation together, with everything that a run chose on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.data.dataset import Dataset, same_data
from hardgnn.errors import HardGNNError, shown
from hardgnn.runs.folder import check_version, load_config, read_result

BOTH = "train+valid"


def refit_run(folder: Path, data: Dataset, words: Sequence[str] = (), seed: int | None = None) -> Config:
    """The config to refit a run folder with, on the data that it chose by; see `refitted`.

    Raises:
        HardGNNError: no run folder, one on other data or that started from another run, or as `refitted`.
    """
    record = check_version(folder)
    check_choice(record["data"]["manifest"], record.get("warm_start"), data, shown(folder))
    return refitted(load_config(folder), read_result(folder), shown(folder), words, seed)


def check_choice(manifest: dict[str, Any], warm_start: Any, data: Dataset, whose: str) -> None:
    """Makes sure that what was chosen was chosen on this data, by a fit that can be done again.

    Raises:
        HardGNNError: it was not.
    """
    if not same_data(manifest, data.manifest):
        raise HardGNNError(f"{whose}: was trained on another data set than {data.name}, or on another split of it")
    if warm_start is not None:
        raise HardGNNError(f"{whose}: started from another run's weights, so its epochs are not those of a new start")


def refitted(
    config: Config, result: Mapping[str, Any], whose: str, words: Sequence[str] = (), seed: int | None = None
) -> Config:
    """The config of a run, to learn from both parts: as many epochs as it kept, and the settings it chose.

    Args:
        config: of the run.
        result: its `result.json`.
        whose: what sentences call it.
        words: single settings over it, as in run.threads=1.
        seed: another seed than the run's.

    Raises:
        HardGNNError: the run is not at its end, its choice was steered by the test part, or it learnt from both parts
            already; or a setting that cannot be.
    """
    if not result.get("finished"):
        raise HardGNNError(f"{whose}: is not trained to its end, so nothing is chosen yet")
    if leaking := settings.leaks(config):
        raise HardGNNError(f"{whose}: {' and '.join(leaking)}, so what it chose is not honest; train it again")
    if config.run.final:
        raise HardGNNError(f"{whose}: has learnt from training and validation already")
    options = settings.flat(config)
    options["run"]["learn_from"] = BOTH
    options["model"] |= result.get("chosen") or {}
    if config.train is not None:
        options["train"]["epochs"] = result["best_epoch"]
    return settings.resolve(options=options, settings=words, seed=seed)
