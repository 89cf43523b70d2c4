"""The run that is served now, and how a worker comes to serve a new one while requests go on."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError
from hardgnn.records import read_json, write_json
from hardgnn.serve.engine import Engine

CURRENT = "current.json"
LOOKED_EVERY_S = 0.5
log = logging.getLogger("hardgnn.serve")


@dataclass(frozen=True)
class Settings:
    """How the service behaves; sizes in bytes, times in seconds."""

    token: str | None = None
    """What `Authorization: Bearer` must carry; None asks for nothing."""
    max_body: int = 2**20
    timeout: float = 10.0
    access_log: bool = True


class State:
    """A folder of packed runs, of which the file `current.json` names the one to serve.

    Args:
        root: the folder; the supervisor writes it.
        supervisor: the process to signal when a reload is asked for; None where nobody keeps the folder.
    """

    def __init__(self, root: Path, supervisor: int | None = None) -> None:
        self.root, self.supervisor = root, supervisor
        self.error: str | None = None
        self._serial = -1
        self.engine: Engine
        self.refresh()

    def refresh(self) -> None:
        """Opens the current run if it is another than the open one; requests under way keep theirs."""
        current: dict[str, Any] = read_json(self.root / CURRENT)
        self.error = current["error"]
        if current["serial"] != self._serial:
            self.engine = Engine(self.root / str(current["serial"]) / current["name"])
            self._serial = current["serial"]

    async def watch(self) -> None:
        """Looks for a new run for ever; ends the process where its supervisor is gone."""
        while True:
            await asyncio.sleep(LOOKED_EVERY_S)
            if self.supervisor is not None and os.getppid() != self.supervisor:
                log.error("the parent is gone, so this worker ends")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            before = self._serial
            try:
                await asyncio.to_thread(self.refresh)
            except (HardGNNError, OSError) as error:
                log.error("cannot open the new run", extra={"reason": str(error)})
                continue
            if self._serial != before:
                log.info("serving a new run", extra={"run": self.engine.model.name, "version": self.engine.version})

    def ask_reload(self) -> bool:
        """Asks the supervisor to read the run folder anew; False where there is none."""
        if self.supervisor is None:
            return False
        os.kill(self.supervisor, signal.SIGHUP)
        return True


def announce(root: Path, serial: int, name: str, error: str | None = None) -> None:
    """Names the packed run `root/serial/name` as the one to serve; `error` is why a newer one is not."""
    write_json(root / CURRENT, {"serial": serial, "name": name, "error": error})


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        HardGNNError: the file is missing, or holds no token of 16 or more visible ASCII characters.
    """
    try:
        token = path.read_text("ascii").strip()
    except FileNotFoundError:
        raise HardGNNError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        token = ""
    if not re.fullmatch(r"[!-~]{16,}", token):
        raise HardGNNError(f"{path}: expected one token of 16 or more visible ASCII characters")
    return token
