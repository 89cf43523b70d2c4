"""The benchmarks run: each on a size that says nothing, for a change elsewhere may break them unseen."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hardgnn
from hardgnn.evaluation.protocols import evaluate
from hardgnn.prepare.released.selfgnn import read_selfgnn

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SMALL = [
    "evaluate.py --users 50 --items 300 --repeat 1 --threads 1",
    "recommend.py --users 64 --items 1000 --rounds 1",
    "shards.py --users 300 --items 200 --shards 2 --preset recencyknn",
    "prepare.py --events 5000 --users 100 --items 1000",
    "prepare.py --form parquet --events 5000 --users 100 --items 1000 --memory 500MB",
    "prepare.py --form yelp --events 5000 --users 100 --items 1000",
    "scale.py --events 20000 --users 1200 --items 300 --factors 1 --steps 2 --threads 1",
    "scale.py --model best --grow items --events 9000 --users 600 --items 300 --factors 1 3 --steps 2 --threads 1",
    "processes.py --market 60 150 900 --ways 1x1/2 2x1/2 --steps 3 --rounds 1 --set model.dim=8",
    "serve.py --items 200 --users 50 --connections 2 --seconds 0.5 --approximate",
]


def timed(words: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(hardgnn.__file__).parent.parent)}
    command = [sys.executable, str(BENCHMARKS / words[0]), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("line", SMALL)
def test_a_benchmark_runs(line: str) -> None:
    assert timed(line.split())


@pytest.mark.slow
def test_an_epoch_is_timed_and_a_step_profiled(tmp_path: Path) -> None:
    where = ["--shape", "amazon", "--threads", "1", "--data", str(tmp_path), "--set"]
    where += ["model.dim=16", "model.window=5", "encoder.layers=1", "run.protocol=sampled-999"]
    graphs = ["model.intervals=1", "model.layers=1", "objective.users_per_epoch=256", "objective.batch_users=64"]
    wide = ["objective.batch_positions=20000", "sampler.candidates=8"]
    assert "epoch_s" in timed(["epoch.py", "--model", "best", "--epochs", "1", *where, *wide])
    assert "epoch_s" in timed(["epoch.py", "--model", "selfgnn", "--epochs", "1", *where, *graphs])
    assert "two at once" in timed(["threads.py", "--steps", "2", "--rounds", "1", *where, *graphs])
    assert "Self CPU" in timed(["profile.py", "--steps", "1", *where, *graphs])


def test_settings_of_today_have_their_older_names_on_an_older_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import shapes

    today = ["objective.kind=next-item", "encoder.kind=attention", "optimiser.l2=0.1", "model.dim=3"]
    assert shapes.known(today) == today
    monkeypatch.setattr(shapes, "Callback", object)
    older = ["train.objective=positions", "model.sequence=full", "train.l2=0.1", "model.dim=3"]
    assert shapes.known(today) == older


def test_the_released_code_gets_the_same_market(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import released
    import shapes

    market = shapes.market(60, 150, 900)
    market.save(tmp_path / "market")
    released.write_market(tmp_path / "market", 3, tmp_path / "pickles")
    (tmp_path / "pickles" / "test_dict").write_bytes(pickle.dumps({1: [1]}))
    read = read_selfgnn(tmp_path / "pickles", allow_leaks=True)
    assert read.counts == market.counts
    assert (np.sort(read.train.lengths) == np.sort(market.train.lengths)).all()
    popularity = [np.bincount(data.item[data.part == 0]) for data in (read, market)]
    assert (np.sort(popularity[0])[::-1][:50] == np.sort(popularity[1])[::-1][:50]).all()
    assert read.provenance.released["edges_only_in_released_graphs"] == 0
    assert "--checkout" in str(released.missing(None, None))
    assert "no checkout of the released code" in str(released.missing(tmp_path, tmp_path / "python"))


def test_peers_are_judged_as_we_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import contenders
    import shapes

    class Drawn:
        name = "drawn"

        def scores(self, users: np.ndarray, histories: object = None) -> np.ndarray:
            return drawn[users].copy()

    market = shapes.market(60, 40, 900)
    drawn = np.random.default_rng(0).integers(8, size=(60, 40)).astype(np.float32)  # many ties
    contenders.Split.save(market, tmp_path)
    found = contenders.Split(tmp_path / "split.npz").ndcg(Drawn().scores)
    assert found == pytest.approx(evaluate(Drawn(), market, "valid")[0].metrics["ndcg@10"])


@pytest.mark.slow
def test_time_to_quality_without_a_peer(tmp_path: Path) -> None:
    log = tmp_path / "toys-s3rec.inter.gz"
    with gzip.open(log, "wt") as lines:
        lines.write("user_id:token\titem_id:token\ttimestamp:float\n")
        lines.writelines(f"{user}\t{(user + at) % 7}\t{at}\n" for user in range(30) for at in range(7))
    said = timed(["peers.py", "toys-s3rec", "--logs", str(tmp_path), "--set", "train.epochs=2", "model.dim=16"])
    assert "to best's" in said
