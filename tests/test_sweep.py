"""Sweeps: the choice by validation alone, retraining, the search that stops and goes on, the false negatives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hardgnn import config as settings
from hardgnn.data.dataset import TEST, VALID, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.experiments.choices import choices
from hardgnn.experiments.folder import Study
from hardgnn.experiments.results import summary
from hardgnn.experiments.sweep import RETRAINED, Retraining, parse_grid, run_sweep
from hardgnn.runs.train import train

SMALL = ("model.dim=16", "model.heads=2", "model.intervals=3", "train.eval_every=1")
GRID = ("hard.k=2,4", "hard.weight=0.1,0.5")


@pytest.fixture(scope="module")
def swept(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "s"
    again = Retraining(epochs=3, baseline="selfgnn")
    run_sweep([market], out, grid=GRID, shared=SMALL, epochs=2, seeds=(0, 1), retraining=again, workers=0)
    return out


def test_the_best_by_validation_is_retrained_and_only_that_sees_the_test_part(swept: Path) -> None:
    study = Study(swept)
    (choice,) = choices(study)
    means = {}
    for k in (2, 4):
        for weight in ("0.1", "0.5"):
            name = f"hardgnn-hard.k={k},hard.weight={weight}"
            each = [json.loads((swept / f"runs/market/{name}-{s}/result.json").read_text()) for s in (0, 1)]
            assert not any("test" in result for result in each)
            assert not list(swept.glob(f"runs/market/{name}-*/ranks-*"))
            means[f"hard.k={k}", f"hard.weight={weight}"] = np.mean([r["valid"]["full"]["ndcg@10"] for r in each])
    assert choice.chosen.settings == max(means, key=lambda point: means[point])
    assert choice.chosen.valid["ndcg@10"].mean == pytest.approx(max(means.values()))
    best = settings.load(swept / "runs/market/hardgnn-best-1/config.toml")
    asked = settings.resolve("hardgnn", settings=[*SMALL, "train.epochs=3", *choice.chosen.settings], seed=1)
    assert best == asked
    document = summary(study, RETRAINED)
    assert {row.variant for table in document.tables for row in table.rows} == {"hardgnn-best", "selfgnn"}
    assert {(row.a, row.b, row.comparisons) for row in document.comparisons} == {("hardgnn-best", "selfgnn", 8)}


def test_a_choice_whose_test_part_was_read_is_final(swept: Path, market: Path) -> None:
    before = (swept / "study.json").read_bytes()
    with pytest.raises(HardGNNError, match="the choice is final"):
        run_sweep([market], swept, grid=("hard.k=2,4,6",), shared=SMALL, epochs=2, seeds=(0, 1), workers=0)
    assert (swept / "study.json").read_bytes() == before


def test_other_test_items_lead_to_the_same_choice(swept: Path, market: Path, tmp_path: Path) -> None:
    data = Dataset.load(market)
    item = data.item.copy()
    item[data.part == TEST] = (item[data.part == TEST] + 7) % data.n_items
    replace(data, item=item).save(tmp_path / "market")
    study = run_sweep([tmp_path / "market"], tmp_path / "s", grid=GRID, shared=SMALL, epochs=2, seeds=(0,), workers=0)
    for path in (tmp_path / "s").glob("runs/market/*-0/model.safetensors"):
        assert path.read_bytes() == (swept / path.relative_to(tmp_path / "s")).read_bytes()
    assert len(choices(study)[0].points) == 4


def test_bad_sweeps_get_one_sentence(market: Path, tmp_path: Path) -> None:
    for word in ("hard.k", "hard.k=", "hard.k=3,3", "train.metric=hr@10,hr@20"):
        with pytest.raises(HardGNNError, match="--grid"):
            parse_grid([word])
    with pytest.raises(HardGNNError, match="given twice"):
        parse_grid(["hard.k=3", "hard.k=5"])
    for more, told in (
        ({"grid": ("hard.kk=3",)}, "--grid hard.kk=3: unknown key .*did you mean 'hard.k'"),
        ({"grid": ("hard.k=x",)}, "hard.k"),
        ({"grid": ("hard.k=3",), "retraining": Retraining(3, "selfgn")}, "did you mean 'selfgnn'"),
    ):
        with pytest.raises(HardGNNError, match=told):
            run_sweep([market], tmp_path / "s", workers=0, **more)  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("preset", "idle"), [("hardgnn", "train.weight_decay"), ("hardgnn", "transitions.rate"), ("best", "ssl.weight")]
)
def test_every_declared_search_range_lies_within_its_field(preset: str, idle: str) -> None:
    space = settings.search_space(settings.resolve(preset))
    assert {"hard.k", "hard.weight", "hard.temperature", "train.lr"} <= set(space)
    assert idle not in space
    for key, range_ in space.items():
        for value in range_.get("choices") or (range_["low"], range_["high"]):
            settings.resolve(preset, settings=[f"{key}={value}"])


def test_a_killed_search_goes_on_and_its_best_is_retrained_once(market: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from hardgnn.experiments.search import Search, chosen_space, run_search

    out = tmp_path / "s"
    words = ["sweep", market, "--out", out, "--trials", "8", "--search", "hard.k,hard.weight,train.lr", "--seeds", "0"]
    words += ["--epochs", "3", *(word for setting in SMALL for word in ("--set", setting))]
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.glob("runs/market/trial-*/metrics.jsonl"))) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    time.sleep(2)  # its worker notices that it is alone
    shared = (*SMALL, "train.epochs=3")
    space = chosen_space(["hard.k", "hard.weight", "train.lr"], "hardgnn")
    search = Search(space, (0,), trials=8, preset="hardgnn", shared=shared)
    study = run_search([market], out, search, retraining=Retraining(2, "own"), workers=0)
    trials = study.plans["sweep"].more.trials["market"]
    assert len(trials) == 8
    first = min(trials, key=lambda trial: trial.number)
    assert first.settings == ("hard.k=3", "hard.weight=0.1", "train.lr=0.001")  # the preset's own come first
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert len({trial.variant for trial in trials}) == len(list(out.glob("runs/market/trial-*-0")))
    assert not list(out.glob("runs/market/trial-*/ranks-*"))
    (choice,) = choices(study)
    figures = [trial.valid["ndcg@10"].mean for trial in trials if trial.state == "complete"]
    assert choice.chosen.valid["ndcg@10"].mean == max(figures)
    best, own = (settings.load(out / f"runs/market/hardgnn-{name}-0/config.toml") for name in ("best", "without-hard"))
    wanted = settings.flat(best)
    wanted["hard"]["weight"] = 0.0
    assert settings.flat(own) == wanted
    for key in search.space:
        assert f"{key}=" in " ".join(choice.chosen.settings)
    run_search([market], out, replace(search, trials=20), retraining=Retraining(2, "own"), workers=0)
    assert len(Study(out).plans["sweep"].more.trials["market"]) == 8  # the choice is final
    with pytest.raises(HardGNNError, match="no search range"):
        chosen_space(["model.heads"], "hardgnn")


def test_false_negatives_are_counted_and_steer_nothing(market: Path, tmp_path: Path) -> None:
    data = Dataset.load(market)
    options = ["model.dim=16", "model.heads=2", "train.epochs=2", "hard.k=5", "hard.weight=0.5", "train.eval_every=5"]
    config = settings.resolve("hardgnn", settings=options)
    item = data.item.copy()
    item[data.part == VALID] = np.roll(item[data.part == VALID], 1)
    shares = []
    for name, one in (("a", data), ("b", replace(data, item=item))):
        train(one, config, tmp_path / name)
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        shares.append([line["false_negatives"] for line in lines])
    assert all(0 <= share <= 1 / 5 for each in shares for share in each)
    assert shares[0] != shares[1]
    assert any(share > 0 for share in shares[0])
    a, b = (load_file(tmp_path / name / "checkpoint/state.safetensors") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
