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
from torch import Tensor

from hardgnn import config as settings
from hardgnn.config import Config
from hardgnn.data.dataset import Dataset, read_ids
from hardgnn.data.histories import Histories
from hardgnn.data.noise import NOISE
from hardgnn.errors import HardGNNError
from hardgnn.files import atomic_path, read_json, write_json
from hardgnn.model.product import product
from hardgnn.model.selfgnn import SelfGNN
from hardgnn.model.sequence import SequenceEncoder

FORMAT_VERSION = 1
CONFIG, METRICS, MODEL, RESULT, ENVIRONMENT = (
    "config.toml",
    "metrics.jsonl",
    "model.safetensors",
    "result.json",
    "environment.json",
)
CANDIDATE_ROWS = 32  # users whose candidates are gathered at once: 8 MB for 1,000 of 64 numbers
SEQUENCE_PREFIX = "parameters/sequence_encoder."


@dataclass
class TrainedModel:
    """Everything that scoring needs: final vectors and the sequence encoder, no graph.

    Shapes: `user_vectors` (U, d), zero rows for users without training interactions; `item_vectors` (I, d).
    It is a `hardgnn.evaluate.Ranker`.
    """

    name: str
    config: Config
    user_vectors: Tensor
    item_vectors: Tensor
    sequence_encoder: SequenceEncoder | None

    @torch.no_grad()
    def queries(self, users: NDArray[np.integer] | None, histories: Histories) -> Tensor:
        """The query vectors ē^(u) + σ(ẽ^(u)), (B, d); without `users` σ(ẽ) alone (SPEC section 2, Score)."""
        rows = np.arange(len(histories.offsets) - 1)
        window = torch.from_numpy(histories.windows(rows, self.config.model.window))
        dim = self.item_vectors.shape[1]
        own = torch.zeros(len(rows), dim) if users is None else self.user_vectors[torch.from_numpy(users).long()]
        if self.sequence_encoder is None:
            return own
        sequence = self.sequence_encoder(self.item_vectors, window)
        return SelfGNN.query_vector(self.config.model, own, sequence)

    @torch.no_grad()
    def scores(self, users: NDArray[np.integer] | None, histories: Histories) -> NDArray[np.float32]:
        """The scores of all items for these users, (B, I)."""
        return product(self.queries(users, histories), self.item_vectors).numpy()

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
        return scores.numpy()


def save_model(folder: Path, model: SelfGNN, users: Tensor, items: Tensor, epoch: int) -> None:
    """Writes the parameters and the final vectors, atomically."""
    tensors = {f"parameters/{name}": value.contiguous() for name, value in model.state_dict().items()}
    # A shared recurrent network appears under two names; safetensors wants every tensor to own its memory.
    if model.config.interval_sharing == "shared":
        tensors = {name: value.clone() for name, value in tensors.items()}
    tensors |= {"vectors/users": users.contiguous(), "vectors/items": items.contiguous()}
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
            names = list(stored.keys())
            users, items = stored.get_tensor("vectors/users"), stored.get_tensor("vectors/items")
            encoder = None
            if config.model.sequence != "none":
                encoder = SequenceEncoder(config.model)
                encoder.load_state_dict(
                    {
                        name.removeprefix(SEQUENCE_PREFIX): stored.get_tensor(name)
                        for name in names
                        if name.startswith(SEQUENCE_PREFIX)
                    }
                )
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise HardGNNError(f"{folder / MODEL}: damaged or not of this config ({reason})") from None
    return TrainedModel(run_name(folder), config, users, items, encoder)


def run_name(folder: Path) -> str:
    """A run is called by its folder."""
    return folder.resolve().name


def start(folder: Path, config: Config, data: Dataset, data_path: Path | None, preset: str | None) -> None:
    """Writes what a run folder holds before the first epoch: config, environment, ids and histories."""
    from hardgnn.runtime import environment

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(config.to_toml(), "utf-8")
    described = {
        "format_version": FORMAT_VERSION,
        "preset": preset,
        "data": {"path": None if data_path is None else str(data_path.resolve()), "manifest": data.manifest},
    }
    write_json(folder / ENVIRONMENT, environment() | described)
    everything = data.everything
    history = pl.Series(np.split(everything.items, everything.offsets[1:-1]), dtype=pl.List(pl.Int32))
    columns = {
        "raw_id": data.user_ids,
        "index": np.arange(data.n_users, dtype=np.int32),
        "train_interactions": data.train.lengths.astype(np.int32),
        "history": history,
    }
    with atomic_path(folder / "users.parquet") as temporary:
        pl.DataFrame(columns).write_parquet(temporary)
    titles = {} if data.item_titles is None else {"title": data.item_titles}
    counts = np.bincount(data.train.items, minlength=data.n_items).astype(np.int32)
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


def load_ids(folder: Path) -> tuple[pl.Series, Histories, pl.Series, pl.Series | None]:
    """The raw user ids, the users' whole histories, the raw item ids and the titles if there are any."""
    try:
        users = pl.read_parquet(folder / "users.parquet").sort("index")
        item_ids, titles = read_ids(folder / "items.parquet")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HardGNNError(f"{folder}: damaged run folder ({str(error).splitlines()[0]})") from None
    lengths = users["history"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = users["history"].explode().drop_nulls().to_numpy().astype(np.int32)
    return users["raw_id"], Histories(offsets, items), item_ids, titles


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
