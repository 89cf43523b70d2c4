"""Ranks of the targets under a protocol, and the metrics with their intervals (specification, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from hardgnn.arguments import cutoffs, text
from hardgnn.data.dataset import PARTS, TRAIN, Dataset
from hardgnn.data.histories import Everybody, Histories
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.results import Result
from hardgnn.evaluation.stats import bootstrap_intervals
from hardgnn.forks import enter
from hardgnn.metrics import DEFAULT, per_user
from hardgnn.ops.scores import LeftOut
from hardgnn.runtime import side_by_side

FULL, SAMPLED = "full", "sampled-999"
PROTOCOLS = (FULL, SAMPLED)
"""Those that a study ranks under."""
FIRST, SUCCESSIVE = "first", "successive"
TARGETS = {FULL: FIRST, SAMPLED: FIRST} | {f"{FULL}-{which}": which for which in ("last", "random", SUCCESSIVE)}
"""All protocols, and which of a user's interactions of the part each asks for; leave-one-out has one alone."""
BLOCK_BYTES = 64 * 2**20
DIRECT_NUMBERS = 16384  # of a user who is ranked without a table: 1,024 users of a block
Progress = Callable[[int, int], None]  # users done, users in all


@runtime_checkable
class Ranker(Protocol):
    """Scores all items for users given their histories; higher is better."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def scores(self, users: NDArray[np.integer], histories: Histories) -> NDArray[np.float32]:
        """Scores (B, I) of all items for `users` (B,), whose `histories` are given in the same order."""


@runtime_checkable
class CandidateRanker(Protocol):
    """A ranker that can score a few items per user at a lower cost than all of them."""

    def candidate_scores(
        self, users: NDArray[np.integer], histories: Histories, items: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Scores (B, C) of `items` (B, C) for `users` (B,), whose `histories` are given in the same order."""


@runtime_checkable
class Direct(CandidateRanker, Protocol):
    """A ranker that can tell ranks without a table of all scores."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def direct(self) -> bool:
        """Whether it can, here."""

    @property
    def in_turn(self) -> bool:
        """Whether blocks of users are asked one after the other, as where several processes answer together."""

    def above(
        self, users: NDArray[np.integer], histories: Histories, targets: NDArray[np.int32], without: LeftOut
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """How many items of those not left out, but for the target, score as much as it or more, for each user (B,).

        And for whom a score is NaN, (B,). A target is not among what is left out.
        """


@runtime_checkable
class Informed(Protocol):
    """A ranker that counts what happened before the moment of asking."""

    def knowing(self, histories: Everybody) -> Ranker:
        """The same ranker, which has counted the events of these histories of everybody, and no others."""


RankerLike = TypeVar("RankerLike")


def informed(ranker: RankerLike, histories: Everybody) -> RankerLike:
    """The ranker, which knows what happened in these histories where it looks at such things."""
    return ranker.knowing(histories) if isinstance(ranker, Informed) else ranker  # type: ignore[return-value]


def rank_targets(
    ranker: Ranker | Direct,
    dataset: Dataset,
    split: str = "valid",
    protocol: str = FULL,
    *,
    users: NDArray[np.integer] | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """The rank of each user's target among the candidates of the protocol; ties count against the model.

    `full` ranks all items but the user's history before that split; `sampled-999` the target and the stored candidates
    of the users that have some. The target itself is always a candidate, also where a log with repeats has it in
    the history. `full-last`, `full-random` and `full-successive` are as `full`, for other targets of a part with
    several interactions of a user, whose history then grows with those before the target (Gusak et al., Time to
    split, 2025); the last has a row for each.

    Args:
        ranker: scores all items for a block of users.
        dataset: the prepared data set.
        split: "valid" or "test".
        protocol: one of `TARGETS`.
        users: rank only for these of the split's users (any order); all by default.
        block_bytes: the size of a block of float32 scores, which bounds the memory.
        progress: called after each block with the users done and the users in all.

    Returns:
        Columns user, target, rank (0-based), candidates (items ranked, the target included), all Int32,
        sorted by user.

    Raises:
        HardGNNError: an unknown split or protocol, nobody to rank for, or NaN or misshapen scores.
    """
    enter()
    asked, places, sampled = targets_of(dataset, split, protocol, users)
    targets = dataset.item[places]
    split_index = checked_split(split)
    known = dataset.before(split_index)
    ranker = informed(ranker, known)
    ranks = np.empty(len(asked), dtype=np.int32)
    candidates = np.empty(len(asked), dtype=np.int32)
    done = 0

    def rank(block: slice) -> None:
        nonlocal done
        first = TARGETS[protocol] == FIRST
        histories = known.take(asked[block]) if first else dataset.before_rows(places[block])
        if sampled is None:
            found = _rank_among_unseen(ranker, asked[block], histories, targets[block], dataset.n_items)
            ranks[block], candidates[block] = found
        else:
            items = np.column_stack([targets[block], sampled[block]])  # (B, 1 + C)
            scores = _sampled_scores(ranker, asked[block], histories, items, dataset.n_items)
            ranks[block], candidates[block] = _rank_among_sampled(scores, items)
        with one_at_a_time:
            done += block.stop - block.start
            if progress is not None:
                progress(done, len(asked))

    one_at_a_time = Lock()
    numbers = DIRECT_NUMBERS if is_direct(ranker) else dataset.n_items
    if sampled is not None and isinstance(ranker, CandidateRanker):
        numbers = max(DIRECT_NUMBERS, 1 + sampled.shape[1])
    parts = [*blocks(len(asked), numbers, block_bytes)]
    if is_direct(ranker) and not ranker.in_turn:
        side_by_side(rank, parts)
    else:
        for block in parts:
            rank(block)
    return pl.DataFrame({"user": asked.astype(np.int32), "target": targets, "rank": ranks, "candidates": candidates})


def targets_of(
    dataset: Dataset, split: str, protocol: str, users: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32] | None]:
    """Whom a protocol ranks in a part (B,), the rows of their targets (B,), and the items it samples, if any (B, C).

    Raises:
        HardGNNError: an unknown split or protocol, or nobody to rank for.
    """
    split_index = checked_split(split)
    checked_protocol(protocol)
    asked, places = dataset.target_rows(split_index, TARGETS[protocol])
    if users is not None:
        kept = np.isin(asked, users)
        asked, places = asked[kept], places[kept]
    sampled: NDArray[np.int32] | None = None
    if protocol == SAMPLED:
        _, rows, stored = np.intersect1d(asked, dataset.candidates.users, return_indices=True)
        asked, places, sampled = asked[rows], places[rows], dataset.candidates.items[stored]
    if len(asked) == 0:
        raise HardGNNError(f"{dataset.name}: no user can be ranked in part {split} under protocol {protocol}")
    return asked, places, sampled


def evaluate(
    ranker: Ranker,
    dataset: Dataset,
    split: str = "valid",
    protocol: str = FULL,
    at: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT,
    *,
    resamples: int = 2000,
    seed: int = 0,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> tuple[Result, pl.DataFrame]:
    """Ranks the targets and sums them up.

    Returns:
        The figures with their intervals, and the frame of `rank_targets`.

    Raises:
        HardGNNError: as `rank_targets`, a cut-off below 1, or a metric that is none per user
            (`hardgnn.evaluation.lists.with_lists` adds those of whole lists).
    """
    at = cutoffs(at)
    per_user([0], at, metrics)  # what is wrong with them is told before the work, not after it
    frame = rank_targets(ranker, dataset, split, protocol, block_bytes=block_bytes, progress=progress)
    return summarise_frame(frame, dataset.name, ranker.name, split, protocol, at, metrics, resamples, seed), frame


def summarise_frame(
    frame: pl.DataFrame,
    dataset: str,
    model: str,
    split: str,
    protocol: str,
    at: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT,
    resamples: int = 2000,
    seed: int = 0,
) -> Result:
    """The result of `evaluate` from stored ranks; `frame` is one of `rank_targets`."""
    at = cutoffs(at)
    values = metrics_of(frame, at, metrics)
    bounds = np.empty((0, 2))
    if values:
        bounds = bootstrap_intervals(np.stack([*values.values()], axis=1), resamples=resamples, seed=seed)
    counts = frame["candidates"].to_numpy()
    return Result(
        dataset=dataset,
        model=model,
        split=split,
        protocol=protocol,
        users=frame["user"].n_unique(),
        candidates=(int(counts.min()), int(counts.max())),
        metrics={name: float(each.mean()) for name, each in values.items()},
        intervals={name: (float(low), float(high)) for name, (low, high) in zip(values, bounds)},
    )


def metrics_of(frame: pl.DataFrame, at: Sequence[int], metrics: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Each metric per user, (V,), of ranks sorted by user: where one has several, their mean, so that all count alike.

    Raises:
        HardGNNError: a metric that is none per user.
    """
    values = per_user(frame["rank"].to_numpy(), at, metrics)
    users = frame["user"].to_numpy()
    starts = np.flatnonzero(np.diff(users, prepend=users[:1] - 1))
    if len(starts) == len(users):
        return values
    counts = np.diff(starts, append=len(users))
    return {name: np.add.reduceat(each, starts) / counts for name, each in values.items()}


def means_of(frame: pl.DataFrame, at: Sequence[int], metrics: Sequence[str] = DEFAULT) -> dict[str, float]:
    """The mean over users of each metric, as of `metrics_of`."""
    return {name: float(each.mean()) for name, each in metrics_of(frame, at, metrics).items()}


def blocks(n_users: int, n_items: int, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Slices over the users such that float32 scores of all items fit `block_bytes`; one user at least."""
    step = max(1, block_bytes // (4 * max(1, n_items)))
    yield from (slice(start, min(start + step, n_users)) for start in range(0, n_users, step))


def checked_split(split: str) -> int:
    """The index of the split "valid" or "test".

    Raises:
        HardGNNError: any other split.
    """
    known = {name: index for name, index in PARTS.items() if index != TRAIN}
    if text(split, "part") not in known:
        raise HardGNNError(f"unknown part '{split}'; {nearest(split, known)}")
    return known[split]


def checked_protocol(protocol: str) -> str:
    """The protocol's name.

    Raises:
        HardGNNError: it is not one of `TARGETS`.
    """
    if text(protocol, "protocol") not in TARGETS:
        raise HardGNNError(f"unknown protocol '{protocol}'; {nearest(protocol, TARGETS)}")
    return protocol


def checked_scores(
    ranker: Ranker, users: NDArray[np.integer], histories: Histories, n_items: int
) -> NDArray[np.float32]:
    """The ranker's scores (B, I).

    Raises:
        HardGNNError: their shape is another, or one is NaN.
    """
    return _checked(ranker.name, np.asarray(ranker.scores(users, histories)), (len(users), n_items))


def _checked(name: str, scores: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    if scores.shape != shape:
        raise HardGNNError(f"{name}: scores have shape {scores.shape}, expected {shape}")
    # The minimum is NaN if any score is, at a quarter of the cost of asking each.
    if scores.size and torch.from_numpy(scores).min().isnan():
        refuse_odd(name, np.asarray(np.isnan(scores).any(axis=1)))
    return scores


def _sampled_scores(
    ranker: Ranker | Direct, users: NDArray[np.integer], histories: Histories, items: NDArray[np.int32], n_items: int
) -> NDArray[np.float32]:
    """Scores (B, C) of `items` (B, C), of which -1 is none and gets any score."""
    items = np.maximum(items, 0)
    if isinstance(ranker, CandidateRanker):
        return _checked(ranker.name, ranker.candidate_scores(users, histories, items), items.shape)
    return np.take_along_axis(checked_scores(ranker, users, histories, n_items), items, axis=1)


def is_direct(ranker: Any) -> TypeGuard[Direct]:
    """Whether a ranker tells ranks by itself."""
    return isinstance(ranker, Direct) and ranker.direct


def left_out(histories: Histories, n_items: int, targets: NDArray[np.int32] | None = None) -> LeftOut:
    """The items of each history, once each, without its target."""
    rows, items = np.divmod(histories.keys(n_items), n_items)
    if targets is not None:
        others = items != targets[rows]
        rows, items = rows[others], items[others]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(histories.lengths)))])
    return offsets.astype(np.int64), items.astype(np.int32)


def refuse_odd(name: str, odd: NDArray[np.bool_]) -> None:
    """Raises HardGNNError where scores of a user (B,) are NaN."""
    if odd.any():
        raise HardGNNError(f"{name}: scores are NaN for {int(odd.sum())} of {len(odd)} users")


def _rank_among_unseen(
    ranker: Ranker | Direct,
    users: NDArray[np.integer],
    histories: Histories,
    targets: NDArray[np.int32],
    n_items: int,
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Rank and number of candidates (B,), the candidates being all items but the history's."""
    offsets, seen = left_out(histories, n_items, targets)
    candidates = n_items - np.diff(offsets)
    if is_direct(ranker):
        above, odd = ranker.above(users, histories, targets, (offsets, seen))
        refuse_odd(ranker.name, odd)
        return above, candidates
    assert isinstance(ranker, Ranker)  # who cannot tell ranks tells scores
    scores = checked_scores(ranker, users, histories, n_items)
    limits = scores[np.arange(len(users)), targets]  # (B,)
    above = np.add.reduce(scores >= limits[:, None], axis=1, dtype=np.int32) - 1  # the target itself is counted once
    rows = np.repeat(np.arange(len(users)), np.diff(offsets))
    above_seen = np.bincount(rows[scores[rows, seen] >= limits[rows]], minlength=len(users))
    return above - above_seen, candidates


def _rank_among_sampled(
    scores: NDArray[np.float32], items: NDArray[np.int32]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Rank and number of candidates (B,) from scores (B, 1 + C) of the target and the sampled; an item -1 is none."""
    present = (items[:, 1:] >= 0) & (items[:, 1:] != items[:, :1])
    above = (scores[:, 1:] >= scores[:, :1]) & present
    return np.count_nonzero(above, axis=1), np.count_nonzero(present, axis=1) + 1
