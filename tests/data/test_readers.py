"""Reading raw logs: what each format gives, and the one sentence that bad input gets."""

from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from hardgnn import InteractionLog
from hardgnn.data.log import read_log
from hardgnn.errors import HardGNNError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def rows(log: InteractionLog) -> list[tuple[object, ...]]:
    return log.table.rows()


@pytest.fixture
def write(tmp_path: Path):
    def to_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return to_file


INTER = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\nu 1\tb"x\t3\t10\nu2\tb\t4.5\t20\n'


@pytest.mark.parametrize("name", ["log.inter", "log.inter.gz", "log.txt"])
def test_recbole_file(write, name: str) -> None:
    log = read_log(write(name, INTER))
    assert rows(log) == [("u 1", 'b"x', 10.0, 3.0), ("u2", "b", 20.0, 4.5)]
    assert log.table.columns == ["user", "item", "timestamp", "rating"]
    assert log.name == "log"
    assert len(log.sha256) == 64


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("header", ["user,item,timestamp", "userId,movieId,ts", "USER_ID,product id,Date"])
def test_csv_finds_delimiter_and_usual_names(write, separator: str, header: str) -> None:
    text = f"{header}\nann,x,10\nbob,y,20\n".replace(",", separator)
    assert rows(read_log(write("log.csv", text))) == [("ann", "x", 10.0), ("bob", "y", 20.0)]


def test_csv_with_bom_windows_lines_blank_lines_quotes_and_more_columns(write) -> None:
    text = '\ufeffwhen,who,what,stars\r\n10,"a, b",x,\r\n\r\n20,b,"y\r\nz",4\r\n\r\n'
    log = read_log(write("log.csv.gz", text), user_col="who", item_col="what", time_col="when")
    assert rows(log) == [("a, b", "x", 10.0, None), ("b", "y\r\nz", 20.0, 4.0)]


def test_names_given_win_over_usual_names(write) -> None:
    path = write("log.csv", "user,account,item,time,score\na,b,x,1,5\n")
    assert rows(read_log(path, user_col="account", rating_col="time"[:0] or "score")) == [("b", "x", 1.0, 5.0)]


@pytest.mark.parametrize("names", ["user_id", "user_id:token"])
def test_inter_columns_by_either_name(write, names: str) -> None:
    assert read_log(write("log.inter", INTER), user_col=names).table["user"].to_list() == ["u 1", "u2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"),
        ("ratings.dat", "196::242::3::881250949\n186::302::3::891717742\n"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n196,242,3.0,881250949\n186,302,3.0,891717742\n"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("form", ["auto", "movielens"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_movielens(write, tmp_path: Path, name: str, content: str, ending: str, form: str, mark: str) -> None:
    log = read_log(write(name + ending, mark + content.replace("\n", "\r\n" if mark else "\n")), format=form)
    assert rows(log) == [("196", "242", 881250949.0, 3.0), ("186", "302", 891717742.0, 3.0)]
    assert log.name == tmp_path.name


def test_parquet_takes_numbers_strings_and_dates(tmp_path: Path) -> None:
    table = pl.DataFrame({"user_id": [7, 8], "item_id": ["x", "y"], "rating": [1, 2]})
    times = {
        "int": pl.Series([10, 20]),
        "float": pl.Series([10.0, 20.0]),
        "datetime": pl.Series([datetime(1970, 1, 1, 0, 0, 10), datetime(1970, 1, 1, 0, 0, 20)]),
        "zoned": pl.Series([datetime(1970, 1, 1, 0, 0, 10), datetime(1970, 1, 1, 0, 0, 20)]).dt.replace_time_zone(
            "UTC"
        ),
        "text": pl.Series(["1970-01-01 00:00:10", "1970-01-01T00:00:20Z"]),
    }
    for kind, time in times.items():
        path = tmp_path / f"{kind}.parquet"
        table.with_columns(time.alias("time")).write_parquet(path)
        assert rows(read_log(path)) == [("7", "x", 10.0, 1.0), ("8", "y", 20.0, 2.0)], kind
    table.with_columns(pl.Series("time", [date(1970, 1, 2), date(1970, 1, 3)])).write_parquet(path)
    assert read_log(path).table["timestamp"].to_list() == [86400.0, 172800.0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("881250949", 881250949.0),
        ("881250949.25", 881250949.25),
        ("8.5e8", 8.5e8),
        (" 12 ", 12.0),
        ("1404172800000", 1404172800.0),
        ("1404172800123456", 1404172800.123456),
        ("2014-07-01", 1404172800.0),
        ("2014-07-01 00:00", 1404172800.0),
        ("2014-07-01T00:00:00", 1404172800.0),
        ("2014-07-01T00:00:00Z", 1404172800.0),
        ("2014-07-01 00:00:00.5 UTC", 1404172800.5),
        ("2014-07-01T02:00:00+02:00", 1404172800.0),
        ("2014-07-01 02:00:00.250+0200", 1404172800.25),
    ],
)
def test_times_become_seconds_utc(write, text: str, seconds: float) -> None:
    log = read_log(write("log.csv", f"user,item,time\na,x,{text}\n"))
    assert log.table["timestamp"].to_list() == pytest.approx([seconds], abs=1e-5)


HEADER = "user,item,time,rating\na,x,1,5\n"
BAD = {
    "time-word": (HEADER + "b,y,soon,5\n", ["line 3", "'soon'", "ISO"]),
    "time-none": (HEADER + "b,y,,5\n", ["line 3", "nothing"]),
    "time-short-row": (HEADER + "b,y\n", ["line 3"]),
    "time-nan": (HEADER + "b,y,NaN,5\n", ["line 3", "finite"]),
    "time-inf": (HEADER + "b,y,inf,5\n", ["line 3", "finite"]),
    "time-negative": (HEADER + "b,y,-4,5\n", ["line 3", "'-4' is negative"]),
    "time-mixed": (HEADER + "b,y,2,5\nc,y,1404172800000,5\n", ["line 4", "1404172800000"]),
    "date-impossible": ("user,item,time\na,x,2020-02-28\nb,x,2020-02-30\n", ["line 3", "2020-02-30"]),
    "date-early": ("user,item,time\na,x,1969-12-31\n", ["line 2", "1969-12-31", "negative"]),
    "user-empty": (HEADER + ",y,2,5\n", ["line 3", "user id is empty"]),
    "user-blank": (HEADER + '"  ",y,2,5\n', ["line 3", "user id is empty"]),
    "item-empty": (HEADER + 'b,"",2,5\n', ["line 3", "item id is empty"]),
    "after-blank-and-long-lines": (HEADER + '\n"b\nb",y,2,5\nc,y,?,5\n', ["line 6", "'?'"]),
    "too-many-fields": (HEADER + "b,y,2,5,6,7\n", ["line 3", "6 fields"]),
    "no-rows": ("user,item,time\n", ["no data rows"]),
    "blank-rows": ("user,item,time\n\n\n", ["no data rows"]),
    "empty": ("", ["empty"]),
    "only-line-ends": ("\n\r\n", ["empty"]),
    "missing-column": ("user,thing,time\na,x,1\n", ["no item column", "user, thing, time", "item_col"]),
    "no-header": ("1,2,3\n4,5,6\n", ["no user column", "1, 2, 3"]),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("case", BAD)
def test_bad_text_is_told_in_one_sentence(write, case: str, ending: str) -> None:
    content, words = BAD[case]
    path = write("log.csv" + ending, content)
    with pytest.raises(HardGNNError) as caught:
        read_log(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for word in words:
        assert word in message


def test_wrong_column_names_the_nearest(write) -> None:
    with pytest.raises(HardGNNError, match="no column 'userid'.*user, item, time.*did you mean 'user'"):
        read_log(write("log.csv", HEADER), user_col="userid")
    with pytest.raises(HardGNNError, match="cannot mean two things"):
        read_log(write("log.csv", HEADER), user_col="item")


def test_unknown_format_names_the_nearest(write) -> None:
    with pytest.raises(HardGNNError, match="unknown format 'parket': did you mean 'parquet'"):
        read_log(write("log.csv", HEADER), format="parket")


def test_files_that_are_none(tmp_path: Path, write) -> None:
    with pytest.raises(HardGNNError, match="no such file"):
        read_log(tmp_path / "absent.csv")
    with pytest.raises(HardGNNError, match="a folder"):
        read_log(tmp_path)


@pytest.mark.parametrize("form", ["auto", "inter", "csv", "movielens", "parquet"])
@pytest.mark.parametrize(
    "rubbish", [bytes(range(256)) * 64, b"\x89PNG\r\n\x1a\n" * 9, b"\xff\xfeu\x00s\x00", b"PAR1abcd"]
)
def test_binary_rubbish(write, form: str, rubbish: bytes) -> None:
    with pytest.raises(HardGNNError) as caught:
        read_log(write("log.csv", rubbish), format=form)
    assert "\n" not in str(caught.value)


def test_late_rubbish_in_a_text(write) -> None:
    with pytest.raises(HardGNNError, match="UTF-8"):
        read_log(write("log.csv", HEADER.encode() + b"b,y\xff\xfe,2,3\n" * 9))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("name", ["log.inter.gz", "log.csv.gz"])
def test_truncated_gzip(tmp_path: Path, share: float, name: str) -> None:
    text = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(
        f"{n}\t{n * 7919 % 9973}\t{n}\n" for n in range(40_000)
    )
    whole = gzip.compress(text.encode())
    path = tmp_path / name
    path.write_bytes(whole[: max(3, int(len(whole) * share))])
    with pytest.raises(HardGNNError, match="gzip file is truncated or damaged"):
        read_log(path, format="inter")


def test_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"user,item,time\na,x,1\n") + gzip.compress(b"b,y,2\n"))
    assert read_log(path).table.height == 2


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [1], "item": [2], "time": [3]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HardGNNError, match="parquet"):
        read_log(path)


def test_parquet_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": ["a", None], "item": [2, 2], "time": [3, 4]}).write_parquet(path)
    with pytest.raises(HardGNNError, match="row 2: the user id is empty"):
        read_log(path)


def test_movielens_names_the_line(write) -> None:
    with pytest.raises(HardGNNError, match="line 2: time 'x'"):
        read_log(write("ratings.dat", "1::2::3::4\n1::3::3::x\n"))


@pytest.mark.parametrize(
    ("log", "content", "items", "text"),
    [
        ("u.data", "1\t2\t3\t4\n", "u.item", "2|Misérables, Les (1995)|01-Jan-1995||http://x|0|0|0\n"),
        ("ratings.dat", "1::2::3::4\n", "movies.dat", "2::Misérables, Les (1995)::Drama\n"),
        (
            "ratings.csv",
            "userId,movieId,rating,timestamp\n1,2,3,4\n",
            "movies.csv",
            'movieId,title,genres\n2,"Misérables, Les (1995)",Drama\n',
        ),
        (
            "x.inter",
            "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t4\n",
            "x.item",
            "item_id:token\tmovie_title:token_seq\n2\tMisérables, Les (1995)\n",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_titles_beside_the_log(tmp_path: Path, log: str, content: str, items: str, text: str, encoding: str) -> None:
    (tmp_path / log).write_text(content)
    assert read_log(tmp_path / log).titles is None
    (tmp_path / items).write_bytes(text.encode(encoding))
    titles = read_log(tmp_path / log).titles
    assert titles is not None
    assert titles.rows() == [("2", "Misérables, Les (1995)")]
    assert read_log(tmp_path / log, items_file=tmp_path / items).titles is not None


def test_an_items_file_must_be_one(write, tmp_path: Path) -> None:
    path = write("log.csv", HEADER)
    with pytest.raises(HardGNNError, match="no such file"):
        read_log(path, items_file=tmp_path / "absent.csv")
    with pytest.raises(HardGNNError, match="columns found: a, b"):
        read_log(path, items_file=write("items.csv", "a,b\n1,2\n"))
    with pytest.raises(HardGNNError, match="binary"):
        read_log(path, items_file=write("items.bin", b"\0\1"))


@pytest.mark.parametrize(
    ("name", "count"),
    [("amazon-grocery", 151_254), ("foursquare", 185_984), ("gowalla-1k", 157_251), ("ml-latest-small", 100_836)],
)
def test_shared_logs(name: str, count: int) -> None:
    path = SHARED / f"{name}.inter.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    log = read_log(path)
    assert (log.name, log.table.height) == (name, count)
    assert log.table.null_count().row(0) == (0, 0, 0, 0)
