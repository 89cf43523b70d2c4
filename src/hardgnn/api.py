"""The library in the field's manner: `fit`, `evaluate`, `recommend`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn import arguments
from hardgnn import config as settings
from hardgnn.data import arguments as given
from hardgnn.data.align import align, trained_targets
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.lists import with_lists
from hardgnn.evaluation.protocols import checked_protocol, checked_split, evaluate
from hardgnn.metrics import DEFAULT, named, parted
from hardgnn.models.base import Model
from hardgnn.recommend.recommender import Ids, Recommender
from hardgnn.runs.fitting import Fitted, Paused, Stopped, fit
from hardgnn.runs.folder import CONFIG, check_version, is_started, load_config, load_tables, read_result
from hardgnn.runs.models import load_model
from hardgnn.runs.refit import check_choice, refitted
from hardgnn.runs.tables import RunTables, tables_of
from hardgnn.runs.train import copy_run, train, write_run
from hardgnn.training.bar import TrainingBar


class HardGNN:
    """A model by its preset: SelfGNN, HardGNN, `best`, neighbours and others (docs/configuration.md).

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

    def __init__(self, preset: str = settings.DEFAULT_PRESET, seed: int = 0, **options: dict[str, Any]) -> None:
        self.preset = arguments.text(preset, "preset")
        checked = arguments.whole(seed, "seed", least=0)
        self.config = settings.resolve(self.preset, seed=checked, options=options)
        self.folder: Path | None = None
        """The run folder, where there is one."""
        self.result: dict[str, Any] = {}
        self._kept: Kept | None = None
        self._stopped: Path | Paused | None = None

    def fit(
        self,
        data: Dataset,
        out: str | Path | None = None,
        resume: bool = False,
        allow_leaks: bool = False,
        warm_start: str | Path | None = None,
    ) -> HardGNN:
        """Trains on the training part of `data`, choosing the epoch on its validation part.

        A fit that fails or is stopped leaves the model as it was: it goes on answering from the fit before.

        Args:
            data: a prepared data set.
            out: the run folder; without one the model is in memory, and `save` writes it.
            resume: go on with a run that was stopped: the one in `out`, or by default this object's last one.
            allow_leaks: accept settings that let the test part steer training, as those of the preset `released` do.
            warm_start: an older run folder whose weights, matched by raw id, training starts from.

        Raises:
            HardGNNError: an argument that cannot be, nothing to resume, or as `hardgnn.runs.train.train`.
            KeyboardInterrupt: stopped; `fit(data, resume=True)` goes on.
        """
        data = given.dataset(data)
        resume, allow_leaks = arguments.flag(resume, "resume"), arguments.flag(allow_leaks, "allow_leaks")
        older = None if warm_start is None else arguments.as_path(warm_start, "warm_start")
        folder = None if out is None else arguments.as_path(out, "out")
        if resume and folder is None and self._stopped is None:
            raise HardGNNError("resume: no fit of this model was stopped, so there is nothing to go on with")
        if resume and folder is None and isinstance(self._stopped, Path):
            folder = self._stopped
        if resume and folder is not None and isinstance(self._stopped, Paused) and not is_started(folder):
            raise HardGNNError(f"resume: {folder} holds no run; leave out `out` to go on with the fit in memory")
        with TrainingBar(self.preset) as bar:
            if folder is None:
                self._fit_in_memory(data, resume, allow_leaks, older, bar)
            else:
                self._fit_in_folder(folder, data, resume, allow_leaks, older, bar)
        self._stopped = None
        return self

    def _fit_in_folder(
        self, folder: Path, data: Dataset, resume: bool, allow_leaks: bool, older: Path | None, bar: TrainingBar
    ) -> None:
        ours = resume or not (folder / CONFIG).exists()
        how: dict[str, Any] = {"resume": resume, "allow_leaks": allow_leaks, "preset": self.preset}
        try:
            train(data, self.config, folder, callbacks=[bar], warm_start=older, **how)
        except BaseException:
            if ours and (folder / CONFIG).exists():
                self._stopped = folder
            raise
        self.folder, self.result, self._kept = folder, read_result(folder), None

    def _fit_in_memory(
        self, data: Dataset, resume: bool, allow_leaks: bool, older: Path | None, bar: TrainingBar
    ) -> None:
        earlier = self._stopped if resume and isinstance(self._stopped, Paused) else None
        how: dict[str, Any] = {"allow_leaks": allow_leaks, "warm_start": older, "earlier": earlier, "name": self.preset}
        try:
            fitted = fit(data, self.config, callbacks=[bar], **how)
        except Stopped as stopped:
            self._stopped = stopped.paused
            raise
        assert fitted.model is not None
        self._kept = Kept(fitted, tables_of(self.config, data), data.manifest)
        self.folder, self.result = None, fitted.result.to_dict()

    def refit(self, data: Dataset, out: str | Path | None = None) -> HardGNN:
        """A new model that learns from the training and the validation part together, as practice does in the end.

        It has the settings of this one, with all that was chosen on validation: the number of epochs, and what a model
        that is fitted in one go chose. Its validation part tells nothing any more.

        Raises:
            HardGNNError: nothing is fitted yet, or as `fit`.
        """
        data = given.dataset(data)
        if self._kept is not None:
            check_choice(self._kept.manifest, self._kept.fitted.warm_start, data, "refit")
        elif self.folder is not None:
            record = check_version(self.folder)
            check_choice(record["data"]["manifest"], record.get("warm_start"), data, "refit")
        model = type(self).__new__(type(self))
        model.preset, model.config = self.preset, refitted(self.config, self.result, "refit")
        model.folder, model.result, model._kept, model._stopped = None, {}, None, None
        return model.fit(data, out)

    def save(self, folder: str | Path) -> Path:
        """Writes the model into a new run folder, which `load` and every command can read; answers the folder.

        Raises:
            HardGNNError: nothing is trained yet, or the folder holds something else.
        """
        out = arguments.as_path(folder, "folder")
        if self._kept is not None:
            write_run(out, self.config, self._kept.fitted, self._kept.tables, self._kept.manifest, self.preset)
        else:
            copy_run(self._trained(), out)
        self.folder, self._kept = out, None
        return out

    @classmethod
    def load(cls, folder: str | Path) -> HardGNN:
        """A model trained before, from its run folder.

        Raises:
            HardGNNError: it is no run folder, has no trained model yet, or is damaged.
        """
        folder = arguments.as_path(folder, "folder")
        load_model(folder)  # tells what is wrong with it
        model = cls.__new__(cls)
        model.config = load_config(folder)
        model.preset = check_version(folder).get("preset") or "config"
        model.result = read_result(folder)
        model.folder, model._kept, model._stopped = folder, None, None
        return model

    def evaluate(
        self,
        data: Dataset,
        protocol: str = "full",
        part: str = "test",
        at: int | Iterable[int] = (10, 20),
        metrics: str | Iterable[str] = DEFAULT,
    ) -> dict[str, Any]:
        """HR and NDCG, or other `metrics` (docs/metrics.md): those per user with 95 % intervals.

        The answer holds what `hardgnn.evaluation.results.Result` names, as JSON has it.

        Users and items are matched by raw id, so that `data` may be numbered otherwise than what the model was trained
        on. A warning counts what the model does not know, which is left out, and targets that it was trained on.

        Raises:
            HardGNNError: an argument that cannot be, or nearly nothing in `data` that the model knows.
        """
        model, tables = self._asked()
        data, at, metrics = given.dataset(data), arguments.cutoffs(at), named(metrics)
        checked_split(part)
        checked_protocol(protocol)
        aligned = align(data, tables.user_ids, tables.item_ids)
        for sentence in aligned.sentences(part):
            warnings.warn(sentence, stacklevel=2)
        learned = trained_targets(aligned.data, part, tables.histories, tables.user_interactions)
        if learned:
            warnings.warn(
                f"{data.name}: the model was trained on {learned:,} of the targets of the part {part}, so the figures "
                "are too high; evaluate on the split that it was trained on, or on later interactions",
                stacklevel=2,
            )
        result, frame = evaluate(model, aligned.data, part, protocol, at, parted(metrics)[0])
        return with_lists(result, model, aligned.data, frame["user"].to_numpy(), at, metrics).to_dict()

    def recommend(
        self,
        users: Ids | None = None,
        items: Ids | None = None,
        n: int = 10,
        *,
        events: pl.DataFrame | None = None,
        exclude_seen: bool = True,
        allow: Ids | None = None,
        block: Ids = (),
    ) -> pl.DataFrame:
        """The best `n` items for `users` (all by default), or for somebody whose recent `items` are given.

        Ids are text or whole numbers: one, or any collection of them (list, array, series of polars or pandas).
        Items that training never saw are not recommended: the model knows nothing of them.

        Args:
            users: raw ids; one that the model does not know is answered by its events, or by popularity.
            items: recent raw item ids, oldest first: of the one user named, after what is known of them, or of somebody
                without an id.
            n: items per user.
            events: a table with the columns user and item, of polars or pandas: what users had since training; it
                counts at once. Sorted by its time where it has one, otherwise oldest first.
            exclude_seen: leave out what is in the history.
            allow, block: the only items to recommend, and items never to recommend.

        Returns:
            A table: user, item, score, rank, source, and title where the data has titles.

        Raises:
            HardGNNError: an argument that cannot be, or nothing that may be recommended.
        """
        recommender = Recommender.of(*self._asked())
        return recommender.for_users(users, n, exclude_seen, items=items, events=events, allow=allow, block=block)

    def _asked(self) -> tuple[Model, RunTables]:
        if self._kept is not None:
            assert self._kept.fitted.model is not None
            return self._kept.fitted.model, self._kept.tables
        folder = self._trained()
        return load_model(folder), load_tables(folder)

    def _trained(self) -> Path:
        if self.folder is None:
            raise HardGNNError("the model is not trained yet; call fit(data) first")
        return self.folder


@dataclass(frozen=True)
class Kept:
    """A fit that is in memory, with all that its run folder will hold."""

    fitted: Fitted
    tables: RunTables
    manifest: dict[str, Any]
