"""Every command in a terminal of 80 columns: no line is wider, no figure is torn, nothing is a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from hardgnn import screen
from hardgnn.training.bar import TrainingBar
from hardgnn.training.callbacks import Validation
from terminals import COLUMNS, Screen, Terminal, split_figures

SMALL = "--set train.epochs=2 --set train.eval_every=1 --set model.dim=16"
SEARCH = "--seeds 0,1 --preset best --set model.dim=16 --set train.eval_every=1 --epochs 1"


@pytest.fixture(scope="module")
def place(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, prepared, and three runs."""
    folder = tmp_path_factory.mktemp("screens")
    for command in (
        "hardgnn simulate --users 60 --items 40 --events 1500 --out market.inter",
        "hardgnn prepare market.inter --out data/market --k-core 3",
        "hardgnn train data/market --out runs/popularity-of-everything --preset popularity",
        f"hardgnn train data/market --out runs/best {SMALL}",
        f"hardgnn train data/market --out runs/best-1 {SMALL} --seed 1",
    ):
        check(terminal.run(command, folder))
    return folder


def check(screen: Screen) -> None:
    """What holds for every screen."""
    wide = [line for line in screen.lines if cell_len(line) > COLUMNS]
    assert not wide, wide
    assert not split_figures(screen.lines)
    assert "Traceback" not in screen.raw


ALL = "--metrics hr,ndcg,mrr,coverage,gini --at 5,10,20"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("hardgnn --help", "recommend"),
        ("hardgnn compare -h", "--published"),
        ("hardgnn --version", "hardgnn 0."),
        ("hardgnn presets", "recencyknn"),
        ("hardgnn presets best", "[encoder]"),
        (f"hardgnn evaluate runs/best {ALL}", "60 users"),
        (f"hardgnn compare runs/best runs/best-1 runs/popularity-of-everything {ALL}", "paired over users"),
        ("hardgnn compare runs/best runs/best-1 --published beauty", "WEARec"),
        ("hardgnn recommend runs/best --user u1 --n 3", " u1 "),
        ("hardgnn inspect runs/best --user u1", "nearest items"),
        ("hardgnn ensemble runs/best runs/best-1 --out runs/both", "parameters"),
        ("hardgnn export runs/best --out export", "60 users"),
        ("hardgnn verify data/market runs/best runs/best-1", "ok"),
        ("hardgnn report runs/best runs/best-1 --out report.html", "report.html"),
        ("hardgnn compare data/market runs/best --peers pop --out studies/peers --seeds 0", "nothing to set"),
        ("hardgnn leaderboard studies/peers", "parameters"),
    ],
)
def test_a_command_at_80_columns(command: str, told: str, terminal: Terminal, place: Path) -> None:
    shown = terminal.run(command, place)
    check(shown)
    assert told in shown.words


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("hardgnn train market.inter --out runs/x", "`hardgnn prepare market.inter --out data/market`"),
        ("hardgnn prepare data/market --out data/again", "a prepared folder, where a raw log is expected"),
        ("hardgnn evaluate market.inter", "then `hardgnn train data/market --out runs/market`"),
        ("hardgnn prepare market.inter --out data/x --k-core 99", "the highest k_core that leaves any is "),
        ("hardgnn download yelp --to raw", "hardgnn prepare"),
        ("hardgnn trian data/market", "Did you mean 'train'?"),
    ],
)
def test_a_mistake_at_80_columns(command: str, told: str, terminal: Terminal, place: Path) -> None:
    shown = terminal.run(command, place, status=2)
    check(shown)
    assert told in shown.words


def test_serve_says_what_to_open(terminal: Terminal, place: Path) -> None:
    shown = terminal.run("hardgnn serve runs/best --port 0", place, stop_at="open http")
    assert re.search(r"^open http://127\.0\.0\.1:\d+$", "\n".join(shown.lines), re.MULTILINE)
    assert "Traceback" not in shown.raw


def test_a_stopped_training_leaves_its_command_whole(terminal: Terminal, place: Path) -> None:
    command = (
        "hardgnn train data/market --out runs/long --set train.patience=0 --set train.epochs=5000 --set model.dim=8"
    )
    shown = terminal.run(command, place, status=130, stop_at="ndcg@10")
    assert shown.lines[-2].endswith("interrupted; it goes on with:")
    assert shown.lines[-1] == f"{command} --resume"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        f"hardgnn sweep data/market --out studies/s --grid hard.k=2,4 --then-retrain best --baseline own "
        f"--retrain-epochs 1 {SEARCH.replace('--set model.dim=16 --set train.eval_every=1', '--set model.dim=16')}",
        f"hardgnn study history data/market --out studies/h {SEARCH}",
        "hardgnn compare studies/s",
    ],
)
def test_a_study_at_80_columns(command: str, terminal: Terminal, place: Path) -> None:
    check(terminal.run(command, place))


def test_a_torn_figure_is_found() -> None:
    assert split_figures(["│ a │ 0.12 │", "│   │ 34   │"])
    assert not split_figures(["│ a │ 0.12 │", "│ b │ 34   │"])


def drawn(width: int, **fields: object) -> str:
    """A bar of 100 steps, 40 done, as it is drawn."""
    bar = screen.Bar()
    bar.add_task("a-run", total=100, completed=40, **fields)
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as caught:
        console.print(bar.get_renderable())
    return caught.get().rstrip()


def test_a_bar_leaves_out_what_matters_least_and_never_the_time_left() -> None:
    notes = ["epoch 3/9", "best ndcg@10 0.1234", "loss 0.52", "3.2 s/step"]
    for width in range(24, 120):
        line = drawn(width, notes=notes, left=(60, 600))
        assert cell_len(line) <= width
        assert line.endswith("1–10 min left")
        kept = [note in line for note in notes]
        assert kept == sorted(kept, reverse=True)
    assert "━" in drawn(80, notes=notes, left=(60, 600))


def test_the_time_left_knows_that_a_run_may_end_early() -> None:
    bar = TrainingBar("run")
    validation = Validation(lambda: ({}, None), lambda model, epoch: None, "ndcg@10", every=2, patience=3)
    progress = SimpleNamespace(epoch=10, waited=1, best_metric=0.5)
    trainer = SimpleNamespace(epochs=100, callbacks=[validation, bar], progress=progress)
    validation.trainer = trainer  # type: ignore[assignment]
    assert validation.last_epoch() == 14  # two more looks, two epochs apart
    progress.waited = 3
    assert validation.last_epoch() == 10
    validation.patience = 0
    assert validation.last_epoch() == 100


@pytest.mark.parametrize(
    ("seconds", "told"),
    [((7,), "7 s"), ((60, 600), "1–10 min"), ((600, 600.4), "10 min"), ((5400, 10800), "1.5–3.0 h"), ((0, 3), "0–3 s")],
)
def test_a_time_is_told_with_its_unit(seconds: tuple[float, ...], told: str) -> None:
    assert screen.duration(*seconds) == told


def test_help_version_and_presets_load_no_heavy_library() -> None:
    code = (
        "import sys; from hardgnn.cli.app import run\n"
        "[run(words.split()) for words in ('--help', 'train --help', '--version')]\n"
        "print(sorted({'torch', 'scipy', 'polars', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_package_runs_as_a_module_and_shells_complete_its_words() -> None:
    module = [sys.executable, "-m", "hardgnn"]
    assert subprocess.run([*module, "--version"], capture_output=True, text=True, check=True).stdout.startswith("hard")
    environment = {"_HARDGNN_COMPLETE": "complete_bash", "COMP_WORDS": "hardgnn rec", "COMP_CWORD": "1"}
    done = subprocess.run(module, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["recommend"]
