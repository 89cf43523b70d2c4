"""The wheel: built of this checkout, it holds all that is needed, and works where nothing else of it is."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from hardgnn.version import __version__

pytest.importorskip("hatchling", reason="a wheel is built with the extra hardgnn[dev]")

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
USED = """
import json
from pathlib import Path
import hardgnn
from hardgnn import Dataset, HardGNN
from hardgnn.prepare.simulate import write_simulated
write_simulated(Path("log.csv"), users=60, items=30, events=900, seed=0)
data = Dataset.read("log.csv").prepare(k_core=3)
model = HardGNN(preset="recencyknn").fit(data)
table = model.recommend(users=["u1"], n=3)
print(json.dumps({"home": hardgnn.__file__, "items": table.height, "figures": model.evaluate(data)["metrics"]}))
"""


def called(*words: str | Path, folder: Path) -> str:
    """What a command prints, run where nothing of this checkout is on its path."""
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PIP_REQUIRE_VIRTUALENV")}
    done = subprocess.run([*map(str, words)], cwd=folder, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    called(*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, folder=folder)
    (found,) = folder.glob("*.whl")
    return found


def test_it_holds_the_sources_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"hardgnn-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if not name.startswith(f"hardgnn-{__version__}.dist-info/")}
        metadata = packed.read(f"hardgnn-{__version__}.dist-info/METADATA").decode()
    source = ROOT / "src"
    ours = {path.relative_to(source).as_posix() for path in (source / "hardgnn").rglob("*") if path.is_file()}
    assert held == {name for name in ours if "__pycache__" not in name}
    assert "Requires-Python: >=3.11" in metadata


@pytest.mark.slow
def test_it_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    binaries = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    packages = Path(
        called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path).strip()
    )
    needed = ("torch", "polars", "typer", "numpy")  # what it depends on comes from here, its own files do not
    homes = {str(Path(str(importlib.import_module(name).__file__)).parents[1]) for name in needed}
    (packages / "shared.pth").write_text("\n".join(homes), encoding="utf-8")
    called(*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=tmp_path)
    told = json.loads(called(python, "-c", USED, folder=tmp_path).splitlines()[-1])
    assert Path(told["home"]).is_relative_to(packages)
    assert told["items"] == 3
    assert 0 < told["figures"]["ndcg@10"] <= 1
    assert "best" in called(binaries / "hardgnn", "train", "--list-presets", folder=tmp_path).split()
