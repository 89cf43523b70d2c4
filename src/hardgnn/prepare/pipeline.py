"""From a raw log to a prepared data set: filter, number, order, split, draw candidates (specification, section 1)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardgnn.data.columns import ITEM, TITLE, USER
from hardgnn.data.dataset import Candidates, Dataset, read_manifest
from hardgnn.data.ids import id_text
from hardgnn.data.log import InteractionLog, is_address, read_log
from hardgnn.data.provenance import Provenance, versions
from hardgnn.errors import HardGNNError, shown
from hardgnn.forks import enter
from hardgnn.prepare import doubts
from hardgnn.prepare.candidates import draw_candidates
from hardgnn.prepare.filters import keep_rows
from hardgnn.prepare.kept import PART_ROWS
from hardgnn.prepare.memory import Budget
from hardgnn.prepare.presets import preset_settings
from hardgnn.prepare.released.selfgnn import is_released, read_selfgnn
from hardgnn.prepare.settings import PrepareConfig
from hardgnn.prepare.split import global_time, leave_one_out
from hardgnn.storage.columns import least, most
from hardgnn.wording import option

NO_TIMES = "no usable times: intervals will be cut by equal counts over positions"


def prepare(log: InteractionLog, config: PrepareConfig | None = None, part_rows: int = PART_ROWS) -> Dataset:
    """The prepared data set, kept where the log's columns are; `Dataset.save` writes the folder.

    The steps are those of specification, section 1, in its order. The same log and config give the same bytes, whatever
    `part_rows`, the number of rows that are sorted at once.

    Raises:
        HardGNNError: nothing is left after a step, `min_rating` without ratings, or no user fits the split.
    """
    enter()
    config = config or PrepareConfig()
    kept, id_doubts = keep_rows(log, config, part_rows)
    user_index, user_ids = kept.numbered(USER)
    item_index, item_ids = kept.numbered(ITEM)
    user, item, timestamp = kept.ordered(user_index, item_index, len(user_ids))
    steps = tuple(kept.steps)
    del kept, user_index, item_index
    if config.split == "leave-one-out":
        part, cuts = leave_one_out(user, len(user_ids)), None
    else:
        part, (valid, test) = global_time(timestamp, config.valid_share, config.test_share)
        cuts = {"valid": valid, "test": test}
    none = Candidates(np.empty(0, np.int32), np.empty((0, config.candidates), np.int32))
    titles = titles_of(item_ids, log.titles)
    data = Dataset(user, item, timestamp, part, user_ids, item_ids, titles, none, {})
    if lacking := data.lacking:
        raise HardGNNError(f"the {config.split} split leaves no user with a {lacking} target and a history before it")
    drawn = draw_candidates(data, config.candidates, config.candidate_users, config.candidate_seed)
    told = [*log.reading.warnings, *id_doubts, *time_doubts(log, user, timestamp, config)]
    provenance = Provenance(
        name=log.name,
        source_sha256=log.sha256 or None,
        settings=config.model_dump(mode="json"),
        steps=steps,
        read=log.reading.told(),
        counts=data.counts,
        warnings=(*told, *doubts.few_candidates(drawn.items, len(item_ids))),
        cut_times_s=cuts,
        versions=versions(),
    )
    return replace(data, candidates=drawn, manifest=provenance.manifest())


def time_doubts(
    log: InteractionLog, user: NDArray[np.int32], timestamp: NDArray[np.float64], config: PrepareConfig
) -> list[str]:
    """What makes the times of the prepared rows (n,) doubtful."""
    if least(timestamp) == most(timestamp):
        return [NO_TIMES]
    if log.reading.is_order:
        told = [doubts.ORDERLY] if config.split == "global-time" else []
    else:
        told = [*doubts.implausible(timestamp), *doubts.uneven(timestamp)]
    return [*told, *doubts.tied(user, timestamp)]


def titles_of(item_ids: pl.Series, titles: pl.DataFrame | None) -> pl.Series | None:
    """The title of each item (I,), null where it has none; None if no item has one."""
    if titles is None:
        return None
    known = titles.with_columns(id_text(pl.col(ITEM), pl.String())).unique(ITEM, keep="first", maintain_order=True)
    found = item_ids.to_frame(ITEM).join(known, on=ITEM, how="left", maintain_order="left")[TITLE]
    return None if found.null_count() == len(found) else found.alias("title")


def prepare_file(
    path: str | Path | Sequence[str | Path],
    preset: str | None = None,
    format: str | None = None,
    reading: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    allow_leaks: bool = False,
    memory: str | int | None = None,
    scratch: Path | None = None,
) -> Dataset:
    """Reads a raw log and prepares it, or takes SelfGNN's released pickles as they are split: `hardgnn prepare`.

    Args:
        path: the raw log, one file or several, or the folder of the released pickles.
        preset: named settings; see `hardgnn.prepare.presets`.
        format: one of `hardgnn.data.readers.formats`; the preset's, or `auto`, by default.
        reading: further options of `hardgnn.data.log.read_log`.
        settings: fields of `PrepareConfig`, which win over the preset; None is as good as not given, and no
            `candidate_users` (0) is everybody.
        allow_leaks: see `hardgnn.prepare.released.selfgnn.read_selfgnn`.
        memory: what it may take, as in "2GB"; half of what is free by default. The columns of a log that needs more
            are files without a name, and so are those of the data set.
        scratch: a folder on the disk for them; that of temporary files by default.

    Raises:
        HardGNNError: as the functions named, or an option that would do nothing.
    """
    files = [path] if isinstance(path, (str, Path)) else list(path)
    if len(files) == 1:
        path = files[0] if is_address(files[0]) else Path(files[0])
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    options = {name: value for name, value in (reading or {}).items() if value is not None}
    named = preset_settings(preset) if preset is not None else {}
    kind = format or named.get("format", "auto")
    if isinstance(path, Path) and (kind == "selfgnn" or (kind == "auto" and is_released(path))):
        if unused := [*given, *options, *(["preset"] if preset is not None else [])]:
            raise HardGNNError(f"{path}: the released split is taken as it is, so {unused[0]} would do nothing")
        return read_selfgnn(path, allow_leaks)
    if allow_leaks:
        raise HardGNNError(f"{files[0]}: only released pickles can leak, so allow_leaks would do nothing")
    if given.get("candidate_users") == 0:
        given["candidate_users"] = None
    config = PrepareConfig.checked(preset, **given)
    budget = Budget.of(memory, scratch or Path(tempfile.gettempdir()))
    log = read_log(path, budget.room, format=kind, **options)
    return prepare(log, config, budget.part_rows(log))


def check_place(folder: Path, data: Dataset) -> None:
    """Makes sure that a data set does not replace that of another log, which has another name and other bytes.

    Raises:
        HardGNNError: the folder holds one; names it.
    """
    try:
        older = Provenance.of(read_manifest(folder))
    except HardGNNError:  # none is there, or one that is to be prepared again
        return
    new = data.provenance
    if older.name != new.name and (older.source_sha256 is None or older.source_sha256 != new.source_sha256):
        raise HardGNNError(
            f"{shown(folder)}: holds the data set of another log, {shown(older.name)}; choose another "
            f"{option('out')}, or replace it with {option('overwrite')}"
        )
