"""Fixtures of the fault tests: one fork server, one stage, one origin of downloads for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.commands import Commands
from faults.scenarios import Scenarios
from faults.stage import Origin, Stage


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    running = Commands()
    yield running
    running.close()


@pytest.fixture(scope="session")
def stage(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"), commands)


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    served = Origin()
    yield served
    served.close()


@pytest.fixture(scope="session")
def listed(stage: Stage, origin: Origin) -> Scenarios:
    return Scenarios(stage, origin)
