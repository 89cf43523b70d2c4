"""A package of parts, installed into an environment of its own: the commands of docs/extending.md run there."""

from __future__ import annotations

import json
import os
import shlex
import site
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

import hardgnn
from extending import blocks, files
from test_extending import FIRST, write_plays


def called(*words: str | Path, folder: Path, status: int = 0) -> str:
    """What a command prints, on either stream."""
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_REQUIRE_VIRTUALENV")}
    done = subprocess.run(
        [*map(str, words)], cwd=folder, env=plain, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def packages_of(python: Path, folder: Path) -> Path:
    """Where an environment keeps what is installed in it."""
    return Path(called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has our library and its own packages beside."""
    folder = tmp_path_factory.mktemp("package")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = Path(
        called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    )
    ours = Path(hardgnn.__file__).parents[1]
    shared = [str(ours), *site.getsitepackages(), sysconfig.get_path("platlib")]
    (packages / "shared.pth").write_text("\n".join(dict.fromkeys(shared)), encoding="utf-8")
    package = folder / "my-parts"
    package.mkdir()
    for name in ("pyproject.toml", *FIRST):
        (package / name).write_text(files()[name], encoding="utf-8")
    install = ["install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    called(python, "-m", "pip", *install, package, folder=folder)
    write_plays(folder / "plays.log")
    return python


def hardgnn_in(environment: Path, *words: str, status: int = 0) -> str:
    code = "from hardgnn.cli import main; main()"
    return called(environment, "-c", code, *words, folder=environment.parents[2], status=status)


def test_all_four_parts_of_an_installed_package_are_used_by_name(environment: Path) -> None:
    folder = environment.parents[2]
    assert list(packages_of(environment, folder).glob("my_parts-1.0.dist-info"))
    for line in blocks("bash")[0].splitlines():
        hardgnn_in(environment, *shlex.split(line)[1:])
    manifest = json.loads((folder / "data" / "plays" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["read"]["format"] == "plays"
    config = (folder / "runs" / "mine" / "config.toml").read_text(encoding="utf-8")
    assert 'kind = "recent"\ndecay = 0.8' in config
    assert 'kind = "bpr"\nmargin = 0.1' in config
    result = json.loads((folder / "runs" / "mine" / "result.json").read_text(encoding="utf-8"))
    assert {"hr@10", "rbp@10", "tail@10"} <= result["test"]["full"].keys()


def test_a_name_that_is_nearly_one_of_the_package_is_offered(environment: Path) -> None:
    words = ["train", "data/plays", "--out", "runs/other", "--preset", "hardgnn", "--set", "encoder.kind=recen"]
    assert "did you mean 'recent'?" in hardgnn_in(environment, *words, status=2)
