"""A run folder as memory-mapped files: opened in no time, shared by all workers, its own though the run moves on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from hardgnn.errors import HardGNNError
from hardgnn.export import INDEX, MANIFEST, check_index, item_vectors, open_index
from hardgnn.records import sha256, write_json
from hardgnn.run import AGAIN, CONFIG, ENVIRONMENT, MODEL, load_tables
from hardgnn.serve.strings import Strings
from hardgnn.tensors import open_tensors, save_tensors
from hardgnn.trained import PARAMETERS, load_model

DESCRIPTION = "pack.json"
TRAINING_ALONE = (f"{PARAMETERS}user_embedding", f"{PARAMETERS}item_embedding")


def pack(run: Path, out: Path, export: Path | None = None) -> None:
    """Writes a run, and the index of its `export`, into the new folder `out`.

    Raises:
        HardGNNError: the run or its export cannot be used.
    """
    model, tables = load_model(run), load_tables(run)
    out.mkdir(parents=True)
    files = [run / CONFIG, run / ENVIRONMENT, *run.glob("*.npz"), *run.glob("*.safetensors")]
    if export is not None:
        check_index(export, run / MODEL)
        item_vectors(model, tables.histories)  # refuses a model that no index can serve
        open_index(export)
        files += [export / INDEX, export / MANIFEST]
    for path in files:  # copies, not links: a file that is written over in place would pull the map from under workers
        if path.name == MODEL:
            _copy_weights(path, out / MODEL)
        else:
            shutil.copyfile(path, out / path.name)
    if model.item_vectors.shape[0] != len(tables.item_ids):
        raise HardGNNError(f"{run}: damaged run folder, its weights and its items differ in number")
    Strings.write(out, "users", tables.user_ids)
    Strings.write(out, "items", tables.item_ids)
    if tables.titles is not None:
        Strings.write(out, "titles", tables.titles.fill_null(""))
    arrays: dict[str, np.ndarray | None] = {
        "offsets": tables.histories.offsets,
        "history": tables.histories.items,
        "times": tables.times,
        "intervals": tables.intervals,
        "trained": tables.user_interactions > 0,
        "popularity": tables.popularity,
    }
    for name, values in arrays.items():
        if values is not None:
            np.save(out / f"{name}.npy", values)
    write_json(out / DESCRIPTION, {"version": sha256(run / MODEL)[:12]})


def _copy_weights(source: Path, target: Path) -> None:
    """The weights without the tables that only training needs, which are most of them."""
    with open_tensors(source, AGAIN) as (stored, note):
        kept = [name for name in stored.keys() if name not in TRAINING_ALONE]  # noqa: SIM118 - no mapping
        save_tensors(target, {name: stored.get_tensor(name) for name in kept}, note)


def main() -> None:
    """`python -m hardgnn.serve.pack RUN OUT [EXPORT]`, in a process of its own, whose memory is given back."""
    run, out, *export = map(Path, sys.argv[1:])
    try:
        pack(run, out, *export)
    except HardGNNError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
