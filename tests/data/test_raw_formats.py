"""The raw files of the papers' four data sets, as their public descriptions have them, odd cases included."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from archives import tarred, zipped
from hardgnn import InteractionLog
from hardgnn.data.log import read_log
from hardgnn.data.raw.file import BLOCK_BYTES
from hardgnn.errors import HardGNNError

BOM = "\ufeff"
AMAZON = "A2XQ5LZHTD4AFT,000100039X,5.0,1400457600\nA10000012B7CGYKOMPQ4L,000100039X,4.0,1355616000\n"
AMAZON_ROWS = [
    ("A2XQ5LZHTD4AFT", "000100039X", 1400457600.0, 5.0),
    ("A10000012B7CGYKOMPQ4L", "000100039X", 1355616000.0, 4.0),
]
GOWALLA = (
    "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n"
    "1\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315\n"
)
GOWALLA_ROWS = [("0", "22847", 1287532527.0), ("1", "420315", 1287440263.0)]
RATINGS = "1::122::5::838985046\n1::185::4.5::838983525\n"
MOVIES = "122::Boomerang (1992)::Comedy|Romance\n185::Misérables, Les (1995)::Drama\n"
MOVIELENS_ROWS = [("1", "122", 838985046.0, 5.0), ("1", "185", 838983525.0, 4.5)]
YELP_ROWS = [("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", 1531004957.0, 3.0), ("u2", "b2", 1325376000.0, 5.0)]


def review(user: str, business: str, date: str, stars: float = 3.0, text: str = 'so "good"\n{} é') -> str:
    """A line of Yelp's review file."""
    counts = {"useful": 0, "funny": 0, "cool": 0}
    fields = {"review_id": "KU_O5udG6zpxOg-VcAEodg", "user_id": user, "business_id": business, "stars": stars}
    return json.dumps({**fields, **counts, "text": text, "date": date})


YELP = "\n".join(
    [
        review("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", "2018-07-07 23:09:17"),
        review("u2", "b2", "2012-01-01", 5, text='"user_id":"not me"'),  # dates of older releases have no time
        "",
    ]
)
TEXTS = {"amazon": AMAZON, "gowalla": GOWALLA, "movielens": RATINGS, "yelp": YELP}
ROWS = {"amazon": AMAZON_ROWS, "gowalla": GOWALLA_ROWS, "movielens": MOVIELENS_ROWS, "yelp": YELP_ROWS}


def rows(log: InteractionLog) -> list[tuple[object, ...]]:
    return log.table.rows()


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("form", ["auto", "named"])
@pytest.mark.parametrize("ending", ["plain", "windows", "gzip", "mark", "no-last-end", "blank-lines"])
def test_each_format_is_told_from_its_content(tmp_path: Path, kind: str, form: str, ending: str) -> None:
    text = {
        "windows": BOM + TEXTS[kind].replace("\n", "\r\n"),
        "mark": BOM + TEXTS[kind],
        "no-last-end": TEXTS[kind].rstrip("\n"),
        "blank-lines": "\r\n" + TEXTS[kind].replace("\n", "\n \n") + "\n\n",
    }.get(ending, TEXTS[kind])
    path = put(tmp_path, "some.log", gzip.compress(text.encode()) if ending == "gzip" else text)
    log = read_log(path, format="auto" if form == "auto" else kind)
    assert rows(log) == ROWS[kind]
    assert log.name == "some"


def test_amazon_keeps_duplicate_ratings_for_prepare_to_decide(tmp_path: Path) -> None:
    path = put(tmp_path, "ratings_Books.csv", AMAZON + AMAZON.replace("5.0,1400457600", "1.0,1400457601"))
    assert len(rows(read_log(path))) == 4


def test_amazon_files_of_2018_have_user_and_item_the_other_way_round(tmp_path: Path) -> None:
    path = put(tmp_path, "Books.csv", "0001713353,A1C6M8LCIX4M6M,5.0,1123804800\n")
    with pytest.raises(HardGNNError, match="line 1: item and user stand in the order of the 2018 files"):
        read_log(path)


@pytest.mark.parametrize("end", ["\t", "\t\t", " ", "\t \t", "\t\r"])
def test_gowalla_lines_may_end_in_blank_fields(tmp_path: Path, end: str) -> None:
    for text in (GOWALLA.replace("\n", end + "\n"), GOWALLA.replace("22847\n", f"22847{end}\n")):
        assert rows(read_log(put(tmp_path, "checkins.txt", text))) == GOWALLA_ROWS


def test_gowalla_blank_coordinates_do_not_matter(tmp_path: Path) -> None:
    text = GOWALLA.replace("\t30.2359091167\t-97.7951395833", "\t\t")
    assert rows(read_log(put(tmp_path, "checkins.txt", text))) == GOWALLA_ROWS


@pytest.mark.parametrize("folder", ["", "ml-10M100K/", "a/b/"])
def test_movielens_archives_are_read_as_they_are_with_titles(tmp_path: Path, folder: str) -> None:
    csv = "userId,movieId,rating,timestamp\n" + RATINGS.replace("::", ",")
    movies = 'movieId,title,genres\n122,Boomerang (1992),Comedy\n185,"Misérables, Les (1995)",Drama\n'
    more = {folder + "README.html": "x", folder + "tags.dat": "1::2::x::3\n"}
    archives = {
        "ml-10m.zip": {folder + "ratings.dat": RATINGS, folder + "movies.dat": MOVIES},
        "ml-25m.zip": {folder + "ratings.csv": csv, folder + "movies.csv": movies},
        "ml-32m.zip": {folder + "ratings.csv": BOM + csv.replace("\n", "\r\n"), folder + "movies.csv": movies},
        "ml-100k.zip": {folder + "u.data": RATINGS.replace("::", "\t"), folder + "u.item": MOVIES.replace("::", "|")},
    }
    for name, members in archives.items():
        for form in ("auto", "movielens"):
            log = read_log(put(tmp_path, name, zipped({**more, **members})), format=form)
            assert rows(log) == MOVIELENS_ROWS
            assert log.name == name.removesuffix(".zip")
            if name != "ml-100k.zip":  # a line with so few bars is not u.item's
                assert log.titles is not None
                assert log.titles.rows()[1] == ("185", "Misérables, Les (1995)")


OTHERS = {"business.json": '{"business_id":"b"}\n', "yelp_academic_dataset_business.json": '{"business_id":"b"}\n'}


@pytest.mark.parametrize("folder", ["", "yelp_dataset/", "./"])
@pytest.mark.parametrize("name", ["yelp_dataset.tar", "yelp_dataset.tgz", "yelp_dataset.tar.gz", "misnamed.tar"])
def test_yelp_official_archive(tmp_path: Path, folder: str, name: str) -> None:
    members = {folder + one: text for one, text in OTHERS.items()}
    members |= {folder + "._yelp_academic_dataset_review.json": b"\0\5\26\7", folder + "a.pdf": b"%PDF"}
    members |= {folder + "yelp_academic_dataset_review.json": YELP, folder + "yelp_academic_dataset_user.json": "{}\n"}
    # the published .tar is a gzip for all its name
    path = put(tmp_path, name, tarred(members, "w" if name == "yelp_dataset.tar" else "w:gz"))
    log = read_log(path)
    assert rows(log) == YELP_ROWS
    assert log.name == name.split(".")[0]
    nested = put(
        tmp_path, "Yelp-JSON.zip", zipped({"Yelp JSON/README": "", "Yelp JSON/yelp_dataset.tar": path.read_bytes()})
    )
    assert rows(read_log(nested, format="yelp")) == YELP_ROWS


def test_long_files_are_read_block_by_block(tmp_path: Path) -> None:
    count = 3 * BLOCK_BYTES // 100
    lines = [review(f"u{n}", f"b{n % 7}", "2018-07-07 23:09:17", text="x" * 40) for n in range(count)]
    log = read_log(put(tmp_path, "y.json", "\n".join(lines)))
    assert log.table["user"].to_list() == [f"u{n}" for n in range(count)]
    lines[-2] = lines[-2].replace('"user_id"', '"nobody"')
    with pytest.raises(HardGNNError, match=f"y.json: line {count - 1}: the user id is empty"):
        read_log(put(tmp_path, "y.json", "\n".join(lines)))
    checkins = [f"{n}\t2010-10-19T23:55:27Z\t1\t2\t{n}\t" for n in range(4 * BLOCK_BYTES // 40)]
    assert len(rows(read_log(put(tmp_path, "g.txt", "\n".join(checkins))))) == len(checkins)
    checkins[-1] += "extra"
    with pytest.raises(HardGNNError, match=f"g.txt: line {len(checkins)}: 6 fields, expected 5"):
        read_log(put(tmp_path, "g.txt", "\n".join(checkins)))


BAD = {
    "amazon": [
        ("u,i,5.0,1\nu,i,5.0\n", "line 2: time (nothing) is not a number"),
        ("u,i,5.0,1\n\nu,i,5.0,soon\n", "line 3: time 'soon'"),
        ("u,i,5.0,1\nu,i,5.0,1,9\n", "line 2: 5 fields, expected 4"),
        ("u,i,5.0,1\nu,,5.0,1\n", "line 2: the item id is empty"),
        (b"u,i,5.0,1\nu\xff,i,5.0,1\n", "line 2: binary data or another encoding"),
    ],
    "gowalla": [
        (GOWALLA + "2\t2010-13-19T23:55:27Z\t1\t2\t3\n", "line 3: time '2010-13-19T23:55:27Z'"),
        (GOWALLA + "2\t2010-10-19T23:55:27Z\t1\t2\t \n", "line 3: the item id is empty"),
        (GOWALLA + "2\t2010-10-19T23:55:27Z\t1\t2\n", "line 3: the item id is empty"),
        (GOWALLA + "2\t2010-10-19T23:55:27Z\t1\t2\t3\tx\n", "line 3: 6 fields, expected 5"),
    ],
    "movielens": [
        (RATINGS + "1::2::3\n", "line 3: time (nothing)"),
        (RATINGS + "1::2::3::4::5\n", "line 3: 5 fields, expected 4"),
    ],
    "yelp": [
        (YELP + "{bad\n", "line 3: not valid JSON"),
        (YELP + "\n[1]\n", "line 4: expected a JSON object, found list"),
        (YELP + "\n\n" + review("", "b", "2012-01-01") + "\n", "line 5: the user id is empty"),
        (YELP + review("u", "b", "2012-02-30") + "\n", "line 3: time '2012-02-30'"),
        (YELP[:-40], "line 2: not valid JSON"),
        ('{"business_id": "b", "name": "x"}\n', "line 1: no user_id; fields found: business_id, name"),
        ("[1, 2]\n", "line 1: expected a JSON object"),
        (YELP + '{"user_id": {"a": 1}, "business_id": "b", "date": "2012-01-01"}\n', "line 3: user_id is an object"),
        (YELP + YELP.splitlines()[1] * 2 + "\n", "line 3: not valid JSON"),
        (YELP + '{"user_id": NaN}\n', "line 3: not valid JSON"),
        (YELP + '{"a":' * 9000 + "\n", "line 3: not valid JSON"),
    ],
}


@pytest.mark.parametrize(("kind", "content", "words"), [(kind, *case) for kind, cases in BAD.items() for case in cases])
@pytest.mark.parametrize("archive", [False, True])
def test_errors_name_the_line(tmp_path: Path, kind: str, content: str | bytes, words: str, archive: bool) -> None:
    path = put(tmp_path, "bad.zip", zipped({"x/bad.log": content})) if archive else put(tmp_path, "bad", content)
    with pytest.raises(HardGNNError) as caught:
        read_log(path, format=kind)
    message = str(caught.value)
    assert message.startswith(f"{path}: x/bad.log: line" if archive else f"{path}: line")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("form", ["auto", "movielens", "yelp"])
def test_archives_that_do_not_serve(tmp_path: Path, form: str) -> None:
    whole = {"zip": zipped({"a/ratings.dat": RATINGS * 9000}), "tar": tarred({"review.json": YELP, "x": YELP})}
    whole["tgz"] = gzip.compress(tarred({"yelp_academic_dataset_review.json": YELP * 900}))
    cases = {
        "cut.zip": (whole["zip"][:-30], "zip archive is truncated or damaged"),
        "other.zip": (zipped({"a.txt": "x", "b.txt": "y"}), "no known log .* but a.txt, b.txt"),
        "none.zip": (zipped({"a/": ""}), "no known log .* but nothing"),
        "other.tar": (whole["tar"], "no known log .* but review.json, x"),
        "cut.tar": (
            tarred({"yelp_academic_dataset_review.json": YELP * 9})[:700],
            "tar archive is truncated|not valid",
        ),
        "cut.tgz": (whole["tgz"][:-900], "truncated or damaged"),
        "empty.zip": (zipped({"ratings.csv": ""}), "ratings.csv: the file is empty"),
    }
    for name, (content, words) in cases.items():
        with pytest.raises(HardGNNError, match=words) as caught:
            read_log(put(tmp_path, name, content), format=form)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_corrupt_member_of_an_archive(tmp_path: Path) -> None:
    data = bytearray(zipped({"ratings.dat": RATINGS * 90_000}))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(HardGNNError, match="zip archive is truncated|gzip file is truncated|damaged"):
        read_log(put(tmp_path, "ml.zip", bytes(data)))


def test_columns_of_fixed_formats_cannot_be_chosen(tmp_path: Path) -> None:
    for kind, text in TEXTS.items():
        with pytest.raises(HardGNNError, match="columns of .* are fixed, so 'x' cannot be chosen"):
            read_log(put(tmp_path, "log", text), format=kind, user_col="x")


def test_a_line_without_end_does_not_eat_the_memory(tmp_path: Path) -> None:
    path = put(tmp_path, "long.json.gz", gzip.compress(b'{"text": "' + b"x" * (70 << 20)))
    with pytest.raises(HardGNNError, match="line 1 is longer than 8 MiB"):
        read_log(path)
