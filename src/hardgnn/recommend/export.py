"""What other systems need of a run: vectors as Parquet and an index for approximate search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from hardgnn.data.histories import Histories
from hardgnn.errors import HardGNNError, reading
from hardgnn.evaluation.protocols import Progress, informed
from hardgnn.evaluation.topn import top_n
from hardgnn.models.base import Model
from hardgnn.runs.folder import MODEL, load_tables
from hardgnn.runs.models import load_model
from hardgnn.storage.files import atomic_folder, recover
from hardgnn.storage.records import check_file, read_json, recorded, sha256, write_json

MANIFEST, INDEX, SIMILARITY = "export.json", "index.usearch", "similarity.parquet"
CHECKED_USERS = 16  # whose scores are compared with products before anything is exported
RECALL_USERS = 1000
BLOCK = 16_384  # rows at a time
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 128
TOLERANCE = 1e-3
FORMAT_VERSION = 2
AGAIN = "export the run again"


def export(
    run: Path,
    out: Path,
    *,
    index: bool = True,
    n: int = 10,
    expansion: int = EXPANSION_SEARCH,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes what another system needs to score as the run does; `export.json` says how.

    `items.parquet` and `users.parquet` have the vectors, where the model has such; `similarity.parquet` the entries of
    its item-to-item matrix, where it has one. Where the scores are products of vectors alone, `index` makes a usearch
    index of the items.

    The column `train_interactions` is 0 where training saw nothing of an item or user: an item's vector is random
    then, and the index leaves it out.

    An item's vector (d,) is ē^(v); a user's is the query ē^(u) + σ(ẽ^(u)) after the whole history, so that the score
    is their inner product (specification, section 2, Score).

    Args:
        run: a run folder.
        out: the folder to write; an older export is replaced.
        index: build the index; needs the extra `ann`.
        n: the length of the lists whose recall is measured.
        expansion: how many candidates a search keeps: higher finds more and takes longer.
        progress: called with the items indexed and the items in all.

    Returns:
        What `export.json` holds: run, hash of its weights, counts, dim, score (the formula in words) and the numbers in
        it, and of the index, where there is one, its settings and recall@n:
        the share of the exact best `n` items that the search finds, a mean over up to 1,000 users.

    Raises:
        HardGNNError: usearch is not installed, though an index is wanted that the model allows.
    """
    tables = load_tables(run)
    model = informed(load_model(run), tables.histories)
    found, users = model.exported(), len(tables.user_ids)
    products = model.abilities.vectors
    if products:
        item_vectors(model, tables.histories)  # what a model declares is compared with its scores
    index = index and products
    if index:
        usearch()
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "run": model.name,
        "model_sha256": sha256(run / MODEL),
        "items": len(tables.item_ids),
        "users": users,
        "dim": 0 if found.vectors is None else found.vectors.shape[1],
        "score": found.score,
        "numbers": dict(found.numbers),
    }
    with atomic_folder(out, MANIFEST) as folder:
        rest = found.vectors, tables.titles, tables.popularity, found.moment
        _write(folder / "items.parquet", tables.item_ids, *rest)
        queries = _all_queries(model, tables.histories, users) if hasattr(model, "queries") else None
        _write(folder / "users.parquet", tables.user_ids, queries, None, tables.user_interactions)
        if found.similarity is not None:
            _write_similarity(folder / SIMILARITY, tables.item_ids, found.similarity)
        if index:
            assert found.vectors is not None
            assert queries is not None
            trained = np.flatnonzero(tables.popularity)
            built = build_index(found.vectors, expansion, progress, trained)
            built.save(str(folder / INDEX))
            asked = np.random.default_rng(0).permutation(users)[:RECALL_USERS]
            document["index"] = {
                "library": "usearch",
                "metric": "ip",
                "connectivity": CONNECTIVITY,
                "expansion_add": EXPANSION_ADD,
                "expansion_search": expansion,
                "n": n,
                "recall": recall(built, queries[asked], found.vectors, n, trained),
            }
        document["files"] = recorded(folder, sorted(path.name for path in folder.iterdir()))
        write_json(folder / MANIFEST, document, sealed=True)
    return document


def _all_queries(model: Any, histories: Histories, users: int) -> NDArray[np.float32]:
    parts = [_queries(model, histories, np.arange(at, min(at + BLOCK, users))) for at in range(0, users, BLOCK)]
    return np.concatenate(parts)


def _write_similarity(path: Path, raw: pl.Series, similarity: sparse.csr_array) -> None:
    """The entries of a matrix (I, I): from an item of the history to the one scored."""
    entries = similarity.tocoo()
    columns = {"history": raw.gather(entries.row), "item": raw.gather(entries.col), "similarity": entries.data}
    pl.DataFrame(columns).write_parquet(path)


def item_vectors(model: Model, histories: Histories) -> NDArray[np.float32]:
    """The item vectors (I, d) of a model whose scores are inner products.

    Raises:
        HardGNNError: they are not, by comparing the scores of some users.
    """
    users = np.flatnonzero(histories.lengths > 0)[:CHECKED_USERS]
    vectors, queries = getattr(model, "item_vectors", None), getattr(model, "queries", None)
    known = histories.take(users)
    if vectors is not None and queries is not None:
        products = queries(users, known).numpy() @ vectors.numpy().T
        scores = model.scores(users, known)
        if np.abs(products - scores).max(initial=0) <= TOLERANCE * max(1.0, np.abs(scores).max(initial=0)):
            return np.ascontiguousarray(vectors.numpy(), dtype=np.float32)
    raise HardGNNError(
        f"{model.name}: its scores are no inner products of a user's and an item's vector, so vectors and approximate "
        "search would recommend other items; use `hardgnn recommend` or `hardgnn serve`, which score exactly"
    )


def _queries(model: Any, histories: Histories, users: NDArray[np.integer]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = model.queries(users, histories.take(users)).numpy()
    return found


def _write(
    path: Path,
    raw: pl.Series,
    vectors: NDArray[np.float32] | None,
    titles: pl.Series | None,
    counts: NDArray[np.int32],
    moment: NDArray[np.float32] | None = None,
) -> None:
    columns: dict[str, Any] = {"id": raw, "train_interactions": counts}
    if moment is not None:
        columns["moment"] = moment
    if titles is not None:
        columns["title"] = titles
    if vectors is not None:
        columns["vector"] = pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
    pl.DataFrame(columns).write_parquet(path)


def usearch() -> Any:
    """The class of usearch's index.

    Raises:
        HardGNNError: it is not installed.
    """
    try:
        from usearch.index import Index
    except ImportError:
        raise HardGNNError("the index needs an extra: pip install 'hardgnn[ann]'") from None
    return Index


def build_index(
    vectors: NDArray[np.float32],
    expansion: int,
    progress: Progress | None = None,
    keys: NDArray[np.integer] | None = None,
) -> Any:
    """An HNSW graph by inner product over item vectors (I, d): over the rows `keys`, all by default, which it finds."""
    keys = np.arange(len(vectors)) if keys is None else keys
    found = usearch()(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=expansion,
    )
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        # One thread: several at work on a graph of few items leave some unreachable, others every time.
        found.add(block.astype(np.uint64), vectors[block], threads=1)
        if progress is not None:
            progress(start + len(block), len(keys))
    return found


def recall(
    index: Any,
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    n: int,
    keys: NDArray[np.integer] | None = None,
) -> float:
    """The mean share of the exact best `n` items of each query (B, d) that the index over the rows `keys` finds."""
    rows = np.arange(len(vectors)) if keys is None else keys
    vectors, n = vectors[rows], min(n, len(rows))

    class Products:
        name = "exact"

        def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
            return queries[users] @ vectors.T

    nothing = Histories(np.zeros(len(queries) + 1, np.int64), np.empty(0, np.int32))
    exact, _ = top_n(Products(), np.arange(len(queries)), nothing, n, len(vectors))
    found = np.atleast_2d(index.search(queries, n).keys).astype(np.int64)
    return float((rows[exact][:, :, None] == found[:, None, :]).any(2).mean())


def check_index(folder: Path, model: Path) -> None:
    """Checks that the export in `folder` has an index, of the weights in the file `model`.

    Raises:
        HardGNNError: it has not.
    """
    document = read_export(folder)
    if "index" not in document:
        raise HardGNNError(f"{folder}: holds no index; export the run without --no-index")
    if document["model_sha256"] != sha256(model):
        raise HardGNNError(f"{folder}: exported from another run than {model.parent}; export it again")


def open_index(folder: Path) -> Any:
    """The index of an export, memory-mapped.

    Raises:
        HardGNNError: it is damaged, or usearch is not installed.
    """
    document = read_export(folder)
    check_file(folder / INDEX, document.get("files", {}).get(INDEX), AGAIN)
    with reading(folder / INDEX, AGAIN):
        found = usearch().restore(str(folder / INDEX), view=True)
        if found is None:
            raise HardGNNError(f"{folder / INDEX}: damaged; {AGAIN}")
        found.expansion_search = document["index"]["expansion_search"]
    return found


def read_export(folder: Path) -> dict[str, Any]:
    """What `export.json` holds.

    Raises:
        HardGNNError: the folder holds no export, or the file is damaged.
    """
    recover(folder)
    if not (folder / MANIFEST).exists():
        raise HardGNNError(f"{folder}: no export is there, {MANIFEST} is missing; make one with `hardgnn export`")
    with reading(folder / MANIFEST, AGAIN):
        document = read_json(folder / MANIFEST)
        document["model_sha256"], document.get("index", {}).get("n")
        return dict(document)
