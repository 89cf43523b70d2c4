"""Runs commands in processes of their own, cut or limited as a test asks, and tells how they ended."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
LIMIT_S = 60.0
"""A command here takes a second or two; what takes this long hangs."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `trace` holds the operations (process, what, path) that were counted."""

    argv: tuple[str, ...]
    status: int
    out: str
    err: str
    seconds: float
    peak_mb: float
    trace: tuple[tuple[str, str, str], ...]
    hung: bool

    @property
    def kind(self) -> str:
        """The class of outcome: fine, sentence, machine, interrupted, killed, or one of the bad ones."""
        if self.hung:
            return "hang"
        if "Traceback (most recent call last)" in self.err:
            return "traceback"
        if self.status == 137 or self.status == -signal.SIGKILL:
            return "killed"
        if "memory allocation of" in self.err and self.status == -signal.SIGABRT:
            return "abort: no memory"
        if self.status < 0:
            return f"signal {-self.status}"
        if self.status == 0:
            return "fine"
        if self.status in (6, 70):
            return {6: "abort: no memory", 70: "fault of the program"}[self.status]
        told = self.err.count("error: ") == 1
        named = {2: "sentence", 3: "machine", 130: "interrupted"}.get(self.status)
        return named if named is not None and told else f"status {self.status} without a sentence"

    @property
    def said(self) -> str:
        """The last words on standard error."""
        lines = [line for line in self.err.strip().splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


class Running:
    """A command at work."""

    def __init__(self, job: dict[str, Any], told: Path) -> None:
        self.job, self.told = job, told
        self.pid: Future[int] = Future()
        self.done: Future[dict[str, Any]] = Future()

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """Ends the command's process, and not those it started."""
        os.kill(self.pid.result(LIMIT_S), sign)

    def wait(self, limit_s: float = LIMIT_S) -> Outcome:
        """The outcome; a command that takes longer is killed with all it started, and hung."""
        hung = False
        try:
            done = self.done.result(limit_s)
        except FutureTimeout:
            hung = True
            os.killpg(self.pid.result(), signal.SIGKILL)
            done = self.done.result(LIMIT_S)
        out, err, trace = ((self.told / name).read_text("utf-8", "replace") for name in ("stdout", "stderr", "trace"))
        lines = [line.split("\t", 2) for line in trace.splitlines()]
        operations = tuple((pid, what, path) for pid, what, path in lines)
        shutil.rmtree(self.told)
        argv = tuple(self.job.get("argv") or (self.job["call"],))
        return Outcome(argv, done["status"], out, err, done["seconds"], done["peak_mb"], operations, hung)


class Commands:
    """The fork server and its client; any number of commands run at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "MPLBACKEND": "agg"}
        environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faults.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.numbers = itertools.count()
        self.running: dict[int, Running] = {}
        self.guard = threading.Lock()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the fork server did not start"
        self.baseline_mb: float = json.loads(line)["ready"]
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def start(self, argv: Sequence[str], cwd: Path, **options: Any) -> Running:
        """Starts `hardgnn ARGV`; options are those of a job (`cut`, `limits`, `spawn`, `origin`, `environment`)."""
        return self._submit({"argv": [str(one) for one in argv], "cwd": str(cwd), **options})

    def call(self, function: str, arguments: Sequence[Any], cwd: Path, **options: Any) -> Running:
        """Starts `module:function`."""
        return self._submit({"call": function, "arguments": list(arguments), "cwd": str(cwd), **options})

    def run(self, argv: Sequence[str], cwd: Path, **options: Any) -> Outcome:
        """`start`, and the outcome."""
        return self.start(argv, cwd, **options).wait()

    def must(self, argv: Sequence[str], cwd: Path, **options: Any) -> Outcome:
        """`run` of a command that has to go well."""
        outcome = self.run(argv, cwd, **options)
        assert outcome.kind == "fine", f"{outcome.kind}: hardgnn {' '.join(map(str, argv))}\n{outcome.err}"
        return outcome

    def close(self) -> None:
        """Ends the server, and with it what still runs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(LIMIT_S)

    def _submit(self, job: dict[str, Any]) -> Running:
        told = Path(tempfile.mkdtemp(prefix="told-"))
        with self.guard:
            number = next(self.numbers)
            job |= {"id": number, "told": str(told)}
            self.running[number] = running = Running(job, told)
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        return running

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            running = self.running[answer["id"]]
            if "pid" in answer:
                running.pid.set_result(answer["pid"])
            else:
                with self.guard:
                    del self.running[answer["id"]]
                running.done.set_result(answer)
