"""Files and folders of ours: whole or not there, swept after kills, held by one writer; damage is seen."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hardgnn.errors import HardGNNError, MachineError
from hardgnn.storage import files
from hardgnn.storage.files import atomic_folder, atomic_path, recover
from hardgnn.storage.frames import read_frame, write_frame
from hardgnn.storage.locks import is_locked, locked
from hardgnn.storage.records import read_json, write_json
from hardgnn.storage.tensors import open_tensors, save_tensors

MARKER = "manifest.json"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def filled(folder: Path, text: str) -> None:
    with atomic_folder(folder, MARKER) as new:
        (new / MARKER).write_text(text, "utf-8")


def killed(code: str, *arguments: Path) -> None:
    """Runs Python code in a process that ends as a kill ends it."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr


def test_a_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_tensors(tmp_path / "weights", {"x": torch.ones(2)}, "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o640


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / MARKER).write_text("old", "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    filled(tmp_path / "link", "new")
    (tmp_path / "page").symlink_to(tmp_path / "there.html")
    with atomic_path(tmp_path / "page") as temporary:
        temporary.write_text("page", "utf-8")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "page").is_symlink()
    assert (tmp_path / "real" / MARKER).read_text("utf-8") == "new"
    assert (tmp_path / "there.html").read_text("utf-8") == "page"


def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(HardGNNError, match="not an ordinary file"), atomic_path(tmp_path / name):
            pass


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with (
        pytest.raises(HardGNNError, match="no such file or folder; nothing was written"),
        atomic_path(tmp_path / "gone" / "file", make_parent=False),
    ):
        pass
    assert not (tmp_path / "gone").exists()


def test_what_a_kill_leaves_is_swept_by_the_next_writer_and_what_is_held_is_not(tmp_path: Path) -> None:
    half = """
import os, sys
from pathlib import Path
from hardgnn.storage.files import atomic_path, atomic_folder
with atomic_path(Path(sys.argv[1])) as one, atomic_folder(Path(sys.argv[2]), "manifest.json") as other:
    one.write_text("half")
    (other / "part").write_text("half")
    os._exit(9)
"""
    killed(half, tmp_path / "file", tmp_path / "folder")
    assert len(names(tmp_path)) == 2
    with atomic_path(tmp_path / "file") as first:
        first.write_text("first", "utf-8")
        with atomic_path(tmp_path / "file") as second:  # must leave the other writer's alone
            second.write_text("second", "utf-8")
        assert first.exists()
    assert (tmp_path / "file").read_text("utf-8") == "first"
    filled(tmp_path / "folder", "new")
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_in_one_step_or_put_back(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "data", "old")
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    filled(tmp_path / "data", "new")
    assert (tmp_path / "data" / MARKER).read_text("utf-8") == "new"
    assert names(tmp_path) == ["data"]


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "data", "old")
    cut = """
import os, sys
from pathlib import Path
from hardgnn.storage import files
files._exchange = lambda one, other: False  # as on a system without it
rename, count = Path.rename, [0]
def counted(self, target):
    if count[0]:
        os._exit(9)
    count[0] += 1
    return rename(self, target)
Path.rename = counted
with files.atomic_folder(Path(sys.argv[1]), "manifest.json") as new:
    (new / "manifest.json").write_text("new")
"""
    killed(cut, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    recover(tmp_path / "data")
    assert (tmp_path / "data" / MARKER).read_text("utf-8") == "old"
    filled(tmp_path / "data", "new")
    assert names(tmp_path) == ["data"]


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear", "utf-8")
    with pytest.raises(HardGNNError, match=r"holds no manifest.json, so it is left alone"):
        filled(tmp_path / "mine", "new")
    assert names(tmp_path) == ["mine"]


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    told = pytest.raises(MachineError, match="no space left on the disk; nothing was written")
    with told, atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half", "utf-8")
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")
    assert names(tmp_path) == []


def test_one_process_holds_a_folder_until_it_is_killed(tmp_path: Path) -> None:
    holding = """
import sys, time
from pathlib import Path
from hardgnn.storage.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", holding, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert is_locked(tmp_path)
    told = pytest.raises(HardGNNError, match=rf"another process is at work there \(process {other.pid} ")
    with told, locked(tmp_path):
        pass
    other.kill()
    other.wait()
    with locked(tmp_path, patience_s=5) as held:
        held.check()
        (tmp_path / ".lock").unlink()
        with pytest.raises(HardGNNError, match="removed, moved or replaced"):
            held.check()
    assert not is_locked(tmp_path)


def test_shared_locks_let_each_other_in_and_nobody_else(tmp_path: Path) -> None:
    told = pytest.raises(HardGNNError, match="at work there")
    with locked(tmp_path, shared=True), locked(tmp_path, shared=True), told, locked(tmp_path):
        pass


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    with locked(tmp_path), pytest.raises(HardGNNError), locked(tmp_path, patience_s=0.3):
        pass
    assert time.monotonic() - began >= 0.3


def damages(content: bytes, step: int = 1) -> list[bytes]:
    """The file cut at every length and with one bit of every byte turned."""
    cut = [content[:size] for size in range(0, len(content), step)]
    turned = [content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :] for at in range(len(content))]
    return cut + turned


def test_every_damage_of_a_json_record_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    document = {"format_version": 2, "ratio": 0.1, "names": {"ä\udcff": None, "7": [1, 2]}}
    write_json(path, document, sealed=True)
    assert read_json(path) == document
    whole = path.read_bytes()
    for damaged in damages(whole):
        path.write_bytes(damaged)
        with suppress(HardGNNError):
            assert read_json(path) == document  # a space became a line break


def test_every_damage_of_a_table_is_seen(tmp_path: Path) -> None:
    path, schema = tmp_path / "table.parquet", {"user": pl.Int32, "items": pl.List(pl.Int32)}
    write_frame(path, pl.DataFrame({"user": [0, 1], "items": [[1, 2], [3, 4]]}), schema, "note; and more")
    table, note = read_frame(path, schema, "make it again")
    assert table.to_dict(as_series=False) == {"user": [0, 1], "items": [[1, 2], [3, 4]]}
    assert note == "note; and more"
    for damaged in damages(path.read_bytes(), step=7):
        path.write_bytes(damaged)
        with pytest.raises(HardGNNError, match="make it again"):
            read_frame(path, schema, "make it again")


def test_tables_of_every_size_read_back(tmp_path: Path) -> None:
    path, schema = tmp_path / "table.parquet", {"user": pl.Int64, "name": pl.String}
    rng = np.random.default_rng(0)
    for rows in range(0, 1500, 50):  # 1 to 20 kB: around the size of the buffers that read it
        written = pl.DataFrame({"user": rng.integers(2**60, size=rows), "name": [f"u{row}" for row in range(rows)]})
        write_frame(path, written, schema)
        assert read_frame(path, schema, "")[0].equals(written)


def test_every_damage_of_tensors_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"x": torch.arange(3), "y": torch.ones(2, 2)}, '{"epoch": 3}')
    with open_tensors(path, "train it again") as (stored, note):
        assert note == '{"epoch": 3}'
        assert stored.get_tensor("x").tolist() == [0, 1, 2]
    for damaged in damages(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(HardGNNError, match="train it again"), open_tensors(path, "train it again"):
            pass
