"""Counts and times for Prometheus, over all workers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where workers leave their numbers; read when prometheus_client is imported
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_requests = Counter("hardgnn_requests", "Requests by route and status.", ["method", "route", "status"])
_seconds = Histogram("hardgnn_request_seconds", "Time to the answer.", ["route"], buckets=SECONDS)
_answers = Counter("hardgnn_recommendations", "Answers by the terms of their score.", ["source"])


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Counts one request."""
    known = method if method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH") else "other"
    _requests.labels(known, route, str(status)).inc()
    _seconds.labels(route).observe(seconds)


def count_answer(source: str) -> None:
    """Counts one answer."""
    _answers.labels(source).inc()


class Workers:
    """The numbers in the files of all workers, living and dead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterable[Metric]:
        """All that can be read."""
        found: Iterable[Metric] = MultiProcessCollector.merge([str(one) for one in self.sound()], accumulate=True)
        return found

    def sound(self) -> list[Path]:
        """The files that are whole. One of a worker that was killed while it made it never will be, and is removed."""
        files = []
        for one in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            try:
                MultiProcessCollector.merge([str(one)])
                files.append(one)
            except Exception:
                if not _lives(one):
                    one.unlink(missing_ok=True)
        return files


def _lives(file: Path) -> bool:
    """Whether the process lives whose numbers a file `counter_PROCESS.db` holds."""
    with suppress(ValueError, ProcessLookupError):
        os.kill(int(file.stem.rpartition("_")[2]), 0)
        return True
    return False


def exposition() -> tuple[bytes, str]:
    """The numbers of all workers in Prometheus' text format, and its content type."""
    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        registry.register(Workers(Path(os.environ[FOLDER])))
    return generate_latest(registry), CONTENT_TYPE_LATEST
