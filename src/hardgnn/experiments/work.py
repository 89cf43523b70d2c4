"""The pieces of a study's work, each for a process of its own: a run trained and ranked, baselines ranked."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hardgnn.data.dataset import Dataset
from hardgnn.evaluation.noise import with_noise
from hardgnn.evaluation.protocols import PROTOCOLS, rank_targets
from hardgnn.evaluation.quality import baseline
from hardgnn.evaluation.ranks import ranks_path, write_ranks
from hardgnn.experiments.plan import Run
from hardgnn.experiments.workers import LOCK_PATIENCE_S, Report
from hardgnn.runs.evaluated import evaluate_run
from hardgnn.runs.train import train
from hardgnn.storage.files import writing
from hardgnn.training.callbacks import Callback


class Reporting(Callback):
    """Tells how far a run's training is."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """After each step."""
        self.report((epoch - 1 + step / steps) / self.trainer.epochs)


def carry_out_run(folder: Path, data_path: Path, run: Run, test: bool, allow_leaks: bool, report: Report) -> None:
    """Trains one run, or goes on with it, and ranks its test part if it is asked for and not ranked yet.

    Raises:
        HardGNNError: as `train`, or another process is at work in the folder.
    """
    data = Dataset.load(data_path)
    if run.variant.noise:
        data = with_noise(data, run.variant.noise, run.seed)
    config = run.config
    train(
        data,
        config,
        folder,
        resume=True,
        allow_leaks=allow_leaks,
        preset=run.variant.preset,
        data_path=data_path,
        callbacks=[Reporting(partial(_trained_share, report))],
        patience_s=LOCK_PATIENCE_S,
    )
    if not test:
        return
    for protocol in PROTOCOLS:
        if not ranks_path(folder, "test", protocol).exists():
            evaluate_run(folder, "test", protocol, progress=lambda done, total: report(0.99))


def rank_baselines(folders: dict[str, Path], data_path: Path, report: Report) -> None:
    """Fits the baselines that need no gradient, their own choices on validation, and ranks their test part."""
    data = Dataset.load(data_path)
    for number, (name, folder) in enumerate(folders.items()):
        report(number / len(folders))
        ranker = baseline(name, data)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for protocol in PROTOCOLS:
            frame = rank_targets(ranker, data, "test", protocol)
            write_ranks(ranks_path(folder, "test", protocol), frame)


def _trained_share(report: Report, share: float) -> None:
    """Training is nearly all of a run; ranking the rest."""
    report(0.99 * share)
