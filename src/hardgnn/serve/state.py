"""The run that is served now, and how a worker comes to serve a new one while requests go on."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError, reading, shown
from hardgnn.serve.board import DRAINING, PHASES, READY, RELOADING, Board, Place
from hardgnn.serve.engine import Engine
from hardgnn.storage.records import read_json, write_json

CURRENT = "current.json"
LOOKED_EVERY_S = 0.5
LONGEST_TOKEN = 4096
log = logging.getLogger("hardgnn.serve")


@dataclass(frozen=True)
class Settings:
    """How the service behaves; sizes in bytes, times in seconds."""

    token: str | None = None
    """What `Authorization: Bearer` must carry; None asks for nothing."""
    max_body: int = 2**20
    timeout: float = 10.0
    access_log: bool = True
    hosts: frozenset[str] = frozenset({"localhost"})
    """The names that `Host` may carry beside any address; `*` allows all."""


class State:
    """A folder of packed runs, of which the file `current.json` names the one to serve.

    Args:
        root: the folder; the supervisor writes it.
        supervisor: the process to signal when a reload is asked for; None where nobody keeps the folder.
        place: of this process on the board; one of its own where nobody keeps the folder.
    """

    def __init__(self, root: Path, supervisor: int | None = None, place: Place | None = None) -> None:
        self.root, self.supervisor, self.place = root, supervisor, place or Place(Board(1))
        self.error: str | None = None
        self._serial = -1
        self.engine: Engine
        self.refresh()

    def refresh(self) -> None:
        """Opens the current run if it is another than the open one; requests under way keep theirs.

        Raises:
            HardGNNError: it cannot be opened.
        """
        current: dict[str, Any] = read_json(self.root / CURRENT)
        if current["serial"] != self._serial:
            folder = self.root / str(current["serial"])
            with reading(folder):
                self.engine = Engine(folder)
            self._serial = current["serial"]
            self.place.board.take(self.place.slot, self._serial)
        self.error = current["error"]

    def beat(self) -> None:
        """Shows that this process can answer; asked for every half second."""
        self.place.board.beat(self.place.slot)

    @property
    def phase(self) -> str:
        """What the service is about, one of `PHASES`."""
        return PHASES[self.place.board.phase]

    @property
    def draining(self) -> bool:
        """Whether the end has begun."""
        return self.place.board.phase == DRAINING

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
            except HardGNNError as error:
                if self.error != str(error):
                    log.error("cannot open the new run", extra={"reason": str(error)})
                self.error = str(error)
                continue
            if self._serial != before:
                log.info("serving a new run", extra={"run": self.engine.model.name, "version": self.engine.version})

    def ask_reload(self) -> bool:
        """Asks the supervisor to read the run folder anew; False where there is none."""
        if self.supervisor is None:
            return False
        if self.place.board.phase == READY:  # at once, for whoever asks next
            self.place.board.phase = RELOADING
        os.kill(self.supervisor, signal.SIGHUP)
        return True


def announce(root: Path, serial: int, error: str | None = None) -> None:
    """Names the packed run `root/serial` as the one to serve; `error` is why a newer one is not."""
    write_json(root / CURRENT, {"serial": serial, "error": error})


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        HardGNNError: the file is missing, cannot be read, or holds no token of 16 or more visible ASCII characters.
    """
    with reading(path):
        if path.exists() and not path.is_file():
            raise HardGNNError(f"{shown(path)}: not an ordinary file, expected one that holds a token")
        with path.open("rb") as handle:
            token = handle.read(LONGEST_TOKEN + 2).decode("latin-1").strip(" \t\r\n")
    if not re.fullmatch(rf"[!-~]{{16,{LONGEST_TOKEN}}}", token):
        expected = f"one token of 16 or more visible ASCII characters, {LONGEST_TOKEN:,} at most"
        raise HardGNNError(f"{shown(path)}: expected {expected}")
    return token


def allowed_hosts(bound: str, names: Iterable[str] = ()) -> frozenset[str]:
    """The names that requests may be sent to: `localhost`, the host that is listened on, and those given.

    Raises:
        HardGNNError: one of `names` is no name of a host.
    """
    found = {"localhost", bound.lower()}
    for name in names:
        try:
            plain = name if name == "*" else name.encode("idna").decode().lower().rstrip(".")
        except UnicodeError:
            plain = ""
        if plain != "*" and not re.fullmatch(r"[a-z0-9_.-]+", plain):
            raise HardGNNError(f"--allowed-host {shown(name)}: expected the name of a host, as in example.org, or *")
        found.add(plain)
    return frozenset(found)
