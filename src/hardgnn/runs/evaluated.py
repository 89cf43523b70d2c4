"""Evaluates run folders, whose ranks are kept so that nothing is ranked twice, and compares them by these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hardgnn.config import leaks
from hardgnn.data.dataset import PARTS, Dataset, same_data
from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.evaluation.comparisons import Comparison, compare_ranks, correct
from hardgnn.evaluation.lists import with_lists
from hardgnn.evaluation.noise import NOISE, SeesNoise, with_noise
from hardgnn.evaluation.protocols import Progress, Ranker, checked_protocol, checked_split, evaluate, summarise_frame
from hardgnn.evaluation.ranks import ranks_path, read_ranks, write_ranks
from hardgnn.evaluation.results import Metrics, Result
from hardgnn.metrics import DEFAULT, parted
from hardgnn.runs.folder import (
    CONFIG,
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
from hardgnn.runs.tables import learnt
from hardgnn.runtime import keep_freed_memory, use_threads
from hardgnn.storage.documents import Document
from hardgnn.storage.tensors import read_seal
from hardgnn.wording import option, said

Bar = Callable[[str], AbstractContextManager[Progress | None]]
"""Shows how far the ranking of what it is told is."""


@dataclass(frozen=True)
class Compared(Document):
    """Runs side by side, and the paired differences between them, corrected over all rows."""

    dataset: str
    runs: tuple[Result, ...]
    comparisons: tuple[Comparison, ...]


def evaluate_run(
    folder: Path,
    split: str = "test",
    protocol: str = "full",
    at: Sequence[int] = (10, 20),
    data: Path | None = None,
    progress: Progress | None = None,
    metrics: Sequence[str] = DEFAULT,
) -> Result:
    """Ranks the targets of a split, writes `ranks-SPLIT-PROTOCOL.parquet` and adds the metrics to `result.json`.

    Args:
        folder: the run folder.
        split: "valid" or "test".
        protocol: "full" or "sampled-999".
        at: cut-offs.
        data: the prepared folder, if it is not where the run was trained.
        progress: called after each block with the users done and the users in all.
        metrics: names of metrics, per user or of whole lists.

    Raises:
        HardGNNError: an unknown split, protocol or metric, or a run or data set that is missing or does not fit.
    """
    checked_split(split)
    checked_protocol(protocol)
    of_ranks, _ = parted(metrics)
    keep_freed_memory()
    check_files(folder)
    use_threads(load_config(folder).run.threads)
    if split == "valid" and (more := more_than_training(folder)):
        raise HardGNNError(
            f"{shown(folder)}: was trained on {more}, so its validation part tells nothing; ask for test"
        )
    ranker, clean, seal = _ranker(folder, split, data)
    result, frame = evaluate(ranker, clean, split, protocol, at, of_ranks, progress=progress)
    result = with_lists(result, ranker, clean, frame["user"].to_numpy(), at, metrics, progress)
    _keep(folder, split, protocol, result.metrics, seal)
    write_ranks(ranks_path(folder, split, protocol), frame, seal)  # last: they say that this is done
    return replace(result, leaks=run_leaks(folder), learnt_from=more_than_training(folder))


def rank_missing(
    folders: Sequence[Path],
    split: str = "test",
    protocol: str = "full",
    at: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT,
    bar: Bar = lambda what: nullcontext(),
) -> None:
    """Ranks a split for the run folders that do not keep its ranks yet, and computes list metrics that they lack.

    What compares or shows runs only reads; this is the step before.

    Raises:
        HardGNNError: as `evaluate_run`.
    """
    _, of_lists = parted(metrics)
    for folder in folders:
        path = ranks_path(folder, split, protocol)
        if not path.exists():
            with bar(f"{run_name(folder)}: {split}, {protocol}") as progress:
                evaluate_run(folder, split, protocol, at, progress=progress, metrics=metrics)
        elif not {f"{name}@{n}" for name in of_lists for n in at} <= set(_kept(folder, split, protocol)):
            with bar(f"{run_name(folder)}: lists, {split}") as progress:
                ranker, clean, seal = _ranker(folder, split)
                frame = read_ranks(path, seal)
                result = summarise_frame(frame, clean.name, ranker.name, split, protocol, at, [])
                lists = with_lists(result, ranker, clean, frame["user"].to_numpy(), at, of_lists, progress)
                _keep(folder, split, protocol, lists.metrics, seal)


def compare_runs(
    folders: Sequence[Path],
    split: str = "test",
    protocol: str = "full",
    at: Sequence[int] = (10, 20),
    baseline: str | None = None,
    metrics: Sequence[str] = DEFAULT,
    least: int = 2,
) -> Compared:
    """Each run's metrics, and the paired differences of the first run (or the baseline) from every other one.

    It reads what the folders keep (`rank_missing` ranks). Metrics of whole lists are not compared.

    Raises:
        HardGNNError: as `check_comparable`, or a run that keeps no ranks of this split and protocol.
    """
    names = check_comparable(folders, split, protocol, baseline, metrics, least)
    of_ranks, _ = parted(metrics)
    results = [_stored(folder, name, split, protocol, at, metrics) for folder, name in zip(folders, names)]
    frames = {name: read_ranks(ranks_path(folder, split, protocol)) for folder, name in zip(folders, names)}
    if baseline is not None:
        pairs = [(name, baseline) for name in names if name != baseline]
    else:
        pairs = [(names[0], name) for name in names[1:]]
    rows = [
        Comparison(a=a, b=b, **asdict(row))
        for a, b in pairs
        if of_ranks
        for row in compare_ranks(frames[a], frames[b], at, of_ranks)
    ]
    return Compared(results[0].dataset, tuple(results), tuple(correct(rows)))


def check_comparable(
    folders: Sequence[Path],
    split: str = "test",
    protocol: str = "full",
    baseline: str | None = None,
    metrics: Sequence[str] = DEFAULT,
    least: int = 2,
) -> list[str]:
    """The names of runs that can be compared, before any is ranked.

    Raises:
        HardGNNError: fewer than two runs, an unknown baseline, split, protocol or metric, or runs on different data
            sets.
    """
    if len(folders) < least:
        raise HardGNNError("compare needs at least two runs; one is enough with " + option("published"))
    names = [run_name(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if baseline is not None and baseline not in names:
        raise HardGNNError(f"{option('baseline')} {baseline}: no such run, {nearest(baseline, names)}")
    parted(metrics)
    checked_split(split)
    checked_protocol(protocol)
    manifests = [
        {key: value for key, value in check_version(folder)["data"]["manifest"].items() if key != NOISE}
        for folder in folders
    ]
    for name, manifest in zip(names, manifests):
        if not same_data(manifest, manifests[0]):
            raise HardGNNError(f"the runs were trained on different data sets: {names[0]} and {name}")
    return names


def check_ranked(folder: Path, protocol: str, split: str = "test") -> None:
    """Checks that a folder keeps the ranks that a table is made from.

    Raises:
        HardGNNError: it does not.
    """
    if not ranks_path(folder, split, protocol).exists():
        raise HardGNNError(
            f"{shown(folder)}: its {split} part is not ranked under {protocol} yet; "
            f"rank it with {ranking(folder, split, protocol)}"
        )


def ranking(folder: Path, split: str, protocol: str, metrics: bool = False) -> str:
    """What ranks a part of a run, in words."""
    more = " --metrics …", ", metrics=[…]"
    return said(
        f"`hardgnn evaluate {shown(folder)} --part {split} --protocol {protocol}{more[0] if metrics else ''}`",
        f"hardgnn.runs.evaluated.evaluate_run(folder, {split!r}, {protocol!r}{more[1] if metrics else ''})",
    )


def run_leaks(folder: Path) -> tuple[str, ...]:
    """How the test part steered a run, by its settings or by its data; empty for an honest run."""
    recorded = read_result(folder).get("leaks")
    return tuple(leaks(load_config(folder)) if recorded is None else recorded)


def more_than_training(folder: Path) -> str | None:
    """The parts that a run was trained on, where that is more than the training part."""
    if not (folder / CONFIG).exists():  # of a peer
        return None
    run = load_config(folder).run
    return run.learn_from if run.final else None


def _ranker(folder: Path, split: str, data: Path | None = None) -> tuple[Ranker, Dataset, str]:
    """What scores for a run, noise it was trained on included; the data set without noise; the seal of its model."""
    model, raw, config = load_model(folder, "auto"), load_data(folder, data), load_config(folder)
    noise = check_version(folder)["data"]["manifest"].get(NOISE)
    if noise is None:
        return model, learnt(config, raw), model.seal
    noisy = learnt(config, with_noise(raw, **noise))  # the noise is that of the training part alone
    return SeesNoise(model, noisy, PARTS[split]), learnt(config, raw), model.seal


def _keep(folder: Path, split: str, protocol: str, metrics: Metrics, seal: str) -> None:
    """Adds figures to `result.json`; those of another model than the folder now holds are dropped."""

    def evaluated(record: dict[str, Any]) -> dict[str, Any]:
        of_these = record.get(split, {}) if record.get("weights", seal) == seal else {}
        return record | {"weights": seal, split: of_these | {protocol: of_these.get(protocol, {}) | metrics}}

    write_result(folder, evaluated)


def _kept(folder: Path, split: str, protocol: str) -> Metrics:
    """The figures that `result.json` has of the model that the folder holds."""
    record, seal = read_result(folder), read_seal(folder / MODEL)
    found: Metrics = record.get(split, {}).get(protocol, {}) if record.get("weights", seal) == seal else {}
    return found


def _stored(folder: Path, name: str, split: str, protocol: str, at: Sequence[int], metrics: Sequence[str]) -> Result:
    """The result from the ranks and the figures of whole lists that the run folder keeps."""
    check_ranked(folder, protocol, split)
    dataset = str(check_version(folder)["data"]["manifest"].get("name"))
    of_ranks, of_lists = parted(metrics)
    frame = read_ranks(ranks_path(folder, split, protocol), read_seal(folder / MODEL))
    result = summarise_frame(frame, dataset, name, split, protocol, at, of_ranks)
    if of_lists:
        kept = _kept(folder, split, protocol)
        wanted = [f"{metric}@{n}" for n in at for metric in metrics]
        missing = [figure for figure in wanted if figure not in result.metrics and figure not in kept]
        if missing:
            told = ranking(folder, split, protocol, metrics=True)
            raise HardGNNError(f"{shown(folder)}: {missing[0]} was not computed yet; compute it with {told}")
        result = replace(result, metrics={figure: (kept | result.metrics)[figure] for figure in wanted})
    return replace(result, leaks=run_leaks(folder), learnt_from=more_than_training(folder))
