"""Peers: what they learn from, how they are tuned and ranked, that a killed search goes on, and the leaderboard."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from torch.nn import functional as F
from typer.testing import CliRunner

from factories import random_dataset, tiny_dataset
from hardgnn.cli.app import app, run
from hardgnn.cli.boundary import ended
from hardgnn.data.dataset import TEST, TRAIN, VALID, Dataset
from hardgnn.data.negatives import UniformNegatives
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import compare_ranks
from hardgnn.evaluation.protocols import PROTOCOLS, rank_targets
from hardgnn.evaluation.quality import baseline
from hardgnn.experiments.folder import Study
from hardgnn.experiments.peers import tuning
from hardgnn.experiments.peers.batches import pair_batches, sequence_batches
from hardgnn.experiments.peers.light import Cap, FittedPeer, Peer, PeerFitting
from hardgnn.experiments.peers.networks import normalised
from hardgnn.experiments.peers.neural import BPR, GRU4REC, LIGHTGCN, NEURAL, SASREC, Losses, Neural
from hardgnn.experiments.peers.tuning import CHOSEN, PEER_BY_NAME, Tuning, fitted_folder, peer_folder, run_peers
from hardgnn.experiments.plan import Beside, Plan, Variant
from hardgnn.metrics import summarise
from hardgnn.models import linear
from hardgnn.models.similarity import training_matrix
from hardgnn.prepare.simulate import write_simulated
from hardgnn.report.leaderboard import leaderboard, places
from hardgnn.report.leaderboard_page import markdown
from hardgnn.report.tables import p_value

pytest.importorskip("optuna", reason="peers are tuned with the extra hardgnn[search]")
FEW = Tuning(trials=3, seeds=(0, 1))
ORDINARY = {peer.name: peer.ordinary for peer in NEURAL}


def choice(study: Study, name: str, data: str = "market") -> dict[str, Any]:
    return json.loads((peer_folder(study, data, name) / CHOSEN).read_text())


@pytest.fixture(scope="module")
def light_study(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run_peers([market], tmp_path_factory.mktemp("light") / "s", ["ease", "itemknn", "pop"], FEW, workers=0)


# Models and batches


def test_ease_is_ridge_regression_of_each_item_on_all_others() -> None:
    dataset = random_dataset(repeats=True)
    model = baseline("ease", dataset, weight=3.0)
    weights = model.weights.numpy()
    matrix = np.zeros((dataset.n_users, dataset.n_items))
    training = dataset.part == TRAIN
    matrix[dataset.user[training], dataset.item[training]] = 1
    for item in range(dataset.n_items):
        others = np.delete(np.arange(dataset.n_items), item)
        tall = np.vstack([matrix[:, others], np.sqrt(3.0) * np.eye(len(others))])
        wanted = np.linalg.lstsq(tall, np.concatenate([matrix[:, item], np.zeros(len(others))]), rcond=None)[0]
        np.testing.assert_allclose(weights[others, item], wanted, atol=1e-5)
        assert weights[item, item] == 0
    profile = np.zeros_like(matrix)
    known = dataset.part < TEST  # the validation item belongs to the profile at test time
    profile[dataset.user[known], dataset.item[known]] = 1
    scores = model.scores(np.arange(dataset.n_users), dataset.before(TEST))
    np.testing.assert_allclose(scores, profile @ weights, atol=1e-5)


def test_ease_refuses_what_would_not_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_ITEMS", 10)
    with pytest.raises(HardGNNError, match="leave it out above 10"):
        baseline("ease", random_dataset(), weight=1.0)


@pytest.mark.parametrize("length", [1, 3, 50])
def test_each_training_item_but_the_first_is_a_target_once_after_the_items_before_it(length: int) -> None:
    dataset = random_dataset(n_users=25, repeats=True)
    train = dataset.train
    seen = []
    for asked, real in sequence_batches(train, length, 7, np.random.default_rng(0)):
        targets = iter((asked["item"] - 1).tolist())
        for window, mask, size in zip(asked["item_list"] - 1, real, asked["length"]):
            assert mask.sum() == size <= length
            assert mask[:size].all()  # aligned to the left
            seen += [(tuple(window[: end + 1].tolist()), next(targets)) for end in range(int(size))]
        assert next(targets, None) is None
    owed = [
        (train.of(user).tolist(), place) for user in range(dataset.n_users) for place in range(1, len(train.of(user)))
    ]
    assert len(seen) == len(owed)
    for sequence, place in owed:
        before, target = sequence[:place], sequence[place]
        ends = [window for window, after in seen if after == target and list(window) == before[-len(window) :]]
        assert ends, (before, target)


def test_pairs_are_the_training_interactions_with_items_outside_them() -> None:
    dataset = random_dataset()
    negatives = UniformNegatives(dataset.train, dataset.n_items)
    batches = list(pair_batches(dataset.train, negatives, 16, np.random.default_rng(0)))
    users, items, drawn = (
        torch.cat([one[name] for one in batches]).numpy() - 1 for name in ("user", "item", "neg_item")
    )
    training = dataset.part == TRAIN
    assert sorted(zip(users, items)) == sorted(zip(dataset.user[training], dataset.item[training]))
    known = set(zip(dataset.user[training].tolist(), dataset.item[training].tolist()))
    assert not known & set(zip(users.tolist(), drawn.tolist()))
    assert drawn.min() >= 0
    assert drawn.max() < dataset.n_items


# Tuning


def test_the_best_setting_by_validation_is_ranked_on_the_test_part_and_no_other(light_study: Study) -> None:
    dataset = Dataset.load(light_study.paths["market"])
    for name in ("ease", "itemknn"):
        chosen, folder = choice(light_study, name), peer_folder(light_study, "market", name)
        assert len(chosen["points"]) == FEW.trials
        assert chosen["points"][0]["setting"] == PEER_BY_NAME[name].ordinary
        for point in chosen["points"]:
            ranker = PEER_BY_NAME[name].fit(PeerFitting(dataset, point["setting"], 0, Cap(), folder)).ranker
            ranks = rank_targets(ranker, dataset, "valid")["rank"].to_numpy()
            assert point["valid"] == pytest.approx(summarise(ranks)["ndcg@10"])
        assert chosen["valid"] == max(point["valid"] for point in chosen["points"])
        ranked = {path.parent for path in folder.glob("*/ranks-*")}
        assert ranked == {fitted_folder(folder, chosen["setting"], 0)}
        ranker = PEER_BY_NAME[name].fit(PeerFitting(dataset, chosen["setting"], 0, Cap(), folder)).ranker
        for protocol in PROTOCOLS:
            kept = pl.read_parquet(next(iter(ranked)) / f"ranks-test-{protocol}.parquet")
            assert kept.equals(rank_targets(ranker, dataset, "test", protocol))
    assert len(choice(light_study, "pop")["points"]) == 1  # nothing to tune


def test_the_test_part_changes_no_choice(market: Path, light_study: Study, tmp_path: Path) -> None:
    dataset = Dataset.load(market)
    other = np.where(dataset.part == TEST, (dataset.item + 7) % dataset.n_items, dataset.item).astype(np.int32)
    replace(dataset, item=other).save(tmp_path / "market")
    again = run_peers([tmp_path / "market"], tmp_path / "s", ["ease"], FEW, workers=0)
    assert choice(again, "ease")["points"] == choice(light_study, "ease")["points"]


def test_run_again_it_does_nothing_and_a_wider_search_is_refused(light_study: Study) -> None:
    files = {path: path.stat().st_mtime_ns for path in light_study.folder.rglob("*.parquet")}
    market = light_study.paths["market"]
    run_peers([market], light_study.folder, ["ease", "pop"], FEW, workers=0)
    assert {path: path.stat().st_mtime_ns for path in light_study.folder.rglob("*.parquet")} == files
    assert Study(light_study.folder).plans["peers"].more.peers == ("ease", "itemknn", "pop")
    with pytest.raises(HardGNNError, match="tuned before with trials 3 .* --out for --trials 9"):
        run_peers([market], light_study.folder, ["ease"], Tuning(9, (0, 1)), workers=0)


def test_another_data_set_of_the_name_is_refused(light_study: Study, market_log: Path, tmp_path: Path) -> None:
    Dataset.read(market_log).prepare(k_core=4, candidates=30).save(tmp_path / "market")
    with pytest.raises(HardGNNError, match="fitted on another data set before"):
        run_peers([tmp_path / "market"], light_study.folder, ["pop"], FEW, workers=0)


def test_a_stopped_search_goes_on_to_the_same_choice(
    market: Path, light_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    whole = PEER_BY_NAME["ease"]
    monkeypatch.setitem(tuning.PEER_BY_NAME, "ease", replace(whole, fit=lambda fitting: _count(calls, whole, fitting)))
    with pytest.raises(KeyboardInterrupt):
        run_peers([market], tmp_path / "s", ["ease"], FEW, workers=0)
    monkeypatch.undo()
    again = run_peers([market], tmp_path / "s", ["ease"], FEW, workers=0)
    mine, other = choice(again, "ease"), choice(light_study, "ease")
    assert [one["setting"] for one in mine["points"]] == [one["setting"] for one in other["points"]]
    assert mine["setting"] == other["setting"]


def _count(calls: list[Any], whole: Peer, fitting: PeerFitting) -> FittedPeer:
    """Fits, but the third time is stopped."""
    calls.append(fitting.setting)
    if len(calls) == 3:
        raise KeyboardInterrupt
    return whole.fit(fitting)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["sasrek"], "unknown peer 'sasrek'; did you mean 'sasrec'"),
        (["pop", "pop"], "expected different names"),
        ([], "expected different names"),
    ],
)
def test_bad_peers_are_told_before_any_work(names: list[str], words: str, market: Path, tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match=words):
        run_peers([market], tmp_path / "s", names, FEW, workers=0)
    assert not (tmp_path / "s").exists()


def test_a_peer_without_settings_asks_for_no_extra(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    study = run_peers([market], tmp_path, ["pop"], Tuning(seeds=(0,)), workers=0)
    assert tuning.Chosen.read(study.folder / "peers" / "market" / "pop").setting == {}
    with pytest.raises(HardGNNError, match=r"hardgnn\[search\]"):
        run_peers([market], tmp_path / "other", ["ease"], Tuning(), workers=0)


# The leaderboard and the commands


@pytest.fixture(scope="module")
def both(light_study: Study, market: Path) -> Study:
    """The peers' study, with a plan of our own models trained in it."""
    study = Study(light_study.folder)
    small = ("model.dim=16", "model.heads=2", "model.intervals=3", "train.epochs=2")
    plan = Plan("variants", study.add_data([market]), (Variant("selfgnn", "selfgnn", small),), (0, 1))
    study.save("variants", plan)
    study.carry_out(plan, 0, lambda done, failed, names: None)
    return study


def test_all_models_of_a_study_stand_in_one_table_compared_with_the_reference(both: Study) -> None:
    document = leaderboard(both)
    assert document.reference == "selfgnn"  # the first of ours
    (table,) = document.tables
    rows = {row.model: row for row in table.rows}
    assert set(rows) == {"selfgnn", "ease", "itemknn", "pop"}
    figures = [row.metrics["ndcg@10"].mean for row in table.rows]
    assert figures == sorted(figures, reverse=True)
    assert rows["selfgnn"].seeds == (0, 1)
    assert rows["selfgnn"].comparison is None
    assert (rows["ease"].seeds, rows["ease"].metrics["ndcg@10"].sd) == ((0,), None)
    assert len(document.comparisons) == 3
    # A deterministic peer stands for each seed of ours.
    ours = [pl.read_parquet(both.folder / f"runs/market/selfgnn-{s}/ranks-test-full.parquet") for s in (0, 1)]
    folder = peer_folder(both, "market", "ease")
    theirs = pl.read_parquet(next(folder.glob("*/ranks-test-full.parquet")))
    wanted = next(row for row in compare_ranks(ours, [theirs, theirs]) if row.metric == "ndcg@10")
    made = rows["ease"].comparison
    assert (made.seeds, made.comparisons) == (2, 3)
    assert made.wilcoxon_p == wanted.wilcoxon_p
    assert made.seed_p is not None
    assert made.wilcoxon_p_holm >= made.wilcoxon_p
    assert rows["pop"].parameters == Dataset.load(both.paths["market"]).n_items
    assert all(row.training_seconds >= 0 for row in rows.values())


def test_the_markdown_page_shows_each_figure_and_the_best_settings(both: Study) -> None:
    document = leaderboard(both, reference="ease")
    page = markdown(document)
    assert "## market" in page
    for row in document.tables[0].rows:
        (line,) = [one for one in page.splitlines() if one.startswith(f"| {row.model} ")]
        assert f"{row.metrics['hr@20'].mean:.4f}" in line
        header = next(one for one in page.splitlines() if one.startswith("| model "))
        cells = dict(zip(header.split(" | "), line.split(" | "), strict=True))
        for title, key in (("Wilcoxon", "wilcoxon_p_holm"), ("permutation", "permutation_p_holm")):
            wanted = "–" if row.comparison is None else p_value(getattr(row.comparison, key))
            assert cells[f"p, {title}"] == wanted.replace("<", "&lt;")
        assert any(one.startswith(f"- {row.model}: ") for one in page.splitlines())
    assert "best of 3 on validation" in page
    assert "over all 3 comparisons" in page
    best = document.tables[0].rows[0].metrics["ndcg@10"].mean
    assert f"**{best:.4f}" in page


def test_the_report_of_a_study_has_the_leaderboard(both: Study, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the report is the extra hardgnn[report]")
    from hardgnn.report.page import write_report

    write_report([both.folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    (table,) = leaderboard(both).tables
    for row in table.rows:
        assert f"{row.metrics['ndcg@10'].mean:.4f}" in page
    assert "market: test, full, 200 users" in page


def test_an_unknown_reference_and_an_empty_study_are_refused(both: Study, market: Path, tmp_path: Path) -> None:
    with pytest.raises(HardGNNError, match="no such model in .* did you mean 'itemknn'"):
        leaderboard(both, reference="itemkn")
    study = Study(tmp_path / "s")
    study.save("peers", Plan("peers", study.add_data([market]), (), (0,), test=False, more=Beside()))
    with pytest.raises(HardGNNError, match="nothing is ranked under full yet"):
        leaderboard(study)


def test_compare_takes_runs_and_stands_peers_beside_them(both: Study, tmp_path: Path) -> None:
    run = both.folder / "runs/market/selfgnn-0"
    assert places([run], tmp_path / "s") == ([both.paths["market"]], [run], tmp_path / "s")
    words = ["compare", str(run), "--peers", "pop,recencyknn", "--trials", "2", "--out", str(tmp_path / "s"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    rows = {row["model"]: row for row in document["tables"][0]["rows"]}
    assert set(rows) == {"selfgnn-0", "pop", "recencyknn"}
    assert document["reference"] == "selfgnn-0"
    shown = CliRunner().invoke(app, ["compare", str(tmp_path / "s")])
    assert shown.exit_code == 0, shown.output
    assert "recencyknn" in shown.stdout
    page = tmp_path / "board.md"
    made = CliRunner().invoke(app, ["leaderboard", str(tmp_path / "s"), "--reference", "pop", "--out", str(page)])
    assert made.exit_code == 0, made.output
    assert "pop − it" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "{data}", "--peers", "eas", "--out", "{out}"], "unknown peer 'eas'; did you mean 'ease'"),
        (["compare", "{data}", "--peers", "ease"], "--peers needs --out STUDY"),
        (["compare", "{out}", "--peers", "ease", "--out", "{out}"], "neither a prepared folder nor a run folder"),
        (["compare", "{data}", "--peers", "ease", "--out", "{out}", "--part", "valid"], "leave out --part"),
        (["compare", "{data}", "{data}", "--out", "{out}"], "--out keeps the work of --peers"),
        (["leaderboard", "{data}"], "a prepared folder, where a study is expected"),
        (["leaderboard", "{out}"], "no study is there"),
    ],
)
def test_bad_words_get_one_sentence(
    words: list[str],
    sentence: str,
    market: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [word.format(data=market, out=tmp_path / "s") for word in words]
    assert ended(lambda: run(filled), filled) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


# The neural peers


def in_recbole(kind: Neural, dataset: Dataset, setting: dict[str, Any]) -> Any:
    """RecBole's own model with the same settings."""
    pytest.importorskip("recbole.model.abstract_recommender", reason="RecBole is not installed")
    module, name, fixed = {
        "sasrec": ("sequential_recommender.sasrec", "SASRec", {"n_heads": 2, "inner_size": 256, "hidden_act": "gelu"}),
        "gru4rec": ("sequential_recommender.gru4rec", "GRU4Rec", {}),
        "lightgcn": ("general_recommender.lightgcn", "LightGCN", {"require_pow": False}),
        "bpr": ("general_recommender.bpr", "BPR", {}),
    }[kind.name]
    found = getattr(importlib.import_module(f"recbole.model.{module}"), name)
    torch.autograd.set_detect_anomaly(False)  # which RecBole turns on
    edges = sparse.coo_matrix(training_matrix(dataset))
    edges = sparse.coo_matrix((edges.data, (edges.row + 1, edges.col + 1)), (dataset.n_users + 1, dataset.n_items + 1))
    sizes = SimpleNamespace(
        num=lambda field: 1 + (dataset.n_users if field == "user" else dataset.n_items), inter_matrix=lambda form: edges
    )
    names = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "NEG_PREFIX": "neg_", "LIST_SUFFIX": "_list"}
    names |= {"ITEM_LIST_LENGTH_FIELD": "length", "MAX_ITEM_LIST_LENGTH": setting.get("length")}
    dropout = dict.fromkeys(("hidden_dropout_prob", "attn_dropout_prob", "dropout_prob"), setting.get("dropout"))
    rest = {"layer_norm_eps": 1e-12, "initializer_range": 0.02, "loss_type": "CE", "device": torch.device("cpu")}
    if kind is LIGHTGCN:  # it makes its graph by a method that SciPy removed
        found = type("LightGCN", (found,), {"get_norm_adj_mat": lambda self: normalised(dataset)})
    return found(names | dropout | rest | fixed | setting, sizes)


@pytest.mark.parametrize("kind", [SASREC, GRU4REC, LIGHTGCN, BPR], ids=lambda one: one.name)
def test_a_seed_begins_with_recboles_weights_and_the_loss_and_scores_are_recboles(kind: Neural) -> None:
    dataset, setting = random_dataset(n_users=30, n_items=25), ORDINARY[kind.name]
    torch.manual_seed(7)
    theirs = in_recbole(kind, dataset, setting)
    torch.manual_seed(7)
    ours = kind.build(dataset, setting)
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name]), name
    objective = Losses(64, ours, dataset, setting.get("length", 0))
    asked, real = next(iter(objective.batches(np.random.default_rng(0))))
    if real is not None:
        theirs.gather_indexes = lambda output, last: output[real]
    losses = []
    for loss in (lambda: theirs.calculate_loss(asked), lambda: ours.loss(asked, real)):
        torch.manual_seed(1)  # of dropout
        losses.append(loss())
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for loss in losses:
        loss.backward()
    for (name, one), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-4, atol=1e-7, err_msg=name)
    if real is not None:
        del theirs.gather_indexes
    with torch.no_grad():
        scores = [theirs.eval().full_sort_predict(asked), ours.eval().scores(asked)]
    np.testing.assert_allclose(scores[0].view(len(scores[1]), -1), scores[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", [SASREC, GRU4REC], ids=lambda one: one.name)
def test_learning_from_every_position_is_learning_from_every_prefix(network: Neural) -> None:
    dataset = random_dataset(n_users=6)
    torch.manual_seed(0)
    setting = ORDINARY[network.name] | {"dropout": 0.0}
    model = network.build(dataset, setting).eval()
    total, count = 0.0, 0
    for user in range(dataset.n_users):
        sequence = torch.from_numpy(dataset.train.of(user).astype(np.int64)) + 1
        for place in range(1, len(sequence)):
            asked = {"item_list": sequence[None, :place], "length": torch.tensor([place])}
            total += F.cross_entropy(model.scores(asked), sequence[place : place + 1]).item()
            count += 1
    objective = Losses(10_000, model, dataset, setting["length"])
    (batch,) = objective.batches(np.random.default_rng(0))
    _, loss = objective.losses(batch, None)["rec"]
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_lightgcn_propagates_over_the_normalised_training_graph() -> None:
    dataset = random_dataset()
    model = LIGHTGCN.build(dataset, ORDINARY["lightgcn"])
    size = dataset.n_users + dataset.n_items + 2
    matrix = np.zeros((size, size))
    training = dataset.part == TRAIN
    rows, columns = dataset.user[training] + 1, dataset.n_users + 1 + dataset.item[training] + 1
    matrix[rows, columns] = matrix[columns, rows] = 1
    degree = np.maximum(matrix.sum(1), 1)
    wanted = matrix / np.sqrt(np.outer(degree, degree))
    np.testing.assert_allclose(model.norm_adj_matrix.to_dense().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("network", [SASREC, GRU4REC, LIGHTGCN, BPR], ids=lambda one: one.name)
def test_a_killed_training_goes_on_to_the_same_scores(network: Neural, tmp_path: Path) -> None:
    dataset = random_dataset(n_users=40, n_items=25)
    peer = PEER_BY_NAME[network.name]

    def fit(folder: Path, validated: Any = lambda epoch, value: None) -> np.ndarray:
        folder.mkdir(exist_ok=True)
        fitting = PeerFitting(dataset, peer.ordinary, 3, Cap(epochs=10), folder, validated)
        ranker = peer.fit(fitting).ranker
        return ranker.scores(np.arange(dataset.n_users), dataset.before(TEST))

    def kill(epoch: int, value: float) -> None:
        if epoch >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", kill)
    np.testing.assert_array_equal(fit(tmp_path / "killed"), fit(tmp_path / "whole"))
    assert fit(tmp_path / "whole").shape == (dataset.n_users, dataset.n_items)


def test_sequential_peers_see_the_validation_item_at_test_time(tmp_path: Path) -> None:
    dataset = random_dataset(n_users=40, n_items=25)
    other = replace(dataset, item=np.where(dataset.part == VALID, 3, dataset.item).astype(np.int32))
    for name, sees in (("sasrec", True), ("gru4rec", True), ("bpr", False)):
        peer, folder = PEER_BY_NAME[name], tmp_path / name
        folder.mkdir()
        ranker = peer.fit(PeerFitting(dataset, peer.ordinary, 0, Cap(epochs=2), folder)).ranker
        users = np.flatnonzero(dataset.item[dataset.part == VALID] != 3)
        before, after = (ranker.scores(users, one.before(TEST).take(users)) for one in (dataset, other))
        assert (np.abs(before - after).max(axis=1) > 0).all() == sees


def test_sasrec_finds_a_planted_successor_that_popularity_does_not(tmp_path: Path) -> None:
    sequences = [[(start + step) % 20 for step in range(8)] for start in range(20)] * 10
    dataset = tiny_dataset(sequences)
    peer = PEER_BY_NAME["sasrec"]
    setting = peer.ordinary | {"dropout": 0.1, "learning_rate": 5e-3}
    ranker = peer.fit(PeerFitting(dataset, setting, 0, Cap(epochs=20), tmp_path)).ranker
    assert summarise(rank_targets(ranker, dataset, "test")["rank"].to_numpy())["ndcg@10"] > 0.9
    pop = PEER_BY_NAME["pop"].fit(PeerFitting(dataset, {}, 0, Cap(), tmp_path)).ranker
    assert summarise(rank_targets(pop, dataset, "test")["rank"].to_numpy())["ndcg@10"] < 0.5


def test_neural_peers_from_the_command_line_are_tuned_and_fitted_with_each_seed(tmp_path: Path) -> None:
    write_simulated(tmp_path / "log.inter", users=60, items=30, events=900, seed=2)
    Dataset.read(tmp_path / "log.inter").prepare(k_core=3, candidates=10).save(tmp_path / "small")
    tuned = Tuning(trials=2, seeds=(0, 5), cap=Cap(epochs=2))
    study = run_peers([tmp_path / "small"], tmp_path / "s", ["bpr", "sasrec"], tuned, workers=0)
    document = leaderboard(study)
    for row in document.tables[0].rows:
        assert row.seeds == (0, 5)
        assert row.parameters > 0
        folder = peer_folder(study, "small", row.model)
        assert len(list(folder.glob("*-0"))) == 2  # the trials; the chosen one is not trained again with their seed
        assert len(list(folder.glob("*-5"))) == 1


def test_a_training_that_ended_by_a_cap_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = random_dataset(n_users=40, n_items=25)
    peer = PEER_BY_NAME["gru4rec"]
    clock = iter(range(0, 10_000, 20))  # each look at it is 20 s later: an epoch takes 20 s
    monkeypatch.setattr("hardgnn.experiments.peers.neural.time.process_time", lambda: next(clock))
    first, second = (
        peer.fit(PeerFitting(dataset, peer.ordinary, 0, Cap(minutes=1.1), tmp_path)).record for _ in range(2)
    )
    assert first == second
    assert first["stopped"] == "minutes"
    assert first["epochs"] == 4  # 80 s are the first above 66
