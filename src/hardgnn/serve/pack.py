"""A run folder as memory-mapped files: opened in no time, shared by all workers, its own though the run moves on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.models.query import PARAMETERS
from hardgnn.recommend.export import AGAIN as EXPORT_AGAIN
from hardgnn.recommend.export import INDEX, MANIFEST, check_index, item_vectors, open_index
from hardgnn.runs.folder import AGAIN, CONFIG, ENVIRONMENT, FORMAT_VERSION, MODEL, load_tables, run_name
from hardgnn.runs.models import load_model
from hardgnn.serve.strings import Strings
from hardgnn.storage.files import writing
from hardgnn.storage.records import recorded, sha256, write_json
from hardgnn.storage.tensors import open_tensors, save_tensors

DESCRIPTION = "pack.json"
TRAINING_ALONE = (f"{PARAMETERS}user_embedding", f"{PARAMETERS}item_embedding")


def pack(run: Path, out: Path, export: Path | None = None) -> None:
    """Writes a run, and the index of its `export`, into the new folder `out`.

    Raises:
        MachineError: there is no room for it, or too little memory.
        HardGNNError: the run or its export cannot be used.
    """
    with reading(run, AGAIN):
        model, tables = load_model(run), load_tables(run)
        if len(tables.item_ids) != model.n_items:
            raise HardGNNError(f"{shown(run)}: damaged run folder, its weights and its items differ in number")
    files = [run / CONFIG, run / ENVIRONMENT]
    if export is not None:
        with reading(export, EXPORT_AGAIN):
            check_index(export, run / MODEL)
            item_vectors(model, tables.histories)  # refuses a model that no index can serve
            open_index(export)
        files += [export / INDEX, export / MANIFEST]
    arrays: dict[str, np.ndarray | None] = {
        "offsets": tables.histories.offsets,
        "history": tables.histories.items,
        "times": tables.times,
        "intervals": tables.intervals,
        "trained": tables.user_interactions > 0,
        "popularity": tables.popularity,
    }
    with reading(run, AGAIN), writing(out):
        out.mkdir(parents=True)
        for path in files:  # copies, not links: a file that is written over in place would change under the workers
            shutil.copyfile(path, out / path.name)
        _copy_weights(run / MODEL, out / MODEL)
        Strings.write(out, "users", tables.user_ids)
        Strings.write(out, "items", tables.item_ids)
        if tables.titles is not None:
            Strings.write(out, "titles", tables.titles.fill_null(""))
        for name, values in arrays.items():
            if values is not None:
                np.save(out / f"{name}.npy", values)
        described = {"format_version": FORMAT_VERSION, "version": sha256(run / MODEL)[:12], "run": shown(run_name(run))}
        described["files"] = recorded(out, sorted(path.name for path in out.iterdir()))
        write_json(out / DESCRIPTION, described, sealed=True)


def _copy_weights(source: Path, target: Path) -> None:
    """The weights without the tables that only training needs, which are most of them."""
    with open_tensors(source, AGAIN) as (stored, note):
        kept = [name for name in stored.keys() if name not in TRAINING_ALONE]  # noqa: SIM118 - no mapping
        save_tensors(target, {name: stored.get_tensor(name) for name in kept}, note)
