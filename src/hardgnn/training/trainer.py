"""Training: one loop that reads top to bottom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hardgnn.config import Config, leaks
from hardgnn.data.dataset import TRAIN, Dataset, same_data
from hardgnn.data.intervals import cut, stacked_graph, times_or_positions
from hardgnn.errors import HardGNNError, reason, shown
from hardgnn.evaluation.protocols import evaluate
from hardgnn.forks import enter
from hardgnn.metrics import DEFAULT, check_choice, split
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.models.transitions import TransitionGraph
from hardgnn.ops.graph import InteractionGraph
from hardgnn.runs import folder as run
from hardgnn.runs.trained import save_model, trained
from hardgnn.runs.warm import WarmStart
from hardgnn.runtime import epoch_generators, keep_freed_memory, peak_memory_mb, use_threads
from hardgnn.storage.files import atomic_path, sweep, writing
from hardgnn.storage.locks import Held, locked
from hardgnn.storage.records import recorded, write_json
from hardgnn.storage.tensors import open_tensors, read_seal
from hardgnn.training import checkpoint
from hardgnn.training.checkpoint import Progress
from hardgnn.training.next_item import PositionsStep
from hardgnn.training.next_item_batches import Sequences
from hardgnn.training.pairwise import PairsStep
from hardgnn.training.pairwise_batches import Batches


class Watcher(Protocol):
    """Told how training goes: a progress bar, a log, TensorBoard."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """After each step."""

    def epoch(self, line: dict[str, Any]) -> None:
        """After each epoch, with its line of metrics.jsonl."""


class Objective(Protocol):
    """What a step computes."""

    def new_epoch(self) -> None:
        """Forgets what earlier epochs cached and counted."""

    def losses(self, batch: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The loss terms of one batch, without their coefficients; `generator` drives dropout."""

    def false_negatives(self) -> float | None:
        """The share of this epoch's hard negatives that are their user's validation item."""


class Source(Protocol):
    """What the steps of an epoch see."""

    def __len__(self) -> int:
        """Steps per epoch."""

    def epoch(self, rng: np.random.Generator) -> Iterator[Any]:
        """The batches of one epoch."""


def build_graph(data: Dataset, config: Config) -> InteractionGraph:
    """The T interval graphs of the training interactions."""
    rows = data.part == TRAIN
    shape = (config.model.intervals, data.n_users, data.n_items)
    times, are_positions = times_or_positions(data.timestamp[rows], data.user[rows])
    how = "count" if are_positions else config.model.interval_cut
    interval = cut(times, config.model.intervals, how, data.time_span)
    return InteractionGraph(stacked_graph(interval, data.user[rows], data.item[rows], shape), shape, config.model.norm)


def train(
    data: Dataset,
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    allow_leaks: bool = False,
    preset: str | None = None,
    data_path: Path | None = None,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] = lambda: False,
    warm_start: Path | None = None,
    patience_s: float = 0.0,
) -> dict[str, Any]:
    """Trains one model and keeps its best epoch by validation in the run folder.

    Args:
        data: the prepared data set; its test part is never read, but by a config that `leaks`.
        config: every setting.
        folder: the run folder, new, or with `resume` one that training stopped in.
        allow_leaks: accept a config that lets the test part steer training (`hardgnn.config.leaks`); the result says
            so.
        stop: asked after each epoch; True ends training as an interrupt would, resumable.
        warm_start: an older run whose weights, matched by raw id, this one starts from (`hardgnn.runs.warm`).
        patience_s: how long to wait for another process that is at work in the folder.

    Returns:
        The result that `result.json` holds: best epoch, its validation metrics, seconds, peak memory.

    Raises:
        HardGNNError: the folder holds another run, another process trains in it, or it was removed meanwhile; the
            config leaks, the older run does not fit, or the loss is no longer a number.
        KeyboardInterrupt: stopped; the state after the last epoch is on disk.
    """
    enter()
    leaking = leaks(config)
    if leaking and not allow_leaks:
        raise HardGNNError(
            f"{' and '.join(leaking)}: such figures are not honest; ask for them with --allow-leaks, or set "
            "train.negatives_avoid=train and train.choose_on=valid"
        )
    check_choice(config.train.metric)
    use_threads(config.run.threads)
    keep_freed_memory()
    warm = None if warm_start is None else WarmStart.plan(warm_start, config, data)
    with _entered(folder, patience_s) as held:
        _open_folder(folder, config, data, data_path, preset, resume, None if warm is None else warm.record)
        try:
            return _train(data, config, folder, held, leaking, warm, watcher, stop)
        except (HardGNNError, MemoryError, OSError, RuntimeError) as error:
            with suppress(HardGNNError):  # where even this cannot be written, the error itself says why
                held.check()
                write_json(folder / run.FAILURE, {"error": reason(error)}, make_parent=False)
            raise


def _train(
    data: Dataset,
    config: Config,
    folder: Path,
    held: Held,
    leaking: list[str],
    warm: WarmStart | None,
    watcher: Watcher | None,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """What `train` does once its folder is open."""
    earlier = run.read_result(folder)
    if earlier.get("finished"):  # what was evaluated since stays in it
        with open_tensors(folder / run.MODEL, run.AGAIN):
            return earlier
    graph = build_graph(data, config)
    initial = torch.Generator().manual_seed(config.run.seed)
    model = SelfGNN(config.model, config.ssl, data.n_users, data.n_items, initial, config.transitions)
    if warm is not None:
        warm.apply(model)
    transitions = TransitionGraph.of(data, config.transitions) if config.transitions.use else None
    step, batches = _objective(model, graph, data, config, transitions)
    if len(batches) == 0:
        raise HardGNNError(f"{data.name}: {_nothing_to_learn(data)}")

    optimiser = _optimiser(model, config)
    average = None
    if config.train.average_epochs > 0:
        past = max(0.0, 1 - 1 / (config.train.average_epochs * len(batches)))
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(past))
    kept = model if average is None else average.module
    assert isinstance(kept, SelfGNN)
    progress = checkpoint.load(folder, model, optimiser, average, of=run.identity(folder)) or Progress()
    if progress.epoch and not progress.lines:  # of an earlier version
        progress.lines = run.read_metrics(folder)[: progress.epoch]

    while progress.epoch < config.train.epochs and not _waited_enough(progress, config):
        epoch = progress.epoch + 1
        lr = config.train.lr * config.train.lr_decay ** (epoch - 1)
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * lr
        began = time.perf_counter()
        means = _learnt(step, batches, model, optimiser, average, config, epoch, watcher)
        progress.epoch, progress.seconds = epoch, progress.seconds + time.perf_counter() - began

        line: dict[str, Any] = {"epoch": epoch, "lr": lr}
        line |= {f"loss_{name}": value for name, value in means.items()}
        line["loss_l2"] = _l2(model, config)
        false_negatives = step.false_negatives()
        if false_negatives is not None:
            line |= {"temperature": config.hard.temperature, "false_negatives": false_negatives}
        line["seconds"] = round(time.perf_counter() - began, 4)
        if epoch % config.train.eval_every == 0 or epoch == config.train.epochs:
            line[config.train.choose_on] = _validate(folder, held, progress, kept, graph, data, config, transitions)
        progress.lines.append(line)
        held.check()
        _write_lines(folder, progress.lines)
        checkpoint.save(folder, progress, model, optimiser, average, of=run.identity(folder))
        if watcher is not None:
            watcher.epoch(line)
        if stop():
            raise KeyboardInterrupt

    result = _result(data, config, model, progress, leaking)
    held.check()
    _write_lines(folder, progress.lines)
    result["files"] = recorded(folder, [run.METRICS, run.MODEL])
    weights = read_seal(folder / run.MODEL)

    def ended(earlier: dict[str, Any]) -> dict[str, Any]:
        # What was evaluated while training was stopped counts only where no better epoch came since.
        return (earlier if earlier.get("weights", weights) == weights else {}) | result | {"weights": weights}

    return run.write_result(folder, ended)


def _learnt(
    step: Objective,
    batches: Source,
    model: SelfGNN,
    optimiser: torch.optim.Adam,
    average: AveragedModel | None,
    config: Config,
    epoch: int,
    watcher: Watcher | None,
) -> dict[str, float]:
    """One epoch over the batches: the mean of each loss term, without its coefficient.

    Raises:
        HardGNNError: the loss is no longer a number.
    """
    rng, generator = epoch_generators(config.run.seed, epoch)
    sums: dict[str, float] = {}
    step.new_epoch()
    for number, batch in enumerate(batches.epoch(rng), 1):
        terms = step.losses(batch, generator)
        loss = _total(terms, config)
        value = loss.item()
        if not np.isfinite(value):
            raise HardGNNError(f"epoch {epoch}: the loss is {value}; try a smaller train.lr")
        loss.backward()
        optimiser.step()
        if average is not None:
            average.update_parameters(model)
        optimiser.zero_grad()  # here, so that no gradient takes room while the next step goes forward
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item()
        del terms, term, loss  # and with them what their graph still holds, before the next step goes forward
        if watcher is not None:
            watcher.step(epoch, number, len(batches), value)
    return {name: value / len(batches) for name, value in sums.items()}


def _result(data: Dataset, config: Config, model: SelfGNN, progress: Progress, leaking: list[str]) -> dict[str, Any]:
    """What `result.json` says of a training that is at its end."""
    best = next((line for line in progress.lines if line["epoch"] == progress.best_epoch), {})
    return {
        "dataset": data.name,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "chosen_by": f"{config.train.metric} on {config.train.choose_on}, {config.train.protocol}",
        config.train.choose_on: {config.train.protocol: best.get(config.train.choose_on, {})},
        "leaks": [*leaking, *data.manifest.get("leaks", [])],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_seconds": round(progress.seconds, 2),
        "seconds_per_epoch": round(progress.seconds / max(1, progress.epoch), 4),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "seed": config.run.seed,
        "finished": True,
    }


def _nothing_to_learn(data: Dataset) -> str:
    """Why no user can be learnt from."""
    if (data.train.lengths < 2).all():
        return "no user has two training interactions, so there is nothing to learn"
    return (
        f"whoever has two training interactions has met all {data.n_items:,} items, so none is left to tell what they "
        "like from what they do not; such a log has too few items"
    )


def _objective(
    model: SelfGNN, graph: InteractionGraph, data: Dataset, config: Config, transitions: TransitionGraph | None
) -> tuple[Objective, Source]:
    """What a step computes and what it sees, as `train.objective` says."""
    if config.train.objective == "positions":
        sequences = Sequences(data.train, data.n_items, config.model.window, config.train)
        return PositionsStep(model, graph, data, config, transitions), sequences
    step = PairsStep(model, graph, data, config)
    edges = (graph.rows[0].numpy(), graph.rows[1].numpy())
    return step, Batches(data.train, edges, graph.shape, config.model.window, config.train, config.ssl, step.avoided)


def _total(terms: dict[str, Tensor], config: Config) -> Tensor:
    """L_rec + ssl.weight · L_sal + hard.weight · L_InfoNCE; the L2 term is Adam's weight decay, the same gradient."""
    total = terms["rec"]
    if "ssl" in terms:
        total = total + config.ssl.weight * terms["ssl"]
    if "infonce" in terms:
        total = total + config.hard.weight * terms["infonce"]
    return total


def _optimiser(model: SelfGNN, config: Config) -> torch.optim.Adam:
    """Adam, with the gradient 2 · l2 · θ of the L2 term added where that term applies; or AdamW (`weight_decay`)."""
    decoupled = config.train.weight_decay > 0
    # Single numbers are not decayed: their zero means nothing.
    decayed = [p for p in model.parameters() if p.dim() > 1] if decoupled else model.decayed(config.train.l2_over)
    decay = config.train.weight_decay if decoupled else 2 * config.train.l2
    weight_decay = dict.fromkeys(map(id, decayed), decay)
    numbers = model.transitions.parameters() if config.transitions.use else ()
    rate = dict.fromkeys(map(id, numbers), config.transitions.rate)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in model.parameters():
        groups.setdefault((weight_decay.get(id(parameter), 0.0), rate.get(id(parameter), 1.0)), []).append(parameter)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    alike = [{"params": params, "weight_decay": key[0], "rate": key[1]} for key, params in groups.items()]
    return kind(alike, lr=config.train.lr, fused=True)


@torch.no_grad()
def _l2(model: SelfGNN, config: Config) -> float:
    """`l2 · Σ‖θ‖²`, for the log."""
    squares = sum(float(parameter.square().sum()) for parameter in model.decayed(config.train.l2_over))
    return config.train.l2 * squares


def _validate(
    folder: Path,
    held: Held,
    progress: Progress,
    model: SelfGNN,
    graph: InteractionGraph,
    data: Dataset,
    config: Config,
    transitions: TransitionGraph | None,
) -> dict[str, float]:
    """Metrics of this epoch on the part that chooses; where it is the best so far, the model is kept."""
    users, items = model.encode(graph)
    # Users without training interactions have no vector of their own (specification, section 2, Score).
    if model.with_users:
        users[torch.from_numpy(data.train.lengths == 0)] = 0
    model_now = trained(folder.name, config, model, users, items, transitions)
    name, n = split(config.train.metric)
    at, names = sorted({10, 20, n}), list(dict.fromkeys([*DEFAULT, name]))
    result, _ = evaluate(model_now, data, config.train.choose_on, config.train.protocol, at, names, resamples=1)
    metrics: dict[str, float] = result.metrics
    if metrics[config.train.metric] > progress.best_metric:
        progress.best_metric, progress.best_epoch, progress.waited = metrics[config.train.metric], progress.epoch, 0
        held.check()
        save_model(folder, model, users, items, progress.epoch, model_now.transitions)
    else:
        progress.waited += 1
    return metrics


def _waited_enough(progress: Progress, config: Config) -> bool:
    return 0 < config.train.patience <= progress.waited


@contextmanager
def _entered(folder: Path, patience_s: float) -> Iterator[Held]:
    """Holds the lock of a run folder, swept of what kills left."""
    if not run.is_started(folder):
        run.check_free(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, patience_s) as held:
        for place in (folder, folder / checkpoint.FOLDER):
            sweep(place)
        yield held


def _open_folder(
    folder: Path,
    config: Config,
    data: Dataset,
    data_path: Path | None,
    preset: str | None,
    resume: bool,
    warm_start: dict[str, Any] | None,
) -> None:
    """A new run folder, or with `resume` the one that is there, if config and data are the same."""
    if not run.is_started(folder):
        run.check_free(folder)
        run.start(folder, config, data, data_path, preset, warm_start)
        return
    if not resume:
        raise HardGNNError(f"{shown(folder)}: holds a run already; go on with --resume or choose another --out")
    record = run.check_version(folder)
    if run.load_config(folder) != config:
        raise HardGNNError(f"{shown(folder)}: was started with another config; resume it with the same settings")
    if not same_data(record["data"]["manifest"], data.manifest):
        raise HardGNNError(f"{shown(folder)}: was started on another data set")
    if record.get("warm_start") != warm_start:
        from_where = record["warm_start"]["run"] if record.get("warm_start") else "no other run"
        raise HardGNNError(f"{shown(folder)}: was started from {from_where}; resume it with the same --warm-start")
    (folder / run.FAILURE).unlink(missing_ok=True)


def _write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    with atomic_path(folder / run.METRICS, make_parent=False) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
