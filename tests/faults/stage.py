"""What the commands here work on: small logs, prepared folders, runs, studies, an export, a packed run."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import shutil
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from faults import raws
from faults.commands import Commands
from faults.snapshot import copied

EPOCHS = 3
SMALL = ("model.dim=8", "model.heads=2", "model.intervals=3", "train.eval_every=1", f"train.epochs={EPOCHS}")
WORDS = tuple(word for setting in SMALL for word in ("--set", setting))


def settings(epochs: int = EPOCHS) -> list[str]:
    """The settings of every run here."""
    return [*WORDS, "--set", f"train.epochs={epochs}"]


@dataclass(frozen=True)
class Stage:
    """The fixtures under `root`, made once; tests copy what they change."""

    root: Path
    commands: Commands

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def copy(self, name: str, target: Path) -> None:
        """A fixture of one's own."""
        copied(self.root / name, target)


def build(root: Path, commands: Commands) -> Stage:
    """Makes all fixtures: `log.inter` and `other.inter`, and what is made of each."""
    must = functools.partial(commands.must, cwd=root)
    for name, seed in (("log", "1"), ("other", "2")):
        must(["simulate", "--users", "40", "--items", "30", "--events", "600", "--seed", seed, "--out", f"{name}.inter"])
    for log, folder in (("log", "data"), ("other", "else")):
        must(["prepare", f"{log}.inter", "--out", folder, "--k-core", "2"])
        for preset in ("selfgnn", "hardgnn", "best"):
            run = f"{folder}-{preset}"
            must(["train", folder, "--out", run, "--preset", preset, *settings()])
            copied(root / run, root / f"{run}-trained")
            for protocol in ("full", "sampled-999"):
                must(["evaluate", run, "--protocol", protocol])
        must(["sweep", folder, "--out", f"{folder}-grid", *settings(2), "--grid", "hard.k=1,2", "--seeds", "0",
              "--then-retrain", "best", "--retrain-epochs", "2"])  # fmt: skip
        must(["sweep", folder, "--out", f"{folder}-search", *settings(2), "--search", "hard.k", "--trials", "2",
              "--seeds", "0"])  # fmt: skip
        must(["export", f"{folder}-selfgnn", "--out", f"{folder}-export"])
        arguments = [str(root / f"{folder}-selfgnn"), str(root / f"{folder}-packed"), str(root / f"{folder}-export")]
        packed = commands.call("faults.stage:pack", arguments, root).wait()
        assert packed.kind == "fine", packed.err
    stop(root, commands)
    must(["simulate", "--users", "40", "--items", "30", "--events", "600", "--out", "log.parquet"])
    raws.write(root, 1)
    (root / "users.txt").write_text("".join(f"u{n}\n" for n in range(40)))
    return Stage(root, commands)


def stop(root: Path, commands: Commands) -> None:
    """`data-stopped`: a run of `hardgnn` that was killed after its first epoch."""
    argv = ["train", str(root / "data"), "--out", "data-stopped", "--preset", "hardgnn", *settings()]
    aside = root / "aside"
    aside.mkdir()
    trace = commands.must(argv, aside, cut=(0, "kill")).trace
    first = next(n for n, (_, what, path) in enumerate(trace, 1) if path.endswith("state.safetensors") and what == "replace")
    shutil.rmtree(aside)
    killed = commands.run(argv, root, cut=(first + 1, "kill"))
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
