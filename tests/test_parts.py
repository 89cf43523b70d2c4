"""Parts by name: ours and those from outside, of every kind; what holds for each is in `conformance`."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import hardgnn.parts
import hardgnn.training
from conformance import DATA, checks_of, config_with
from extending import KINDS, SHOWN, kept_apart, shown_parts
from hardgnn import Dataset, HardGNNError
from hardgnn.config import PartSettings, resolve
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.readers import READERS, Fit, RawFile, formats, reader
from hardgnn.models import ClosedForm, Encoder, encoder, model
from hardgnn.parts import ENCODERS, LOSSES, MODELS, SAMPLERS, Parts
from hardgnn.runs.memory import fit
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.training import Callback, callback, loss, sampler

every_kind = pytest.mark.parametrize("parts", KINDS, ids=lambda parts: parts.kind)
OURS = [(parts.kind, name) for parts in KINDS for name in parts.names()]


@pytest.mark.parametrize(
    ("kind", "name", "check"),
    [
        pytest.param(kind, name, check, id=f"{kind} {name} {check.__name__}")
        for kind, name in OURS
        for check in checks_of(kind, name)
    ],
)
def test_a_part_keeps_what_its_kind_promises(
    kind: str, name: str, check: Callable[[str, Path], None], tmp_path: Path
) -> None:
    check(name, tmp_path)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SHOWN.items() for name in names])
def test_a_part_from_outside_keeps_it_too(kind: str, name: str, tmp_path: Path) -> None:
    with shown_parts(tmp_path):
        for check in checks_of(kind, name):
            check(name, tmp_path)


@pytest.fixture
def outside() -> Iterator[None]:
    """Parts registered in a test are gone after it."""
    with kept_apart():
        yield


def announce(monkeypatch: pytest.MonkeyPatch, parts: Parts[Any], **points: str) -> None:
    """Makes an installed package of entry points."""
    installed = EntryPoints(EntryPoint(name, value, parts.group) for name, value in points.items())
    monkeypatch.setattr(hardgnn.parts, "entry_points", lambda group: installed.select(group=group))


@every_kind
def test_a_part_is_found_by_its_name_and_a_name_that_is_none_is_told_the_nearest(
    parts: Parts[Any], tmp_path: Path
) -> None:
    with shown_parts(tmp_path):
        assert set(SHOWN[parts.kind]) <= set(parts.names())
        found = [parts.find(name) for name in parts.names()]
        assert found == parts.loaded() == [part for _, part in parts.sound()]
        near = parts.names()[0]
        with pytest.raises(HardGNNError, match=f"unknown {parts.kind} '{near}x'; did you mean '{near}'"):
            parts.find(f"{near}x")


@every_kind
def test_a_part_of_an_installed_package_that_is_not_there_is_told_with_its_kind(
    parts: Parts[Any], outside: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"broken_{parts.kind}.py").write_text("import no_such_module\n")
    (tmp_path / f"empty_{parts.kind}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, parts, broken=f"broken_{parts.kind}", empty=f"empty_{parts.kind}")
    assert {"broken", "empty"} <= set(parts.names())
    with pytest.raises(HardGNNError, match=f"{parts.kind} 'broken' .* cannot be loaded: ModuleNotFoundError"):
        parts.find("broken")
    with pytest.raises(HardGNNError, match=f"{parts.kind} 'empty' .* registers no {parts.kind} of that name"):
        parts.find("empty")


def read_plays(raw: RawFile) -> pl.DataFrame:
    with raw.open() as stream:
        rows = [line.decode().rstrip("\n").split("|") for line in stream]
    return pl.DataFrame(rows, [USER, ITEM, TIMESTAMP], orient="row")


PLAYS = b"ann|x|1400000000\nann|y|1500000000\n"


def test_a_reader_from_outside_reads_packed_logs_and_is_checked_as_ours(outside: None, tmp_path: Path) -> None:
    reader("plays")(read_plays)
    (tmp_path / "plays.log.gz").write_bytes(gzip.compress(PLAYS))
    log = Dataset.read(tmp_path / "plays.log.gz", format="plays")
    assert log.table[TIMESTAMP].to_list() == [1.4e9, 1.5e9]
    assert log.reading.format == "plays"
    (tmp_path / "plays.log").write_bytes(PLAYS + b"bob||1500000000\n")
    with pytest.raises(HardGNNError, match=r"plays.log: row 3: the item id is empty"):
        Dataset.read(tmp_path / "plays.log", format="plays")


def fails(raw: RawFile) -> pl.DataFrame:
    raise ValueError("a strange file")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails, r"reader 'odd' \(.*fails\) fails: ValueError: a strange file"),
        (lambda raw: {"user": []}, r"reader 'odd' .*expected a polars DataFrame or LazyFrame, got a builtins dict"),
        (lambda raw: pl.DataFrame({"user": ["a"], "thing": ["b"]}), r"reader 'odd' .*no column 'item'; .*user, thing"),
        (lambda raw: pl.DataFrame({"user": ["a"], "item": ["b"], "timestamp": [True]}), "column 'timestamp' cannot be"),
        (lambda raw: pl.LazyFrame({"user": ["a"]}).select(item="none"), "cannot be read as odd"),
    ],
)
def test_a_reader_that_is_wrong_is_named(
    outside: None, tmp_path: Path, function: Callable[[RawFile], Any], message: str
) -> None:
    reader("odd")(function)
    (tmp_path / "log.odd").write_bytes(PLAYS)
    with pytest.raises(HardGNNError, match=message) as told:
        Dataset.read(tmp_path / "log.odd", format="odd")
    assert "log.odd" in str(told.value)


def test_a_reader_may_recognise_its_files(outside: None, tmp_path: Path) -> None:
    reader("plays", fits=lambda raw: Fit.CONTENT if raw.start().count("|") == 2 else Fit.NO)(read_plays)
    (tmp_path / "log.txt").write_bytes(PLAYS)
    assert Dataset.read(tmp_path / "log.txt").reading.format == "plays"


def test_names_of_readers(outside: None, tmp_path: Path) -> None:
    for taken, message in (
        ("auto", "means something else"),
        ("selfgnn", "means something else"),
        ("csv", "rename one"),
    ):
        with pytest.raises(HardGNNError, match=message):
            reader(taken)(read_plays)
    reader("plays")(read_plays)
    with pytest.raises(HardGNNError, match="unknown format 'play': did you mean 'plays'"):
        Dataset.read(tmp_path / "log.txt", format="play")
    with pytest.raises(HardGNNError, match="unknown option 'fromat' of reading: did you mean 'format'"):
        Dataset.read(tmp_path / "log.txt", fromat="play")  # type: ignore[call-arg]


def test_a_reader_of_an_installed_package_is_found_by_its_entry_point(
    outside: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "far_readers.py").write_text(
        "import polars as pl\nfrom hardgnn.data.readers import reader\n@reader('far')\n"
        "def far(raw):\n    return pl.DataFrame({'user': ['a'], 'item': ['b'], 'timestamp': [1.4e9]})\n"
    )
    (tmp_path / "log.txt").write_bytes(PLAYS)
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, READERS, far="far_readers")
    assert "far" in formats()
    assert "far" not in READERS._known  # not loaded before it is asked for
    assert Dataset.read(tmp_path / "log.txt", format="far").table.height == 1


SECTIONS = [("model", MODELS), ("encoder", ENCODERS), ("loss", LOSSES), ("sampler", SAMPLERS)]


@pytest.mark.parametrize(("section", "parts"), SECTIONS, ids=[section for section, _ in SECTIONS])
def test_a_package_that_cannot_be_loaded_is_told_where_its_part_is_asked_for_and_nowhere_else(
    section: str, parts: Parts[Any], outside: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"broken_{section}.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, parts, broken=f"broken_{section}")
    told = f"{section} 'broken' of the package broken_{section} cannot be loaded: .*no_such_module"
    with pytest.raises(HardGNNError, match=told):
        resolve("hardgnn", settings=[f"{section}.kind=broken"])
    with pytest.raises(HardGNNError, match=f"{section}.kind: expected .*, got 'brokn'"):
        resolve("hardgnn", settings=[f"{section}.kind=brokn"])
    with pytest.raises(HardGNNError, match="unknown key 'lss': did you mean 'loss'|unknown key 'lss'"):
        resolve("hardgnn", settings=["lss.kind=hinge"])
    with pytest.raises(HardGNNError, match=f"unknown key '{section}.nothing'"):
        resolve("hardgnn", settings=[f"{section}.nothing=1"])
    with pytest.raises(HardGNNError, match="needs an encoder of every position: set encoder.kind=causal"):
        resolve("hardgnn", settings=["objective.kind=next-item", "ssl.weight=0"])
    assert resolve("hardgnn").model.kind == "selfgnn"


def test_names_of_callbacks(outside: None) -> None:
    with pytest.raises(HardGNNError, match="unknown callback 'loud'; known: mlflow, tensorboard, wandb"):
        resolve("hardgnn", settings=["train.callbacks=loud"])
    callback("loudly")(type("Loudly", (Callback,), {}))
    with pytest.raises(HardGNNError, match="train.callbacks: unknown callback 'loud'; did you mean 'loudly'"):
        resolve("hardgnn", settings=["train.callbacks=loudly,loud"])


def test_settings_of_a_part_are_checked_and_told_as_ours(outside: None) -> None:
    class Margin(PartSettings):
        margin: float = 1.0

    loss("far", Margin)(lambda scores, settings: scores.positive.sum() * settings.margin)
    config = resolve("hardgnn", settings=["loss.margin=2", "loss.kind=far"])
    assert config.sections()["loss"] == Margin(kind="far", margin=2.0)
    for setting, told in (
        ("loss.margin=wide", "loss.margin: expected a valid number, got 'wide'"),
        ("loss.margn=1", "unknown key 'loss.margn': did you mean 'loss.margin'"),
        ("loss.reduction=sum", "loss.reduction: loss.kind=far has no such setting, hinge has"),
    ):
        with pytest.raises(HardGNNError, match=told):
            resolve("hardgnn", settings=["loss.kind=far", setting])
    loss("odd", dict)(lambda scores, settings: 0)  # type: ignore[arg-type]
    with pytest.raises(HardGNNError, match="loss 'odd': its settings must be a subclass of PartSettings"):
        resolve("hardgnn", settings=["loss.kind=odd"])


def _raises(*given: Any) -> Any:
    raise ValueError("strange scores")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (_raises, r"loss 'odd' \(test_parts._raises\) fails: ValueError: strange scores"),
        (lambda scores, settings: scores.positive, "loss 'odd' .*expected a tensor of one number, got one of shape"),
        (lambda scores, settings: 1.0, "loss 'odd' .*expected a tensor of one number, got a float"),
        (lambda scores, settings: scores.positive.sum() * torch.nan, "epoch 1: the loss is nan"),
    ],
)
def test_a_loss_that_is_wrong_is_named(outside: None, function: Any, told: str) -> None:
    loss("odd")(function)
    with pytest.raises(HardGNNError, match=told):
        fit(DATA, config_with("loss", "odd"))


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (_raises, r"sampler 'odd' \(.*\) fails: ValueError: strange scores"),
        (lambda self, rng: (torch.arange(3).numpy() * 50, [1, 1, 1]), "an item that it draws is none of the 40 items"),
        (lambda self, rng: (torch.tensor([3, 1]).numpy(), [1, 1]), "expected candidates in ascending order"),
        (lambda self, rng: (torch.arange(3).numpy(), [1, 1, 0]), "expected a probability above 0 and at most 1"),
        (lambda self, rng: ([1, 2], [1, 1]), "expected an array of item numbers of shape .*, got a list"),
    ],
)
def test_a_sampler_that_is_wrong_is_named(outside: None, draw: Any, told: str) -> None:
    sampler("odd", "candidates")(type("Odd", (), {"__init__": lambda *given: None, "draw": draw}))
    with pytest.raises(HardGNNError, match=told):
        fit(DATA, config_with("sampler", "odd"))


def test_an_encoder_that_is_wrong_is_named(outside: None) -> None:
    encoder("odd")(type("Odd", (Encoder,), {"forward": lambda self, items, window: items[window]}))
    with pytest.raises(HardGNNError, match=r"encoder 'odd' \(.*Odd\): expected vectors of shape \(\d+, 8\), got"):
        fit(DATA, config_with("encoder", "odd"))


def test_callbacks_are_told_in_the_order_of_their_names(outside: None) -> None:
    told: list[str] = []

    class Teller(Callback):
        def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
            told.append(f"{type(self).__name__} {epoch}.{step} of {steps}")

        def epoch(self, line: dict[str, Any]) -> None:
            told.append(f"{type(self).__name__} epoch {line['epoch']}")

        def end(self) -> None:
            told.append(f"{type(self).__name__} end")

        def close(self) -> None:
            told.append(f"{type(self).__name__} close")

    for name in ("b", "a"):
        callback(name)(type(name, (Teller,), {"__qualname__": name}))
    config = resolve(options={"model": {"dim": 8}, "train": {"epochs": 2, "callbacks": "b,a"}})
    fit(DATA, config)
    one = [f"{name} 1.1 of 1" for name in "ba"] + [f"{name} epoch 1" for name in "ba"]
    two = [f"{name} 2.1 of 1" for name in "ba"] + [f"{name} epoch 2" for name in "ba"]
    assert told == [*one, *two, "b end", "a end", "b close", "a close"]


def test_a_callback_may_end_training_and_add_to_the_log(outside: None, tmp_path: Path) -> None:
    @callback("enough")
    class Enough(Callback):
        def epoch(self, line: dict[str, Any]) -> None:
            line["answer"] = 42.0

        def ends(self) -> str:
            return "enough" if self.trainer.progress.epoch == 1 else ""

    fitted = fit(DATA, resolve(options={"model": {"dim": 8}, "train": {"callbacks": "enough"}}))
    assert [line["answer"] for line in fitted.lines] == [42.0]


def test_a_callback_that_cannot_be_made_is_named(outside: None) -> None:
    callback("odd")(type("Odd", (Callback,), {"__init__": lambda self: None}))
    with pytest.raises(HardGNNError, match=r"callback 'odd' \(.*Odd\) fails: TypeError"):
        fit(DATA, resolve(options={"train": {"callbacks": "odd"}}))


def test_layers_with_dropout_and_running_means_score_and_resume_as_they_should(outside: None, tmp_path: Path) -> None:
    @encoder("layered")
    class Layered(Encoder):
        def __init__(self, settings: Any, frame: Any) -> None:
            super().__init__(settings, frame)
            self.norm, self.dropout = torch.nn.BatchNorm1d(frame.dim), torch.nn.Dropout(0.5)

        def forward(self, item_vectors: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
            last = item_vectors[window[:, -1].clamp_min(0)] * (window[:, -1:] >= 0)
            return self.dropout(self.norm(last))

    options = {"model": {"dim": 8}, "encoder": {"kind": "layered"}, "hard": {"k": 0}}
    whole = train(DATA, resolve(options=options | {"train": {"epochs": 4, "eval_every": 1}}), tmp_path / "whole")
    assert whole.epochs == 4

    class Stop(Callback):
        def epoch(self, line: dict[str, Any]) -> None:
            if line["epoch"] == 3:
                raise KeyboardInterrupt

    config = resolve(options=options | {"train": {"epochs": 4, "eval_every": 1}})
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(DATA, config, tmp_path / "stopped", callbacks=[Stop()])
    assert torch.equal(torch.get_rng_state(), before)
    train(DATA, config, tmp_path / "stopped", resume=True)
    users = np.arange(DATA.n_users)
    found = [load_model(tmp_path / name).scores(users, DATA.train) for name in ("whole", "stopped", "whole")]
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0], found[1])
    again = [fit(DATA, config).model.scores(users, DATA.train) for _ in range(2)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(*again)


def test_where_parts_begin_loads_no_more_than_is_asked_for() -> None:
    code = (
        "import sys, hardgnn.training as room; print('torch' in sys.modules); "
        "print([name for name in room.__all__ if getattr(room, name).__name__ != name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n[]\n"
    with pytest.raises(AttributeError, match="no attribute 'losss'"):
        hardgnn.training.losss  # noqa: B018


def test_a_class_that_lacks_what_its_kind_needs_is_refused_when_it_is_registered() -> None:
    with pytest.raises(HardGNNError, match=r"model 'half' \(.*Half\): lacks fit, n_items, restore, scores, tensors"):

        @model("half")
        class Half(ClosedForm):
            """Nothing."""

    with pytest.raises(HardGNNError, match=r"encoder 'mute' \(.*Mute\): lacks forward"):

        @encoder("mute")
        class Mute(Encoder):
            """Nothing."""

    assert "half" not in MODELS.names()
    assert "mute" not in ENCODERS.names()
