"""Times the batch: top-n of many users, against plain NumPy and against implicit's `recommend`, on the same vectors.

Times are the processor's, which a busy machine changes little, the rounds of the three alternate, and ratios are of
medians; with one thread:

    OMP_NUM_THREADS=1 python benchmarks/recommend.py --users 2048 --items 100000 --rounds 5

implicit is not needed otherwise; without it (`pip install implicit`) its line is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

from hardgnn.data.histories import Histories
from hardgnn.evaluation.topn import top_n
from hardgnn.runtime import keep_freed_memory

HISTORY, DIM, NUMPY_BLOCK = 40, 64, 256


class Products:
    """Scores by the product of stored vectors, as the trained model does after its sequence encoder."""

    name = "products"

    def __init__(self, users: np.ndarray, items: np.ndarray) -> None:
        self.users, self.items = torch.from_numpy(users), torch.from_numpy(items)

    def scores(self, users: np.ndarray, histories: Histories) -> np.ndarray:
        """Scores (B, I)."""
        return (self.users[torch.from_numpy(users)] @ self.items.T).numpy()


def plain(users: np.ndarray, items: np.ndarray, seen: Histories, n: int) -> np.ndarray:
    """The best n by NumPy alone: product, partition, sort, in blocks."""
    found = np.empty((len(users), n), dtype=np.int64)
    for start in range(0, len(users), NUMPY_BLOCK):
        rows = np.arange(start, min(start + NUMPY_BLOCK, len(users)))
        scores = users[rows] @ items.T
        known = seen.take(rows)
        scores[np.repeat(np.arange(len(rows)), known.lengths), known.items] = -np.inf
        best = np.argpartition(scores, -n, axis=1)[:, -n:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found[rows] = np.take_along_axis(best, order, axis=1)
    return found


def main() -> None:
    """Prints users per second of each, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2048)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    keep_freed_memory()  # as `hardgnn recommend` does
    rng = np.random.default_rng(0)
    users = rng.normal(size=(words.users, DIM)).astype(np.float32)
    items = rng.normal(size=(words.items, DIM)).astype(np.float32)
    everybody = np.arange(words.users)
    flat = rng.integers(words.items, size=words.users * HISTORY, dtype=np.int32)
    seen = Histories(np.arange(words.users + 1, dtype=np.int64) * HISTORY, flat)
    ranker = Products(users, items)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "hardgnn": lambda: top_n(ranker, everybody, seen, words.n, words.items)[0],
        "numpy": lambda: plain(users, items, seen, words.n),
    }
    try:
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(DIM, num_threads=torch.get_num_threads())
        model.user_factors, model.item_factors = users, items
        ones = np.ones(len(flat), np.float32)
        liked = sparse.csr_matrix((ones, flat, seen.offsets), shape=(words.users, words.items))
        liked.sum_duplicates()
        contenders["implicit"] = lambda: model.recommend(everybody, liked, N=words.n)[0]
    except ImportError:
        print("implicit is not installed")

    times: dict[str, list[float]] = {name: [] for name in contenders}
    answers = {}
    for _ in range(words.rounds + 1):
        for name, work in contenders.items():
            began = time.process_time()
            answers[name] = work()
            times[name].append(time.process_time() - began)
    ours = float(np.median(times["hardgnn"][1:]))  # the first round warms up
    for name, taken in times.items():
        median = float(np.median(taken[1:]))
        same = np.mean(answers[name] == answers["hardgnn"])
        rate = words.users / median
        print(
            f"{name:9} {rate:6.0f} users per second of processor, {1e5 / rate / 60:5.1f} min per 100,000 users, "
            f"{median / ours:5.2f} times hardgnn's time, {same:.4f} of the items the same"
        )


if __name__ == "__main__":
    main()
