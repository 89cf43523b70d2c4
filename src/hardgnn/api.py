"""The library in the field's manner: `fit`, `evaluate`, `recommend`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn import config as settings
from hardgnn.cli.progress import TrainingBar
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluate import evaluate
from hardgnn.recommender import Recommender
from hardgnn.train import train
from hardgnn.trained import load_model


class HardGNN:
    """SelfGNN or HardGNN, by preset.

    Args:
        preset: a name that `hardgnn train --list-presets` lists.
        seed: of initial weights, batches, negatives and dropout.
        options: single settings over the preset, by section: `HardGNN(model={"dim": 32}, train={"epochs": 20})`.

    Raises:
        HardGNNError: an unknown preset or setting, naming the nearest.

    Example:
        >>> data = Dataset.read("events.csv").prepare(k_core=5)
        >>> model = HardGNN(preset="hardgnn").fit(data)
        >>> model.recommend(users=["u42"], n=10)
    """

    def __init__(self, preset: str = "hardgnn", seed: int = 0, **options: dict[str, Any]) -> None:
        self.preset = preset
        self.config = settings.with_options(settings.resolve(preset, seed=seed), options)
        self.folder: Path | None = None
        self.result: dict[str, Any] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def fit(
        self,
        data: Dataset,
        out: str | Path | None = None,
        resume: bool = False,
        allow_leaks: bool = False,
        warm_start: str | Path | None = None,
    ) -> HardGNN:
        """Trains on the training part of `data`, choosing the epoch on its validation part.

        Args:
            data: a prepared data set.
            out: the run folder; a temporary one, gone with this object, by default.
            resume: go on with a run that was stopped in `out`.
            allow_leaks: accept settings that let the test part steer training, as those of the preset `released` do.
            warm_start: an older run folder whose weights, matched by raw id, training starts from.
        """
        if out is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="hardgnn-")
            out = self._temporary.name
        self.folder = Path(out)
        with TrainingBar(self.preset, self.config) as bar:
            self.result = train(
                data,
                self.config,
                self.folder,
                resume=resume,
                allow_leaks=allow_leaks,
                preset=self.preset,
                watcher=bar,
                warm_start=None if warm_start is None else Path(warm_start),
            )
        return self

    @classmethod
    def load(cls, folder: str | Path) -> HardGNN:
        """A model trained before, from its run folder."""
        model = cls.__new__(cls)
        model.folder, model.result, model._temporary = Path(folder), {}, None
        model.config, model.preset = load_model(folder).config, "config"
        return model

    def evaluate(
        self, data: Dataset, protocol: str = "full", part: str = "test", at: Sequence[int] = (10, 20)
    ) -> dict[str, Any]:
        """HR and NDCG with 95 % intervals; see `hardgnn.evaluate.evaluate` for what the result holds."""
        return evaluate(load_model(self._trained()), data, part, protocol, at)[0]

    def recommend(
        self,
        users: Sequence[str] | None = None,
        items: Sequence[str] | None = None,
        n: int = 10,
        *,
        events: pl.DataFrame | None = None,
        exclude_seen: bool = True,
        allow: Sequence[str] | None = None,
        block: Sequence[str] = (),
    ) -> pl.DataFrame:
        """The best `n` items for `users` (all by default), or for somebody whose recent `items` are given.

        Args:
            users: raw ids; one that the model does not know is answered by its events, or by popularity.
            items: recent raw item ids, oldest first, of somebody without an id.
            n: items per user.
            events: columns user and item, oldest first: what users had since training; it counts at once.
            exclude_seen: leave out what is in the history.
            allow, block: the only items to recommend, and items never to recommend.

        Returns:
            A table: user, item, score, rank, source, and title where the data has titles.
        """
        recommender = Recommender(self._trained())
        if items is not None:
            return recommender.for_items(items, n, exclude_seen, allow=allow, block=block)
        return recommender.for_users(users, n, exclude_seen, events=events, allow=allow, block=block)

    def _trained(self) -> Path:
        if self.folder is None:
            raise HardGNNError("the model is not trained yet; call fit(data) first")
        return self.folder
