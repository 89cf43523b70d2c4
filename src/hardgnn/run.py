"""The run folder: what training leaves behind, and the trained model loaded back from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import sparse
from torch import Tensor

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.data.dataset import TRAIN, Dataset
from hardgnn.data.histories import Histories
from hardgnn.data.intervals import cut_all
from hardgnn.data.noise import NOISE
from hardgnn.errors import HardGNNError
from hardgnn.files import atomic_path
from hardgnn.kinds import mistaken
from hardgnn.model.product import product
from hardgnn.model.selfgnn import Encoder, SelfGNN, sequence_encoder
from hardgnn.model.transitions import TransitionGraph, Transitions, TransitionScores
from hardgnn.records import read_json, write_json

FORMAT_VERSION = 1
CONFIG, METRICS, MODEL, RESULT, ENVIRONMENT = (
    "config.toml",
    "metrics.jsonl",
    "model.safetensors",
    "result.json",
    "environment.json",
)
CANDIDATE_ROWS = 32  # users whose candidates are gathered at once: 8 MB for 1,000 of 64 numbers
PARAMETERS, VECTORS, MATRIX = "parameters/", "vectors/", "transitions/"
SEQUENCE_PREFIX = f"{PARAMETERS}sequence_encoder."


@dataclass
class TrainedModel:
    """Everything that scoring needs: final vectors, the sequence encoder and transitions, no graph.

    Shapes: `user_vectors` (U, d), zero rows for users without training interactions, or (0, d) where nothing asks for
    them (`SelfGNN.with_users`); `item_vectors` (I, d). It is a `hardgnn.evaluate.Ranker`.
    """

    name: str
    config: Config
    user_vectors: Tensor
    item_vectors: Tensor
    sequence_encoder: Encoder | None
    transitions: TransitionScores | None = None

    @torch.no_grad()
    def queries(self, users: NDArray[np.integer] | None, histories: Histories) -> Tensor:
        """The query vectors ē^(u) + σ(ẽ^(u)), (B, d); without `users` σ(ẽ) alone (SPEC section 2, Score)."""
        rows = np.arange(len(histories.offsets) - 1)
        window = torch.from_numpy(histories.windows(rows, self.config.model.window))
        own = None
        if users is not None and self.config.model.user_term:
            own = self.user_vectors[torch.from_numpy(users).long()]
        if self.sequence_encoder is None:
            return torch.zeros(len(rows), self.item_vectors.shape[1]) if own is None else own
        sequence = self.sequence_encoder(self.item_vectors, window)
        return SelfGNN.query_vector(self.config.model, own, sequence)

    @torch.no_grad()
    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        """The scores of all items for these users, (B, I)."""
        return self._added(product(self.queries(users, histories), self.item_vectors), histories).numpy()

    def _added(self, scores: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Scores (B, I), or (B, C) of `items` (B, C), with transitions added in place."""
        if self.transitions is not None:
            prior = self.transitions.scores(histories)
            scores += prior if items is None else prior.gather(1, items)
        return scores

    @torch.no_grad()
    def candidate_scores(
        self, users: NDArray[np.integer], histories: Histories, items: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The scores of `items` (B, C) for these users, (B, C): a gather of C vectors instead of a product with all."""
        queries = self.queries(users, histories).unsqueeze(-1)  # (B, d, 1)
        scores = torch.empty(items.shape)
        for rows in torch.arange(len(items)).split(CANDIDATE_ROWS):
            chosen = torch.from_numpy(items[rows.numpy()]).long()
            vectors = self.item_vectors.index_select(0, chosen.flatten()).view(*chosen.shape, -1)  # (b, C, d)
            scores[rows] = (vectors @ queries[rows]).squeeze(-1)
        return self._added(scores, histories, torch.from_numpy(items).long()).numpy()


def trained(
    name: str, config: Config, model: SelfGNN, users: Tensor, items: Tensor, graph: TransitionGraph | None
) -> TrainedModel:
    """The model as it now scores; `graph` holds the transitions where the config uses them."""
    transitions = None
    if graph is not None:
        matrix = graph.joined(model.transitions.forward_weight)
        transitions = TransitionScores(model.transitions, matrix, graph.counts, config.model.window)
    return TrainedModel(
        name,
        config,
        users,
        items,
        model.sequence_encoder if config.model.sequence != "none" else None,
        transitions,
    )


def save_model(
    folder: Path, model: SelfGNN, users: Tensor, items: Tensor, epoch: int, transitions: TransitionScores | None = None
) -> None:
    """Writes the parameters, the final vectors and the matrix of transitions, atomically."""
    tensors = {f"{PARAMETERS}{name}": value.contiguous() for name, value in model.state_dict().items()}
    # A shared recurrent network appears under two names; safetensors wants every tensor to own its memory.
    if model.config.interval_sharing == "shared":
        tensors = {name: value.clone() for name, value in tensors.items()}
    tensors |= {f"{VECTORS}users": users.contiguous(), f"{VECTORS}items": items.contiguous()}
    if transitions is not None:
        matrix = transitions.matrix
        parts = {"offsets": matrix.indptr.astype(np.int64), "columns": matrix.indices, "values": matrix.data}
        tensors |= {MATRIX + name: torch.from_numpy(part) for name, part in parts.items()}
        tensors[MATRIX + "counts"] = transitions.counts
    for stale in folder.glob("ranks-*.parquet"):
        stale.unlink()
    with atomic_path(folder / MODEL) as temporary:
        # One key: safetensors writes several in random order, and the same run must give the same bytes.
        save_file(tensors, temporary, metadata={"epoch": str(epoch)})


def load_model(folder: str | Path) -> TrainedModel:
    """The best epoch of a run.

    Raises:
        HardGNNError: no run folder, no finished epoch yet, a damaged file or another format version.
    """
    folder = Path(folder)
    if wrong := mistaken(folder, "a run folder"):
        raise HardGNNError(wrong)
    if not folder.is_dir():
        raise HardGNNError(f"{folder}: no such run folder; make one with `hardgnn train DATA --out {folder}`")
    if not (folder / CONFIG).exists():
        raise HardGNNError(f"{folder}: not a run folder, {CONFIG} is missing")
    check_version(folder)
    config = settings.load(folder / CONFIG)
    if not (folder / MODEL).exists():
        raise HardGNNError(f"{folder}: no trained model yet; go on with `hardgnn train … --resume`")
    try:
        with safe_open(folder / MODEL, "pt") as stored:
            users, items = stored.get_tensor(f"{VECTORS}users"), stored.get_tensor(f"{VECTORS}items")
            encoder, transitions = None, None
            if config.model.sequence != "none":
                encoder = sequence_encoder(config.model)
                encoder.load_state_dict(_part(stored, SEQUENCE_PREFIX))
            if config.transitions.use:
                module = Transitions(config.transitions)
                module.load_state_dict(_part(stored, f"{PARAMETERS}transitions."))
                parts = _part(stored, MATRIX)
                csr = (parts["values"].numpy(), parts["columns"].numpy(), parts["offsets"].numpy())
                matrix = sparse.csr_array(csr, shape=(len(items), len(items)))
                transitions = TransitionScores(module, matrix, parts["counts"], config.model.window)
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise HardGNNError(f"{folder / MODEL}: damaged or not of this config ({reason})") from None
    return TrainedModel(run_name(folder), config, users, items, encoder, transitions)


def _part(stored: Any, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118 - no mapping
    return {name.removeprefix(prefix): stored.get_tensor(name) for name in names}


def run_name(folder: Path) -> str:
    """A run is called by its folder."""
    return folder.resolve().name


def start(
    folder: Path,
    config: Config,
    data: Dataset,
    data_path: Path | None,
    preset: str | None,
    warm_start: dict[str, Any] | None = None,
) -> None:
    """Writes what a run folder holds before the first epoch: config, environment, ids and histories.

    `warm_start` tells of the older run whose weights this one starts from.
    """
    from hardgnn.runtime import environment

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(config.to_toml(), "utf-8")
    described: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "preset": preset,
        "data": {"path": None if data_path is None else str(data_path.resolve()), "manifest": data.manifest},
    }
    if warm_start is not None:
        described["warm_start"] = warm_start
    write_json(folder / ENVIRONMENT, environment() | described)
    how = (config.model.intervals, config.model.interval_cut, data.time_span)
    intervals = cut_all(data.timestamp, data.user, data.part == TRAIN, *how).astype(np.uint8)
    table = pl.DataFrame(
        {
            "raw_id": data.user_ids,
            "index": np.arange(data.n_users, dtype=np.int32),
            "train_interactions": data.train.lengths.astype(np.int32),
            "history": _per_user(data.item, data.everything),
            "history_time": _per_user(data.timestamp, data.everything),
            "history_interval": _per_user(intervals, data.everything),
        }
    )
    with atomic_path(folder / "users.parquet") as temporary:
        table.write_parquet(temporary)
    titles = {} if data.item_titles is None else {"title": data.item_titles}
    counts = data.train.item_counts(data.n_items).astype(np.int32)
    with atomic_path(folder / "items.parquet") as temporary:
        pl.DataFrame(
            {
                "raw_id": data.item_ids,
                "index": np.arange(data.n_items, dtype=np.int32),
                "train_interactions": counts,
                **titles,
            }
        ).write_parquet(temporary)


def check_version(folder: Path) -> dict[str, Any]:
    """The run's environment record.

    Raises:
        HardGNNError: the folder was written by another format version.
    """
    record: dict[str, Any] = read_json(folder / ENVIRONMENT)
    if record.get("format_version") != FORMAT_VERSION:
        raise HardGNNError(
            f"{folder}: written by another version (format {record.get('format_version')}, "
            f"this one reads {FORMAT_VERSION}); train it again"
        )
    return record


def _per_user(values: NDArray[np.generic], histories: Histories) -> pl.Series:
    """Values (N,), which lie user after user, as one list for each."""
    kind = pl.List({np.int32: pl.Int32, np.uint8: pl.UInt8, np.float64: pl.Float64}[values.dtype.type])
    return pl.Series(np.split(values, histories.offsets[1:-1]), dtype=kind)


@dataclass(frozen=True)
class RunTables:
    """What a run folder knows beside the weights: ids, whole histories, counts, titles.

    Shapes: `user_ids` (U,), `item_ids` (I,) and `titles` (I,) or None; `user_interactions` (U,) and `popularity` (I,)
    count training interactions; `times` (seconds since 1970) and `intervals` (from 0) go with `histories.items` (N,)
    and are None in a folder written before they were kept.
    """

    user_ids: pl.Series
    histories: Histories
    user_interactions: NDArray[np.int32]
    times: NDArray[np.float64] | None
    intervals: NDArray[np.uint8] | None
    item_ids: pl.Series
    titles: pl.Series | None
    popularity: NDArray[np.int32]


def load_tables(folder: Path) -> RunTables:
    """The tables of a run folder.

    Raises:
        HardGNNError: they are missing or damaged.
    """
    try:
        users = pl.read_parquet(folder / "users.parquet").sort("index")
        items = pl.read_parquet(folder / "items.parquet").sort("index")
        lengths = users["history"].list.len().to_numpy()
        lists = {
            name: users[name].explode().drop_nulls().to_numpy()
            for name in ("history", "history_time", "history_interval")
            if name in users.columns
        }
        return RunTables(
            users["raw_id"],
            Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), lists["history"].astype(np.int32)),
            users["train_interactions"].to_numpy(),
            lists.get("history_time"),
            lists.get("history_interval"),
            items["raw_id"],
            items["title"] if "title" in items.columns else None,
            items["train_interactions"].to_numpy(),
        )
    except (OSError, KeyError, pl.exceptions.PolarsError) as error:
        raise HardGNNError(f"{folder}: damaged run folder ({str(error).splitlines()[0]})") from None


def load_data(folder: Path, override: Path | None = None) -> Dataset:
    """The data set a run was trained on, from where it lay or from `override`; clean, where noise was added to it.

    Raises:
        HardGNNError: it is not there, or it is not the data of this run.
    """
    record = check_version(folder)
    path = override or (record["data"]["path"] and Path(record["data"]["path"]))
    if not path:
        raise HardGNNError(f"{folder}: trained from memory; name the prepared folder with --data")
    if not Path(path).is_dir():
        raise HardGNNError(f"{folder}: its data set {path} is not there; name the prepared folder with --data")
    data = Dataset.load(path)
    recorded = {key: value for key, value in record["data"]["manifest"].items() if key != NOISE}
    if data.manifest != recorded:
        raise HardGNNError(f"{path}: not the data set that {folder} was trained on, its manifest differs")
    return data
