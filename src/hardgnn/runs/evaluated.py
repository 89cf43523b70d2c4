"""Evaluates and compares run folders; ranks are kept there, so that nothing is ranked twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardgnn.config import leaks
from hardgnn.data.dataset import PARTS, Dataset, same_data
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.lists import with_lists
from hardgnn.evaluation.noise import NOISE, SeesNoise, with_noise
from hardgnn.evaluation.protocols import Progress, Ranker, checked_part, checked_protocol, evaluate, summarise_frame
from hardgnn.evaluation.ranks import ranks_path, read_ranks, write_ranks
from hardgnn.evaluation.stats import compare_ranks, correct
from hardgnn.metrics import DEFAULT, parted
from hardgnn.runs.folder import (
    MODEL,
    check_files,
    check_version,
    load_config,
    load_data,
    read_result,
    run_name,
    write_result,
)
from hardgnn.runs.models import load_model
from hardgnn.runtime import keep_freed_memory
from hardgnn.storage.tensors import read_seal


def evaluate_run(
    folder: Path,
    part: str = "test",
    protocol: str = "full",
    at: Sequence[int] = (10, 20),
    data: Path | None = None,
    progress: Progress | None = None,
    metrics: Sequence[str] = DEFAULT,
) -> dict[str, Any]:
    """Ranks the targets of a part, writes `ranks-PART-PROTOCOL.parquet` and adds the metrics to `result.json`.

    Args:
        folder: the run folder.
        data: the prepared folder, if it is not where the run was trained.
        metrics: names of metrics, per user or of whole lists.

    Raises:
        HardGNNError: an unknown part, protocol or metric, or a run or data set that is missing or does not fit.
    """
    checked_part(part)
    checked_protocol(protocol)
    of_ranks, _ = parted(metrics)
    keep_freed_memory()
    check_files(folder)
    ranker, clean, seal = _ranker(folder, part, data)
    result, frame = evaluate(ranker, clean, part, protocol, at, of_ranks, progress=progress)
    result = with_lists(result, ranker, clean, frame["user"].to_numpy(), at, metrics, progress)
    result["leaks"] = run_leaks(folder)

    def evaluated(record: dict[str, Any]) -> dict[str, Any]:
        of_these = record.get(part, {}) if record.get("weights", seal) == seal else {}
        figures = of_these.get(protocol, {}) | result["metrics"]
        return record | {"weights": seal, part: of_these | {protocol: figures}}

    write_result(folder, evaluated)
    write_ranks(ranks_path(folder, part, protocol), frame, seal)  # last: they say that this is done
    return result


def _ranker(folder: Path, part: str, data: Path | None = None) -> tuple[Ranker, Dataset, str]:
    """What scores for a run, noise it was trained on included; the data set without noise; the seal of its model."""
    model, clean = load_model(folder), load_data(folder, data)
    noise = check_version(folder)["data"]["manifest"].get(NOISE)
    ranker: Ranker = model if noise is None else SeesNoise(model, with_noise(clean, **noise), PARTS[part])
    return ranker, clean, model.seal


def compare_runs(
    folders: Sequence[Path],
    part: str = "test",
    protocol: str = "full",
    at: Sequence[int] = (10, 20),
    baseline: str | None = None,
    metrics: Sequence[str] = DEFAULT,
) -> dict[str, Any]:
    """Each run's metrics, and the paired differences of the first run (or the baseline) from every other one.

    Returns:
        dataset, runs (results as `evaluate` gives them) and comparisons (rows of `compare_ranks`, with
        the names a and b; p-values Holm-corrected over all rows). Metrics of whole lists are not compared.

    Raises:
        HardGNNError: fewer than two runs, an unknown baseline or metric, or runs on different data sets.
    """
    if len(folders) < 2:
        raise HardGNNError("compare needs at least two runs")
    names = [run_name(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if baseline is not None and baseline not in names:
        raise HardGNNError(f"--baseline {baseline}: no such run, {nearest(baseline, names)}")
    of_ranks, _ = parted(metrics)
    results = [_stored(folder, name, part, protocol, at, metrics) for folder, name in zip(folders, names)]
    manifests = [
        {key: value for key, value in check_version(folder)["data"]["manifest"].items() if key != NOISE}
        for folder in folders
    ]
    for name, manifest in zip(names, manifests):
        if not same_data(manifest, manifests[0]):
            raise HardGNNError(f"the runs were trained on different data sets: {names[0]} and {name}")
    frames = {name: read_ranks(ranks_path(folder, part, protocol)) for folder, name in zip(folders, names)}
    if baseline is not None:
        pairs = [(name, baseline) for name in names if name != baseline]
    else:
        pairs = [(names[0], name) for name in names[1:]]
    rows = [
        {"a": a, "b": b, **row}
        for a, b in pairs
        if of_ranks
        for row in compare_ranks(frames[a], frames[b], at, of_ranks)
    ]
    return {"dataset": results[0]["dataset"], "runs": results, "comparisons": correct(rows)}


def _stored(
    folder: Path, name: str, part: str, protocol: str, at: Sequence[int], metrics: Sequence[str]
) -> dict[str, Any]:
    """The result from the ranks that the run folder keeps, ranked now where it keeps none; lists are made anew."""
    path = ranks_path(folder, part, protocol)
    if not path.exists():
        return evaluate_run(folder, part, protocol, at, metrics=metrics) | {"model": name}
    dataset = str(check_version(folder)["data"]["manifest"].get("name"))
    frame, (of_ranks, of_lists) = read_ranks(path, read_seal(folder / MODEL)), parted(metrics)
    result = summarise_frame(frame, dataset, name, part, protocol, at, of_ranks)
    if of_lists:
        ranker, clean, _ = _ranker(folder, part)
        result = with_lists(result, ranker, clean, frame["user"].to_numpy(), at, metrics)
    return result | {"leaks": run_leaks(folder)}


def run_leaks(folder: Path) -> list[str]:
    """How the test part steered a run, by its settings or by its data; empty for an honest run."""
    recorded = read_result(folder).get("leaks")
    return leaks(load_config(folder)) if recorded is None else recorded
