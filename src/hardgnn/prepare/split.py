"""Which part, training, validation or test, each interaction belongs to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardgnn.data.dataset import TEST, TRAIN, VALID
from hardgnn.errors import HardGNNError
from hardgnn.storage.columns import blocks, by_blocks, counted, quantiles, shelf_of, tally

SHORTEST = 3  # a training, a validation and a test interaction


def leave_one_out(user: NDArray[np.integer], n_users: int) -> NDArray[np.uint8]:
    """Each user's last interaction is the test part, the one before it the validation part, the rest training.

    `user` (N,) is sorted, and each user's rows are in time order; the answer is (N,) uint8. Users with fewer than
    three interactions are training only. Source: specification, section 1.

    Raises:
        HardGNNError: no user has three interactions.
    """
    lengths = counted(user, n_users)
    long = lengths >= SHORTEST
    if not long.any():
        raise HardGNNError(
            f"every user is too short for the leave-one-out split: it needs {SHORTEST} interactions of one user, "
            f"the longest of {n_users} users has {lengths.max(initial=0)}"
        )
    ends, before = np.cumsum(lengths), 0
    part = shelf_of(user).column(np.uint8)
    for (owners,) in blocks(user):
        left = ends[owners] - np.arange(before + 1, before + len(owners) + 1)
        codes = np.full(len(owners), TRAIN, dtype=np.uint8)
        codes[(left == 0) & long[owners]] = TEST
        codes[(left == 1) & long[owners]] = VALID
        part.add(codes)
        before += len(owners)
    return part.done()


def global_time(
    timestamp: NDArray[np.float64], valid_share: float = 0.1, test_share: float = 0.1
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Two cut times, the same for everyone: no training interaction is later than any validation or test one.

    The cut times are the times of interactions, at the quantiles 1 - valid_share - test_share and 1 - test_share of
    all `timestamp` (N,) in seconds. An interaction at a cut time belongs to the later part.
    Returns the parts (N,) uint8 and the cut times (t_valid, t_test) in seconds. Source: specification, section 1.

    Raises:
        HardGNNError: a part is empty, as when too many interactions share one time.
    """
    shares = [1 - valid_share - test_share, 1 - test_share]
    t_valid, t_test = (float(cut) for cut in quantiles(by_blocks(timestamp), np.array(shares)))
    column, counts = shelf_of(timestamp).column(np.uint8), np.zeros(TEST + 1, dtype=np.int64)
    for (times,) in blocks(timestamp):
        codes = np.full(len(times), TRAIN, dtype=np.uint8)
        codes[times >= t_valid] = VALID
        codes[times >= t_test] = TEST
        tally(counts, codes)
        column.add(codes)
    part = column.done()
    for code, name in ((TRAIN, "training"), (VALID, "validation"), (TEST, "test")):
        if not counts[code]:
            raise HardGNNError(
                f"the global-time split leaves the {name} part empty: "
                f"cut times {t_valid:.0f} s and {t_test:.0f} s, {len(np.unique(timestamp))} different times in all"
            )
    return part, (t_valid, t_test)
