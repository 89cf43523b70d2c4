"""What a fitted model is asked: figures, recommendations, histories, reasons, curves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from hardgnn import arguments
from hardgnn.api.answers import Answer, handed, id_types
from hardgnn.api.comparison import Compared, compare
from hardgnn.api.explanation import Explanation, explained
from hardgnn.api.figures import standing
from hardgnn.api.incoming import Preparing, data_of, is_prepared
from hardgnn.api.parameters import OWN, Parameters
from hardgnn.api.trained import Trained
from hardgnn.data import arguments as given
from hardgnn.data.align import align, trained_targets
from hardgnn.data.columns import ITEM, ORDER, USER
from hardgnn.data.dataset import Dataset
from hardgnn.data.log import InteractionLog
from hardgnn.data.readers.frames import Table, is_table
from hardgnn.errors import HardGNNError, NotFittedError
from hardgnn.evaluation.lists import with_lists
from hardgnn.evaluation.protocols import checked_protocol, checked_split, evaluate, rank_targets
from hardgnn.forks import enter
from hardgnn.metrics import DEFAULT, named, parted
from hardgnn.recommend.recommender import Ids, Recommender
from hardgnn.runs.tables import RunTables
from hardgnn.screen import html_table, say
from hardgnn.wording import warn


class Asked(Parameters):
    """A model that may be fitted; what it is asked before is a `NotFittedError`."""

    folder: Path | None
    """The run folder, where there is one."""
    _trained: Trained | None
    _data: Dataset | None
    _recommender: Recommender | None

    def evaluate(
        self,
        data: Any = None,
        protocol: str = "full",
        part: str = "test",
        at: int | Iterable[int] = (10, 20),
        metrics: str | Iterable[str] = DEFAULT,
    ) -> dict[str, Any]:
        """HR and NDCG, or other `metrics` (docs/metrics.md): those per user with 95 % intervals.

        The answer holds what `hardgnn.evaluation.results.Result` names, as JSON has it.

        Users and items are matched by raw id, so that `data` may be numbered otherwise than what the model was trained
        on. A warning counts what the model does not know, which is left out, and targets that it was trained on.

        Args:
            data: a prepared data set; or a table, a log or a path, which is prepared as what the model was trained on.
                By default what the model was fitted on in this process.
            protocol, part, at, metrics: as of `hardgnn evaluate`.

        Raises:
            HardGNNError: an argument that cannot be, or nearly nothing in `data` that the model knows.
        """
        at, metrics = arguments.cutoffs(at), named(metrics)
        aligned = self._aligned(self._data_of(data), protocol, part)
        model = self._fitted().model
        result, frame = evaluate(model, aligned, part, protocol, at, parted(metrics)[0])
        return with_lists(result, model, aligned, frame["user"].to_numpy(), at, metrics).to_dict()

    def compare(self, *others: Asked, data: Any = None, **how: Any) -> Compared:
        """This model beside others on the same users and targets, with paired tests; see `hardgnn.compare`."""
        return compare([self, *others], self._data_of(data), **how)  # type: ignore[list-item]

    def recommend(
        self,
        users: Ids | None = None,
        items: Ids | None = None,
        n: int = 10,
        *,
        events: Any = None,
        exclude_seen: bool = True,
        allow: Ids | None = None,
        block: Ids = (),
    ) -> Answer:
        """The best `n` items for `users` (all by default), or for somebody whose recent `items` are given.

        Ids are text or whole numbers: one, or any collection of them (list, array, column of polars, pandas or Arrow);
        text is one id. Items that training never saw are not recommended: the model knows nothing of them.

        Args:
            users: raw ids; one that the model does not know is answered by its events, or by popularity.
            items: recent raw item ids, oldest first: of the one user named, after what is known of them, or of somebody
                without an id.
            n: items per user.
            events: a table with the columns user and item, of polars, pandas or Arrow: what users had since training;
                it counts at once. Sorted by its time where it has one, otherwise oldest first.
            exclude_seen: leave out what is in the history.
            allow, block: the only items to recommend, and items never to recommend.

        Returns:
            A table: user, item, score, rank, source, and title where the data has titles. Users are of the type that
            they were given in (numbers or text), items of that of the data that the model was trained on.
            `hardgnn.recommend.recommender.Recommender` tells what a source is.

        Raises:
            HardGNNError: an argument that cannot be, or nothing that may be recommended.
        """
        asked, types = (None, self._types()) if users is None else self._typed(users, USER, "users")
        found = self._asking().for_users(asked, n, exclude_seen, items=items, events=events, allow=allow, block=block)
        return handed(found, self.output, types)

    def similar_items(self, items: Ids, n: int = 10) -> Answer:
        """The `n` items most like each of `items`: item, similar, similarity, rank, and title of the similar.

        Raises:
            HardGNNError: a model that cannot tell, such as popularity; see `Recommender.similar`.
        """
        asked, types = self._typed(items, ITEM, "items")
        return handed(self._asking().similar(asked, n), self.output, types | {"similar": self._types()[ITEM]})

    def history(self, users: Ids) -> Answer:
        """What the model knows that users had, oldest first: user, item, time (where there are times) and title."""
        asked, types = self._typed(users, USER, "users")
        found = self._asking().history(asked)
        read = self._fitted().manifest.get("read") or {}
        if str(read.get("time_unit")).startswith(ORDER):
            found = found.drop("time", strict=False)
        return handed(found, self.output, types)

    def explain(self, user: Ids | None = None, n: int = 10, *, items: Ids | None = None) -> Explanation:
        """Why `n` items are recommended to one user, or after the recent `items` of somebody.

        Raises:
            HardGNNError: neither a user nor items, or several users.
        """
        asked, types = (None, self._types()) if user is None else self._typed(user, USER, "user")
        return explained(self._asking(), asked, items, arguments.whole(n, "n"), self.output, types)

    def plot(self, what: str = "validation") -> Any:
        """A figure of Matplotlib: the validation figure by epoch, or the `loss`.

        Raises:
            HardGNNError: another `what`, a model that was fitted in one go, or Matplotlib is not installed.
        """
        from hardgnn.report.plots import Series, lines

        trained = self._fitted()
        metric = trained.result["chosen_by"].split(" ")[0]
        keys = {"validation": ("valid", metric), "loss": ("loss_rec",)}
        if arguments.text(what, "what") not in keys:
            raise HardGNNError(f"what: expected validation or loss, got '{what}'")
        points = [(line["epoch"], value) for line in trained.lines if (value := _at(line, keys[what])) is not None]
        if len(points) < 2:
            raise HardGNNError(f"plot: {self.name} has no {what} by epoch: it was fitted in one go, or in one epoch")
        x, y = map(list, zip(*points))
        best = trained.result["best_epoch"]
        chosen = x.index(best) if what == "validation" and best in x else None
        label = metric if what == "validation" else "loss"
        series = [Series(self.name, x, y, chosen=chosen)]
        return standing(lines(what, f"{self.name}: {what}", "epoch", label, series))

    def _repr_html_(self) -> str:
        """Parameters, and what came of the fit, for a notebook."""
        mine = self.get_params(deep=False)
        rows = [[name, repr(value)] for name, value in mine.items() if name not in OWN or value != OWN[name]]
        rows = [["preset", self.preset or "none"], *(row for row in rows if row[0] != "preset")]
        if not self.__sklearn_is_fitted__():
            return html_table("HardGNN, not fitted yet", ["", ""], rows)
        trained = self._fitted()
        result, counts = trained.result, trained.manifest.get("counts", {})
        if result.get("finished"):
            figures = result.get(result["chosen_by"].rpartition(", ")[0].rpartition(" ")[2], {})
            told: dict[str, float] = next(iter(figures.values()), {})
            rows += [
                [
                    "trained on",
                    f"{result['dataset']}: {counts.get('users', 0):,} users, {counts.get('items', 0):,} items",
                ],
                ["epoch", f"{result['best_epoch']} of {result['epochs']}, {result['chosen_by']}"],
                *([name, f"{value:.4f}"] for name, value in told.items()),
                ["parameters", f"{result['parameters']:,}"],
            ]
        return html_table("HardGNN", ["", ""], rows)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a fitted model: what scikit-learn's `check_is_fitted` asks."""
        return self._trained is not None or self.folder is not None

    def _fitted(self, whole: bool = False) -> Trained:
        """The fitted model, read from its folder where it is not in memory yet; `whole` with all of its weights."""
        enter()
        if self._trained is None or (whole and not self._trained.whole):
            if self.folder is None:
                raise NotFittedError("the model is not trained yet; call fit(data) first")
            self._trained = Trained.read(self.folder, whole)
            self._recommender = None
        return self._trained

    def _asking(self) -> Recommender:
        trained = self._fitted()
        if self._recommender is None:
            self._recommender = Recommender.of(trained.model, trained.tables)
        return self._recommender

    def _types(self) -> dict[str, pl.DataType]:
        return id_types(self._fitted().manifest)

    def _typed(self, ids: Ids, kind: str, name: str) -> tuple[pl.Series, dict[str, pl.DataType]]:
        """The ids given, and the types of user and item of the answer."""
        types = self._types()
        asked, came = given.typed_ids(ids, name)
        return asked, types | {kind: came}

    def _data_of(self, data: object) -> Dataset:
        """The prepared data set to be evaluated on."""
        manifest = self._fitted().manifest
        if data is None:
            if self._data is None:
                raise HardGNNError(
                    "data: give the data to evaluate on; only a model fitted in this process has its own"
                )
            return self._data
        if is_prepared(data):
            return data_of(data, Preparing(), self._say)
        how = Preparing.as_before(manifest)
        read = isinstance(data, InteractionLog)
        if read or (is_table(data) and not how.named_in(Table(data, "data").columns)):
            how = Preparing(settings=how.settings)  # of other columns, which usual names may tell
        return data_of(data, how, self._say)

    def _say(self, sentence: str) -> None:
        if self.verbose:
            say(sentence)

    def _aligned(self, data: Dataset, protocol: str, part: str) -> Dataset:
        """The data in the model's numbering; what is not known, and what was learnt, is told."""
        checked_split(part)
        checked_protocol(protocol)
        tables = self._fitted().tables
        aligned = align(data, tables.user_ids, tables.item_ids)
        for sentence in aligned.sentences(part):
            warn(sentence)
        learned = trained_targets(aligned.data, part, tables.histories, tables.user_interactions)
        if learned:
            warn(
                f"{data.name}: the model was trained on {learned:,} of the targets of the part {part}, so the figures "
                "are too high; evaluate on the split that it was trained on, or on later interactions"
            )
        return aligned.data

    def _ranked(self, data: Dataset, part: str, protocol: str) -> tuple[pl.DataFrame, RunTables]:
        """The ranks of the targets, in the model's numbering, and its tables."""
        trained = self._fitted()
        return rank_targets(trained.model, self._aligned(data, protocol, part), part, protocol), trained.tables


def _at(line: dict[str, Any], key: tuple[str, ...]) -> float | None:
    """A figure of the line of an epoch; None where it has none."""
    value: Any = line
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value
