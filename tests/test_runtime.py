"""Threads: as many as there are free processors."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from factories import StopAfter, random_dataset
from hardgnn import runtime
from hardgnn.config import resolve
from hardgnn.models.encoders import attention
from hardgnn.ops.native import candidates, graph, level, library, rows
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.training import adam


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


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


def test_a_run_goes_on_with_as_many_threads_as_it_began_with(
    tmp_path: Path, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config = resolve("best", settings=["train.epochs=2", "model.dim=8"])
    monkeypatch.setattr(runtime, "free_processors", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        train(random_dataset(), config, tmp_path / "run", callbacks=[StopAfter(1)])
    monkeypatch.setattr(runtime, "free_processors", lambda: 1)
    train(random_dataset(), config, tmp_path / "run", resume=True)
    assert torch.get_num_threads() == 2


def test_work_is_shared_out_and_ends_with_its_first_error(threads: Callable[[int], None]) -> None:
    threads(3)
    met, seen = threading.Barrier(3, timeout=60), []

    def work(part: int) -> None:
        if part < 3:
            met.wait()  # three threads are at work, or this fails
        seen.append((part, runtime.threads()))  # each has itself alone for what it shares out
        if part == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        runtime.share_out(work, range(10_000))
    assert {0, 1, 2, 5} <= {part for part, _ in seen}
    assert {count for _, count in seen} == {1}
    assert len(seen) < 10_000
    with runtime.torch_on_one():
        assert (runtime.threads(), torch.get_num_threads()) == (3, 1)
    assert torch.get_num_threads() == 3


@pytest.mark.skipif(library.compiler_here() is None, reason="no C compiler")
@pytest.mark.parametrize("preset", ["best", "hardgnn"])
def test_the_number_of_threads_does_not_change_a_fit(
    preset: str, tmp_path: Path, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in ((graph, 16), (level, 32), (candidates, 32), (rows, 8)):
        monkeypatch.setattr(name, "TOGETHER", size)
    monkeypatch.setattr(attention, "ITEMS_TOGETHER", 16)
    for name, size in (("LARGE", 1), ("TOGETHER", 64)):
        monkeypatch.setattr(adam, name, size)
    found = []
    for count in (1, 3):
        settings = ["model.dim=32", "model.window=6", "train.epochs=2", f"run.threads={count}"]
        train(random_dataset(60, 90, repeats=True), resolve(preset, settings=settings), tmp_path / str(count))
        assert torch.get_num_threads() == count
        found.append(load_model(tmp_path / str(count)).tensors())
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if not torch.equal(found[0][name], found[1][name])] == []
