"""The Python interface as scikit-learn's users expect it: parameters, copies, pickles; what a table or a source is."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from factories import random_dataset, renumbered, small_options
from hardgnn import Dataset, HardGNN, HardGNNError, InteractionLog, NotFittedError, compare
from hardgnn.cli.app import run as command
from hardgnn.config import presets, resolve
from hardgnn.data.dataset import TEST
from hardgnn.models.base import Abilities
from hardgnn.recommend.best import SOURCES, meaning
from hardgnn.runs.train import train
from hardgnn.wording import typed

SHORT: dict[str, Any] = {"model": {"dim": 8}, "train": {"epochs": 2, "eval_every": 1}}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return random_dataset(n_users=60)


@pytest.fixture(scope="module")
def best(data: Dataset) -> HardGNN:
    return HardGNN(verbose=0, **SHORT).fit(data)


@pytest.mark.parametrize("preset", ["best", "selfgnn", "recencyknn", "popularity"])
def test_copies_and_folders_hold_the_model_whole(preset: str, data: Dataset, tmp_path: Path) -> None:
    options = {"best": SHORT, "selfgnn": small_options()}.get(preset, {})
    model = HardGNN(preset, verbose=0, **options).fit(data)
    answers = model.recommend()
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.recommend().equals(answers)
    model.save(tmp_path / "run")
    loaded = HardGNN.load(tmp_path / "run")
    pickle.loads(pickle.dumps(loaded)).save(tmp_path / "again")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "again"))
    assert {name: tensor.tolist() for name, tensor in one.items()} == {
        name: tensor.tolist() for name, tensor in other.items()
    }
    again = HardGNN.load(tmp_path / "again")
    assert again.recommend().equals(answers)
    assert (again.preset, again.config, again.result["best_epoch"]) == (
        preset,
        model.config,
        model.result["best_epoch"],
    )
    assert HardGNN(**again.get_params(deep=False)).config == model.config
    for folder in (tmp_path / "run", tmp_path / "again"):  # what is in memory stays
        for path in folder.iterdir():
            path.unlink()
    assert model.recommend().equals(answers)
    assert loaded.recommend().equals(answers)


def test_parameters_go_round_and_are_all_set_or_none() -> None:
    model = HardGNN("best", 3, model={"dim": 8})
    assert clone(model).get_params() == model.get_params() == {
        "preset": "best", "seed": 3, "verbose": 1, "output": "polars", "model": {"dim": 8}, "model__dim": 8,
    }  # fmt: skip
    assert repr(model) == "HardGNN(seed=3, model={'dim': 8})"
    assert eval(repr(model)).config == model.config
    assert model.set_params(model__heads=4, train={"epochs": 5}, seed=1) is model
    assert (model.config.model.dim, model.config.model.heads, model.config.train.epochs) == (8, 4, 5)
    before = model.get_params()
    for wrong, sentence in (
        ({"dim": 3}, "unknown parameter 'dim': did you mean 'model__dim'"),
        ({"seed": 5, "model__dim": -1}, "model.dim"),
        ({"preset": "bset"}, "did you mean 'best'"),
        ({"output": "panda"}, "output: expected one of polars, pandas, got 'panda'"),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            model.set_params(**wrong)
    assert model.get_params() == before
    for wrong, sentence in (
        ({"model": 3}, "model: expected settings by name"),
        ({"model": {"dimm": 3}}, "did you mean 'model.dim'"),
    ):
        with pytest.raises(HardGNNError, match=sentence):
            HardGNN(**wrong)


def test_figures_have_the_name_of_what_was_fitted(data: Dataset) -> None:
    model = HardGNN("itemknn", verbose=0).fit(data).set_params(preset="ease")
    assert model.name == model.evaluate()["model"] == "itemknn"
    assert compare([model, HardGNN("popularity", verbose=0).fit(data)], data).metrics["model"][0] == "itemknn"


@pytest.mark.parametrize("unit", ["s", "m", "D", "ms", "us", "ns"])
def test_moments_of_numpy_in_any_unit(unit: str) -> None:
    moments = np.datetime64("2020-01-01") + np.arange(40).astype("timedelta64[D]")
    columns = {"user": np.arange(40) % 4, "item": np.arange(40), "time": moments.astype(f"datetime64[{unit}]")}
    data = Dataset.from_frame(columns, k_core=0)
    assert (data.timestamp.min(), data.timestamp.max()) == (1577836800, 1577836800 + 39 * 86400)


def test_what_is_not_fitted_says_so(data: Dataset, best: HardGNN) -> None:
    fresh = HardGNN()
    for call in (fresh.recommend, fresh.refit, fresh.explain, fresh.plot, lambda: fresh.evaluate(data)):
        with pytest.raises(NotFittedError, match=r"call fit\(data\) first"):
            call()
    assert issubclass(NotFittedError, (ValueError, AttributeError))
    with pytest.raises(ValueError):
        check_is_fitted(fresh)
    check_is_fitted(best)


def test_a_run_without_a_known_preset_is_loaded_and_refitted_by_its_settings(data: Dataset, tmp_path: Path) -> None:
    train(data, resolve("best", settings=["model.dim=8", "train.epochs=2"]), tmp_path / "run", preset="config")
    loaded = HardGNN.load(tmp_path / "run")
    assert loaded.preset is None
    assert HardGNN(**loaded.get_params(deep=False)).config == loaded.config
    loaded.refit(data, tmp_path / "again")
    assert HardGNN.load(tmp_path / "again").preset is None


def test_best_matches_by_raw_id(best: HardGNN, data: Dataset) -> None:
    assert best.evaluate(renumbered(data, seed=3)) == best.evaluate(data) == best.evaluate()


def test_models_are_compared_whatever_their_numbering(best: HardGNN, data: Dataset, tmp_path: Path) -> None:
    other = HardGNN("popularity", verbose=0).fit(renumbered(data, seed=1))
    found = compare({"a": best, "b": other}, data, at=5)
    assert found.metrics.rows(named=True) == [
        {"model": name, **model.evaluate(data, at=5)["metrics"]} for name, model in (("a", best), ("b", other))
    ]
    assert found.users == len(data.targets(TEST)[0])
    assert found.differences["metric"].to_list() == ["hr@5", "ndcg@5"]
    assert set(found.differences["comparisons"]) == {2}
    assert best.compare(other, best, at=5).metrics["model"].to_list() == ["best", "popularity", "best (2)"]
    assert "hr@5" in found._repr_html_()
    with pytest.raises(HardGNNError, match="at least two models"):
        compare([best], data)
    for figure in (found.plot("hr@5"), best.plot(), best.plot("loss"), best.explain("u1").plot()):
        assert isinstance(figure, matplotlib.figure.Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_similar_items_histories_and_reasons(best: HardGNN, data: Dataset) -> None:
    alike = best.similar_items(["i1", "i2"], n=3)
    assert alike.columns == ["item", "similar", "similarity", "rank"]
    assert alike["item"].to_list() == ["i1"] * 3 + ["i2"] * 3
    assert alike["rank"].to_list() == [1, 2, 3] * 2
    with pytest.raises(HardGNNError, match="cannot tell which items are alike"):
        HardGNN("popularity", verbose=0).fit(data).similar_items("i1")
    past = best.history(["u2", "u1"])
    assert past["user"].unique(maintain_order=True).to_list() == ["u2", "u1"]
    assert past.filter(user="u1")["item"].to_list() == data.item_ids.gather(data.everything.of(1)).to_list()
    assert past["time"].is_sorted() or past["time"].dtype == pl.Datetime("us", "UTC")
    why = best.explain("u1", n=4)
    assert why.recommendations["item"].to_list() == best.recommend("u1", n=4)["item"].to_list()
    assert why.because["item"].unique(maintain_order=True).to_list() == why.recommendations["item"].to_list()
    assert set(why.because["reason"]) <= set(past.filter(user="u1")["item"])
    assert why.window["weight"].sum() == pytest.approx(1, abs=1e-4)
    assert "<table>" in why._repr_html_() + best._repr_html_() + data._repr_html_()


def test_tuning_keeps_the_best_on_validation(data: Dataset) -> None:
    model = HardGNN(verbose=0, **SHORT).tune(data, n=2)
    chosen = model.tuning.filter(pl.col("chosen"))
    assert chosen["ndcg@10"].item() == model.tuning["ndcg@10"].max()
    assert model.result["valid"]["full"]["ndcg@10"] == chosen["ndcg@10"].item()
    assert clone(model).config == model.config
    assert model.config.model.dim == 8
    with pytest.raises(HardGNNError, match="tune: the preset 'popularity' has no list"):
        HardGNN("popularity").tune(data)


def test_a_source_means_what_the_model_says(best: HardGNN, data: Dataset) -> None:
    known, unknown = best.explain("u1"), best.explain(items=["i1", "i2"])
    assert known.known
    assert known.source == unknown.source == "sequence"
    assert known.meaning == unknown.meaning == "recent items alone, for this model learns nothing of single users"
    both, alone, nobody = (
        Abilities(known_users=True),
        Abilities(known_users=True, histories=False),
        Abilities(histories=False),
    )
    assert "does not know the user" in meaning("sequence", both, known=False)
    assert "training had none of the user" in meaning("sequence", both, known=True)
    assert "who has no items" in meaning("user", both, known=True)
    assert meaning("user", alone, known=True) == "what the model has learnt of the user"
    assert "for everybody" in meaning("popularity", nobody, known=True)
    assert "nothing is known of the user" in meaning("popularity", both, known=False)
    assert {meaning(source, both, known=True) for source in SOURCES}.isdisjoint([""])


def test_sentences_are_worded_for_who_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text("who,what,when\na,b,1\n")
    with pytest.raises(HardGNNError, match="name it with user_col$"):
        Dataset.read(tmp_path / "log.csv")
    with pytest.raises(HardGNNError, match="name it with --user-col$"):
        command(["prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out")])
    with pytest.raises(HardGNNError, match=r"no such run folder; make one with HardGNN\(\)\.fit"):
        HardGNN.load(tmp_path / "none")
    with typed(), pytest.raises(HardGNNError, match="make one with `hardgnn train"):
        HardGNN.load(tmp_path / "none")


def test_the_processes_of_a_command_word_as_it_does() -> None:
    asked = [sys.executable, "-c", "from hardgnn.wording import option; print(option('out'))"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "out"
    with typed():
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "--out"


def test_verbose_says_what_it_does(data: Dataset, market_log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    HardGNN("popularity", verbose=0).fit(market_log, prepare={"candidates": 30})
    assert capfd.readouterr() == ("", "")
    HardGNN("popularity").fit(market_log, prepare={"candidates": 30})
    assert "kept (k_core=5)" in capfd.readouterr().err
    HardGNN(verbose=2, **SHORT).fit(data)
    assert "best: epoch 2/2  ndcg@10 " in capfd.readouterr().err


def test_tables_without_times_or_ids_in_every_form(data: Dataset, tmp_path: Path) -> None:
    rows = data.interactions().with_columns(pl.col("user", "item").str.slice(1).cast(pl.Int32))
    made = {"prepare": {"k_core": 2, "candidates": 5}}
    model = HardGNN("popularity", verbose=0).fit(rows.select("user", "item"), time=False, **made)
    found = model.recommend(n=2)
    assert found.schema["user"] == found.schema["item"] == pl.Int32
    assert model.evaluate(rows.select("user", "item")) == model.evaluate()
    model.save(tmp_path / "run")
    for one in (model, HardGNN.load(tmp_path / "run")):  # an order is no time
        assert one.history(rows["user"][0]).columns == ["user", "item"]
    log = InteractionLog.from_frame({"who": ["a"], "sku": [1.0], "time": [3]}, user="who", item="sku")
    assert (log.table.rows(), log.reading.told()["item_type"]) == ([("a", "1", 3.0)], "Float64")
    other = InteractionLog(rows.head(50))
    assert other.sha256 != InteractionLog(rows.head(49)).sha256
    assert other.sha256 == InteractionLog(rows.head(50)).sha256
    with pytest.raises(HardGNNError, match="give time=False where the rows are in order"):
        Dataset.from_frame(rows.select("user", "item"))


def test_neither_pandas_nor_arrow_is_needed(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pandas", "pyarrow", "sklearn"):
        monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    how: dict[str, Any] = {"prepare": {"k_core": 2, "candidates": 3}}
    frame = data.interactions().drop("part")
    model = HardGNN("popularity", verbose=0).fit(frame, **how)
    assert model.recommend({"u3"}, n=1).height == 1
    assert model.evaluate(Dataset.read(frame)) == model.evaluate(frame) == model.evaluate()
    with pytest.raises(HardGNNError, match="output='pandas' needs pandas: pip install pandas"):
        model.set_output("pandas")


def test_every_preset_is_a_default_away() -> None:
    assert HardGNN().preset == "best"
    for name in presets():
        assert HardGNN(name).get_params()["preset"] == name
