"""Threads do not survive a fork: a process that was forked after they had started says so and does not wait for them.

torch and polars start theirs when they are first used. A child that forks from then on has their locks and queues but
not the threads, so whatever it asks of them would wait for ever. Forking before the first use is safe.
"""

from __future__ import annotations

import os

from hardgnn.errors import HardGNNError

_used = _forked = False


def enter() -> None:
    """Called where work begins that may use threads.

    Raises:
        HardGNNError: this process was forked from one in which such work had begun before.
    """
    global _used
    if _forked:
        raise HardGNNError(
            "this process was forked after hardgnn had been used in its parent, whose threads do not exist here, so it "
            "would wait for ever: start workers with multiprocessing.get_context('spawn') or 'forkserver', or fork "
            "first and load data and model in each worker"
        )
    _used = True


def _in_child() -> None:
    global _forked
    _forked = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
