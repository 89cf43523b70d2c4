"""What is printed and written for others to read: text stays text, and every end is one sentence and a status."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.dom import minidom

import polars as pl
import pytest
from rich.console import Console

from factories import tiny_dataset
from hardgnn import config as settings
from hardgnn import screen
from hardgnn.cli.app import run
from hardgnn.cli.boundary import ended
from hardgnn.cli.terminal import print_json, print_table
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError, MachineError, shown
from hardgnn.recommend.answers import safe_for_spreadsheets, write_blocks
from hardgnn.runs.evaluated import evaluate_run
from hardgnn.runs.train import train

SMALL = ["model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=2", "train.eval_every=1"]
MAIN = [sys.executable, "-c", "from hardgnn.cli import main; main()"]
FORMULAS = ["=1+1", "+a", "-b", "@c", "＝g"]
ODD = [
    *("a[/b]", "[red]apple", "user:id:5", "$x$", "a_b^c$", "<img src=x onerror=alert(1)>", "a|b", "日本", "😀", 'q"u'),
    *("line\nbreak", "tab\there", "\x1b[31mred", "\u202eabc", "*star*", "`c`", "{x}", "&amp;", "#1", *FORMULAS),
]
RUNS = ["$x$", "a_b^c$", "_<img src=x onerror=alert(1)>|", "line\nbreak"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared log whose ids and titles are as odd as can be, and a run on it under each odd name."""
    folder, rng = tmp_path_factory.mktemp("odd"), random.Random(0)
    items = [*ODD, *(f"i{n}" for n in range(20))]
    events = [(user, item) for user in [*ODD, *map(str, range(30))] for item in rng.sample(items, rng.randint(9, 14))]
    table = pl.DataFrame(events, schema=["user", "item"], orient="row").with_row_index("timestamp", 1_400_000_000)
    table.write_parquet(folder / "log.parquet")
    pl.DataFrame({"item": items, "title": [f"The {item}" for item in items]}).write_csv(folder / "titles.csv")
    data = Dataset.read(folder / "log.parquet", items_file=folder / "titles.csv").prepare(k_core=2)
    data.save(folder / "data")
    for name in RUNS:
        config = settings.resolve("hardgnn", settings=SMALL)
        train(data, config, folder / name, preset="hardgnn", data_path=folder / "data")
        evaluate_run(folder / name)
    return folder


def hardgnn(
    *words: str | bytes | Path, status: int | None = 0, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    env = os.environ | environment
    command = [*MAIN, *(one if isinstance(one, bytes) else str(one) for one in words)]
    done = subprocess.run(command, capture_output=True, timeout=100, env=env)
    assert status in (None, done.returncode), done.stderr.decode()
    return done


def end(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """The status of a command and what it printed, in this process."""
    typed = [str(word) for word in words]
    status = ended(lambda: run(typed), typed)
    return status, *capsys.readouterr()


def test_no_id_is_markup_or_a_terminal_sequence(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everyone = [word for user in ODD for word in ("--user", user)]
    status, out, err = end(capsys, "recommend", odd / "$x$", *everyone, "--n", "30", "--no-exclude-seen")
    assert status == 0, err
    for one in ODD:
        assert f" {shown(one)} " in out
        assert f" The {shown(one)} " in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert out.count("\n") == len(out.splitlines())
    status, out, err = end(capsys, "recommend", odd / "$x$", "--user", "a[/b]", "--user", "[/x]:smile:\x1b]0;t\x07")
    assert r"unknown user '[/x]:smile:\x1b]0;t\x07', popular items instead" in err
    status, out, err = end(capsys, "inspect", odd / "$x$", "--user", "[red]apple", "--n", "60")
    assert (status, err) == (0, "")
    assert all(f" The {shown(one)} " in out for one in ODD)
    status, out, err = end(capsys, "inspect", odd / "$x$", "--user", "a[/c]\n")
    assert (status, out, err) == (2, "", "error: unknown user 'a[/c]\\n': did you mean 'a[/b]'?\n")


def test_json_csv_and_parquet_keep_ids_exactly(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recommend", odd / "$x$", "--all-users", "--n", "50", "--no-exclude-seen"]
    rows = json.loads(end(capsys, *words, "--json")[1])
    assert {row["item"] for row in rows} >= set(ODD)
    for name in ("r.csv", "r.parquet", "safe.csv"):
        safe = ["--csv-safe"] if name.startswith("safe") else []
        assert end(capsys, *words, "--out", tmp_path / name, *safe)[0] == 0
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as handle:
        read = list(csv.DictReader(handle))
    assert [(row["user"], row["item"], row["title"]) for row in read] == [
        (row["user"], row["item"], row["title"]) for row in rows
    ]
    assert pl.read_parquet(tmp_path / "r.parquet").to_dicts() == rows
    with (tmp_path / "safe.csv").open(newline="", encoding="utf-8") as handle:
        safe_rows = list(csv.DictReader(handle))
    assert {row["item"] for row in safe_rows} >= {f"'{one}" for one in FORMULAS} | (set(ODD) - set(FORMULAS))
    assert not any(row[column][:1] in "=+-@\t\r\n" for row in safe_rows for column in ("user", "item", "title"))
    assert "--out" in end(capsys, *words, "--csv-safe")[2]
    assert "only a .csv" in end(capsys, *words, "--csv-safe", "--out", tmp_path / "x.parquet")[2]


def test_what_a_spreadsheet_would_run_gets_an_apostrophe_and_numbers_stay() -> None:
    table = safe_for_spreadsheets(pl.DataFrame({"user": [*FORMULAS, "a=1", "", None], "score": [-1.0] * 7 + [0.5]}))
    assert table["user"].to_list() == [*(f"'{one}" for one in FORMULAS), "a=1", "", None]
    assert table["score"].to_list() == [-1.0] * 7 + [0.5]


def test_prepare_ends_well_where_output_is_ascii(odd: Path, tmp_path: Path) -> None:
    done = hardgnn("prepare", odd / "log.parquet", "--out", tmp_path / "é", "--k-core", "2", PYTHONIOENCODING="ascii")
    assert all(line.startswith(b"warning: ") for line in done.stderr.splitlines())
    assert rb"\xe9" in done.stdout
    assert b"log -> " in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_in_any_encoding(odd: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["recommend", str(odd / "$x$"), "--all-users", "--n", "50", "--no-exclude-seen"]
    for as_json in (True, False):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        assert run([*words, "--json"] if as_json else words) == 0
        sys.stdout.seek(0)
        text = sys.stdout.read()
        if as_json:
            assert {row["item"] for row in json.loads(text)} >= set(ODD)
        else:
            assert (" 日本 " if encoding == "utf-8" else r" \u65e5\u672c ") in text
            if encoding == "ascii":
                assert len({len(line) for line in text.splitlines()[1:]}) == 1  # under the title


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"d": float("inf"), "rows": [float("nan"), 1.5, "\x9b\u202e"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"d": None, "rows": [None, 1.5, "\x9b\u202e"]}
    assert "\u202e" not in out


def test_a_table_of_markup_is_a_table_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[b]t[/x]", ["[i]h", ":smile:"], [["[/]", ":id:"], ["a\nb", "\udcff"]])
    out = capsys.readouterr().out
    for text in ("[b]t[/x]", "[i]h", ":smile:", "[/]", ":id:", r"a\nb", r"\xff"):
        assert text in out


def test_text_folds_at_hyphens_and_every_figure_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hardgnn.cli.terminal.WIDTH", 60)
    print_table(
        "t", ["difference", "a", "b"], [["without-self-augmented-loss − hardgnn", "+0.1234 – +0.5678", "1.25e-12"]]
    )
    out = capsys.readouterr().out
    for text in ("without-self-", "augmented-", "loss", "+0.1234 – +0.5678", "1.25e-12"):
        assert text in out


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def test_reports_of_runs_with_odd_names(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [odd / name for name in RUNS]
    status, out, err = end(capsys, "compare", *runs)
    assert status == 0, err
    assert all(shown(name) in out for name in RUNS)
    status, _, err = end(capsys, "report", *runs, "--out", tmp_path / "r.html", "--figures", tmp_path / "figures")
    assert (status, err) == (0, "")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert not _Tags(page).tags & {"img", "script", "red"}
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert r"line\nbreak" in page
    curve = (tmp_path / "figures" / "curve-validation-runs-log.svg").read_bytes()
    texts = {node.firstChild.data for node in minidom.parseString(curve).getElementsByTagName("text")}
    assert texts >= {"$x$", "a_b^c$", " _<img src=x onerror=alert(1)>|", r"line\nbreak"}
    markdown = (tmp_path / "figures" / "runs-log-full.md").read_text("utf-8")
    assert r"| \_&lt;img src=x onerror=alert(1)&gt;\| |" in markdown
    assert "<img" not in markdown
    assert r"| line\\nbreak |" in markdown
    assert r"\$x\$ &" in (tmp_path / "figures" / "runs-log-full.tex").read_text("utf-8")
    status, _, err = end(
        capsys, "inspect", odd / "$x$", "--user", "<img src=x onerror=alert(1)>", "--figure", tmp_path / "u.svg"
    )
    assert status == 0, err
    assert b"The" in (tmp_path / "u.svg").read_bytes()


def places(tmp_path: Path, ending: str) -> dict[str, Path]:
    """Where nothing can be written, by what the sentence says."""
    (tmp_path / f"folder{ending}").mkdir()
    os.mkfifo(tmp_path / f"fifo{ending}")
    (tmp_path / "file").write_text("x")
    return {
        "not an ordinary file": tmp_path / f"folder{ending}",
        "not an ordinary": tmp_path / f"fifo{ending}",
        "nothing was written": tmp_path / "file" / f"x{ending}",
        "the name is too long": tmp_path / f"{'n' * 300}{ending}",
    }


@pytest.mark.parametrize("command", ["report", "recommend"])
def test_places_that_cannot_be_written(
    command: str, odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, odd / "$x$", *(["--all-users"] if command == "recommend" else [])]
    ending = {"report": ".html", "recommend": ".csv"}[command]
    for told, place in places(tmp_path, ending).items():
        status, out, err = end(capsys, *words, "--out", place)
        assert (status, out) == (2, "")
        assert told in err
        assert err.count("\n") == 1
    (tmp_path / f"target{ending}").write_text("old")
    (tmp_path / f"link{ending}").symlink_to(f"target{ending}")
    assert end(capsys, *words, "--out", tmp_path / f"link{ending}")[0] == 0
    assert (tmp_path / f"link{ending}").is_symlink()
    assert (tmp_path / f"target{ending}").read_text("utf-8") != "old"


def test_blocks_gather_where_a_kill_leaves_only_what_is_swept(tmp_path: Path) -> None:
    out, seen = tmp_path / "[r].parquet", []

    def blocks() -> Any:
        for number in range(3):
            yield pl.DataFrame({"user": [f"=u{number}"], "score": [0.5]})
            seen.append({path.name for path in tmp_path.iterdir()})

    assert write_blocks(blocks(), out) == 3
    assert pl.read_parquet(out, glob=False)["user"].to_list() == ["=u0", "=u1", "=u2"]
    assert all(name.startswith(".[r].parquet.") and name.endswith(".tmp") for names in seen for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["[r].parquet"]

    def broken() -> Any:
        yield pl.DataFrame({"user": ["a"]})
        raise HardGNNError("no more")

    with pytest.raises(HardGNNError, match="no more"):
        write_blocks(broken(), out)
    assert [path.name for path in tmp_path.iterdir()] == ["[r].parquet"]


class PanicException(BaseException):
    """As polars' panics: no Exception."""


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (HardGNNError("a\nb [x]"), 2, r"a\nb [x]"),
        (MachineError("full"), 3, "full"),
        (MemoryError(), 3, "not enough memory"),
        (OSError(errno.ENOSPC, "No space", "f\udcff"), 3, r"f\xff: no space left on the disk"),
        (PermissionError(errno.EACCES, "no", "f"), 2, "f: permission denied"),
        (PanicException("index out of\nbounds"), 70, "PanicException: index out of; this is a fault of the program"),
        (PanicException("memory allocation failed"), 3, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), 3, "memory"),
        (RecursionError("maximum"), 2, "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 2, "not in the encoding"),
        (ZeroDivisionError("division by zero"), 70, "ZeroDivisionError: division by zero; this is a fault of the"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(4), 4, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else "",
)
def test_whatever_escapes_is_one_sentence_and_a_status(
    error: BaseException, status: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> int:
        raise error

    assert ended(command, ["evaluate", "r"]) == status
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == bool(told)
    assert "Traceback" not in err
    monkeypatch.setenv("HARDGNN_TRACEBACK", "1")
    ended(command, ["evaluate", "r"])
    assert ("Traceback" in capsys.readouterr().err) == bool(told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "d", "--out", "r"], "interrupted; it goes on with: hardgnn train d --out r --resume"),
        (["train", "d e", "--resume"], "interrupted; it goes on with: hardgnn train 'd e' --resume"),
        (["study", "noise", "d"], "interrupted; it goes on with: hardgnn study noise d"),
        (["sweep", "d"], "interrupted; it goes on with: hardgnn sweep d"),
        (["compare", "d", "--peers=pop"], "interrupted; it goes on with: hardgnn compare d --peers=pop"),
        (["compare", "r", "s"], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_ctrl_c_tells_how_to_go_on(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ImportError("cut short")  # as some library may turn an interrupt

    assert ended(command, words, [signal.SIGINT]) == 130
    assert capsys.readouterr().err == f"error: {told}\n"


def in_terminal(words: list[str], ready: Callable[[str], bool], stop: Callable[[int, int], None]) -> tuple[int, str]:
    """A command in a terminal of its own, stopped by `stop(terminal, process)` once what it shows is `ready`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MAIN, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    told, stopped, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        if not stopped and ready(told.decode("utf-8", "replace")):
            stopped = True
            stop(ours, process.pid)
        if select.select([ours], [], [], 0.02)[0]:
            try:
                told += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    return process.wait(30), told.decode("utf-8", "replace")


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "Ctrl-C at once"])
def test_a_stopped_training_tells_the_command_that_goes_on(how: str, odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", str(odd / "data"), "--out", str(out), "--preset", "selfgnn", "--set", "train.epochs=2000"]
    words += ["--set", "train.patience=0", "--set", "model.dim=16", "--set", "train.eval_every=1"]

    def ready(told: str) -> bool:  # at once is among the imports
        return "loading" in told if how.endswith("once") else (out / "model.safetensors").exists()

    stop = (
        (lambda _, pid: os.kill(pid, signal.SIGTERM)) if how == "SIGTERM" else (lambda tty, _: os.write(tty, b"\x03"))
    )
    status, told = in_terminal(words, ready, stop)
    assert status == (143 if how == "SIGTERM" else 130)
    *_, line, command = told.splitlines()
    assert line.endswith(f"{'terminated' if how == 'SIGTERM' else 'interrupted'}; it goes on with:")
    assert command == f"hardgnn {' '.join(words)} --resume"  # on a line of its own, to be copied
    assert "Traceback" not in told


SWALLOWED = """
import signal, sys, time
from hardgnn.cli import boundary

class Ends:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def command():
    Ends()
    time.sleep(60)
    return 0

sys.exit(boundary.ended(command, [], boundary._listen()))
"""


LOADING = """
import signal, sys, time
from hardgnn.cli import boundary

def command():
    import swallows  # what is raised amid it, as libraries do
    time.sleep(60)
    return 0

sys.exit(boundary.ended(command, [], boundary._listen()))
"""
CALLED = """
import signal, sys, time
from hardgnn.cli import boundary

PANICS = "signal.raise_signal(signal.SIGINT); time.sleep(0.2); print('back', flush=True); time.sleep({})"

def command():
    exec(compile(PANICS, "/x/polars/x.py", "exec"))
    time.sleep(60)
    return 0

sys.exit(boundary.ended(command, [], boundary._listen()))
"""
SWALLOWS = """
import signal, time
try:
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.2)
except BaseException:
    pass
else:
    print("loaded", flush=True)
"""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (SWALLOWED, ""),
        (LOADING, "loaded\n"),
        (CALLED.replace("{}", "0"), "back\n"),
        (CALLED.replace("{}", "60"), "back\n"),  # it does not wait for ever
    ],
    ids=["object", "import", "polars", "long in polars"],
)
def test_ctrl_c_where_libraries_swallow_it_or_abort_is_heard_after_it(script: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, told, "error: interrupted\n")


@pytest.mark.parametrize("shows", [lambda: screen.wait("reading"), lambda: screen.Bar().start()])
def test_ctrl_c_while_something_is_drawn_leaves_nothing_of_it(
    shows: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(Console):
        def show_cursor(self, show: bool = True) -> bool:
            if show is False:
                signal.raise_signal(signal.SIGINT)  # in the middle of drawing
            return super().show_cursor(show)

    terminal = Terminal(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(screen, "console", terminal)
    before = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        shows()
    drawing = [one for one in threading.enumerate() if one not in before]
    screen.clear()
    terminal.print("the end")
    assert terminal.file.getvalue().endswith(("\x1b[?25hthe end\n", "\x1b[2Kthe end\n"))  # the cursor is there again
    for one in drawing:
        one.join(20)
        assert not one.is_alive()


def test_a_reader_that_goes_away_ends_the_command_quietly(odd: Path) -> None:
    words = [*MAIN, "recommend", str(odd / "$x$"), "--all-users", "--n", "40", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_is_closed_or_full() -> None:
    shell = 'exec "$@" '
    for redirection, status, told in ((">&-", 0, b""), ("2>&-", 0, b""), (">/dev/full", 3, b"no space left")):
        words = ["sh", "-c", shell + redirection, "sh", *MAIN, "train", "--list-presets"]
        done = subprocess.run(words, capture_output=True, timeout=60)
        assert done.returncode == status
        assert told in done.stderr
        assert done.stderr.count(b"\n") == bool(told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "no such command 'trian'. Did you mean 'train'?; see `hardgnn --help`"),
        (["train", "--sed", "1"], "--seed"),
        (["train", "--seed", "x"], "'--seed'"),
        (["evaluate"], "see `hardgnn evaluate --help`"),
        (["evaluate", "[red]\n", "b"], r"unexpected extra argument"),
        (
            ["train", "a", "--set", "b=1", "model.dim=8", "c=2"],
            r"each setting has a --set of its own: --set model.dim=8",
        ),
        (["evaluate", "x", "--[/b]\x1b"], "no such option: --[/b]"),
    ],
)
def test_bad_usage_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = end(capsys, *words)
    assert (status, out) == (2, "")
    assert told in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = end(capsys)
    assert (status, err) == (0, "")
    assert "recommend" in out


COMMANDS = [
    *(["prepare", "X", "--out", "X.o"], ["train", "X", "--out", "X.o"], ["evaluate", "X"], ["compare", "X", "X"]),
    *(
        ["recommend", "X", "--user", "X"],
        ["report", "X"],
        ["inspect", "X", "--user", "u"],
        ["export", "X", "--out", "Y"],
    ),
    *(["serve", "X"], ["study", "noise", "X", "--out", "X.s"], ["sweep", "X", "--out", "X.s"], ["leaderboard", "X"]),
    *(["download", "X"], ["simulate", "--users", "9", "--items", "9", "--events", "99", "--out", "X.csv"], ["X"]),
    *(["demo", "--to", "X"], ["evaluate", "a", "--X"], ["train", "a", "--out", "b", "--set", "X=1", "--config", "X"]),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_name_that_is_not_utf_8_gets_a_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"n\xff\n[b]")
    status, out, err = end(capsys, *(word.replace("X", name) for word in words))
    assert (status, out) == (2, "")
    assert r"n\xff\n[b]" in err
    assert "not UTF-8" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (["prepare", "", "--out", "d"], "prepare"),
        (["prepare", "log.csv", "--out", ""], "--out"),
        (["prepare", "log.csv", "--out="], "--out"),
        (["recommend", "run", "--user", "u", "--items", ""], "--items"),
        ([""], "hardgnn"),
    ],
)
def test_an_empty_word_is_not_the_folder_one_is_in(
    words: list[str], before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(lambda: run(words), words) == 2
    assert f"nothing is given after '{before}'" in capsys.readouterr().err


def test_a_byte_that_is_not_utf_8_on_a_real_command_line() -> None:
    done = hardgnn("evaluate", b"gone\xff", status=2)
    assert (
        done.stderr
        == rb"error: gone\xff: a name that is not UTF-8 text; rename it, or use a link with another name" + b"\n"
    )


def test_one_thing_given_for_another_is_named(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, data, model = odd / "log.parquet", odd / "data", odd / "$x$"
    for words, told in (
        (["train", log, "--out", tmp_path / "r"], f"prepare it first: `hardgnn prepare {log} --out data/log`"),
        (["train", model, "--out", tmp_path / "r"], "a run folder, where a prepared folder is expected"),
        (["study", "noise", log, "--out", tmp_path / "s"], "prepare it first"),
        (["evaluate", data], f"train on it first: `hardgnn train {data} --out runs/data`"),
        (["recommend", data, "--all-users"], "a prepared folder, where a run folder is expected"),
        (["compare", data, data], "a prepared folder, where a run folder is expected"),
        (["report", data, "--out", tmp_path / "r.html"], "a prepared folder, where a run folder is expected"),
        (["leaderboard", model], "a run folder, where a study is expected"),
        (["evaluate", log], "a file, where a run folder is expected"),
    ):
        status, out, err = end(capsys, *words)
        assert (status, out) == (2, "")
        assert told in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", ["selfgnn", "best"])
def test_why_there_is_nothing_to_learn(preset: str, tmp_path: Path) -> None:
    small = ["model.dim=16", "model.heads=2"]
    for sequences, told in (
        ([[0, 1, 2, 0, 1], [2, 1, 0, 1, 2]], "has met all 3 items, so none is left to tell what they like"),
        ([[0, 1, 2], [3, 4, 5]], "no user has two training interactions"),
    ):
        with pytest.raises(HardGNNError, match=told):
            train(tiny_dataset(sequences), settings.resolve(preset, settings=small), tmp_path / str(len(sequences[0])))


def test_shown_is_one_line_of_what_can_be_seen() -> None:
    assert shown("a\r\n\x9b\u2028\u202e\udcff\ud800\u200b") == r"a\r\n\x9b\u2028\u202e\xff\ud800\u200b"
    assert shown("日本 😀 [b] é\u00a0ü") == "日本 😀 [b] é\u00a0ü"
    assert shown(b"\xff") == r"\xff"
    assert io.StringIO(shown("".join(map(chr, range(0x3000))))).readlines()[1:] == []


def test_help_loads_none_of_the_heavy_libraries() -> None:
    heavy = {"torch", "scipy", "polars", "numpy", "pydantic"}
    code = f"import sys, hardgnn.cli.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
