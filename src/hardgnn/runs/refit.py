"""Learning once more, from training and validation together, with everything that a run chose on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.errors import HardGNNError, shown
from hardgnn.runs.folder import check_version, load_config, read_result
from hardgnn.runs.tables import TRAIN_ALONE

BOTH = "train+valid"


def refit_run(folder: Path, words: Sequence[str] = (), seed: int | None = None) -> Config:
    """The config to refit a run folder with; see `refitted`.

    Raises:
        HardGNNError: no run folder, or as `refitted`.
    """
    check_version(folder)
    return refitted(load_config(folder), read_result(folder), shown(folder), words, seed)


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
        HardGNNError: the run is not at its end, or learnt from both parts already; or a setting that cannot be.
    """
    if not result.get("finished"):
        raise HardGNNError(f"{whose}: is not trained to its end, so nothing is chosen yet")
    if config.run.learn_from != TRAIN_ALONE:
        raise HardGNNError(f"{whose}: has learnt from training and validation already")
    options = settings.flat(config)
    options["run"]["learn_from"] = BOTH
    options["model"] |= result.get("chosen") or {}
    if config.train is not None:
        options["train"]["epochs"] = result["best_epoch"]
    return settings.resolve(options=options, settings=words, seed=seed)
