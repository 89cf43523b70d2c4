"""The leaderboard of a study: our models and the peers side by side, each compared with one reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from hardgnn.config import flat, known_preset, resolve
from hardgnn.data.dataset import MANIFEST
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.comparisons import SeedComparison, correct
from hardgnn.evaluation.protocols import FULL, checked_protocol, means_of
from hardgnn.evaluation.ranks import ranks_path
from hardgnn.experiments.finished import Finished, finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.peers.light import Setting
from hardgnn.experiments.peers.records import CHOSEN, Chosen
from hardgnn.experiments.peers.tuning import PEER_BY_NAME, PEERS, beside, fitted_folder, peer_folder, runs_beside
from hardgnn.experiments.plan import Variant
from hardgnn.experiments.results import Figures, by_metric, compared
from hardgnn.metrics import MAIN
from hardgnn.runs.evaluated import check_ranked, run_leaks
from hardgnn.runs.folder import CONFIG, check_version, load_config, load_data, run_name
from hardgnn.storage.documents import OPTIONAL, Document


@dataclass(frozen=True, kw_only=True)
class BoardRow(Document):
    """A model on one data set.

    `training_seconds` are the mean over runs; `setting` a peer's hyperparameters, or our preset and what differs from
    it; `tuning`, `valid`, `trials` and `tuning_seconds` how a peer's setting was found; `comparison` that of the
    reference with it, None for the reference itself.
    """

    model: str
    peer: bool
    deterministic: bool
    seeds: tuple[int, ...]
    metrics: Figures
    training_seconds: float | None
    parameters: int | None
    setting: Setting | tuple[str, ...]
    tuning: dict[str, int | float | None] | None
    valid: float | None
    trials: int | None
    tuning_seconds: float | None
    leaks: tuple[str, ...]
    comparison: SeedComparison | None = None
    learnt_from: str | None = field(default=None, metadata=OPTIONAL)
    """The parts that it was trained on, where that is more than the training part."""


@dataclass(frozen=True)
class BoardTable(Document):
    """The models of one data set, the best first; `users` are those ranked."""

    data: str
    users: int
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class Leaderboard(Document):
    """All models of a study, each compared with `reference` by `metric`, p-values corrected over all comparisons."""

    study: str
    protocol: str
    reference: str
    metric: str
    tables: tuple[BoardTable, ...]
    comparisons: tuple[SeedComparison, ...]


def places(paths: Sequence[Path], out: Path | None) -> tuple[list[Path], list[Path], Path]:
    """What `compare --peers` was given: the prepared folders (the runs' own among them), the runs, the study folder.

    Raises:
        HardGNNError: a path that is none of these, a run whose data is not there, or no place to keep the work.
    """
    if len(paths) == 1 and Study.is_one(paths[0]):
        if out not in (None, paths[0]):
            raise HardGNNError("--out: a study keeps the work of its peers itself")
        return list(Study(paths[0]).paths.values()), [], paths[0]
    if out is None:
        raise HardGNNError("--peers needs --out STUDY, the folder that keeps their trials and ranks")
    data, runs = [], []
    for path in paths:
        if (path / CONFIG).exists():
            load_data(path)  # tells what is wrong with it
            runs.append(path)
            data.append(Path(check_version(path)["data"]["path"]))
        elif (path / MANIFEST).exists():
            data.append(path)
        else:
            raise HardGNNError(f"{path}: neither a prepared folder nor a run folder")
    return list({path.resolve(): path for path in data}.values()), runs, out


def leaderboard(
    study: Study, at: Sequence[int] = (10, 20), protocol: str = FULL, reference: str | None = None
) -> Leaderboard:
    """All models of a study whose test part is ranked, data set by data set.

    It reads; the runs that peers stand beside are ranked before, by `hardgnn.runs.evaluated.rank_missing`.

    Args:
        study: holds peers, runs of our models, or both.
        at: cut-offs; models are compared by NDCG at the first.
        protocol: whose figures are shown.
        reference: the model that all others are compared with. By default the first of ours, and where there is
            none the first peer.

    Raises:
        HardGNNError: an unknown protocol or reference, nothing is ranked yet, or a run is not that should be.
    """
    checked_protocol(protocol)
    cells = ranked(study, protocol)
    if not cells:
        raise HardGNNError(f"{study.folder}: nothing is ranked under {protocol} yet; run its command again to go on")
    names = list(dict.fromkeys(cell.variant.name for cell in cells))
    if reference is not None and reference not in names:
        raise HardGNNError(f"reference '{reference}': no such model in {study.folder}; {nearest(reference, names)}")
    reference = reference or names[0]
    metric = f"{MAIN}@{at[0]}"
    by_data: dict[str, list[BoardRow]] = {}
    users: dict[str, int] = {}
    comparisons: list[SeedComparison] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = {cell.variant.name: cell for cell in cells if cell.data == data}
        frames = {name: cell.ranks(protocol) for name, cell in mine.items()}
        rows = [_row(study, cell, frames[name], at) for name, cell in mine.items()]
        by_data[data] = sorted(rows, key=lambda row: -row.metrics[metric].mean)
        users[data] = frames[by_data[data][0].model][0].height
        if reference in mine:
            for name, cell in mine.items():
                if name != reference:
                    found = compared(mine[reference], cell, frames, protocol, at)
                    comparisons += [row for row in found if row.metric == metric]
    comparisons = correct(comparisons)
    by_name = {(row.data, row.b): row for row in comparisons}
    tables = [
        BoardTable(data, users[data], tuple(replace(row, comparison=by_name.get((data, row.model))) for row in rows))
        for data, rows in by_data.items()
    ]
    return Leaderboard(str(study.folder), protocol, reference, metric, tuple(tables), tuple(comparisons))


def ranked(study: Study, protocol: str = FULL) -> list[Finished]:
    """The models of a study whose test part is ranked, ours first.

    Raises:
        HardGNNError: a run that the peers stand beside is not ranked.
    """
    return [*_our_cells(study, protocol), *_peer_cells(study, protocol)]


def _our_cells(study: Study, protocol: str) -> list[Finished]:
    """Our models: of every plan that ranks the test part, and the runs that the peers were asked to stand beside."""
    found: dict[tuple[str, str], Finished] = {}
    for folder in runs_beside(study):
        record = check_version(folder)
        check_ranked(folder, protocol)
        data = Path(record["data"]["path"]).name
        variant = Variant(run_name(folder), str(known_preset(record.get("preset"))))
        key = (data, variant.name)
        if key in found:
            raise HardGNNError(f"{folder}: two runs on {data} are called '{variant.name}'; rename one folder")
        found[key] = Finished(data, variant, [load_config(folder).run.seed], [folder])
    for plan in study.plans.values():
        if plan.test:
            for cell in finished(study, plan):
                if cell.is_ranked(protocol):
                    found.setdefault((cell.data, cell.variant.name), cell)
    return list(found.values())


def _peer_cells(study: Study, protocol: str) -> list[Finished]:
    """The peers' chosen settings with the seeds that are ranked."""
    if PEERS not in study.plans:
        return []
    plan, found = study.plans[PEERS], []
    for data in plan.data:
        for name in beside(study).peers:
            folder = peer_folder(study, data, name)
            if not (folder / CHOSEN).exists():
                continue
            prefix = fitted_folder(folder, Chosen.read(folder).setting, 0).name.rpartition("-")[0]
            ranked = {int(place.name.rpartition("-")[2]): place for place in folder.glob(f"{prefix}-*")}
            places = [place for _, place in sorted(ranked.items()) if ranks_path(place, "test", protocol).exists()]
            if places:
                seeds = [int(place.name.rpartition("-")[2]) for place in places]
                found.append(Finished(data, Variant(name, ""), seeds, places, PEER_BY_NAME[name].deterministic))
    return found


def _row(study: Study, cell: Finished, frames: list[pl.DataFrame], at: Sequence[int]) -> BoardRow:
    is_peer = not cell.variant.preset
    chosen = Chosen.read(peer_folder(study, cell.data, cell.variant.name)) if is_peer else None
    seconds = [result.get("training_seconds") for result in cell.results]
    timed = [one for one in seconds if one is not None]
    return BoardRow(
        model=cell.variant.name,
        peer=is_peer,
        deterministic=cell.deterministic,
        seeds=tuple(cell.seeds),
        metrics=by_metric([means_of(frame, at) for frame in frames]),
        training_seconds=sum(timed) / len(timed) if timed else None,
        parameters=cell.results[0].get("parameters"),
        setting=chosen.setting if chosen else _our_setting(cell),
        tuning=chosen.tuning if chosen else None,
        valid=chosen.valid if chosen else None,
        trials=len(chosen.points) if chosen else None,
        tuning_seconds=chosen.seconds if chosen else None,
        leaks=() if is_peer else run_leaks(cell.folders[0]),
        learnt_from=cell.learnt_from,
    )


def _our_setting(cell: Finished) -> tuple[str, ...]:
    """The preset of our model and what the run's config has otherwise, without the seed."""
    preset = cell.variant.preset
    plain = flat(resolve(None if preset == "None" else preset))
    own = flat(load_config(cell.folders[0]))
    changed = [
        f"{section}.{key}={value}"
        for section, fields in own.items()
        for key, value in fields.items()
        if (section, key) != ("run", "seed") and value != plain.get(section, {}).get(key)
    ]
    return (*(() if preset == "None" else (f"preset {preset}",)), *changed) or ("the defaults",)
