"""Several runs as one run, which scores by the mean of what they say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardgnn.config import build
from hardgnn.data.dataset import same_data
from hardgnn.errors import HardGNNError, shown
from hardgnn.evaluation.noise import NOISE
from hardgnn.evaluation.protocols import FULL, Progress, evaluate
from hardgnn.metrics import MAIN_AT
from hardgnn.models.ensemble import Ensemble
from hardgnn.runs.evaluated import run_leaks
from hardgnn.runs.fitting import Fitted
from hardgnn.runs.folder import check_version, load_config, load_data, load_tables, read_result, run_name
from hardgnn.runs.models import load_model
from hardgnn.runs.results import TrainingResult
from hardgnn.runs.train import check_new, write_run
from hardgnn.runtime import peak_memory_mb
from hardgnn.wording import said


def ensemble(folders: Sequence[Path], out: Path, progress: Progress | None = None) -> TrainingResult:
    """Writes a run folder whose model is the `Ensemble` of these runs; they are not needed any more.

    Args:
        folders: at least two finished runs on one data set, which learnt from the same parts.
        out: the run folder to write.
        progress: of ranking validation, where that was not learnt from.

    Raises:
        HardGNNError: fewer than two runs, one that is not at its end, or runs that do not go together.
    """
    if len(folders) < 2:
        raise HardGNNError("an ensemble needs at least two runs")
    check_new(out)
    records = [check_version(folder) for folder in folders]
    manifests = [record["data"]["manifest"] for record in records]
    configs = [load_config(folder) for folder in folders]
    for folder, manifest, config in zip(folders, manifests, configs):
        if not read_result(folder).get("finished"):
            how = said("`hardgnn train … --resume`", "fit(data, out, resume=True)")
            raise HardGNNError(f"{shown(folder)}: is not at its end; go on with {how}")
        if manifest.get(NOISE) is not None:
            raise HardGNNError(f"{shown(folder)}: was trained with noise, of which an ensemble knows nothing")
        if not same_data(manifest, manifests[0]):
            raise HardGNNError(f"{shown(folder)}: was trained on another data set than {shown(folders[0])}")
        if config.run.learn_from != configs[0].run.learn_from:
            raise HardGNNError(f"{shown(folder)}: learnt from other parts than {shown(folders[0])}")
    began = time.perf_counter()
    names, learning = ",".join(run_name(folder) for folder in folders), configs[0].run
    part = learning.learn_from if learning.final else "valid"
    document = {"model": {"kind": "ensemble", "runs": names}, "run": {"learn_from": learning.learn_from}}
    config = build(document, "ensemble")
    model = Ensemble([load_model(folder) for folder in folders], configs)
    figures: dict[str, float] = {}
    if not learning.final:
        found, _ = evaluate(model, load_data(folders[0]), "valid", FULL, resamples=1, progress=progress)
        figures = dict(found.metrics)
    results: list[dict[str, Any]] = [read_result(folder) for folder in folders]
    seconds = sum(float(result["training_seconds"]) for result in results)
    result = TrainingResult(
        dataset=results[0]["dataset"],
        best_epoch=1,
        epochs=1,
        chosen_by=f"nothing but its runs ({MAIN_AT}) on {part}, {FULL}",
        split=part,
        protocol=FULL,
        metrics=figures,
        leaks=tuple(dict.fromkeys(leak for folder in folders for leak in run_leaks(folder))),
        parameters=model.parameters,
        training_seconds=round(seconds, 2),
        seconds_per_epoch=round(time.perf_counter() - began, 4),
        peak_memory_mb=round(peak_memory_mb(), 1),
        seed=0,
    )
    line: dict[str, Any] = {"epoch": 1, "seconds": result.seconds_per_epoch} | ({"valid": figures} if figures else {})
    data_path = records[0]["data"]["path"]
    fitted = Fitted(model, result, [line])
    place = None if data_path is None else Path(data_path)
    write_run(out, config, fitted, load_tables(folders[0]), manifests[0], None, place)
    return result
