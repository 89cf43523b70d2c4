"""Forks commands: everything is imported once, each command then takes milliseconds to begin.

Jobs come as lines of JSON on standard input, answers go as lines to standard output. This process only imports: it
starts no thread pool, so what it forks is as good as a new process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import pkgutil
import resource
import select
import signal
import sys
import time
import traceback
from typing import Any


def load() -> None:
    """Imports all that a command may need, the wrappers of `cuts` first."""
    import matplotlib.pyplot  # noqa: F401
    import optuna  # noqa: F401
    import rich.console
    import rich.live
    import rich.progress
    import rich.table  # noqa: F401
    import torch  # noqa: F401

    from faults import cuts

    cuts.install()
    import hardgnn

    for module in pkgutil.walk_packages(hardgnn.__path__, "hardgnn."):
        importlib.import_module(module.name)
    cuts.install_exchange()


held: list[mmap.mmap] = []
"""As long as the process."""


def child(job: dict[str, Any]) -> None:
    """Carries a job out in this process, which was forked for it, and ends it."""
    status = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for handle, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(os.path.join(job["told"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), handle)
        trace = os.open(os.path.join(job["told"], "trace"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.chdir(job["cwd"])
        prelude(job, trace)
        held.append(mmap.mmap(-1, job.get("ballast") or 1))  # addresses, not memory
        for name, value in job.get("limits", {}).items():
            resource.setrlimit(getattr(resource, name), (value, value))
        if job.get("cut") is not None:
            from faults import cuts

            cuts.arm(job["cwd"], *job["cut"], trace)
        if "call" in job:
            module, name = job["call"].split(":")
            getattr(importlib.import_module(module), name)(*job["arguments"])
        else:
            from hardgnn.cli import main

            sys.argv = ["hardgnn", *job["argv"]]
            main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            status = status or 120  # what Python itself ends with then
        os._exit(status)


def forked_worker(process: Any, pipe: Any, task: Any, trace: int) -> None:
    """A worker that is forked where users' are spawned, to save seconds; it too inherits no handle and thus no lock."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in map(int, os.listdir("/proc/self/fd")):
        if handle > 2 and handle not in (pipe.fileno(), trace, nothing):
            with contextlib.suppress(OSError):  # the listing's own
                os.fstat(handle)
                os.dup2(nothing, handle)
    process(pipe, task)


def prelude(job: dict[str, Any], trace: int) -> None:
    """What a test changes before the command begins."""
    from dataclasses import replace

    from hardgnn.experiments import workers
    from hardgnn.prepare import download

    os.environ.update(job.get("environment", {}))
    if not job.get("spawn"):
        context, process = workers.get_context, workers._process
        workers.get_context = lambda _: context("fork")  # type: ignore[assignment]
        workers._process = lambda pipe, task: forked_worker(process, pipe, task, trace)  # type: ignore[assignment]
    if not job.get("exchange", True):
        from faults import cuts

        cuts.install_exchange(possible=False)
    if "origin" in job:
        base, md5 = job["origin"]
        download.SOURCES["ml-100k"] = replace(download.SOURCES["ml-100k"], base=base, md5=md5, wheel=None)


def main() -> None:
    """Forks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    load()
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, tuple[int, float]] = {}
    rest = b""
    print(json.dumps({"ready": resident_mb()}), file=answers)
    while True:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
        while running:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                break
            number, began = running.pop(pid)
            done = {"id": number, "status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
            print(json.dumps(done | {"peak_mb": usage.ru_maxrss / 1024}), file=answers)
        if 0 in ready:
            part = os.read(0, 1 << 20)
            if not part:
                break
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                job = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    answers.close()
                    child(job)
                running[pid] = (job["id"], time.monotonic())
                print(json.dumps({"id": job["id"], "pid": pid}), file=answers)
    for pid in running:
        os.killpg(pid, signal.SIGKILL)


def resident_mb() -> float:
    """The memory of this process, in MB."""
    with open("/proc/self/statm") as handle:
        return int(handle.read().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
