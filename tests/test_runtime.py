"""Threads: as many as there are free processors."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from factories import StopAfter, random_dataset
from hardgnn import runtime
from hardgnn.config import resolve
from hardgnn.runs.train import train


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell how busy it is")
def test_busy_processors_are_not_counted() -> None:
    context = multiprocessing.get_context("spawn")
    spinners = [context.Process(target=spin, args=(20,)) for _ in range(runtime.usable_processors())]
    for one in spinners:
        one.start()
    try:
        end = time.monotonic() + 15  # until all of them spin
        while runtime.free_processors(0.3) > 1 and time.monotonic() < end:
            pass
        assert runtime.free_processors(0.5) == 1
    finally:
        for one in spinners:
            one.terminate()
            one.join()


def test_free_processors_lie_between_one_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= runtime.free_processors(0.05) <= runtime.usable_processors()
    ticks = iter([{0: (0, 0), 1: (0, 0)}, {0: (10, 10), 1: (1, 10)}])
    monkeypatch.setattr(runtime, "_idle_ticks", lambda: next(ticks))
    monkeypatch.setattr(runtime, "usable_processors", lambda: 2)
    assert runtime.free_processors(0) == 1
    monkeypatch.setattr(runtime, "_idle_ticks", lambda: None)
    assert runtime.free_processors(0) == 2  # where nobody tells, all are


def test_a_run_goes_on_with_as_many_threads_as_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    config = resolve("best", settings=["train.epochs=2", "model.dim=8"])
    try:
        monkeypatch.setattr(runtime, "free_processors", lambda: 2)
        with pytest.raises(KeyboardInterrupt):
            train(random_dataset(), config, tmp_path / "run", callbacks=[StopAfter(1)])
        monkeypatch.setattr(runtime, "free_processors", lambda: 1)
        train(random_dataset(), config, tmp_path / "run", resume=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
