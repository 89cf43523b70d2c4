"""The commands end to end, as a user types them."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import polars as pl
import pytest

from hardgnn.cli.app import run
from hardgnn.cli.boundary import ended
from hardgnn.config import preset_notes
from hardgnn.prepare.presets import prepare_presets

SMALL = ["model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=2", "train.eval_every=1"]


def hardgnn(*words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stderr
    return done


def refused(*words: str | Path) -> str:
    """The one sentence that bad input gets; in this process, for loading the libraries takes seconds."""
    typed, said = list(map(str, words)), io.StringIO()
    with redirect_stderr(said):
        status = ended(lambda: run(typed), typed)
    assert status == 2
    assert said.getvalue().count("error: ") == 1
    return said.getvalue()


def settings(*more: str) -> list[str]:
    return [word for setting in (*SMALL, *more) for word in ("--set", setting)]


@pytest.fixture(scope="module")
def runs(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for preset in ("selfgnn", "hardgnn"):
        hardgnn("train", market, "--out", folder / preset, "--preset", preset, *settings())
    return folder


def test_prepare_prints_each_step_and_writes_the_folder(market_log: Path, tmp_path: Path) -> None:
    document = json.loads(hardgnn("prepare", market_log, "--out", tmp_path / "d", "--k-core", "3", "--json").stdout)
    assert [step["step"] for step in document["steps"]] == ["read", "repeats", "k_core"]
    assert document["read"] == {
        "format": "inter",
        "user": "user_id:token",
        "item": "item_id:token",
        "time": "timestamp:float",
        "rating": None,
        "time_unit": "seconds",
    }
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        "interactions.parquet",
        "users.parquet",
        "items.parquet",
        "candidates.npz",
        "manifest.json",
    }


def test_prepare_prints_what_became_of_the_columns_and_what_is_doubtful(tmp_path: Path) -> None:
    rows = "".join(f"{'NA' if n % 4 else n % 9},i{n * 7 % 11},{n}\n" for n in range(400))
    (tmp_path / "log.csv").write_text("who,item,time\n" + rows)
    done = hardgnn("prepare", tmp_path / "log.csv", "--out", tmp_path / "d", "--k-core", "2", "--user-col", "who")
    assert "read as csv: user=who, item=item, time=time, rating=none; times are order" in done.stdout
    assert "warning: the user id 'NA' is a word for a missing value and has 300 of 400 events" in done.stderr
    again = ("prepare", tmp_path / "log.csv", "--out", tmp_path / "e", "--k-core", "2", "--user-col", "who")
    assert "'NA'" not in hardgnn(*again, "--drop-missing").stderr


def test_a_data_set_is_replaced_by_one_of_its_log_and_by_another_log_only_where_that_is_meant(tmp_path: Path) -> None:
    rows = "user,item,time\n" + "".join(f"u{n % 9},i{n * 7 % 11},{n}\n" for n in range(300))
    log, grown, other, out = (tmp_path / name for name in ("log.csv", "more/log.csv", "other.csv", "d"))
    grown.parent.mkdir()
    log.write_text(rows)
    grown.write_text(rows + "u1,i1,900\n")
    other.write_text(rows + "u1,i2,900\n")
    for source, k_core in ((log, 2), (log, 3), (grown, 3)):
        hardgnn("prepare", source, "--out", out, "--k-core", k_core)
    before = (out / "manifest.json").read_bytes()
    told = refused("prepare", other, "--out", out)
    assert "holds the data set of another log, log; choose another --out, or replace it with --overwrite" in told
    assert (out / "manifest.json").read_bytes() == before
    assert json.loads(hardgnn("prepare", other, "--out", out, "--overwrite", "--json").stdout)["name"] == "other"


def test_train_evaluate_compare_report(runs: Path, market: Path, tmp_path: Path) -> None:
    for protocol in ("full", "sampled-999"):
        result = json.loads(hardgnn("evaluate", runs / "hardgnn", "--protocol", protocol, "--json").stdout)
        ranks = pl.read_parquet(runs / "hardgnn" / f"ranks-test-{protocol}.parquet")
        assert result["users"] == ranks.height
        assert result["metrics"]["hr@10"] == pytest.approx((ranks["rank"] < 10).mean())
        low, high = result["intervals"]["hr@10"]
        assert low <= result["metrics"]["hr@10"] <= high
    document = json.loads(hardgnn("compare", runs / "hardgnn", runs / "selfgnn", "--json").stdout)
    assert [run["model"] for run in document["runs"]] == ["hardgnn", "selfgnn"]
    assert all(row["comparisons"] == 4 for row in document["comparisons"])
    hardgnn("report", runs / "hardgnn", runs / "selfgnn", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for figure in ("curve-validation-runs", "curve-training-runs", "false-negatives-runs"):
        assert f'<figure id="figure-{figure}' in page
    assert "temperature τ" in page  # it stays as it is, so that it is told and not drawn
    assert f"{document['runs'][0]['metrics']['ndcg@10']:.4f}" in page
    for asked in ('src="http', 'href="http', "@import", "<script"):
        assert asked not in page.replace("http://www.w3.org", "")


def test_other_metrics_from_validation_to_the_report(runs: Path, market: Path, tmp_path: Path) -> None:
    run, asked = tmp_path / "by-mrr", ("--metrics", "hr,ndcg,mrr,coverage,gini")
    assert "train.metric: unknown metric 'mmr'; did you mean 'mrr'" in refused(
        "train", market, "--out", run, "--preset", "selfgnn", *settings("train.metric=mmr@10")
    )
    assert "'gini' is of whole lists" in refused(
        "train", market, "--out", run, "--preset", "selfgnn", *settings("train.metric=gini@10")
    )
    hardgnn("train", market, "--out", run, "--preset", "selfgnn", *settings("train.metric=mrr@5"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max((line for line in lines if "valid" in line), key=lambda line: line["valid"]["mrr@5"])
    assert json.loads((run / "result.json").read_text())["best_epoch"] == best["epoch"]

    hardgnn("evaluate", run)
    before = json.loads((run / "result.json").read_text())["test"]["full"]
    assert before.keys() == {"hr@10", "ndcg@10", "hr@20", "ndcg@20"}
    result = json.loads(hardgnn("evaluate", run, *asked, "--json").stdout)
    ranks = pl.read_parquet(run / "ranks-test-full.parquet")
    assert ranks.columns == ["user", "target", "rank", "candidates"]
    expected = ranks.select(pl.when(pl.col("rank") < 10).then(1 / (pl.col("rank") + 1)).otherwise(0).mean()).item()
    assert result["metrics"]["mrr@10"] == pytest.approx(expected)
    low, high = result["intervals"]["mrr@10"]
    assert low <= expected <= high
    assert "coverage@10" not in result["intervals"]
    items = pl.read_parquet(run / "items.parquet")
    assert 0 < result["metrics"]["coverage@10"] <= (items["train_interactions"] > 0).mean()
    assert json.loads((run / "result.json").read_text())["test"]["full"] == before | result["metrics"]

    document = json.loads(hardgnn("compare", run, runs / "selfgnn", *asked, "--json").stdout)
    assert document["runs"][0]["metrics"] == result["metrics"]
    assert {row["metric"] for row in document["comparisons"]} == {
        f"{m}@{n}" for m in ("hr", "ndcg", "mrr") for n in (10, 20)
    }
    only = hardgnn("compare", run, runs / "selfgnn", "--metrics", "coverage").stdout
    assert "coverage@20" in only
    assert "paired" not in only
    assert "did you mean 'coverage'" in refused("evaluate", run, "--metrics", "hr,covrage")
    hardgnn("report", run, runs / "selfgnn", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for figure in ("mrr@10", "gini@20"):
        assert figure in page
        assert f"{result['metrics'][figure]:.4f}" in page
    assert "Not compared, as the runs were evaluated with it" in page


def test_leaks_are_refused_and_marked_in_the_tables(runs: Path, market: Path, tmp_path: Path) -> None:
    leaky = ["--preset", "released", *settings()]
    assert "--allow-leaks" in refused("train", market, "--out", tmp_path / "leaky", *leaky)
    told = hardgnn("train", market, "--out", tmp_path / "leaky", *leaky, "--allow-leaks").stdout
    assert "leaky †" in told
    assert "LEAKS: negatives avoid" in told
    assert json.loads((tmp_path / "leaky" / "result.json").read_text())["leaks"]
    hardgnn("evaluate", tmp_path / "leaky")
    hardgnn("report", tmp_path / "leaky", "--out", tmp_path / "leaky.html")
    page = (tmp_path / "leaky.html").read_text()
    assert "LEAKS: negatives avoid" in page
    assert "Where a † stands" in page
    for command in (["evaluate", tmp_path / "leaky"], ["compare", tmp_path / "leaky", runs / "selfgnn"]):
        assert "† leaky LEAKS" in hardgnn(*command).stdout
        assert "chosen on the test part" in hardgnn(*command, "--json").stdout


def test_published_figures_stand_beside_ours_with_their_protocol(runs: Path) -> None:
    both = ["compare", runs / "hardgnn", runs / "selfgnn", "--published", "gowalla"]
    told = " ".join(hardgnn(*both).stdout.split())
    assert "test, sampled-999" in told
    assert "999 sampled negatives" in told
    assert "0.637" in told  # SelfGNN's HR@10 in its paper
    assert "cannot be compared" in hardgnn(*both, "--protocol", "full").stdout
    assert "amazon" in refused(*both[:-1], "books")
    alone = " ".join(hardgnn("compare", runs / "hardgnn", "--published", "beauty").stdout.split())
    assert "WEARec" in alone
    assert "is not the published log" in alone  # the market has other numbers of users and items


def test_recommendations_leave_seen_items_out(runs: Path, market: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    users = pl.read_parquet(runs / "hardgnn" / "users.parquet")
    (tmp_path / "users.txt").write_text("\n".join(users["raw_id"]))
    hardgnn("recommend", runs / "hardgnn", "--users-file", tmp_path / "users.txt", "--n", "5", "--out", out)
    table = pl.read_parquet(out)
    items = pl.read_parquet(runs / "hardgnn" / "items.parquet")["raw_id"]
    history = {row["raw_id"]: {items[i] for i in row["history"]} for row in users.to_dicts()}
    assert table["user"].n_unique() == len(history)
    assert not any(row["item"] in history[row["user"]] for row in table.to_dicts())
    assert table.filter(pl.col("user") == users["raw_id"][0])["rank"].to_list() == [1, 2, 3, 4, 5]


def test_recommendations_for_a_bare_list_of_items(runs: Path) -> None:
    items = pl.read_parquet(runs / "selfgnn" / "items.parquet")["raw_id"].to_list()
    rows = json.loads(hardgnn("recommend", runs / "selfgnn", "--items", f"{items[0]},{items[1]}", "--json").stdout)
    assert len(rows) == 10
    assert not {row["item"] for row in rows} & set(items[:2])


def test_newer_events_move_the_recommendation_and_unknown_things_are_named(runs: Path, tmp_path: Path) -> None:
    run = runs / "selfgnn"
    user = pl.read_parquet(run / "users.parquet")["raw_id"][0]
    items = pl.read_parquet(run / "items.parquet")["raw_id"].to_list()
    events = tmp_path / "events.csv"
    events.write_text(f"user,item,time\n{user},{items[3]},2\nstranger,{items[5]},1\nvoid,nothing,1\n")
    done = hardgnn("recommend", run, "--events", events, "--n", "3", "--json")
    rows = json.loads(done.stdout)
    assert {row["user"]: row["source"] for row in rows} == {
        user: "user+sequence",
        "stranger": "sequence",
        "void": "popularity",
    }
    assert "unknown item 'nothing', skipped" in done.stderr
    assert "unknown user 'void', popular items instead" in done.stderr
    by_list = json.loads(hardgnn("recommend", run, "--user", user, "--items", items[3], "--n", "3", "--json").stdout)
    assert by_list == [row for row in rows if row["user"] == user]
    before = json.loads(hardgnn("recommend", run, "--user", user, "--n", "3", "--json").stdout)
    assert [row["score"] for row in before] != [row["score"] for row in by_list]


def test_only_allowed_items_are_recommended_and_never_blocked_ones(runs: Path, tmp_path: Path) -> None:
    items = pl.read_parquet(runs / "selfgnn" / "items.parquet")["raw_id"].to_list()
    (tmp_path / "allow.txt").write_text("\n".join(items[:4]))
    (tmp_path / "block.txt").write_text(items[0])
    filters = ("--allow-items", tmp_path / "allow.txt", "--block-items", tmp_path / "block.txt", "--no-exclude-seen")
    for name in ("recs.csv", "recs.parquet"):
        hardgnn("recommend", runs / "selfgnn", "--all-users", "--n", "9", *filters, "--out", tmp_path / name)
        table = pl.read_csv(tmp_path / name) if name.endswith("csv") else pl.read_parquet(tmp_path / name)
        assert set(table["item"]) == set(items[1:4])
        assert table["rank"].max() == 3
    assert {path.name for path in tmp_path.iterdir()} == {"allow.txt", "block.txt", "recs.csv", "recs.parquet"}


def test_a_warm_start_and_an_export_tell_what_they_did(runs: Path, market: Path, tmp_path: Path) -> None:
    old, new = runs / "selfgnn", tmp_path / "new"
    warm = ("train", market, "--preset", "selfgnn", "--warm-start", old)
    assert "model.dim is 16, not 8" in refused(*warm, "--out", new, *settings("model.dim=8"))
    assert not new.exists()
    hardgnn(*warm, "--out", new, *settings("train.epochs=1"))
    assert json.loads((new / "environment.json").read_text("utf-8"))["warm_start"]["items_new"] == 0
    document = json.loads(hardgnn("export", new, "--out", tmp_path / "export", "--no-index", "--json").stdout)
    assert document["items"] == pl.read_parquet(tmp_path / "export" / "items.parquet").height
    assert (
        "holds no index" in hardgnn("serve", new, "--port", "0", "--approximate", tmp_path / "export", status=2).stderr
    )


def test_a_moved_run_recommends_without_its_data(runs: Path, tmp_path: Path) -> None:
    (runs / "selfgnn").rename(tmp_path / "moved")
    try:
        user = pl.read_parquet(tmp_path / "moved" / "users.parquet")["raw_id"][0]
        assert len(json.loads(hardgnn("recommend", tmp_path / "moved", "--user", user, "--json").stdout)) == 10
    finally:
        (tmp_path / "moved").rename(runs / "selfgnn")


def test_a_killed_run_resumes_to_the_same_weights(market: Path, tmp_path: Path) -> None:
    more = ["--preset", "hardgnn", *settings("train.epochs=12", "train.patience=0")]
    hardgnn("train", market, "--out", tmp_path / "whole", *more)
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", "train", market]
    command += ["--out", tmp_path / "cut", *more]
    for kill in (signal.SIGKILL, signal.SIGINT):
        seen = _epochs(tmp_path / "cut")
        process = subprocess.Popen([*command, "--resume"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and _epochs(tmp_path / "cut") < seen + 2:
            time.sleep(0.005)
        os.kill(process.pid, kill)
        process.wait(60)
    assert _epochs(tmp_path / "cut") < 12
    hardgnn(*command[3:], "--resume")
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def _epochs(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_every_command_has_help_with_an_example() -> None:
    listed = hardgnn("--help").stdout
    for command in (
        "download",
        "prepare",
        "train",
        "evaluate",
        "compare",
        "report",
        "recommend",
        "simulate",
        "demo",
        "study",
        "sweep",
        "leaderboard",
        "inspect",
        "export",
        "serve",
    ):
        assert command in listed
        assert f"hardgnn {command}" in hardgnn(command, "--help").stdout


def test_presets_are_listed() -> None:
    assert {"selfgnn", "hardgnn", "best"} <= set(hardgnn("train", "--list-presets").stdout.split())
    logs = {name for _, when in preset_notes().values() for name in re.findall(r"prepare --preset ([a-z0-9-]+)", when)}
    assert logs == set(prepare_presets())


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "empty"),
        ("columns.csv", b"who,what,when\na,b,1\n", "who"),
        ("time.csv", b"user,item,timestamp\na,b,1\na,c,soon\n", "3"),
        ("negative.csv", b"user,item,timestamp\na,b,1\na,c,-5\n", "3"),
        ("nan.csv", b"user,item,timestamp\na,b,NaN\n", "2"),
        ("rubbish.csv", bytes(range(256)) * 50, "rubbish.csv"),
        (
            "short.inter.gz",
            gzip.compress(b"user_id:token\titem_id:token\ttimestamp:float\n" + b"a\tb\t1\n" * 9999, mtime=0)[:60],
            "gz",
        ),
        ("sparse.csv", b"user,item,timestamp\na,b,1\na,c,2\n", "k_core"),
        ("log.parquet", b"not parquet", "parquet"),
        ("ratings.dat", b"1::2::3::4\n1::2::3::x\n", "ratings.dat: line 2: time 'x'"),
        ("books.csv", b"u,i,5.0,1400457600\nu,i,5.0,1400457600,1\n", "line 2: 5 fields, expected 4"),
        ("checkins.txt", b"0\t2010-10-19T23:55:27Z\t1\t2\t3\n0\tsoon\t1\t2\t3\n", "line 2: time 'soon'"),
        (
            "reviews.json",
            b'{"user_id":"u","business_id":"b","date":"2010-10-19"}\n{"user_id"\n',
            "line 2: not valid JSON",
        ),
        ("ml.zip", b"PK\x03\x04 cut short", "zip archive is truncated or damaged"),
    ],
)
def test_a_bad_log_gets_one_sentence_and_leaves_nothing(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert told in refused("prepare", tmp_path / name, "--out", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_raw_file_with_a_papers_settings(tmp_path: Path) -> None:
    lines = [f"A{user:09}X,{item:010},5.0,{1_400_000_000 + item}\n" for user in range(20) for item in range(20)]
    (tmp_path / "books.csv").write_text("".join([*lines, "A000000000X,0000000000,1.0,1300000000\n"]))
    hardgnn("prepare", tmp_path / "books.csv", "--preset", "amazon-book", "--out", tmp_path / "a")
    words = ["--preset", "amazon-book", "--since", "2010", "--repeats", "all", "--json"]
    document = json.loads(hardgnn("prepare", tmp_path / "books.csv", "--out", tmp_path / "b", *words).stdout)
    assert document["settings"]["since"] == "2010-01-01T00:00:00Z"
    assert document["settings"]["until"] == "2015-01-01T00:00:00Z"
    assert document["counts"]["interactions"] == 401
    assert hardgnn("prepare", "--list-presets").stdout.split() == ["amazon-book", "gowalla", "movielens-10m", "yelp"]


def test_a_reader_of_an_installed_package_is_a_format_like_ours(
    market_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bars-1.0.dist-info").mkdir()
    (tmp_path / "bars-1.0.dist-info" / "METADATA").write_text("Name: bars\nVersion: 1.0\n")
    (tmp_path / "bars-1.0.dist-info" / "entry_points.txt").write_text("[hardgnn.readers]\nbars = bars\n")
    (tmp_path / "bars.py").write_text(
        "import polars as pl\nfrom hardgnn.data.readers import reader\n@reader('bars')\ndef bars(raw):\n"
        "    with raw.open() as stream:\n        return pl.read_csv(stream.read(), separator='!')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    log = pl.read_csv(market_log, separator="\t").rename(lambda name: name.split(":")[0].removesuffix("_id"))
    log.write_csv(tmp_path / "log.bars", separator="!")
    assert {"auto", "csv", "sequences", "selfgnn", "bars"} <= set(hardgnn("prepare", "--list-formats").stdout.split())
    words = ["--format", "bars", "--k-core", "3", "--json"]
    document = json.loads(hardgnn("prepare", tmp_path / "log.bars", "--out", tmp_path / "d", *words).stdout)
    assert document["read"]["format"] == "bars"
    (tmp_path / "broken.bars").write_bytes(b"user!item!timestamp\na!b\xff!1\n")
    told = hardgnn("prepare", tmp_path / "broken.bars", "--out", tmp_path / "e", "--format", "bars", status=2).stderr
    assert "bars" in told.split("error: ")[1]
    assert "Traceback" not in told
    assert not (tmp_path / "e").exists()


def test_released_pickles_from_the_folder_to_a_trained_run(tmp_path: Path) -> None:
    import pickle

    import numpy as np
    import scipy.sparse as sp

    rng, users, items = np.random.default_rng(0), 20, 30
    folder = tmp_path / "gowalla"
    folder.mkdir()
    lists = [rng.permutation(items)[:9].tolist() for _ in range(users)]
    user = np.repeat(np.arange(users), 7)
    item, time = np.array([one[:7] for one in lists]).ravel(), np.tile(np.arange(1.0, 8), users)
    part = [(time >= 4) == late for late in (False, True)]
    graphs = [sp.csr_matrix((time[rows], (user[rows], item[rows])), (users, items)) for rows in part]
    objects = {
        "sequence": lists,  # with the test item at the end, as in the published Amazon
        "tst_int": [one[-1] for one in lists],
        "test_dict": {n + 1: [1 + int(i) for i in np.setdiff1d(np.arange(items), lists[n])] for n in range(users)},
        "trn_mat_time": [graphs[0] + graphs[1], graphs, graphs[0]],
    }
    for name, content in objects.items():
        (folder / name).write_bytes(pickle.dumps(content))
    done = hardgnn("prepare", folder, "--format", "selfgnn", "--out", tmp_path / "data")
    assert "stands in their training sequence" in " ".join(done.stderr.split())
    assert "test_items_in_sequence" in done.stdout
    run = tmp_path / "run"
    hardgnn("train", tmp_path / "data", "--out", run, "--preset", "selfgnn", *settings("model.intervals=2"))
    result = json.loads(hardgnn("evaluate", run, "--protocol", "sampled-999", "--json").stdout)
    assert (result["users"], result["candidates"]) == (20, [22, 22])
    assert result["leaks"] == []
    hardgnn("prepare", folder, "--allow-leaks", "--out", tmp_path / "leaky")
    hardgnn(
        "train", tmp_path / "leaky", "--out", tmp_path / "lr", "--preset", "selfgnn", *settings("model.intervals=2")
    )
    assert "LEAKS: the test item of 20 of 20 users" in " ".join(hardgnn("evaluate", tmp_path / "lr").stdout.split())
    (folder / "tst_int").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    assert "refused: os.system" in refused("prepare", folder, "--out", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_other_bad_input_gets_one_sentence(market: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no such file" in refused("prepare", tmp_path / "nothing.csv", "--out", out)
    assert "did you mean 'model.dim'" in refused("train", market, "--out", out, "--set", "model.dims=8")
    assert "did you mean 'hardgnn'" in refused("train", market, "--out", out, "--preset", "hardgn")
    assert "model.heads" in refused("train", market, "--out", out, "--set", "model.dim=11")
    assert "no such folder" in refused("train", tmp_path / "nothing", "--out", out)
    assert "no such run folder" in refused("evaluate", out)
    assert "did you mean 'sampled-999'" in refused("evaluate", runs / "hardgnn", "--protocol", "sampled-99")
    assert "needs --user" in refused("recommend", runs / "hardgnn")
    assert "no such file" in refused("recommend", runs / "hardgnn", "--users-file", tmp_path / "nobody.txt")
    assert "not from both" in refused("recommend", runs / "hardgnn", "--events", tmp_path / "e", "--items", "a")
    assert "ends in .parquet" in refused("recommend", runs / "hardgnn", "--all-users", "--out", tmp_path / "out.xls")
    assert "at least two" in refused("compare", runs / "hardgnn")
    assert "ml-100k" in refused("download", "ml-100")
    assert "hardgnn prepare data/yelp/yelp_dataset.tar --preset yelp --out" in refused("download", "yelp")
    assert "did you mean 'gowalla'" in refused("prepare", tmp_path / "x", "--out", out, "--preset", "gowala")
    assert "did you mean 'movielens'" in refused("prepare", market, "--out", out, "--format", "movielense")
    assert "hardgnn prepare SOURCE --out DATA" in refused("prepare", tmp_path / "x")
    assert "expected a date" in refused("prepare", tmp_path / "x", "--out", out, "--since", "soon")
    assert "no file sequence" in refused("prepare", market, "--out", out, "--format", "selfgnn")
    assert not out.exists()


def test_a_run_of_another_version_is_refused(runs: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(runs / "hardgnn", tmp_path / "old")
    record = json.loads((tmp_path / "old" / "environment.json").read_text())
    (tmp_path / "old" / "environment.json").write_text(json.dumps(record | {"format_version": 0}))
    assert "another version" in refused("evaluate", tmp_path / "old")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
def test_a_full_disk_is_told() -> None:
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", "train", "--list-presets"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_studies_and_sweeps_from_the_command_line(market: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    words = ["--grid", "hard.k=2,4", "--epochs", "2", "--seeds", "0,1", "--choice-seeds", "0", "--workers", "2"]
    words += ["--then-retrain", "best"]
    words += ["--retrain-epochs", "2", "--baseline", "selfgnn"]
    document = json.loads(hardgnn("sweep", market, "--out", out, *words, *settings(), "--json").stdout)
    assert [point["seeds"] for point in document["choices"][0]["points"]] == [[0], [0]]
    assert {row["seeds"] for row in document["retrained"]["comparisons"]} == {2}
    compared = json.loads(hardgnn("compare", out, "--json").stdout)
    assert compared["plans"][0]["comparisons"] == document["retrained"]["comparisons"]
    told = hardgnn("compare", out, "--protocol", "full").stdout
    assert "Holm-corrected over all 8 comparisons made" in told
    assert "hardgnn-best − selfgnn" in told
    hardgnn("report", out, "--out", tmp_path / "r.html", "--figures", tmp_path / "figures")
    assert "figure-ndcg10-against-hard-k" in (tmp_path / "r.html").read_text()
    user = pl.read_parquet(out / "runs/market/hardgnn-best-0/users.parquet")["raw_id"][0]
    told = hardgnn("inspect", out / "runs/market/hardgnn-best-0", "--user", user, "--figure", tmp_path / "u.svg").stdout
    assert "hard negatives" in told
    assert (tmp_path / "u.svg").exists()


def test_bad_studies_and_sweeps_get_one_sentence(market: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    assert "did you mean 'noise'" in refused("study", "noisy", market, "--out", out)
    assert "--seeds" in refused("study", "noise", market, "--out", out, "--seeds", "0,0")
    assert "did you mean 'hard.k'" in refused("sweep", market, "--out", out, "--grid", "hard.kk=1,2")
    assert "not both" in refused("sweep", market, "--out", out, "--grid", "hard.k=1,2", "--trials", "3")
    assert "--then-retrain" in refused("sweep", market, "--out", out, "--grid", "hard.k=1", "--baseline", "selfgnn")
    assert "left alone" in refused("study", "noise", market, "--out", runs)
    assert "unknown user" in refused("inspect", runs / "hardgnn", "--user", "nobody")
    assert "NAME=PAPERS" in refused("report", runs / "hardgnn", "--published", "gowalla")
    assert not out.exists()
