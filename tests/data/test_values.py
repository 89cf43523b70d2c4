"""What becomes of values: ids, times and ratings of files and frames, formats that are guessed, and what is told."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from hardgnn import InteractionLog
from hardgnn.data.events import read_events
from hardgnn.data.log import read_log
from hardgnn.errors import HardGNNError
from hardgnn.prepare.simulate import simulate

T0 = 1_400_457_600
"""2014-05-19."""


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., InteractionLog]:
    def of(text: str, name: str = "log.csv", **options: Any) -> InteractionLog:
        (tmp_path / name).write_text(text, "utf-8")
        return read_log(tmp_path / name, **options)

    return of


def ids(log: InteractionLog, name: str = "user") -> list[str]:
    return log.table[name].cast(pl.String).to_list()


def table(**columns: list) -> pl.DataFrame:
    rows = {"user": ["a", "b"], "item": ["x", "y"], "timestamp": [T0, T0 + 60], **columns}
    return pl.DataFrame(rows)


def test_titles_go_by_the_same_ids(log, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item,title\n26.0,Alien\n 27,Brazil\n")
    read = log("user,item,time\na,26,1\na,27.0,2\na,28,3\n", items_file=tmp_path / "items.csv")
    titles = read.prepare(k_core=0, candidates=1).item_titles
    assert titles is not None
    assert titles.to_list() == ["Alien", "Brazil", None]


# formats


@pytest.mark.parametrize(
    ("line", "kind"),
    [("u7,i9,5.0,1400457600", "amazon"), ("7\t9\t4\t1400457600", "movielens"), ("7::9::3.5::1400457600", "movielens")],
)
def test_four_fields_without_a_header_are_ratings_where_that_is_plausible(log, line: str, kind: str) -> None:
    read = log(f"{line}\n{line}\n", "some.log").reading
    assert read.told() == {
        "format": kind,
        "user": "field 1",
        "item": "field 2",
        "time": "field 4",
        "rating": "field 3",
        "time_unit": "seconds",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("11,1400457600,214536502,0", "the third, '214536502', is no rating from 0 to 10"),  # session, time, item, kind
        ("11,214536502,1400457600,3", "the third, '1400457600', is no rating"),
        ("11\t214536502\t3\t17", "the fourth, '17', is no time between 1990 and next year"),
        ("11::214536502::3::17", "the fourth, '17', is no time"),
    ],
)
def test_other_four_fields_are_not_taken_for_ratings(log, line: str, words: str) -> None:
    with pytest.raises(HardGNNError, match=words) as caught:
        log(f"{line}\n" * 5, "some.log")
    assert "put a header such as user,item,timestamp in front" in str(caught.value)
    assert "on line 1" in str(caught.value)


def test_one_plausible_first_line_does_not_make_a_format(log) -> None:
    with pytest.raises(HardGNNError, match="on line 2 the third"):
        log("a,x,1,1400457600\n" + "a,1400457600,214536502,0\n" * 9, "some.log")


def test_a_single_damaged_line_is_named_and_not_a_reason_for_another_format(log) -> None:
    with pytest.raises(HardGNNError, match="line 3: time 'soon'"):
        log("a,x,1,1400457600\n" * 2 + "a,x,1,soon\n", "some.log")


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ('{"reviewerID":"A1","asin":"B1","overall":5.0,"unixReviewTime":1400457600}', "reviewerID asin unixReviewTime"),
        ('{"user_id":"A1","parent_asin":"B1","asin":"B2","rating":5,"timestamp":1400457600000}', "user_id parent_asin"),
    ],
)
@pytest.mark.parametrize("form", ["auto", "json", "amazon"])
def test_reviews_of_amazon_are_read_as_json(log, line: str, columns: str, form: str) -> None:
    read = log(f"{line}\n", "reviews.json", format=form)
    assert read.table.rows() == [("A1", "B1", T0, 5.0)]
    assert list(read.reading.columns.values())[: len(columns.split())] == columns.split()


def test_json_that_is_no_log_says_what_is_there(log) -> None:
    with pytest.raises(HardGNNError, match="no user column; columns found: name, stars"):
        log('{"name": "x", "stars": 3}\n', "some.json")
    with pytest.raises(HardGNNError, match="line 1: user is an object, expected a string or a number"):
        log('{"user": {"id": 3}, "item": 1, "time": 2}\n', "some.json")


def test_headers_as_programs_write_them(log) -> None:
    assert ids(log('\ufeff"","User ID","Item-Id","TimeStamp"\n0,a,x,5\n')) == ["a"]  # pandas' index column in front
    with pytest.raises(HardGNNError, match="two columns are called 'user'"):
        log("user,user,item,time\na,b,x,5\n")
    with pytest.raises(HardGNNError, match="first line looks like data: put a header.*format='sequences'"):
        log("1 17\n1 4\n")
    with pytest.raises(HardGNNError, match="stand between tabs, found commas"):
        log("user_id:token,item_id:token,timestamp:float\na,x,1\n", "log.inter")


# sequences


@pytest.mark.parametrize(
    "text", ["1 17\n1 4\n2 17\n1 23\n", "1\t17\n1\t4\n2\t17\n1\t23\n", "1,17\r\n1,4\r\n\r\n2,17\r\n1,23"]
)
def test_a_line_for_each_item_oldest_first(log, text: str) -> None:
    read = log(text, "beauty.txt", format="sequences")
    assert read.table.rows() == [("1", "17", 1.0), ("1", "4", 2.0), ("2", "17", 1.0), ("1", "23", 3.0)]
    assert read.reading.unit == "order of the rows"


@pytest.mark.parametrize("between", [" ", "\t", ",", ", "])
def test_a_line_for_each_user(log, between: str) -> None:
    text = "1 17 4 23\n\n2 17\n".replace(" ", between)
    assert log(text, "beauty.txt", format="sequences").table.rows() == [
        ("1", "17", 1.0),
        ("1", "4", 2.0),
        ("1", "23", 3.0),
        ("2", "17", 1.0),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("log.csv", "user,item\na,x\nb,x\na,y\n"), ("log.inter", "user_id:token\titem_id:token\na\tx\nb\tx\na\ty\n")],
)
def test_tables_without_times_are_sequences_if_one_says_so(log, name: str, text: str) -> None:
    with pytest.raises(HardGNNError, match="no timestamp column.*oldest first, are read with format='sequences'"):
        log(text, name)
    assert log(text, name, format="sequences").table.rows() == [("a", "x", 1.0), ("b", "x", 1.0), ("a", "y", 2.0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 17 4\n2\n", "line 2: one field, expected a user and items"),
        ("1 17\n\n2,4,,5\n", "line 3: an id is empty"),
        ("1 17 4 5\n2 3 4 5\n1 18 5 6\n", "line 3: user '1' has a line already"),
        ("1 17\n" * 5 + "2 \ufffd".replace("\ufffd", "\n"), "line 6: one field"),
    ],
)
def test_lines_that_are_no_sequences(log, text: str, words: str) -> None:
    with pytest.raises(HardGNNError, match=words):
        log(text, "beauty.txt", format="sequences")


def test_sequences_take_no_time_column(log) -> None:
    with pytest.raises(HardGNNError, match="a time column does nothing"):
        log("user,item,when\na,x,1\n", format="sequences", time_col="when")


def test_order_is_the_same_from_a_file_of_sequences_and_of_positions(log) -> None:
    lines = "".join(f"u{user} {' '.join(f'i{(user * 7 + n) % 30}' for n in range(8))}\n" for user in range(30))
    rows = [(f"u{user}", f"i{(user * 7 + n) % 30}", n + 1) for user in range(30) for n in range(8)]
    positions = "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    one, two = (
        read.prepare(k_core=2, candidates=5) for read in (log(lines, "s.txt", format="sequences"), log(positions))
    )
    np.testing.assert_array_equal(one.item, two.item)
    np.testing.assert_array_equal(one.timestamp, two.timestamp)
    assert one.manifest["warnings"] == two.manifest["warnings"] == []
    assert two.manifest["read"]["time_unit"] == "order, small numbers that are no dates"
    assert "only an order" in log(positions).prepare(k_core=2, split="global-time").manifest["warnings"][0]


# times


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (
            [T0 * 1000, T0 * 1000 + 5, T0],
            "line 4: time '1400457600' is not in milliseconds .*line 2: time '1400457600000'",
        ),
        ([T0, T0 + 5, T0 * 1000], "line 4: time '1400457600000' is not in seconds .*line 2: time '1400457600' is"),
        (["20140514", "20140515", "20140231"], "line 4: time '20140231' is no date such as 20140514"),
        ([T0, "2014-05-14"], "line 3: time '2014-05-14' is not a number .*all numbers or all ISO dates"),
        (["2014-05-14", T0], "line 3: time '1400457600' is not an ISO date .*all numbers or all ISO dates"),
        ([T0, '"1400457600,5"'], "line 3: time '1400457600,5'.*decimal comma"),
    ],
)
def test_times_of_two_kinds_are_refused(log, times: list, words: str) -> None:
    with pytest.raises(HardGNNError, match=words):
        log("user,item,time\n" + "".join(f"a,x,{one}\n" for one in times))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20140514", datetime(2014, 5, 14)),
        ("201405140930", datetime(2014, 5, 14, 9, 30)),
        ("20140514093015", datetime(2014, 5, 14, 9, 30, 15)),
    ],
)
def test_compact_dates(log, text: str, moment: datetime) -> None:
    seconds = moment.replace(tzinfo=UTC).timestamp()
    read = log(f"user,item,time\na,x,{text}\n")
    assert read.table["timestamp"].to_list() == [seconds]
    assert read.reading.unit == "dates as 20140514"
    for numbers in ([int(text)] * 2, [float(text)] * 2, [text] * 2):
        assert InteractionLog(table(timestamp=numbers)).table["timestamp"].to_list() == [seconds] * 2


def test_a_long_order_is_no_list_of_dates() -> None:
    numbers = np.arange(19_000_000, 22_000_000, 1500)
    rows = pl.DataFrame({"user": ["a"] * len(numbers), "item": ["x"] * len(numbers), "timestamp": numbers})
    read = InteractionLog(rows)
    assert read.reading.is_order
    np.testing.assert_array_equal(read.table["timestamp"].to_numpy(), numbers)


# ids


@pytest.mark.parametrize("text", ["26", "26.0", "26.00", "2.6e+01", "2.6E+1", " 26", "26 ", "\u00a026.0 "])
def test_one_number_is_one_id(log, text: str) -> None:
    read = log(f'user,item,time\n"{text}",x,1\n7,y,2\n')
    assert ids(read) == ["26", "7"]
    assert len(read.reading.warnings) == (text.strip() != text) + (text.strip() != "26")


@pytest.mark.parametrize("text", ["26e1", "1e5", "007", "v26.0", "26.0.1", "a b", "26.5"])
def test_other_texts_stay_as_they_are(log, text: str) -> None:
    assert ids(log(f"user,item,time\n{text},x,1\nb,y,2\n")) == [text, "b"]


def test_blanks_and_decimals_are_told_with_their_number(log) -> None:
    read = log("user,item,time\n a,1.0,1\na,2.0,2\na ,2.0,3\nb,3.0,4\n")
    assert ids(read) == ["a", "a", "a", "b"]
    assert ids(read, "item") == ["1", "2", "2", "3"]
    assert read.reading.warnings == (
        "2 of 4 events have blanks around the user id, such as ' a': it is read as 'a'",
        "4 of 4 events have the item id written as a decimal number, such as '1.0': it is read as '1'",
    )


def test_a_fraction_in_a_column_of_decimals_is_no_id(log) -> None:
    with pytest.raises(HardGNNError, match="line 3: the user id '26.5' is not a whole number"):
        log("user,item,time\n26.0,x,1\n26.5,x,2\n")


def test_blanks_are_taken_off_in_every_format(log, tmp_path: Path) -> None:
    assert ids(log(f"a , x,3,{T0}\n", "some.log")) == ["a"]
    assert ids(log(f"7 :: 9::3::{T0}\n", "ratings.dat"), "item") == ["9"]
    (tmp_path / "events.csv").write_text("user,item\n a,26.0\n")
    with pytest.warns(UserWarning, match="1 of 1 events have"):
        assert read_events(tmp_path / "events.csv").rows() == [("a", "26")]
    pl.DataFrame({"user": [" a"], "item": [26.0], "time": [1]}).write_parquet(tmp_path / "events.parquet")
    told: list[str] = []
    assert read_events(tmp_path / "events.parquet", told.append).rows() == [("a", "26")]
    assert told == ["1 of 1 events have blanks around the user id, such as ' a': it is read as 'a'"]


def test_words_for_missing_values_are_told_and_dropped_if_asked() -> None:
    rows = simulate(60, 50, 2_000, 0)[0]
    rows = rows.with_columns(user=pl.when(pl.int_range(pl.len()) % 5 != 0).then(pl.lit("NA")).otherwise("user"))
    told = InteractionLog(rows).prepare(k_core=2, candidates=5).manifest["warnings"]
    assert told[0].startswith("the user id 'NA' is a word for a missing value and has 1,600 of 2,000 events (80.0%)")
    assert not any("the next has" in sentence for sentence in told)
    data = InteractionLog(rows).prepare(k_core=2, candidates=5, drop_missing=True)
    assert data.manifest["steps"][1]["step"] == "drop_missing"
    assert data.manifest["steps"][1]["interactions"] == 400
    assert not any("missing" in sentence for sentence in data.manifest["warnings"])


def test_rows_without_an_id_are_dropped_where_asked(tmp_path: Path) -> None:
    """As pandas writes them: nothing in a CSV, null and NaN in Parquet."""
    rows = simulate(60, 50, 2_000, 0)[0].with_row_index("row")
    item = pl.col("item").str.strip_prefix("i").cast(pl.Float64)
    holes = rows.select("user", pl.when(pl.col("row") % 4 > 0).then(item).alias("item"), "timestamp")
    holes.write_csv(tmp_path / "log.csv")
    holes.write_parquet(tmp_path / "null.parquet")
    holes.with_columns(pl.col("item").fill_null(float("nan"))).write_parquet(tmp_path / "nan.parquet")
    for name, place in (("log.csv", "line 2"), ("null.parquet", "row 1"), ("nan.parquet", "row 1")):
        with pytest.raises(HardGNNError, match=f"{place}: the item id .*"):
            InteractionLog.read(tmp_path / name)
        log = InteractionLog.read(tmp_path / name, drop_missing=True)
        assert len(log.table) == 1_500
        assert log.reading.warnings[-1] == "500 of 2,000 rows have no user or no item and are dropped"
        assert set(log.table["item"].cast(pl.String)) == set(rows.filter(pl.col("row") % 4 > 0)["item"].str.slice(1))
    with pytest.raises(HardGNNError, match="is empty; drop_missing=True drops such rows"):
        InteractionLog.read(tmp_path / "log.csv")
    holes.with_columns(item=pl.lit(None, pl.String)).write_csv(tmp_path / "log.csv")
    with pytest.raises(HardGNNError, match="no data rows"):
        InteractionLog.read(tmp_path / "log.csv", drop_missing=True)


def test_a_user_who_has_too_much_is_told() -> None:
    rows = simulate(60, 50, 2_000, 0)[0]
    rows = rows.with_columns(user=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("bot")).otherwise("user"))
    with pytest.warns(UserWarning, match="the user 'bot' has 1,000 of 2,000 events .50.0%., the next has"):
        InteractionLog(rows).prepare(k_core=2, candidates=5)


# frames


REFUSED = {
    "time of day": ({"timestamp": [time(1), time(2)]}, "column 'timestamp' cannot be the timestamp: .*times of day"),
    "duration": ({"timestamp": [timedelta(1), timedelta(2)]}, "lengths of time"),
    "boolean time": ({"timestamp": [True, False]}, "true and false"),
    "struct": ({"user": [{"i32": 1}, {"i32": 2}]}, "column 'user' cannot be the user: it holds records of several"),
    "list": ({"item": [[1], [2]]}, "column 'item' cannot be the item: it holds lists"),
    "binary": ({"item": [b"1", b"2"]}, "it holds bytes"),
    "boolean": ({"user": [True, False]}, "it holds true and false"),
    "dates": ({"user": [date(2014, 5, 14)] * 2}, "it holds dates"),
    "rating": ({"rating": [[1], [2]]}, "column 'rating' cannot be the rating: it holds lists"),
    "fraction": ({"user": [26.0, 26.5]}, "row 2: the user id '26.5' is not a whole number"),
    "nan id": ({"user": [26.0, math.nan]}, "row 2: the user id 'nan' is not a whole number"),
    "decimal": ({"user": [Decimal("26.00"), Decimal("26.50")]}, "row 2: the user id '26.50' is not a whole number"),
    "null id": ({"user": [None, "b"]}, "row 1: the user id is empty"),
    "nan": ({"timestamp": [1.4e9, math.nan]}, "row 2: time 'nan' is not a finite number"),
    "inf": ({"timestamp": [math.inf, 1.4e9]}, "row 1: time 'inf' is not a finite number"),
    "null": ({"timestamp": [None, 1.4e9]}, "row 1: time .nothing. is not a number"),
    "negative": ({"timestamp": [T0, -4]}, "row 2: time '-4' is negative"),
    "units": ({"timestamp": [T0, T0 * 1000]}, "row 1: time '1400457600' is not in milliseconds"),
    "word": ({"timestamp": ["2014-05-14", "soon"]}, "row 2: time 'soon' is not an ISO date"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("as_file", [False, True])
def test_frames_and_parquet_are_refused_alike(tmp_path: Path, case: str, as_file: bool) -> None:
    columns, words = REFUSED[case]
    frame, path = table(**columns), tmp_path / "log.parquet"
    frame.write_parquet(path)
    with pytest.raises(HardGNNError, match=words) as caught:
        read_log(path) if as_file else InteractionLog(frame)
    assert str(caught.value).startswith(f"{path}: " if as_file else "table: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "frame",
    [
        table(user=[26.0, 7.0]),
        table(user=pl.Series([26, 7], dtype=pl.UInt64)),
        table(user=[Decimal("26.00"), Decimal("7.00")]),
        table(user=pl.Series(["26", "7"], dtype=pl.Categorical), item=pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"]))),
        table(user=["26", "7"], timestamp=[T0 * 1000, (T0 + 60) * 1000]),
        table(user=["26", "7"], timestamp=["2014-05-19", "2014-05-19 00:01"]),
        table(user=["26", "7"], timestamp=[Decimal(T0), Decimal(T0 + 60)]),
        table(user=["26", "7"], timestamp=[datetime(2014, 5, 19), datetime(2014, 5, 19, 0, 1)]),
        table(
            user=["26", "7"],
            timestamp=pl.Series([datetime(2014, 5, 19, 2), datetime(2014, 5, 19, 2, 1)])
            .dt.replace_time_zone("Europe/Berlin")
            .dt.cast_time_unit("ns"),
        ),
        table(user=["26", "7"]).rename({"user": "userId", "timestamp": "ts"}),
    ],
)
def test_frames_and_parquet_are_read_alike(tmp_path: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(tmp_path / "log.parquet")
    for read in (InteractionLog(frame), read_log(tmp_path / "log.parquet")):
        assert read.table.rows() == [("26", "x", T0), ("7", "y", T0 + 60)]
        assert [str(dtype) for dtype in read.table.dtypes] == ["Categorical", "Categorical", "Float64"]


def test_a_frame_must_be_one_with_the_columns() -> None:
    with pytest.raises(HardGNNError, match="expected a table of polars, pandas or Arrow, got a builtins list"):
        InteractionLog(["a"])  # type: ignore[arg-type]
    with pytest.raises(HardGNNError, match="no item column; columns found: user, timestamp"):
        InteractionLog(table().drop("item"))
    with pytest.raises(HardGNNError, match="no data rows"):
        InteractionLog(table().clear())


# ratings


def test_a_damaged_rating_stops_only_who_asks_for_ratings(log) -> None:
    rows = "".join(
        f"u{n % 9},i{n % 7},{T0 + n},{'4,5' if n == 5 else n % 5}\n".replace("4,5", '"4,5"') for n in range(200)
    )
    read = log("user,item,time,rating\n" + rows)
    assert read.table["rating"].to_list()[4:7] == [4.0, None, 1.0]
    told = (
        "1 of 200 ratings are no numbers and taken for none; the first: line 7: rating '4,5' is not a number (a decimal"
    )
    assert read.prepare(k_core=2, candidates=2).manifest["warnings"][0].startswith(told)
    with pytest.raises(
        HardGNNError, match="min_rating=2 needs ratings that are numbers: .*log.csv: line 7: rating '4,5'"
    ):
        read.prepare(min_rating=2)


# doubts


def market(**columns: pl.Expr) -> pl.DataFrame:
    return simulate(60, 500, 3_000, 0)[0].with_columns(**columns)


def doubts(rows: pl.DataFrame, **settings: Any) -> list[str]:
    settings = {"k_core": 2, "candidates": 99, "repeats": "all", **settings}
    return InteractionLog(rows).prepare(**settings).manifest["warnings"]


def test_one_absurd_time_is_told_with_what_to_set() -> None:
    year_2100 = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    late = pl.when(pl.int_range(pl.len()) == 7).then(year_2100).otherwise("timestamp")
    first, second = doubts(market(timestamp=late))
    assert re.match(r"1 of [\d,]+ times \(0.0%\) lie after 20\d\d, as 2100-01-01 does", first)
    assert "events fall into one of 5 equal intervals of time (shares 100.0%, 0.0%, 0.0%, 0.0%, 0.0%)" in second
    assert "model={'interval_cut': 'count'}" in second
    until = re.search(r"until='([\d-]+)'", second)
    assert until is not None
    assert doubts(market(timestamp=late), until=until[1]) == []


def test_implausible_years_are_told_with_their_share() -> None:
    told = doubts(market(timestamp=pl.when(pl.int_range(pl.len()) % 4 == 0).then(0).otherwise("timestamp")))
    assert re.match(r"\d+ of [\d,]+ times \(2\d.\d%\) lie before 1990, as 1970-01-01 does", told[0])


def test_tied_times_are_told_with_their_share() -> None:
    day = 86_400 * 400
    told = doubts(market(timestamp=pl.col("timestamp") // day * day).sort("item"))
    assert re.match(r"2,\d{3} of 2,\d{3} events \(\d\d.\d%\) have the time of the event before or after", told[0])
    assert doubts(market()) == []


def test_too_few_candidates_are_told() -> None:
    assert "users have fewer than 999 sampled negatives" in doubts(market(), candidates=999)[0]


def test_a_core_that_leaves_nothing_says_which_would() -> None:
    with pytest.raises(
        HardGNNError, match=r"highest k_core that leaves any is (\d+), with [\d,]+ interactions"
    ) as caught:
        InteractionLog(market()).prepare(k_core=400)
    best = int(re.search(r"any is (\d+)", str(caught.value))[1])  # type: ignore[index]
    assert InteractionLog(market()).prepare(k_core=best).n_users > 0
    with pytest.raises(HardGNNError, match=f"any is {best}, with"):
        InteractionLog(market()).prepare(k_core=best + 1)


# anything, against a slow reading of the same


BLANK = "\t\n\x0b\x0c\r \x85\xa0\u2003\u3000"
WHOLE, POINTED, POWERED = r"-?[0-9]+", r"(-?[0-9]+)\.0+", r"-?[0-9](\.[0-9]+[eE]\+?|[eE]\+)[0-9]+"


class Refused(Exception):
    """What the slow reading refuses."""


def slow_ids(texts: list[str]) -> list[str]:
    bare = [text.strip(BLANK) for text in texts]
    found = []
    for text in bare:
        if not text:
            raise Refused
        value = float(text) if re.fullmatch(POWERED, text) else math.nan
        if math.isfinite(value) and value == math.floor(value) and abs(value) <= 2**53:
            found.append(str(int(value)))
        else:
            pointed = re.fullmatch(POINTED, text)
            found.append(pointed[1] if pointed else text)
    numbers = all(re.fullmatch(rf"{WHOLE}(\.[0-9]+)?|{POWERED}", text) for text in bare)
    if found != bare and numbers and any(re.fullmatch(r"-?[0-9]+\.[0-9]*[1-9][0-9]*", text) for text in bare):
        raise Refused
    return found


def slow_times(texts: list[str]) -> list[float]:
    if "-0" in texts[0][4:]:
        try:
            return [datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() for text in texts]
        except ValueError:
            raise Refused from None
    try:
        values = [float(text) for text in texts]
    except ValueError:
        raise Refused from None
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise Refused
    middle = float(np.median(values))
    if 1.9e7 <= middle < 2.2e7:
        dates = [slow_date(value) for value in values]
        if sum(one is not None for one in dates) > len(dates) / 2:
            if None in dates:
                raise Refused
            return [one for one in dates if one is not None]
    kinds = [int(np.searchsorted([1e11, 1e14, 1e17], value, side="right")) for value in [middle, *values]]
    if any(value > 0 and kind != kinds[0] for value, kind in zip(values, kinds[1:])):
        raise Refused
    return [value / (1, 1e3, 1e6, 1e9)[kinds[0]] for value in values]


def slow_date(value: float) -> float | None:
    try:
        return datetime.strptime(f"{value:.0f}", "%Y%m%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


ODD_TEXTS = ("26", "26.0", " 26", "2.6e+01", "2.65e+01", "26.5", "26.", "26e1", "1e5", "-3.0", "007.0", "+26.0", "-0.0")
ODD_TEXTS += (
    "NA",
    "nan",
    "é",
    " \u3000",
    "9007199254740993.0",
    "9.1e+99",
    "a,b",
    'q"q',
    "a[/b]",
    "=1",
    "\u200b",
    "٢.0",
)
ODD_IDS = st.sampled_from(ODD_TEXTS) | st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=4)
NUMBERS = st.sampled_from([T0, T0 * 1000, T0 * 10**6, 20140514, 20140231, 17, 0, -4, 4102444800])
ODD_TIMES = NUMBERS.map(str) | st.sampled_from(
    ["2014-05-14", "2014-02-30", "soon", "1e9", "nan", "inf", "1,5", "1.5", "5e-3"]
)
SAME_TIMES = st.sampled_from(["1400457600", "1400457600123", "20140514", "17", "2014-05-14"])
ROWS = SAME_TIMES.flatmap(
    lambda usual: st.lists(
        st.tuples(ODD_IDS, ODD_IDS, st.just(usual) | st.just(usual) | ODD_TIMES), min_size=1, max_size=6
    )
)


@seed(17)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(["csv", "parquet", "frame"]))
def test_anything_is_read_as_a_slow_reader_does_or_refused(tmp_path: Path, rows: list, form: str) -> None:
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    expected: list[tuple[str, str, float]] | None
    try:
        users, items, times = ([row[place] for row in rows] for place in range(3))
        expected = list(zip(slow_ids(users), slow_ids(items), slow_times(times)))
    except Refused:
        expected = None
    if form == "csv":
        with (tmp_path / "log.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([frame.columns, *rows])
    frame.write_parquet(tmp_path / "log.parquet")
    try:
        read = InteractionLog(frame) if form == "frame" else read_log(tmp_path / f"log.{form}")
    except HardGNNError:
        assert expected is None
        return
    assert expected is not None
    assert read.table.select("user", "item").rows() == [row[:2] for row in expected]
    assert read.table["timestamp"].to_list() == pytest.approx([row[2] for row in expected], rel=1e-12)
