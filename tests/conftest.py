"""Fixtures that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models here are too small for threads; read when torch loads

from hardgnn.data.dataset import Dataset
from hardgnn.prepare.simulate import write_simulated
from terminals import Terminal


@pytest.fixture(scope="session")
def market_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log with a planted successor for each item."""
    path = tmp_path_factory.mktemp("market") / "market.inter"
    write_simulated(path, users=200, items=60, events=4000, seed=1)
    return path


@pytest.fixture(scope="session")
def market(market_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated log, prepared."""
    folder = tmp_path_factory.mktemp("prepared") / "market"
    Dataset.read(market_log).prepare(k_core=3, candidates=30).save(folder)
    return folder


@pytest.fixture(scope="session")
def terminal() -> Iterator[Terminal]:
    """A terminal of 80 columns."""
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a market with titles, for the service."""
    from service import make_run

    return make_run(tmp_path_factory.mktemp("serve"))
