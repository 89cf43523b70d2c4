"""A model that is fitted, kept and copied: `HardGNN`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl

from hardgnn import arguments
from hardgnn import config as settings
from hardgnn.api.answers import Answer, handed
from hardgnn.api.asking import Asked
from hardgnn.api.incoming import Preparing, data_of, folder_of
from hardgnn.api.parameters import OWN
from hardgnn.api.trained import Trained
from hardgnn.config import Config
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.experiments.listed import tries
from hardgnn.forks import enter
from hardgnn.runs.folder import CONFIG, is_started
from hardgnn.runs.memory import Paused, Stopped, fit
from hardgnn.runs.refit import check_choice, refitted
from hardgnn.runs.train import copy_run, train
from hardgnn.screen import say
from hardgnn.training.bar import TrainingBar
from hardgnn.training.callbacks import Callback

EPOCHS = 2  # of `verbose`, from which on each validation is printed


class HardGNN(Asked):
    """A model by its preset: `best`, SelfGNN, HardGNN, neighbours and others (docs/configuration.md).

    Args:
        preset: a name that `hardgnn.config.presets` lists, or several, the later over the earlier: "released+gowalla".
        seed: of initial weights, batches, negatives and dropout.
        verbose: 0 says nothing, 1 shows a bar on a terminal and what became of a log, 2 also prints each validation.
        output: what answers are tables of: "polars" or "pandas".
        options: single settings over the preset, by section: `HardGNN(model={"dim": 32}, train={"epochs": 20})`.

    Raises:
        HardGNNError: an unknown preset or setting, naming the nearest.

    Example:
        >>> model = HardGNN().fit(df)  # a table with the columns user, item and timestamp
        >>> model.recommend(users=["u42"], n=10)
    """

    def _begin(self) -> None:
        """As a model is that was never fitted."""
        self.folder: Path | None = None
        self.result: dict[str, Any] = {}
        """What `result.json` of a run folder says of the fit."""
        self.tuning: Answer | None = None
        """What `tune` tried: the settings, their figures on validation, and which was chosen."""
        self._trained: Trained | None = None
        self._data: Dataset | None = None
        self._recommender = None
        self._stopped: Path | Paused | None = None

    def fit(
        self,
        data: Any,
        out: str | Path | None = None,
        resume: bool = False,
        allow_leaks: bool = False,
        warm_start: str | Path | None = None,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | Literal[False] | None = None,
        prepare: Mapping[str, Any] | None = None,
    ) -> Self:
        """Trains on the training part of `data`, choosing the epoch on its validation part.

        A fit that fails or is stopped leaves the model as it was: it goes on answering from the fit before.

        Args:
            data: a prepared data set or its folder; or a table of polars, pandas or Arrow, a log, or the path of one,
                which is prepared first.
            out: the run folder; without one the model is in memory, and `save` writes it.
            resume: go on with a run that was stopped: the one in `out`, or by default this object's last one.
            allow_leaks: accept settings that let the test part steer training, as those of the preset `released` do.
            warm_start: an older run folder whose weights, matched by raw id, training starts from.
            user, item, time: the columns of a table or file; usual names are found without them. `time=False` says
                that the rows are in order, oldest first.
            prepare: settings of preparing, as in `{"k_core": 3}` (`hardgnn.prepare.settings.PrepareConfig`): by
                default users and items with fewer than five interactions are dropped, and each user's last two items
                are kept for validation and test.

        Raises:
            HardGNNError: an argument that cannot be, nothing to resume, or as `hardgnn.runs.train.train`.
            KeyboardInterrupt: stopped; `fit(data, resume=True)` goes on.
        """
        enter()
        resume, allow_leaks = arguments.flag(resume, "resume"), arguments.flag(allow_leaks, "allow_leaks")
        older = None if warm_start is None else arguments.as_path(warm_start, "warm_start")
        folder = None if out is None else arguments.as_path(out, "out")
        if resume and folder is None and self._stopped is None:
            raise HardGNNError("resume: no fit of this model was stopped, so there is nothing to go on with")
        if resume and folder is None and isinstance(self._stopped, Path):
            folder = self._stopped
        if resume and folder is not None and isinstance(self._stopped, Paused) and not is_started(folder):
            raise HardGNNError(f"resume: {folder} holds no run; leave out `out` to go on with the fit in memory")
        prepared = data_of(data, Preparing(user, item, time, {} if prepare is None else prepare), self._say)
        how: dict[str, Any] = {"allow_leaks": allow_leaks, "warm_start": older}
        with self._watching(self.name) as callbacks:
            how["callbacks"] = callbacks
            if folder is None:
                self._fit_in_memory(prepared, resume, how, folder_of(data))
            else:
                self._fit_in_folder(folder, prepared, resume, how, folder_of(data))
        self._stopped, self._data, self._recommender = None, prepared, None
        return self

    def _fit_in_folder(self, folder: Path, data: Dataset, resume: bool, how: dict[str, Any], path: Path | None) -> None:
        ours = resume or not (folder / CONFIG).exists()
        try:
            train(data, self.config, folder, resume=resume, preset=self.preset, data_path=path, **how)
        except BaseException:
            if ours and (folder / CONFIG).exists():
                self._stopped = folder
            raise
        trained = Trained.read(folder)
        self.folder, self.result, self._trained = folder, trained.result, trained

    def _fit_in_memory(self, data: Dataset, resume: bool, how: dict[str, Any], path: Path | None) -> None:
        earlier = self._stopped if resume and isinstance(self._stopped, Paused) else None
        try:
            fitted = fit(data, self.config, earlier=earlier, name=self.name, **how)
        except Stopped as stopped:
            self._stopped = stopped.paused
            raise
        self._trained = Trained.of(fitted, self.config, self.preset, data, path)
        self.folder, self.result = None, self._trained.result

    def _watching(self, name: str) -> AbstractContextManager[list[Callback]]:
        """What shows how training goes, as `verbose` says."""
        if not self.verbose:
            return nullcontext([])
        return _Watching(name, self.verbose >= EPOCHS)

    def refit(self, data: Any = None, out: str | Path | None = None) -> Self:
        """A new model that learns from the training and the validation part together, as practice does in the end.

        It has the settings of this one, with all that was chosen on validation: the number of epochs, and what a model
        that is fitted in one go chose. Its validation part tells nothing any more.

        Args:
            data: what this model was fitted on; by default what it was in this process.
            out: the run folder; without one the new model is in memory.

        Raises:
            NotFittedError: nothing is fitted yet.
            HardGNNError: other data than this model chose by, or as `fit`.
        """
        prepared, trained = self._data_of(data), self._fitted()
        check_choice(trained.manifest, trained.warm_start, prepared, "refit")
        config = refitted(trained.config, trained.result, "refit")
        model = type(self)._of(config, trained.preset, verbose=self.verbose, output=self.output)
        return model.fit(prepared, out)

    def tune(self, data: Any, n: int | None = None, *, prepare: Mapping[str, Any] | None = None) -> Self:
        """Tries the settings of the preset's list, and keeps the best on validation: the model is fitted with them.

        `tuning` tells what was tried. The options of this model go over all. The other searches are `hardgnn sweep`.

        Args:
            data: as of `fit`.
            n: how many to try, the preset itself being the first; all of the list by default.
            prepare: as of `fit`.

        Raises:
            HardGNNError: a preset without a list, or as `fit`.
        """
        words = settings.as_words(self._options)
        asked = None if n is None else arguments.whole(n, "n")
        tried = tries(self.name, asked, words, self.seed)
        prepared = data_of(data, Preparing(settings={} if prepare is None else prepare), self._say)
        choosing = tried[0].config.train
        assert choosing is not None
        best: tuple[float, int, Trained] | None = None
        rows: list[dict[str, Any]] = []
        for number, one in enumerate(tried):
            with self._watching(f"{self.name} {number + 1}/{len(tried)}") as callbacks:
                fitted = fit(prepared, one.config, callbacks=callbacks, name=self.name)
            value = fitted.result.metrics[choosing.metric]
            rows.append({"set": " ".join(one.words), **fitted.result.metrics, "best_epoch": fitted.result.best_epoch})
            if best is None or value > best[0]:
                best = value, number, Trained.of(fitted, one.config, self.preset, prepared)
        assert best is not None
        _, number, trained = best
        options: dict[str, Any] = settings.difference(trained.config, self.preset)
        self._set({name: getattr(self, name) for name in OWN}, options)
        self._begin()
        self._trained, self._data, self.result = trained, prepared, trained.result
        chosen = pl.Series("chosen", [place == number for place in range(len(rows))])
        self.tuning = handed(pl.DataFrame(rows).with_columns(chosen), self.output, {})
        return self

    def save(self, folder: str | Path) -> Path:
        """Writes the model into a new run folder, which `load` and every command can read; answers the folder.

        Raises:
            NotFittedError: nothing is trained yet.
            HardGNNError: the folder holds something else.
        """
        out = arguments.as_path(folder, "folder")
        trained = self._fitted()
        if trained.whole:
            trained.write(out)
        else:
            assert self.folder is not None
            copy_run(self.folder, out)
        self.folder = out
        return out

    @classmethod
    def load(cls, folder: str | Path, *, verbose: int = 1, output: str = "polars") -> Self:
        """A model trained before, from its run folder: with its preset, its options, and what came of its fit.

        Raises:
            HardGNNError: it is no run folder, has no trained model yet, or is damaged.
        """
        folder = arguments.as_path(folder, "folder")
        trained = Trained.read(folder)
        model = cls._of(trained.config, trained.preset, verbose=verbose, output=output)
        model.folder, model.result, model._trained = folder, trained.result, trained
        return model

    @classmethod
    def _of(cls, config: Config, preset: str | None, **own: Any) -> Self:
        """A model of a config, as the preset and options that make it."""
        options: dict[str, Any] = settings.difference(config, preset)
        return cls(preset, config.run.seed, **own, **options)

    def __getstate__(self) -> dict[str, Any]:
        """All that a copy needs, wherever it goes: the model whole, without its folder and the data."""
        kept: dict[str, Any] = {"folder": None, "_data": None, "_recommender": None, "_stopped": None}
        if self.__sklearn_is_fitted__():
            kept["_trained"] = self._fitted(whole=True)
        return {name: value for name, value in vars(self).items() if name != "config"} | kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.config = settings.resolve(self.preset, seed=self.seed, options=self._options)


class _Watching(AbstractContextManager[list[Callback]]):
    """A bar, and with `lines` a line for each validation."""

    def __init__(self, name: str, lines: bool) -> None:
        self.bar = TrainingBar(name)
        self.callbacks: list[Callback] = [self.bar, *([_Lines(name, say)] if lines else [])]

    def __enter__(self) -> list[Callback]:
        self.bar.__enter__()
        return self.callbacks

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)


class _Lines(Callback):
    """Says what each validation gave."""

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self.name, self.tell = name, tell

    def validated(self, metric: str, value: float) -> None:
        """A line."""
        progress, epochs = self.trainer.progress, self.trainer.epochs
        best = f"best {progress.best_metric:.4f}"
        self.tell(f"{self.name}: epoch {progress.epoch}/{epochs}  {metric} {value:.4f}, {best}")
