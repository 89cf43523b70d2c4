"""Commands in a terminal of 80 columns, each forked from one process that has imported everything."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import pkgutil
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS, LIMIT_S = 80, 120
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?\x07")
FIGURE = re.compile(r"[-+]?[\d.,]+%?")


@dataclass(frozen=True)
class Screen:
    """What a command showed, and how it ended."""

    status: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """Every line that was on the screen, those of bars as often as they were drawn."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", SEQUENCE.sub("", self.raw)) if line.strip()]

    @property
    def words(self) -> str:
        """All of it on one line, so that it does not matter where lines broke."""
        return " ".join(" ".join(self.lines).split())


def split_figures(lines: list[str]) -> list[str]:
    """The table rows that go on with a figure which the row above has begun."""
    found, above = [], [""]
    for line in lines:
        cells = [cell.strip() for cell in line.split("│")]
        goes_on = len(cells) == len(above) > 2 and not cells[1]
        if goes_on and any(FIGURE.fullmatch(one) and FIGURE.search(last) for one, last in zip(cells, above)):
            found.append(line)
        above = cells
    return found


class Terminal:
    """Runs commands one after the other, in a folder."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def run(self, command: str, folder: Path, status: int | None = 0, stop_at: str = "") -> Screen:
        """What `command`, as a user types it, shows; Ctrl-C comes once it shows `stop_at`."""
        name, *words = shlex.split(command)
        assert name == "hardgnn"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"argv": words, "folder": str(folder), "stop_at": stop_at}) + "\n")
        self.process.stdin.flush()
        screen = Screen(**json.loads(self.process.stdout.readline()))
        assert status in (None, screen.status), screen.words
        return screen

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


def _carried_out(argv: list[str], folder: str, stop_at: str) -> dict[str, Any]:
    pid, ours = pty.fork()
    if pid == 0:
        _command(argv, folder)
    told, stopped, deadline = b"", False, time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if not stopped and stop_at and stop_at.encode() in told:
            stopped = True
            os.write(ours, b"\x03")
        if select.select([ours], [], [], 0.05)[0]:
            try:
                told += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(ours)
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "raw": told.decode("utf-8", "replace")}


def _command(argv: list[str], folder: str) -> None:
    status = 1
    try:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        os.chdir(folder)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode) for n, mode in enumerate("rww"))  # noqa: SIM115
        sys.argv = ["hardgnn", *argv]
        from hardgnn import screen
        from hardgnn.cli import main

        screen.console.__init__(stderr=True, **screen.PLAIN)  # type: ignore[misc]  # it asks once what it writes to
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import hardgnn

    for module in pkgutil.walk_packages(hardgnn.__path__, "hardgnn."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for line in sys.stdin:
        print(json.dumps(_carried_out(**json.loads(line))), file=answers)


if __name__ == "__main__":
    _serve()
