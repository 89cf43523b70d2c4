"""README and docs: what they tell to type is carried out on small data, or at least is what the commands take."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

import hardgnn
from extending import blocks as blocks_of_extending
from extending import files
from hardgnn.cli.app import app, run
from hardgnn.config import DEFAULT_PRESET, flat, known_keys, presets, resolve
from hardgnn.config.earlier import RENAMED
from hardgnn.errors import HardGNNError
from hardgnn.experiments.studies import variants_from
from hardgnn.parts import ENCODERS, LOSSES, MODELS, OBJECTIVES, SAMPLERS
from hardgnn.prepare.presets import prepare_presets
from hardgnn.prepare.simulate import write_simulated

ROOT = Path(__file__).resolve().parent.parent
HOUSE = Path(hardgnn.__file__).parent
PAGES = [*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("results/**/README.md"))]
CARRIED_OUT = [
    "README.md",
    "docs/configuration.md",
    "docs/metrics.md",
    "docs/python.md",
    "docs/scale.md",
    "docs/tutorial.md",
]
"""The pages whose blocks are carried out from the top to the bottom, but for those left out."""
LEFT_OUT = {
    (
        "README.md",
        "hardgnn download gowalla",
    ): "needs the network, and hours",
    ("README.md", "python -m venv"): "installs; tests/test_wheel.py builds the wheel and uses it in an environment",
    ("CONTRIBUTING.md", "make setup"): "installs; `make test` is what runs this test",
    ("docs/data.md", "hardgnn download amazon-book"): "needs the network; tests/data/test_download.py has an origin",
    ("docs/data.md", "hardgnn prepare Datasets/gowalla"): "the released pickles; tests/data/test_pickles.py makes some",
    ("docs/peers.md", "pip install 'hardgnn[peers]'"): "hours of training; tests/test_peers.py fits every peer",
    ("docs/performance.md", "python benchmarks/"): "minutes; tests/test_benchmarks.py runs every script",
    ("docs/scale.md", "python benchmarks/scale.py"): "minutes; tests/test_benchmarks.py runs every script",
    ("docs/reliability.md", "python -m pytest tests/faults"): "these are tests themselves",
    ("docs/scale.md", "# on every host"): "two hosts; tests/test_sweep_hosts.py has two",
    ("docs/scale.md", "sbatch"): "Slurm; the commands in it are those of the block before",
    ("docs/scale.md", "torchrun --standalone"): "several processes; tests/test_processes.py starts such",
    ("docs/scale.md", "torchrun --nnodes 8"): "eight hosts; tests/test_processes.py shares a table out",
    ("docs/scale.md", "python benchmarks/processes.py"): "minutes; tests/test_benchmarks.py runs every script",
    (
        "docs/scale.md",
        "hardgnn prepare events.csv --out data/events --memory",
    ): "tests/data/test_large.py gives files, addresses and a bound",
    ("docs/scale.md", "from pyspark"): "needs Spark; tests/data/test_large.py writes such a folder",
    ("docs/scale.md", "import json"): "tests/data/test_large.py runs it beside such a folder",
    ("docs/serving.md", "pip install 'hardgnn[serve]'"): "all options at once; the tutorial serves",
    ("docs/serving.md", "cp -r runs/hardgnn"): "/srv; tests/test_hosts.py moves a link",
    ("docs/serving.md", "for host in"): "hosts; tests/test_hosts.py asks the same addresses",
}
"""Blocks that are not carried out, by page and beginning, and why. The results' are hours on logs that are not ours."""
ELSEWHERE = {"pip": "needs the network", "make": "tests/test_demo.py and this test are what it runs"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
COMMAND = typer.main.get_command(app)
of_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of a text, with their language."""
    return [(language, block) for language, block in FENCE.findall(text) if language in languages]


def lines(block: str) -> list[str]:
    """The command lines of a block, whole ones, its variables put in."""
    found, variables = [], {}
    for line in block.replace("\\\n", " ").splitlines():
        if assigned := re.fullmatch(r'([A-Z])="(.*)"', line):
            variables[f"${assigned[1]}"] = assigned[2]
            continue
        for name, value in variables.items():
            line = line.replace(name, value)
        if shlex.split(line, comments=True):
            found.append(line)
    return found


def parts(line: str) -> Iterator[list[str]]:
    """The commands that a line joins with pipes and `&&`; brackets around what may be left out do not count."""
    words: list[str] = []
    for word in [*shlex.split(re.sub(r"[][]", "", line), comments=True), "&&"]:
        if word in ("&&", "|", ";"):
            yield words
            words = []
        else:
            words.append(word)


def commands(page: Path) -> list[list[str]]:
    """The words after `hardgnn` of every command in the blocks of a page."""
    shell = blocks(page.read_text("utf-8"), "sh")
    found = [words for _, block in shell for line in lines(block) for words in parts(line)]
    return [words[1:] for words in found if words[0] == "hardgnn"]


def spans(page: Path) -> list[str]:
    """What stands between single backticks outside of blocks."""
    text = re.sub(r"\s+", " ", FENCE.sub("", page.read_text("utf-8")))
    return re.findall(r"(?<!`)`([^`]+)`(?!`)", text)


def values(words: list[str], option: str) -> list[str]:
    return [value for word, value in pairwise(words) if word == option]


@of_pages
def test_every_command_in_a_block_is_taken_by_the_parser_and_its_settings_exist(page: Path) -> None:
    for words in commands(page):
        name, rest = words[0], words[1:]
        if name.startswith("--"):
            continue
        COMMAND.commands[name].make_context(name, list(rest))
        check_settings(name, rest)


def options_of(command: Any) -> set[str]:
    return {"--help"} | {text for option in command.params for text in (*option.opts, *option.secondary_opts)}


@of_pages
def test_every_command_in_a_sentence_has_its_options(page: Path) -> None:
    for span in spans(page):
        if not span.startswith("hardgnn "):
            continue
        name, *rest = shlex.split(span.replace("[", "").replace("]", ""))[1:]
        if name.startswith("--"):
            continue
        command = COMMAND.commands[name]
        assert {word for word in rest if word.startswith("--")} <= options_of(command), span
        check_settings(name, rest)


def test_every_option_that_is_named_alone_is_one() -> None:
    known = {option for command in COMMAND.commands.values() for option in options_of(command)}
    scripts = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")]
    known |= {option for script in scripts for option in re.findall(r'"(--[a-z-]+)"', script.read_text("utf-8"))}
    named = {(page.name, span.split()[0]) for page in PAGES for span in spans(page) if span.startswith("--")}
    strange = {(page, option) for page, option in named if option.partition("=")[0] not in known}
    assert strange <= {
        ("tutorial.md", "--preload"),
        ("specification.md", "--test"),
    }  # gunicorn's, and the released code's


def check_settings(name: str, words: list[str]) -> None:
    """Presets are there, and settings are those of the preset."""
    settings = [one for one in values(words, "--set") if "=" in one]
    named = [one for one in values(words, "--preset") if not one.isupper()]
    if name == "prepare":
        assert set(named) <= set(prepare_presets())
        return
    grid = [f"{one.partition('=')[0]}={one.partition('=')[2].split(',')[0]}" for one in values(words, "--grid")]
    resolve(named[0] if named else "hardgnn", settings=[*settings, *grid])


def every_key() -> set[str]:
    """All settings that any kinds have."""
    keys = {
        f"{section}.{field}"
        for name in presets()
        for section, fields in flat(resolve(name)).items()
        for field in fields
    }
    keys |= {key for kind in MODELS.names() for key in known_keys({"model": {"kind": kind}})}
    return keys | set(known_keys({"model": {"kind": "selfgnn"}, "transitions": {"use": True}}))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md"], ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    """But for parts of one's own, of which docs/extending.md tells and tests/test_extending.py asks."""
    known = every_key()
    sections = {key.partition(".")[0] for key in known} | {key.partition(".")[0] for key in RENAMED}
    gone = set(RENAMED) | {"hard.searched"} if page.name == "configuration.md" else {"train.average"}
    for span in spans(page):
        found = re.fullmatch(r"(?:--set )?([a-z]+\.[a-z_0-9]+)(?:\s?=.*)?", span)
        if found and found[1].partition(".")[0] in sections and not (ROOT / "src" / "hardgnn" / found[1]).exists():
            assert found[1] in known | gone | {"train.py", "config.toml", "model.safetensors"}, span


@of_pages
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), target
    rooms = {path.name for path in HOUSE.iterdir() if path.is_dir()}
    for span in spans(page):
        path = span.split()[0]
        if re.fullmatch(r"(src|tests|benchmarks|docs|tools)/[\w./-]+", path):
            assert (ROOT / path).exists(), span
        elif re.fullmatch(r"[a-z_]+/[a-z_]+(/[\w.]*|\.py)?", path) and path.partition("/")[0] in rooms - {"data"}:
            assert (HOUSE / path).exists(), span


@of_pages
def test_every_script_and_target_that_is_named_takes_its_options(page: Path) -> None:
    said = [*spans(page), *(line for _, block in blocks(page.read_text("utf-8"), "sh") for line in lines(block))]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for line in said:
        if found := re.match(r"make ([a-z-]+)$", line):
            assert found[1] in targets, line
        if found := re.search(r"python ((?:benchmarks|tools)/\w+\.py)(.*)", line):
            script = (ROOT / found[1]).read_text("utf-8")
            for option in re.findall(r"--[a-z-]+", found[2]):
                assert f'"{option}"' in script, line
            more = found[2].partition("--set ")[2].split(" --")[0].split()
            model = values(shlex.split(found[2]), "--model")
            resolve(model[0] if model else "selfgnn", settings=[one for one in more if "=" in one])


def test_the_variants_of_the_benchmarks_are_configs() -> None:
    for file in sorted(ROOT.glob("benchmarks/*.toml")):
        for variant in variants_from(file):
            resolve(variant.preset, settings=list(variant.settings))


def test_the_floors_of_the_architecture_are_those_that_the_imports_keep_to() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+) \|", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.M)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    assert [re.findall(r"[a-z_]+", row) for row in rows] == [layer.split(" | ") for layer in layers]


def test_the_settings_page_has_every_kind_section_and_old_name_and_readme_every_preset() -> None:
    said = set(spans(ROOT / "docs" / "configuration.md"))
    kinds = [parts.names() for parts in (MODELS, ENCODERS, OBJECTIVES, SAMPLERS, LOSSES)]
    assert said >= {name for names in kinds for name in names}
    assert said >= {key.partition(".")[0] for key in every_key()}
    assert said >= set(RENAMED)
    assert set(spans(ROOT / "README.md")) >= set(presets())


def left_out(page: str, block: str) -> str:
    """Why a block is not carried out; nothing where it is."""
    found = [why for (where, start), why in LEFT_OUT.items() if where == page and block.startswith(start)]
    return "hours on logs that are not ours" if page.startswith("results/") else "".join(found)


def test_every_block_of_code_is_carried_out_or_left_out_for_a_reason() -> None:
    used, shown = set(), {*files().values(), *blocks_of_extending("bash")}
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for language, block in FENCE.findall(page.read_text("utf-8")):
            assert language in ("sh", "bash", "python", "toml", "text", "yaml", "ini"), (
                f"{name}: of which language is\n{block}"
            )
            if language in ("text", "yaml", "ini"):  # tests/test_deployment.py reads units and manifests
                continue
            if name == "docs/extending.md":  # tests/test_extending.py and tests/test_package.py run what it shows
                assert block in shown
                continue
            used |= {key for key in LEFT_OUT if key[0] == name and block.startswith(key[1])}
            assert name in CARRIED_OUT or left_out(name, block), f"{name}: nothing carries out\n{block}"
    assert used == set(LEFT_OUT)


def test_the_notebook_is_the_tutorial() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "notebook.py", "--check"], check=True)


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the kernel needs the extra hardgnn[notebook]")
    import nbformat

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", 4)
    nbclient.NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs" / "refreshed" / "result.json").exists()


@pytest.mark.parametrize("page", CARRIED_OUT)
def test_a_page_is_carried_out_from_its_top(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, market: Path, services: Services
) -> None:
    monkeypatch.chdir(tmp_path)
    write_simulated(tmp_path / "events.csv", users=200, items=60, events=4000, seed=1)
    run(["train", str(market), "--out", "OTHER", "--preset", "popularity"])
    (tmp_path / "DATA").symlink_to(market)
    space: dict[str, object] = {}
    for language, block in blocks((ROOT / page).read_text("utf-8"), "sh", "python", "toml"):
        if left_out(page, block):
            continue
        if language == "python":
            exec(block.replace('preset="best")', 'preset="best", train={"epochs": 1})'), space)
        elif language == "toml":
            (tmp_path / "file.toml").write_text(block, "utf-8")
            resolve("hardgnn", tmp_path / "file.toml")
        else:
            for line in lines(block):
                carry_out(line, services)


class Services:
    """The services that a page starts, each on a port of its own that its later lines ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.addresses: dict[str, str] = {}

    def start(self, words: list[str]) -> None:
        """`hardgnn serve RUN --port PORT` until the page is at its end."""
        pytest.importorskip("fastapi")
        from service import start

        port = (values(words, "--port") or ["8000"])[0]
        process, address = start(Path(words[0]), self.folder / f"serve-{port}.log")
        self.processes.append(process)
        self.addresses[f"http://127.0.0.1:{port}"] = address

    def here(self, line: str) -> str:
        """A line with the addresses as they are."""
        for named, address in self.addresses.items():
            line = line.replace(named, address)
        return line


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    found = Services(tmp_path)
    yield found
    for process in found.processes:
        process.terminate()
        assert process.wait(60) == 0


def carry_out(line: str, services: Services) -> None:
    """One line in the folder one is in; training has an epoch."""
    (first, *rest), *more = parts(line)
    if first in ELSEWHERE:
        return
    if rest[:1] == ["serve"]:
        services.start(rest[1:])
        return
    if first != "hardgnn" or more:
        line = services.here(line).replace("curl ", "curl --silent --show-error --fail ")
        subprocess.run(["bash", "-ec", line], check=True, timeout=60)
        return
    if rest[0] == "train" and resolve((values(rest, "--preset") or [DEFAULT_PRESET])[0]).train is not None:
        rest += ["--set", "train.epochs=1"]
    try:
        assert run(rest) == 0
    except HardGNNError as error:
        raise AssertionError(f"{line}: {error}") from error
