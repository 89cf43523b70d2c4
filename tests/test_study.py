"""Studies: noise, activity groups, plans, resuming, tables."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factories import random_dataset
from hardgnn import config as settings
from hardgnn.data.dataset import TEST, TRAIN, Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.noise import SeesNoise, with_noise
from hardgnn.evaluation.protocols import rank_targets
from hardgnn.evaluation.stats import over_seeds, paired_over_seeds
from hardgnn.experiments.finished import finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.plan import Beside, Grid, Plan, Point, Trials, Variant
from hardgnn.experiments.results import quantile_groups, summary
from hardgnn.experiments.studies import COMPONENTS, run_study, variants_from, variants_of

SMALL = ("model.dim=16", "model.heads=2", "model.intervals=3", "train.eval_every=1", "train.epochs=2")


@given(seed=st.integers(0, 99), share=st.floats(0, 1), repeats=st.booleans())
def test_noise_replaces_a_share_of_the_training_items_and_nothing_else(seed: int, share: float, repeats: bool) -> None:
    data = random_dataset(seed=seed, repeats=repeats)
    noisy = with_noise(data, share, seed)
    changed = noisy.item != data.item
    assert changed.sum() == round(share * (data.part == TRAIN).sum())
    assert (data.part[changed] == TRAIN).all()
    for name in ("user", "timestamp", "part"):
        assert (getattr(noisy, name) == getattr(data, name)).all()
    seen = set(zip(data.user[data.part == TRAIN], data.item[data.part == TRAIN]))
    assert not seen & set(zip(noisy.user[changed], noisy.item[changed]))
    less = with_noise(data, share / 2, seed)
    moved = less.item != data.item
    assert (noisy.item[moved] == less.item[moved]).all()


def test_noise_leaves_users_who_have_every_item_alone_and_refuses_what_is_no_share() -> None:
    data = random_dataset(n_users=4, n_items=5, repeats=True, n_candidates=1)
    with_noise(data, 1.0, 0)
    with pytest.raises(HardGNNError, match="between 0 and 1"):
        with_noise(data, 1.5, 0)


def test_a_model_evaluated_after_noise_sees_noisy_histories_and_ranks_the_clean_candidates() -> None:
    data = random_dataset()
    noisy = with_noise(data, 0.5, 1)
    asked = []

    class Probe:
        name = "probe"

        def scores(self, users, histories):  # type: ignore[no-untyped-def]
            asked.extend(histories.of(row).tolist() for row in range(len(users)))
            return np.zeros((len(users), data.n_items), np.float32)

    frame = rank_targets(SeesNoise(Probe(), noisy, TEST), data, "test")
    assert asked == [noisy.before(TEST).of(user).tolist() for user in frame["user"]]
    assert frame["candidates"].equals(rank_targets(Probe(), data, "test")["candidates"])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(2, 6))
def test_activity_groups_are_ordered_disjoint_and_complete(counts: list[int], groups: int) -> None:
    values = np.array(counts)
    found = quantile_groups(values, groups)
    assert 1 <= len(found) <= groups
    assert (np.sum([members for _, members in found], axis=0) == 1).all()
    for (_, low), (_, high) in pairwise(found):
        assert values[low].max() < values[high].min()
    assert quantile_groups(np.arange(1, 9), 4)[0][0] == "1–2"


def test_figures_over_seeds_against_scipy() -> None:
    from scipy import stats

    a, b = np.array([0.31, 0.29, 0.35, 0.33]), np.array([0.28, 0.30, 0.31, 0.30])
    found = over_seeds(a)
    low, high = stats.t.interval(0.95, 3, a.mean(), stats.sem(a))
    assert (found.mean, found.sd) == (pytest.approx(a.mean()), pytest.approx(a.std(ddof=1)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert paired_over_seeds(a, b)[0] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert over_seeds([0.5]).sd is None
    assert paired_over_seeds([0.5], [0.4])[0] is None
    assert paired_over_seeds([0.5, 0.4], [0.4, 0.3])[0] is None  # no spread between the seeds
    assert paired_over_seeds(a, a) == (1.0, 0.0)


def test_components_differ_from_the_model_in_what_their_name_says() -> None:
    whole, *ablated = variants_of("components", "hardgnn")
    assert [variant.name for variant in ablated] == list(COMPONENTS)
    for variant in ablated:
        before, after = settings.flat(whole.config(0)), settings.flat(variant.config(0))
        kept = {s: fields.keys() & after[s].keys() for s, fields in before.items()}  # a kind has settings of its own
        differing = {f"{s}.{k}" for s, keys in kept.items() for k in keys if after[s][k] != before[s][k]}
        assert differing == {change.partition("=")[0] for change in COMPONENTS[variant.name]}
        assert variant.reference == whole.name


def test_variants_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "v.toml"
    file.write_text(
        'reference = "a"\n[variants.a]\npreset = "selfgnn"\n[variants.b]\nset = ["model.window=50"]\nnoise = 0.1\n'
    )
    a, b = variants_from(file, ("model.dim=16",))
    assert (a.preset, a.reference, b.reference, b.noise) == ("selfgnn", "", "a", 0.1)
    assert b.config(3) == settings.resolve("hardgnn", settings=["model.dim=16", "model.window=50"], seed=3)
    for text, told in (
        ("[variants.a]\nsets = []", "did you mean 'set'"),
        ("[variants.a]\nset = 3", "variants.a.set"),
        ("[variants.a]\nnoise = 2", "variants.a.noise"),
        ('reference = "c"\n[variants.a]', "no variant 'c'"),
        ("", "names no variant"),
        ("[", "not valid TOML"),
    ):
        file.write_text(text)
        with pytest.raises(HardGNNError, match=told):
            variants_from(file)


FIGURE = st.lists(st.floats(0, 1), min_size=1, max_size=3).map(over_seeds)
POINT = st.builds(
    Point,
    number=st.none() | st.integers(0, 9),
    state=st.sampled_from([None, "complete", "pruned"]),
    settings=st.lists(st.sampled_from(["hard.k=3", "train.lr=0.1"])).map(tuple),
    seeds=st.none() | st.lists(st.integers(0, 9)).map(tuple),
    valid=st.none() | st.dictionaries(st.sampled_from(["hr@10", "ndcg@10"]), FIGURE),
)
MORE = st.one_of(
    st.none(),
    st.builds(Grid, st.just({"hard.k": ["3", "5"]}), st.just("hardgnn")),
    st.builds(Beside, st.just(("ease", "pop")), st.lists(st.text()).map(tuple)),
    st.builds(
        Trials,
        st.just("hardgnn"),
        st.just({"hard.k": {"low": 1, "high": 9, "log": False}}),
        st.just("trials.journal"),
        st.just(("model.dim=16",)),
        st.dictionaries(st.just("market"), st.lists(POINT).map(tuple)),
    ),
)


@given(more=MORE, noise=st.floats(0, 1), test=st.booleans(), baselines=st.booleans())
def test_a_plan_comes_back_from_json_as_it_was(more: Any, noise: float, test: bool, baselines: bool) -> None:
    variant = Variant("a", "hardgnn", ("hard.k=3",), noise, "b", {"market": ("train.lr=0.1",)})
    plan = Plan("sweep", ("market",), (variant,), (0, 1), test, with_baselines=baselines, command="c", more=more)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.fixture(scope="module")
def noise(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "s"
    with pytest.MonkeyPatch.context() as patch:  # as each of two workers has it on two cores
        patch.setenv("OMP_NUM_THREADS", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        run_study("noise", [market], folder, settings=SMALL, seeds=(0, 1), workers=0)
        torch.set_num_threads(threads)
    return folder


def test_a_study_tells_each_figure_with_its_spread_and_every_comparison_with_their_number(noise: Path) -> None:
    found = summary(Study(noise), "noise", (10,))
    table = next(table for table in found.tables if table.protocol == "full")
    figures = {}
    for row in table.rows:
        results = [json.loads((noise / f"runs/market/{row.variant}-{seed}/result.json").read_text()) for seed in (0, 1)]
        figures[row.variant] = values = [result["test"]["full"]["ndcg@10"] for result in results]
        assert row.metrics["ndcg@10"].values == pytest.approx(values)
        assert row.metrics["ndcg@10"].mean == pytest.approx(np.mean(values))
    assert len(found.comparisons) == 5 * 2 * 2  # levels of noise, protocols, metrics
    assert {row.comparisons for row in found.comparisons} == {20}
    for row in found.comparisons:
        assert row.b == "hardgnn"
        assert row.permutation_p_holm >= row.permutation_p
        assert row.seed_p is None or row.seed_p_holm >= row.seed_p
    relative = next(table for table in found.relative if table.protocol == "full").rows
    assert [row.noise for row in relative] == [0, 0.05, 0.1, 0.15, 0.2, 0.25]
    expected = np.divide(figures["hardgnn-noise-25"], figures["hardgnn"])
    assert relative[-1].metrics["ndcg@10"].values == pytest.approx(expected)


def test_plans_of_one_folder_share_their_runs_and_other_settings_are_refused(noise: Path, market: Path) -> None:
    before = (noise / "runs/market/hardgnn-0/model.safetensors").stat().st_mtime_ns
    study = run_study("sparsity", [market], noise, settings=SMALL, seeds=(0,), baseline="selfgnn", workers=0)
    assert (noise / "runs/market/hardgnn-0/model.safetensors").stat().st_mtime_ns == before
    found = summary(study, "sparsity", (10,), groups=3)
    data = Dataset.load(market)
    for table in found.groups:
        rows = [row for row in table.rows if row.variant == "hardgnn"]
        ranks = pl.read_parquet(noise / f"runs/market/hardgnn-0/ranks-test-{table.protocol}.parquet")
        assert sum(row.users for row in rows) == ranks.height
        low, high = map(int, rows[0].group.split("–"))
        lengths = data.train.lengths[ranks["user"].to_numpy()]
        mine = ranks["rank"].to_numpy()[(lengths >= low) & (lengths <= high)]
        assert rows[0].metrics["hr@10"].mean == pytest.approx((mine < 10).mean())
    with pytest.raises(HardGNNError, match="other settings"):
        run_study("sparsity", [market], noise, settings=(*SMALL, "model.dim=8"), workers=0)
    with pytest.raises(HardGNNError, match="allow-leaks"):
        run_study("history", [market], noise, settings=("train.choose_on=test",), workers=0)
    assert set(json.loads((noise / "study.json").read_text())["plans"]) == {"noise", "sparsity"}


def test_a_killed_study_goes_on_to_the_same_models(
    noise: Path, market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, file = tmp_path / "s", tmp_path / "v.toml"
    file.write_text("[variants.hardgnn]\n[variants.hardgnn-noise-25]\nnoise = 0.25\n")
    words = [
        "study",
        "variants",
        market,
        "--out",
        out,
        "--variants",
        file,
        "--seeds",
        "0,1",
        "--workers",
        "2",
        "--json",
    ]
    for setting in SMALL:
        words += ["--set", setting]
    command = [sys.executable, "-c", "from hardgnn.cli import main; main()", *map(str, words), "--json"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for kill, runs in ((signal.SIGKILL, 1), (signal.SIGINT, 3)):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(list(out.glob("runs/*/*/metrics.jsonl"))) < runs:
            time.sleep(0.01)
        os.kill(process.pid, kill)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == (-9 if kill == signal.SIGKILL else 130)
        assert "Traceback" not in error
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {len(row["seeds"]) for table in document["tables"] for row in table["rows"]} == {2}
    for name in ("hardgnn-0", "hardgnn-1", "hardgnn-noise-25-1"):
        whole, cut = ((one / "runs/market" / name / "model.safetensors").read_bytes() for one in (noise, out))
        assert whole == cut
    assert not list(out.rglob("*.tmp"))


def test_a_failed_run_is_told_and_stops_no_other(market: Path, tmp_path: Path) -> None:
    file = tmp_path / "v.toml"
    small = ", ".join(f'"{one}"' for one in SMALL)
    file.write_text(f'[variants.wild]\nset = [{small}, "train.lr=1e30"]\n[variants.tame]\nset = [{small}]\n')
    with pytest.raises(HardGNNError, match="run market/wild-0 failed, all others are done: wild-0: scores are NaN"):
        run_study("variants", [market], tmp_path / "s", file=file, seeds=(0,), workers=0)
    assert (tmp_path / "s/runs/market/tame-0/ranks-test-full.parquet").exists()


def test_the_same_variants_on_another_data_set_stand_beside_the_first(market: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "bazaar", tmp_path / "s"
    shutil.copytree(market, other)
    file = tmp_path / "v.toml"
    file.write_text('[variants.selfgnn]\npreset = "selfgnn"\n')

    def asked(data: Path, *seeds: int) -> list[tuple[str, list[int]]]:
        study = run_study("variants", [data], out, settings=SMALL, seeds=seeds, file=file, workers=0, command=data.name)
        plan = study.plans["variants"]
        return [(cell.data, cell.seeds) for cell in finished(study, plan)]

    assert asked(market, 0) == [("market", [0])]
    assert asked(other, 0, 1) == [("market", [0]), ("bazaar", [0, 1])]
    assert asked(market, 0) == [("market", [0]), ("bazaar", [0, 1])]
    assert Study(out).plans["variants"].command == "market && bazaar"
    file.write_text(file.read_text() + '[variants.more]\npreset = "selfgnn"\n')
    assert {data for data, _ in asked(other, 0)} == {"bazaar"}  # other variants: another question


def test_bad_studies_get_one_sentence_and_leave_nothing(market: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    other = tmp_path / "other" / "market"
    shutil.copytree(market, other)
    for kind, data, more, told in (
        ("noises", [market], {}, "did you mean 'noise'"),
        ("noise", [tmp_path], {}, "not a prepared data set"),
        ("noise", [market, other], {}, "two are called 'market'"),
        ("noise", [market], {"settings": ["model.dims=3"]}, "did you mean 'model.dim'"),
        ("variants", [market], {}, "FILE.toml"),
        ("components", [market], {"baseline": "selfgnn"}, "--baseline"),
    ):
        with pytest.raises(HardGNNError, match=told):
            run_study(kind, data, out, workers=0, **more)  # type: ignore[arg-type]
    assert not out.exists()
