"""How the bytes of a raw log are found and read: names, pipes, compression, archives, encodings, quotes, sizes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import sys
import tarfile
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from archives import tarred, zipped
from hardgnn.data.events import read_events
from hardgnn.data.log import read_log
from hardgnn.data.raw import layers, stored
from hardgnn.data.raw.file import BLOCK_BYTES, RawFile
from hardgnn.data.readers.titles import find_titles
from hardgnn.errors import HardGNNError, MachineError

CSV = 'user,item,time,title\na,x,10,"One, two"\nb,y,20,"Three\nfour"\nc,z,30,Five\n'
ROWS = [("a", "x", 10.0), ("b", "y", 20.0), ("c", "z", 30.0)]
MANY = "user,item,time\n" + "".join(f"u{n % 97},i{n * 7919 % 9973},{n + 1}\n" for n in range(60_000))


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path: Path, **options: object) -> list[tuple[object, ...]]:
    return read_log(path, **options).table.rows()  # type: ignore[arg-type]


def told(path: Path, **options: object) -> str:
    """The one sentence that a log is refused with."""
    with pytest.raises(HardGNNError) as caught:
        read_log(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- names


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_a_path_is_no_pattern(tmp_path: Path, ending: str) -> None:
    for name, user in (("log[1]", "right"), ("log1", "wrong"), ("log*", "star"), ("logx", "wrong")):
        table = pl.DataFrame({"user": [user], "item": ["i"], "time": [5]})
        path = tmp_path / f"{name}{ending}"
        if ending == ".parquet":
            table.write_parquet(path)
        else:
            path.write_bytes((gzip.compress if ending.endswith("gz") else bytes)(table.write_csv().encode()))
    assert rows(tmp_path / f"log[1]{ending}") == [("right", "i", 5.0)]
    assert rows(tmp_path / f"log*{ending}") == [("star", "i", 5.0)]
    (tmp_path / f"log[1]{ending}").unlink()
    assert "no such file" in told(tmp_path / f"log[1]{ending}")
    with pytest.raises(HardGNNError, match="no such file"):
        read_events(tmp_path / f"log[1]{ending}")


def test_a_pattern_of_texts_is_no_log(tmp_path: Path) -> None:
    put(tmp_path, "log1.csv", CSV)
    assert "no such file" in told(tmp_path / "log*.csv")


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    for ending in (b".csv", b".parquet"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xff" + ending))
        if ending == b".csv":
            path.write_text(CSV)
        else:
            with path.open("wb") as file:
                pl.DataFrame({"user": ["a"], "item": ["x"], "time": [10]}).write_parquet(file)
        log = read_log(path)
        assert log.table.rows()[0] == ROWS[0]
        log.name.encode()
    told(Path(os.fsdecode(b"/no/l\xff"))).encode()


def test_the_true_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "log.csv", CSV)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert told(path) == f"{path}: permission denied"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(tmp_path: Path) -> None:
    path = put(tmp_path, "log.csv", CSV)
    path.chmod(0)
    assert "permission denied" in told(path)


# --- several Parquet files


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    for number in (2, 0, 1):
        table = pl.DataFrame({"user": [f"u{number}"] * 3, "item": ["x", "y", "z"], "time": [10 * number + 1] * 3})
        table.write_parquet(folder / f"part-{number}.parquet")
    put(folder, "_SUCCESS", "")
    put(folder, "._part-0.parquet", b"\0\5\26\7")
    return folder


def test_a_folder_of_parquet_files_and_a_pattern_are_one_log(parts: Path) -> None:
    for path in (parts, parts / "part-*.parquet", parts.parent / "l*" / "part-?.parquet"):
        log = read_log(path)
        assert log.table["user"].to_list() == ["u0"] * 3 + ["u1"] * 3 + ["u2"] * 3
        assert log.sha256 == read_log(parts).sha256
    assert read_log(parts).name == "log"
    assert read_log(parts / "*.parquet").name == "log"
    assert read_events(parts)["user"].to_list()[-1] == "u2"


def test_errors_in_one_of_several_files_name_it(parts: Path) -> None:
    table = pl.DataFrame({"user": ["a", None], "item": ["x", "y"], "time": [1, 2]})
    table.write_parquet(parts / "part-1.parquet")
    assert "part-1.parquet: row 2: the user id is empty" in told(parts)
    table.with_columns(pl.col("time").cast(pl.String)).write_parquet(parts / "part-1.parquet")
    assert "part-1.parquet: the column 'time' is of type String, but in part-0.parquet" in told(parts)
    table.drop("item").write_parquet(parts / "part-2.parquet")
    table.write_parquet(parts / "part-1.parquet")
    assert "part-2.parquet: the column 'item' is missing" in told(parts)
    put(parts, "part-1.parquet", b"PAR1 and no more")
    assert "part-1.parquet: cannot be read as parquet" in told(parts)
    put(parts, "part-1.parquet", "user,item,time\n")
    assert "part-1.parquet: not a Parquet file" in told(parts)


def test_a_folder_without_parquet_files(tmp_path: Path) -> None:
    assert "a folder, expected a file or a folder of Parquet files" in told(tmp_path)


# --- compression


def zst(data: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return __import__(name, fromlist=["compress"]).compress(data)  # type: ignore[no-any-return]
        except ImportError:
            continue
    pytest.skip("there is no zstd here")


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zst,
}


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_logs(tmp_path: Path, ending: str) -> None:
    compress = COMPRESS[ending]
    log = read_log(put(tmp_path, f"log.csv{ending}", compress(CSV.encode())))
    assert log.table.rows() == ROWS
    assert log.name == "log"
    half = len(CSV) // 2
    two = compress(CSV[:half].encode()) + compress(CSV[half:].encode())
    assert rows(put(tmp_path, "several members", two)) == ROWS
    put(tmp_path, f"log.item{ending}", compress(b"item_id:token\ttitle:token\nx\tX\n"))
    assert read_log(tmp_path / f"log.csv{ending}").titles is not None
    assert len(rows(put(tmp_path, f"many.csv{ending}", compress(MANY.encode())))) == 60_000


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("share", [0.0001, 0.3, 0.9, 0.9999])
def test_a_truncated_compressed_log(tmp_path: Path, ending: str, share: float) -> None:
    whole = COMPRESS[ending](MANY.encode())
    path = put(tmp_path, "log", whole[: max(12, int(len(whole) * share))])
    assert "truncated or damaged" in told(path)


def test_zst_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "the package backports.zstd" in told(put(tmp_path, "log.csv.zst", b"\x28\xb5\x2f\xfd\x04\x00\x41\x00\x00"))


def test_compression_within_compression_has_an_end(tmp_path: Path) -> None:
    data = CSV.encode()
    for _ in range(3):
        data = gzip.compress(data)
    assert rows(put(tmp_path, "log", data)) == ROWS
    for _ in range(9):
        data = gzip.compress(data)
    assert "packed more than" in told(put(tmp_path, "log", data))


# --- pipes


def fed(path: Path | str, data: bytes) -> threading.Thread:
    def write() -> None:
        with open(path, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "data", [CSV.encode(), gzip.compress(CSV.encode()), zipped({"a/log.csv": CSV})], ids=["plain", "gz", "zip"]
)
def test_a_named_pipe_is_read_once_and_as_often_as_needed(tmp_path: Path, data: bytes) -> None:
    os.mkfifo(tmp_path / "pipe")
    fed(tmp_path / "pipe", data)
    assert rows(tmp_path / "pipe") == ROWS
    fed(tmp_path / "pipe", data)
    assert read_events(tmp_path / "pipe").rows() == [(user, item) for user, item, _ in ROWS]


def test_process_substitution(tmp_path: Path) -> None:
    source, sink = os.pipe()
    thread = fed(f"/dev/fd/{sink}", CSV.encode())
    thread.join(0.2)
    os.close(sink)
    assert rows(Path(f"/dev/fd/{source}")) == ROWS
    os.close(source)


def test_a_pipe_that_nobody_writes_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "PATIENCE_S", 0.2)
    os.mkfifo(tmp_path / "pipe")
    assert "nobody wrote into this pipe" in told(tmp_path / "pipe")


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    table = io.BytesIO()
    pl.DataFrame({"user": ["a"], "item": ["x"], "time": [10]}).write_parquet(table)
    for data in (CSV.encode(), gzip.compress(CSV.encode())):
        standard_input(monkeypatch, data)
        log = read_log("-")
        assert log.table.rows()[0] == ROWS[0]
        assert log.name == "stdin"
    standard_input(monkeypatch, b"user,item,time\na,x,soon\n")
    assert told(Path("-")).startswith("standard input: line 2: time 'soon'")
    standard_input(monkeypatch, table.getvalue())
    assert told(Path("-")) == "standard input: Parquet is not read through a pipe; save it to a file"
    standard_input(monkeypatch, b"")
    assert told(Path("-")) == "standard input: the file is empty"
    standard_input(monkeypatch, CSV.encode())
    assert "more than 20 bytes came" in told(Path("-"), max_bytes=20)
    with open("/dev/null") as device:
        monkeypatch.setattr(sys, "stdin", device)
        assert "a terminal or a device" in told(Path("-"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for device in ("/dev/zero", "/dev/null", "/dev/urandom"):
        assert "a device or a socket" in told(Path(device))
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        assert "a device or a socket" in told(tmp_path / "socket")


# --- archives


@pytest.mark.parametrize("pack", [zipped, tarred, lambda members: tarred(members, "w:gz")])
def test_a_quoted_table_in_an_archive(tmp_path: Path, pack: Callable[[dict[str, str | bytes]], bytes]) -> None:
    of_a_mac = {"__MACOSX/._log.csv": b"\0\5\26\7", "d/.DS_Store": b"\0\0\0\1Bud1", "d/._log.csv": b"\0\5\26\7"}
    for members in ({"d/log.csv": CSV}, {**of_a_mac, "d/log.csv": CSV}, {"d/log.csv.xz": lzma.compress(CSV.encode())}):
        assert rows(put(tmp_path, "log.archive", pack(members))) == ROWS
    bad = pack({"d/log.csv": CSV + "d,w,never,\n"})
    assert "d/log.csv: line 6: time 'never'" in told(put(tmp_path, "bad.archive", bad))
    several = pack({"a.csv": CSV, "b.csv": CSV})
    assert "no known log" in told(put(tmp_path, "several.archive", several))


def test_parquet_in_an_archive_is_refused(tmp_path: Path) -> None:
    table = io.BytesIO()
    pl.DataFrame({"user": ["a"], "item": ["x"], "time": [10]}).write_parquet(table)
    for data in (zipped({"log.parquet": table.getvalue()}), gzip.compress(table.getvalue())):
        assert "unpack it" in told(put(tmp_path, "log", data))


def damaged_zips() -> dict[str, bytes]:
    whole = zipped({"log.csv": MANY})
    cases = {}
    flipped = bytearray(whole)
    flipped[14] ^= 1  # the checksum beside the content
    flipped[whole.rindex(b"PK\1\2") + 16] ^= 1  # and the one in the directory
    cases["checksum"] = bytes(flipped)
    method = bytearray(whole)
    method[8], method[whole.rindex(b"PK\1\2") + 10] = 99, 99
    cases["method"] = bytes(method)
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.rindex(b"PK\1\2") + 8] |= 1
    cases["encrypted"] = bytes(encrypted)
    return cases


@pytest.mark.parametrize("case", ["checksum", "method", "encrypted"])
def test_a_damaged_zip_is_told(tmp_path: Path, case: str) -> None:
    words = "is encrypted" if case == "encrypted" else "the zip archive is truncated or damaged"
    assert words in told(put(tmp_path, "log.zip", damaged_zips()[case]))


# --- encodings


@pytest.mark.parametrize("name", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("ending", ["csv", "inter", "dat"])
def test_a_named_encoding(tmp_path: Path, name: str, ending: str) -> None:
    text = {
        "csv": 'user,item,time\n"Zoë",Café,10\nb,y,20\n',
        "inter": "user_id:token\titem_id:token\ttime:float\nZoë\tCafé\t10\nb\ty\t20\n",
        "dat": "Zoë::Café::3::10\nb::y::3::20\n",
    }[ending]
    path = put(tmp_path, f"ratings.{ending}", text.encode(name))
    assert [row[:3] for row in rows(path, encoding=name)] == [("Zoë", "Café", 10.0), ("b", "y", 20.0)]
    if name in ("latin-1", "cp1252"):
        assert f"line {1 if ending == 'dat' else 2}: " in told(path)
        assert "name another encoding with encoding" in told(path)
    if name in ("utf-16", "utf-32"):
        assert f"text in {name}; say so with encoding='{name}'" in told(path)
    if name == "utf-16-le":
        assert "name another encoding with encoding" in told(path)


def test_a_wrong_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    path = put(tmp_path, "log.csv", (MANY + "Zoë,y,3\n").encode("latin-1"))
    assert "line 60002: binary data or another encoding" in told(path)
    assert "line 60002: not ascii text" in told(path, encoding="ascii")
    assert told(path, encoding="latin-11") == "unknown encoding 'latin-11': did you mean 'latin-1'?"
    for name in ("zlib", "rot13", "", "\0", "../x"):
        assert "unknown encoding" in told(path, encoding=name)


# --- quotes


def stray(title: Callable[[int], str], last: bool = True) -> str:
    """540 rows with a title that nobody reads."""
    lines = [f"u{n % 60},i{n % 45},{n + 1},{title(n)}" for n in range(540)]
    if not last:
        lines = [f"u{n % 60},{title(n)},i{n % 45},{n + 1}" for n in range(540)]
    return ("user,item,time,title" if last else "user,title,item,time") + "\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("last", [True, False])
def test_a_quote_inside_a_value_is_a_character(tmp_path: Path, last: bool) -> None:
    for title in (lambda n: '5" pipe', lambda n: f'a"{n}' if n % 7 == 3 else "b", lambda n: 'x""y' if n == 9 else "b"):
        assert len(rows(put(tmp_path, "log.csv", stray(title, last)))) == 540
    one = stray(lambda n: 'a "quoted" word' if n == 100 else '"fine, ""so"""', last)
    found = rows(put(tmp_path, "log.csv", one))
    assert [row[2] for row in found] == [float(n + 1) for n in range(540)]


@pytest.mark.parametrize("last", [True, False])
def test_a_quote_that_opens_and_never_closes_names_its_line(tmp_path: Path, last: bool) -> None:
    for title, line in (
        (lambda n: '"open' if n == 300 else "b", 302),
        (lambda n: '"open' if n in (17, 300) else "b", 19),
        (lambda n: '"open' if n == 17 else 'shut"' if n == 18 else "b", 19),
        (lambda n: '"open' if n == 17 else 'shut"' if n == 300 else "b", 19),
        (lambda n: '"a"b' if n == 30 else "b", 32),
    ):
        assert f"line {line}: a quote opens in this row" in told(put(tmp_path, "log.csv", stray(title, last)))


def test_line_breaks_in_quotes_are_read_whatever_the_blocks(tmp_path: Path) -> None:
    count = 3 * BLOCK_BYTES // 60
    title = '"title, {0}\nand ""more"" of it, {1},{2}\r\n"'
    lines = [f"u{n},{title.format(n, n % 7, 'x' * (n % 40))},i{n % 9},{n + 1}" for n in range(count)]
    text = "user,title,item,time\r\n" + "\r\n".join(lines)
    assert rows(put(tmp_path, "log.csv", text)) == [(f"u{n}", f"i{n % 9}", n + 1.0) for n in range(count)]
    lines[-1] = "u,t,i,never"
    text = "user,title,item,time\r\n" + "\r\n".join(lines)
    assert f"line {3 * (count - 1) + 2}: time 'never'" in told(put(tmp_path, "log.csv", text))
    lines[-2] = 'u,5" pipe,i,1'
    text = "user,title,item,time\r\n" + "\r\n".join(lines)
    assert f"line {3 * (count - 2) + 3}: time 'never'" in told(put(tmp_path, "log.csv", text))


def test_too_many_values_are_told_where_others_span_lines(tmp_path: Path) -> None:
    rows = [f'"u{row}","item, ""{row}""","two\nlines",13006750{row:02}' for row in range(60)]
    rows[50] = '"u50","item","two\nlines",13,0067'
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user,item,note,time", *rows]) + "\n", "utf-8")
    with pytest.raises(HardGNNError, match=r"log.csv: line 102: 5 fields, expected 4"):
        read_log(path)


def test_too_many_values_are_told_where_the_last_column_is_not_read(tmp_path: Path) -> None:
    text = CSV.replace("Five", "Five,six").replace("Three\nfour", "x")
    assert "line 4: 5 fields, expected 4" in told(put(tmp_path, "log.csv", text))


def test_a_value_with_line_breaks_beside_another_is_no_swallowed_row(tmp_path: Path) -> None:
    text = 'title,user,time,item,text\n"a\nb",u,1,i,"c\nd"\n"x, y\nz",v,2,j,"one\n\ntwo, three, 4\n"\n'
    assert rows(put(tmp_path, "log.csv", text)) == [("u", "i", 1.0), ("v", "j", 2.0)]


# --- sizes


def measured(path: Path, **options: object) -> tuple[str, float]:
    tracemalloc.start()
    try:
        return told(path, **options), tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def repeated(line: bytes, mebibytes: int, compress: object) -> bytes:
    """A compressed text of one line again and again."""
    block = line * ((1 << 20) // len(line))
    return b"".join([*(compress.compress(block) for _ in range(mebibytes)), compress.flush()])  # type: ignore[attr-defined]


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "FREE_BYTES", 4 << 20)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip", "tar.gz"])
def test_a_file_that_swells_is_refused_early(tmp_path: Path, kind: str, small_bound: None) -> None:
    size = 32 if kind == "xz" else 16  # MiB; two decoders of xz take 8 each
    if kind == "zip":
        put(tmp_path, "log", zipped({"log.csv": b"\n" * (size << 20)}))
    elif kind == "tar.gz":
        entry = tarfile.TarInfo("log.csv")
        entry.size = size << 20
        body = zlib.compressobj(wbits=31)
        head = body.compress(entry.tobuf())
        put(tmp_path, "log", head + repeated(b"\n", size, body))
    else:
        body = {"gz": zlib.compressobj(wbits=31), "bz2": bz2.BZ2Compressor(), "xz": lzma.LZMACompressor()}[kind]
        put(tmp_path, "log", repeated(b"user,item,time,x\n", size, body))
    message, peak = measured(tmp_path / "log")
    assert "swells to" in message
    assert "allow more with max_bytes" in message
    assert peak < size - 4
    assert "more than the 1,000 bytes that are allowed" in told(tmp_path / "log", max_bytes=1000)


def test_more_can_be_allowed(tmp_path: Path, small_bound: None) -> None:
    blank = repeated(b"\n", 6, zlib.compressobj(wbits=31))
    path = put(tmp_path, "log.gz", gzip.compress(CSV.encode()) + blank)
    assert "swells" in told(path)
    assert rows(path, max_bytes=7 << 20) == ROWS


def test_a_line_without_end(tmp_path: Path) -> None:
    body = zlib.compressobj(wbits=31)
    path = put(tmp_path, "log.csv.gz", body.compress(b"user,item,time\na,b,") + repeated(b"1", 40, body))
    message, peak = measured(path)
    assert "line 2 is longer than 8 MiB" in message
    assert peak < 100
    body = zlib.compressobj(wbits=31)
    path = put(tmp_path, "log.csv.gz", body.compress(b'user,item,time\na,b,"') + repeated(b"1\n", 40, body))
    assert "line 2: a quote opens in this row" in told(path)


def test_titles_are_bounded_too(tmp_path: Path, small_bound: None) -> None:
    body = zlib.compressobj(wbits=31)
    path = put(tmp_path, "t.csv.gz", body.compress(b"item,title\n") + repeated(b"1,2\n", 10, body))
    with pytest.raises(HardGNNError, match="swells to"):
        find_titles(tmp_path / "log.csv", path, False)
    wide = "item,title,plot\n" + "".join(f'i{n},t{n},"{"x" * 5000}"\n' for n in range(4000))
    path = put(tmp_path, "wide.csv", wide)
    tracemalloc.start()
    titles = find_titles(tmp_path / "log.csv", path, False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert titles is not None
    assert titles.height == 4000


def test_parquet_that_swells_is_refused(tmp_path: Path) -> None:
    one = pl.DataFrame({"user": [1], "item": [1], "time": [1]})
    path = tmp_path / "log.parquet"
    pl.concat([one] * 4).select(pl.all().repeat_by(1_000_000).explode()).write_parquet(path)
    assert "swells to" in told(path)
    assert len(rows(path, max_bytes=1 << 30)) == 4_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1251"])
def test_titles_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = "Ж" if encoding == "cp1251" else "é"
    log = put(tmp_path, "log.csv", CSV)
    put(tmp_path, "log.item", f"item_id:token\ttitle:token\nx\t{text}\n".encode(encoding))
    titles = read_log(log, encoding="cp1251" if encoding == "cp1251" else None).titles
    assert titles is not None
    assert titles.rows() == [("x", text)]


def test_a_machine_that_cannot_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "log.csv.gz", gzip.compress(CSV.encode()))

    def fails(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(layers.Inflating, "decompress", fails)
    with pytest.raises(MachineError, match="not enough memory"):
        read_log(path)


def test_what_is_around_a_log_is_named(tmp_path: Path) -> None:
    raw = RawFile.find(put(tmp_path, "x.zip", zipped({"a/b/log.csv.gz": gzip.compress(CSV.encode())})))
    assert (raw.member, raw.name) == ("a/b/log.csv.gz", "log.csv")
    assert [layers.bare(name) for name in ("x.csv.xz", "x.CSV.GZ", "x.csv")] == ["x.csv", "x.CSV", "x.csv"]
