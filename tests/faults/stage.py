"""What the commands here work on: small logs, prepared folders, runs, studies, an export, a packed run.

Everything comes twice, as `data…` and, of another log, as `else…`, so that files can change places.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import shutil
import threading
import zipfile
from pathlib import Path

from faults import raws
from faults.commands import Commands
from faults.snapshot import copied

EPOCHS = 3
SMALL = ("model.dim=8", "model.heads=2", "model.intervals=3", "train.eval_every=1")
MARKET = ("simulate", "--users", "40", "--items", "30", "--events", "600")
LOGS = {"data": "log.inter", "else": "other.inter"}
PRESETS = ("selfgnn", "hardgnn", "best")


def settings(epochs: int = EPOCHS, preset: str = "hardgnn") -> list[str]:
    """The settings of every run here; `best` has no intervals."""
    words = [word for word in (*SMALL, f"train.epochs={epochs}") if preset != "best" or "intervals" not in word]
    return [word for setting in words for word in ("--set", setting)]


class Stage:
    """The fixtures under `root`, each made when it is first asked for; tests copy what they change."""

    def __init__(self, root: Path, commands: Commands) -> None:
        self.root, self.commands = root, commands
        self.made: set[str] = set()
        self.guard = threading.RLock()

    def __truediv__(self, name: str) -> Path:
        with self.guard:
            if name not in self.made:
                self.made.add(name)
                self._make(name)
        return self.root / name

    def copy(self, name: str, target: Path) -> None:
        """A fixture of one's own."""
        copied(self / name, target)

    def _must(self, *argv: object) -> None:
        self.commands.must([str(one) for one in argv], self.root)

    def _make(self, name: str) -> None:
        if name in ("log.inter", "other.inter", "log.parquet"):
            self._must(*MARKET, "--seed", int(name == "other.inter"), "--out", name)
        elif name == "users.txt":
            (self.root / name).write_text("".join(f"u{n}\n" for n in range(40)))
        elif name == "raws":
            raws.write(self.root, 1)
        elif name in LOGS:
            self._must("prepare", self / LOGS[name], "--out", name, "--k-core", "2")
        elif name == "data-stopped":
            self._stop()
        elif name.endswith("-trained"):
            preset = name.split("-")[1]
            self._must("train", self / name.split("-")[0], "--out", name, "--preset", preset, *settings(preset=preset))
        elif name.endswith(PRESETS):
            self.copy(f"{name}-trained", self.root / name)
            for protocol in ("full", "sampled-999"):
                self._must("evaluate", name, "--protocol", protocol)
        else:
            log, kind = name.split("-")
            sweep = ("sweep", self / log, "--out", name, *settings(2), "--seeds", "0")
            if kind == "grid":
                self._must(*sweep, "--grid", "hard.k=1,2", "--then-retrain", "best", "--retrain-epochs", "2")
            elif kind == "search":
                self._must(*sweep, "--search", "hard.k", "--trials", "2")
            elif kind == "export":
                self._must("export", self / f"{log}-selfgnn", "--out", name)
            else:
                assert kind == "packed", name
                arguments = [str(one) for one in (self / f"{log}-selfgnn", self.root / name, self / f"{log}-export")]
                outcome = self.commands.call("faults.stage:pack", arguments, self.root).wait()
                assert outcome.kind == "fine", outcome.err

    def _stop(self) -> None:
        """A run of `hardgnn` that was killed after its first epoch."""
        argv = ["train", str(self / "data"), "--out", "data-stopped", "--preset", "hardgnn", *settings()]
        aside = self.root / "aside"
        aside.mkdir()
        trace = self.commands.must(argv, aside, cut=(0, "kill")).trace
        shutil.rmtree(aside)
        replaced = [
            n for n, (_, what, path) in enumerate(trace, 1) if what.startswith("replace") and "checkpoint" in path
        ]
        killed = self.commands.run(argv, self.root, cut=(replaced[0] + 1, "kill"))
        assert killed.kind == "killed", killed


def pack(run: str, out: str, export: str) -> None:
    """What the service opens."""
    from hardgnn.serve.pack import pack as real

    real(Path(run), Path(out), Path(export))


class Origin:
    """An archive as GroupLens would serve it, on this machine."""

    def __init__(self) -> None:
        log = "".join(f"{n % 50}\t{n % 37}\t3\t{1_000_000 + n}\n" for n in range(20_000)).encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("ml-100k/u.data", log)
            packed.writestr("ml-100k/u.item", "1|Café (1995)|01-Jan-1995||http://x|0|0|0\n".encode("latin-1"))
        body = buffer.getvalue()
        self.md5 = hashlib.md5(body).hexdigest()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                self.send_response(416 if start >= len(body) else 206 if asked else 200)
                if start >= len(body):
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", str(len(body[start:])))
                self.end_headers()
                self.wfile.write(body[start:])

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Ends the server."""
        self.server.shutdown()
        self.server.server_close()
