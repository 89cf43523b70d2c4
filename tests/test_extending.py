"""docs/extending.md: what it shows runs as it stands."""

from __future__ import annotations

import importlib
import runpy
import shlex
import tomllib
import warnings
from pathlib import Path

import pytest

from extending import KINDS, SHOWN, blocks, files, kept_apart, part_files, shown_parts
from hardgnn import Dataset
from hardgnn.cli.app import run
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.prepare.simulate import write_simulated

FIRST = ("my_readers.py", "my_metrics.py", "my_losses.py", "my_encoders.py")


def write_plays(path: Path) -> None:
    """A log in the document's own format: `user|song|time`."""
    simulated = path.with_name("simulated.csv")
    write_simulated(simulated, users=120, items=40, events=2400, seed=1)
    Dataset.read(simulated).table.select(USER, ITEM, TIMESTAMP).write_csv(path, separator="|", include_header=False)


def test_every_file_registers_what_the_table_and_the_tests_say(tmp_path: Path) -> None:
    before = {parts.kind: set(parts.names()) for parts in KINDS}
    with shown_parts(tmp_path):
        assert {parts.kind: sorted(set(parts.names()) - before[parts.kind]) for parts in KINDS} == {
            kind: sorted(names) for kind, names in SHOWN.items()
        }
    assert {parts.kind: set(parts.names()) for parts in KINDS} == before
    text = "\n".join(blocks("python"))
    for parts in KINDS:
        assert f"@{parts.kind}(" in text


def test_the_first_four_are_one_short_file_each() -> None:
    assert list(part_files())[:4] == list(FIRST)
    for name in FIRST:
        assert len([line for line in files()[name].splitlines() if line.strip()]) <= 20, name


def test_the_entry_points_name_what_the_files_hold(tmp_path: Path) -> None:
    announced = tomllib.loads(files()["pyproject.toml"])["project"]["entry-points"]
    with shown_parts(tmp_path):
        for group, points in announced.items():
            (parts,) = [parts for parts in KINDS if parts.group == group]
            for name, module in points.items():
                assert parts.find(name) is not None
                assert f"{module}.py" in FIRST
    assert {name for points in announced.values() for name in points} == {"plays", "rbp", "tail", "bpr", "recent"}


def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_plays(tmp_path / "plays.log")
    monkeypatch.chdir(tmp_path)
    with shown_parts(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        runpy.run_path("use.py")
    said = capsys.readouterr().out
    for name in ("hr@10", "rbp@10", "tail@10"):
        assert f"'{name}'" in said


def test_the_commands_run_where_the_parts_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plays(tmp_path / "plays.log")
    monkeypatch.chdir(tmp_path)
    with shown_parts(tmp_path):
        for line in blocks("bash")[0].splitlines():
            assert run(shlex.split(line)[1:]) == 0, line


def test_every_other_part_can_be_named_on_the_command_line(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["train.epochs=1", "model.dim=8"]
    asked = {
        "sampler": ["objective.kind=next-item", "ssl.weight=0", "encoder.kind=causal", "sampler.kind=tenth", *small],
        "model": ["model.kind=successors"],
        "network": ["model.kind=factors", *small],
        "objective": ["model.kind=factors", "objective.kind=last-item", *small],
        "callback": ["train.callbacks=drift", *small],
    }
    with shown_parts(tmp_path):
        for name, settings in asked.items():
            words = [word for setting in settings for word in ("--set", setting)]
            assert run(["train", str(market), "--out", name, "--preset", "selfgnn", *words]) == 0
            assert run(["evaluate", name, "--protocol", "sampled-999"]) == 0
            assert run(["recommend", name, "--user", Dataset.load(market).user_ids[0]]) == 0
    assert '"drift"' in (tmp_path / "callback" / "metrics.jsonl").read_text(encoding="utf-8")


def test_parts_of_a_test_do_not_outlive_it(tmp_path: Path) -> None:
    with kept_apart():
        (tmp_path / "my_losses.py").write_text(files()["my_losses.py"], encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            importlib.import_module("my_losses")
    assert "bpr" not in [name for parts in KINDS for name in parts.names()]
