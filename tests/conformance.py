"""What every part of a kind keeps to, checked by its name alone: ours, and any from outside (docs/extending.md)."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from contextlib import chdir, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from factories import random_dataset
from hardgnn import Dataset, HardGNNError
from hardgnn.config import Config, flat, resolve
from hardgnn.data.columns import ITEM, TIMESTAMP, USER
from hardgnn.data.dataset import TEST, TRAIN
from hardgnn.data.histories import PADDING, Histories
from hardgnn.data.readers import READERS, RawFile, guess_format
from hardgnn.metrics import METRICS
from hardgnn.models.attention import reset
from hardgnn.models.encoders.base import Encoder, Frame
from hardgnn.parts import CALLBACKS, ENCODERS, LOSSES, MODELS, OBJECTIVES, SAMPLERS
from hardgnn.recommend.export import item_vectors
from hardgnn.runs.memory import fit
from hardgnn.runs.models import load_model
from hardgnn.runs.train import train
from hardgnn.training.losses import CandidateScores, Scores
from hardgnn.training.objectives.base import eligible_users
from hardgnn.training.trainer import total

DATA = random_dataset(n_users=60, n_items=40, seed=3)
SMALL = {"model": {"dim": 8}, "train": {"epochs": 2, "eval_every": 1, "lr": 1e-2}, "run": {"device": "cpu"}}


# -- settings in which a part is used -------------------------------------------------------------------------------


def config_with(section: str, name: str) -> Config:
    """The first config of a model (the part's own first), objective and encoder that takes the part and trains."""
    trained = [(model.objective != name, kind) for kind, model in MODELS.sound() if model.objective]
    tried = {
        "model": [kind for _, kind in sorted(trained)],
        "objective": ["", *OBJECTIVES.names()],
        "encoder": ["", *ENCODERS.names()],
    }
    for chosen in itertools.product(*(values if kind != section else [name] for kind, values in tried.items())):
        named = {kind: {"kind": value} for kind, value in zip(tried, chosen) if value} | {section: {"kind": name}}
        for options in (named | {"ssl": {"weight": 0.0}}, named):
            with suppress(HardGNNError):
                return _small(options)
    raise AssertionError(f"no config takes {section}.kind={name}")


def _small(options: dict[str, Any]) -> Config:
    """The config of these options, small where it has such settings."""
    config = resolve(options=options)
    known = config.sections()
    for section, fields in SMALL.items():
        for field, value in fields.items():
            if section in known and field in type(known[section]).model_fields:
                options = options | {section: options.get(section, {}) | {field: value}}
    return resolve(options=options)


def network_of(config: Config, data: Dataset) -> Any:
    return MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0))


# -- readers ---------------------------------------------------------------------------------------------------------


def sample_of(name: str, folder: Path) -> Path:
    """A log in the format of a reader, under a name that tells nothing."""
    made = READERS.find(name).sample
    assert made is not None, f"the reader '{name}' gives no sample; see `hardgnn.data.readers.base.reader`"
    path = folder / "log.txt"
    path.write_bytes(made())
    return path


def reads_its_sample_the_same_every_time(name: str, folder: Path) -> None:
    path = sample_of(name, folder)
    one, two = (Dataset.read(path, format=name) for _ in range(2))
    assert one.table.equals(two.table)
    assert one.sha256 == two.sha256
    assert one.table.columns[:3] == [USER, ITEM, TIMESTAMP]
    assert one.table.height >= 2
    assert one.table.null_count().select(USER, ITEM, TIMESTAMP).row(0) == (0, 0, 0)
    assert one.reading.format == name
    assert set(one.reading.told()) == {"format", "user", "item", "time", "rating", "time_unit"}


def finds_its_sample_by_the_content(name: str, folder: Path) -> None:
    # no content tells sequences from a table of one column
    assert guess_format(RawFile.find(sample_of(name, folder))) == ("csv" if name == "sequences" else name)


def reads_a_packed_log(name: str, folder: Path) -> None:
    path = sample_of(name, folder)
    packed = path.with_name("packed.txt.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    if name == "parquet":
        with pytest.raises(HardGNNError, match="not a Parquet file; unpack it"):
            Dataset.read(packed, format=name)
    else:
        assert Dataset.read(packed, format=name).table.equals(Dataset.read(path, format=name).table)


def refuses_what_is_no_log_in_one_sentence(name: str, folder: Path) -> None:
    path = folder / "garbage.log"
    for garbage in (b"\x00\x01\x02\xff\xfe" * 40, b"\xc3\x28 is not UTF-8\n\xff\n", b"a\n" * 3):
        path.write_bytes(garbage)
        with pytest.raises(HardGNNError) as told:
            Dataset.read(path, format=name)
        assert str(told.value).startswith(str(path))
        assert "\n" not in str(told.value)


def takes_names_of_columns_or_says_that_it_does_not(name: str, folder: Path) -> None:
    with pytest.raises(HardGNNError, match=r"'nobody'"):
        Dataset.read(sample_of(name, folder), format=name, user_col="nobody")


# -- metrics ---------------------------------------------------------------------------------------------------------


def judges_each_user_alone_or_the_lists_whole(name: str, folder: Path) -> None:
    found = METRICS.find(name)
    if found.of_lists:
        lists = np.random.default_rng(0).permuted(np.tile(np.arange(12), (5, 1)), axis=1)[:, :4]
        lists[0, 2:] = PADDING
        counts = np.arange(1, 13)
        assert found.function(lists, counts) == found.function(lists[::-1], counts)
        return
    ranks = np.array([0.0, 3.0, 9.5, 10.0, 500.0])
    values = found.function(ranks, 10)
    assert (np.diff(values) <= 0).all()
    assert values[0] > values[-1]
    np.testing.assert_array_equal(values, [found.function(ranks[[at]], 10)[0] for at in range(len(ranks))])


# -- losses ----------------------------------------------------------------------------------------------------------


def loss_settings(name: str) -> Any:
    return LOSSES.find(name).Settings(kind=name)


def drawn_scores(valid: bool = True, offsets: bool = True) -> Scores:
    """Scores of 6 positives with 5 negatives each, with gradients; of the last positive no negative counts."""
    rng = torch.Generator().manual_seed(0)
    positive = (0.3 * torch.randn(6, generator=rng)).requires_grad_()
    negative = (0.3 * torch.randn(6, 5, generator=rng)).requires_grad_()
    counts = torch.rand(6, 5, generator=rng) < 0.7
    counts[-1] = False
    return Scores(positive, negative, counts if valid else None, torch.rand(5, generator=rng) if offsets else None)


def pushes_positives_up_and_negatives_down(name: str, folder: Path) -> None:
    for valid in (False, True):
        for offsets in (False, True):
            scores = drawn_scores(valid, offsets)
            found = LOSSES.find(name)(scores, loss_settings(name))
            assert torch.isfinite(found)
            found.backward()
            up, down = scores.positive.grad, scores.negative.grad
            assert up is not None
            assert down is not None
            assert (torch.isfinite(up) & (up <= 0)).all()
            assert (torch.isfinite(down) & (down >= 0)).all()
            assert (up[:-1] < 0).all()
            counted = torch.ones_like(down, dtype=torch.bool) if scores.valid is None else scores.valid
            assert (down[counted] > 0).any()


def leaves_out_what_does_not_count(name: str, folder: Path) -> None:
    scores = drawn_scores()
    assert scores.valid is not None
    changed = replace(scores, negative=torch.where(scores.valid, scores.negative, 50.0))
    settings, of = loss_settings(name), LOSSES.find(name)
    torch.testing.assert_close(of(changed, settings), of(scores, settings))


def takes_shared_candidates_as_their_table(name: str, folder: Path) -> None:
    rng = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return (0.4 * torch.randn(shape, generator=rng)).requires_grad_()

    positive, queries, items, popularity, strength = draw(7), draw(7, 4), draw(6, 4), draw(6), draw()
    own = torch.rand(3, 6, generator=rng) < 0.4
    own[2] = True  # who has met all candidates
    owner = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    prior = torch.rand(7, 6, generator=rng), strength, torch.tensor(0.1)
    leaves = [positive, queries, items, popularity, strength]
    found = []
    for table in (False, True):
        offsets = torch.linspace(0, 1, 6)
        scores: Scores = CandidateScores(positive, queries, items, offsets, own, owner, popularity, prior)
        if table:
            scores = Scores(positive, scores.negative, scores.valid, scores.offsets)
        value = LOSSES.find(name)(scores, loss_settings(name))
        found.append([value.detach(), *torch.autograd.grad(value, leaves, materialize_grads=True, allow_unused=True)])
    for one, other in zip(*found, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# -- encoders --------------------------------------------------------------------------------------------------------

WINDOW = torch.tensor([[3, 1, 4, 1, 5, 9], [-1, -1, -1, 2, 6, 5], [-1, -1, -1, -1, -1, 3], [-1] * 6])
LAST = 3
"""The row of the empty window."""


def encoder_of(name: str) -> tuple[Encoder, Tensor]:
    """An encoder with first weights, and vectors of 10 items."""
    found = ENCODERS.find(name)
    rng = torch.Generator().manual_seed(0)
    made: Encoder = found(found.Settings(kind=name), Frame(dim=8, window=9, heads=2, dropout=0.5))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=rng)
    reset(made, rng)
    made.start(rng)
    return made, torch.randn(10, 8, generator=rng, requires_grad=True)


def makes_a_vector_of_each_window(name: str, folder: Path) -> None:
    encode, items = encoder_of(name)
    found = encode(items, WINDOW)
    assert found.shape == (4, 8)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(encode(items, WINDOW), found)
    torch.testing.assert_close(encode(items, WINDOW[1:3, 2:]), found[1:3])  # padding changes nothing
    torch.testing.assert_close(encode(items, WINDOW.flip(0)), found.flip(0))
    torch.testing.assert_close(encode(items + 1, WINDOW)[LAST], found[LAST])  # an empty window reads no item
    assert ENCODERS.find(name).silent == bool((found == 0).all())


def learns_from_the_items_of_the_window_alone(name: str, folder: Path) -> None:
    encode, items = encoder_of(name)
    found = encode(items, WINDOW)
    (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    seen = torch.zeros(10, dtype=torch.bool)
    seen[WINDOW[WINDOW != PADDING]] = True
    assert items.grad is not None
    assert (items.grad[~seen] == 0).all()
    assert (items.grad.abs().sum(1)[WINDOW[1, -1]] > 0).all()
    for weight in (items, *encode.parameters()):
        assert weight.grad is None or torch.isfinite(weight.grad).all()
    own = {id(weight) for weight in encode.parameters()}
    assert {id(weight) for weight in encode.decayed()} <= own


def sees_nothing_of_what_comes_next(name: str, folder: Path) -> None:
    encode, items = encoder_of(name)
    found = encode.every(items, WINDOW)
    assert found.shape == (*WINDOW.shape, 8)
    torch.testing.assert_close(found[:LAST, -1], encode(items, WINDOW)[:LAST])
    later = WINDOW.clone()
    later[0, 4:] = torch.tensor([7, 8])
    torch.testing.assert_close(encode.every(items, later)[0, :4], found[0, :4])
    dropped = [encode.every(items, WINDOW, torch.Generator().manual_seed(1)) for _ in range(2)]
    torch.testing.assert_close(*dropped)


def tells_what_it_looked_at(name: str, folder: Path) -> None:
    encode, items = encoder_of(name)
    weights = encode.attention(items, WINDOW[:1])
    assert weights.shape[1:] == (1, WINDOW.shape[1])
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(len(weights), 1))


def is_trained_kept_and_loaded_in_a_model(name: str, folder: Path) -> None:
    scores_alike_once_loaded(config_with("encoder", name), folder)


# -- samplers --------------------------------------------------------------------------------------------------------

MANY = random_dataset(n_users=80, n_items=1500, seed=5)
"""More items than a step has candidates."""


def sampler_of(name: str, data: Dataset) -> Any:
    found = SAMPLERS.find(name)
    return found.make(found.Settings(kind=name), data)


def drawn_by(name: str, data: Dataset, seed: int = 0) -> list[Any]:
    """Two draws."""
    made, rng = sampler_of(name, data), np.random.default_rng(seed)
    if SAMPLERS.find(name).draws == "pairs":
        users = np.repeat(np.arange(data.n_users), 20)
        return [made.sample(users, rng) for _ in range(2)]
    return [value for _ in range(2) for value in made.draw(rng)]


def draws_what_no_user_has(name: str, folder: Path) -> None:
    data = random_dataset(n_users=50, n_items=14, seed=2)
    made, users = sampler_of(name, data), np.repeat(np.arange(50), 20)
    found = made.sample(users, np.random.default_rng(0))
    keys = users * data.n_items + found
    assert not np.isin(keys, data.train.keys(data.n_items)).any()
    assert not np.isin(keys, made.avoided.keys(data.n_items)).any()


def draws_candidates_as_often_as_it_says(name: str, folder: Path) -> None:
    made, rng = sampler_of(name, MANY), np.random.default_rng(0)
    drawn, mass, spread = 300, np.zeros(MANY.n_items), np.zeros(MANY.n_items)
    for _ in range(drawn):
        items, chance = made.draw(rng)
        assert (np.diff(items) > 0).all()
        assert ((chance > 0) & (chance <= 1)).all()
        mass[items] += 1 / chance
        spread[items] += 1 / chance.astype(float) ** 2
    error = np.sqrt(np.maximum(spread / drawn, 1)) / np.sqrt(drawn)
    assert (np.abs(mass / drawn - 1) < 6 * error).all()  # each stands for itself, on average
    assert abs(mass.sum() / drawn / MANY.n_items - 1) < 0.05


def draws_the_same_from_one_seed_and_knows_the_training_part_alone(name: str, folder: Path) -> None:
    other = np.where(MANY.part == TRAIN, MANY.item, (MANY.item + 1) % MANY.n_items).astype(np.int32)
    found = drawn_by(name, MANY)
    for one, two in zip(found, drawn_by(name, replace(MANY, item=other)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(found[0], drawn_by(name, MANY, seed=1)[0])


def trains_in_an_objective(section: str) -> Callable[[str, Path], None]:
    def trains_a_network(name: str, folder: Path) -> None:
        network, objective, _ = _objective(config_with(section, name))
        _step(network, objective)

    return trains_a_network


# -- objectives ------------------------------------------------------------------------------------------------------


def _objective(config: Config, data: Dataset = DATA) -> tuple[Any, Any, Config]:
    assert config.objective is not None
    network = network_of(config, data)
    return network, OBJECTIVES.find(config.objective.kind)(config.objective, network, data), config


def _step(network: Any, objective: Any) -> dict[str, tuple[float, Tensor]]:
    objective.new_epoch()
    batch = next(iter(objective.batches(np.random.default_rng(0))))
    terms: dict[str, tuple[float, Tensor]] = objective.losses(batch, torch.Generator().manual_seed(0))
    for weight, term in terms.values():
        assert weight >= 0
        assert term.dim() == 0
        assert torch.isfinite(term)
    total(terms).backward()
    gradients = [one.grad for one in network.parameters() if one.grad is not None]
    assert all(torch.isfinite(one).all() for one in gradients)
    assert any(one.abs().sum() > 0 for one in gradients)
    return terms


def tells_terms_that_can_be_learnt_from(name: str, folder: Path) -> None:
    network, objective, _ = _objective(config_with("objective", name))
    assert "rec" in _step(network, objective)
    assert all(isinstance(value, float) for value in objective.figures().values())


def asks_every_user_once_an_epoch(name: str, folder: Path) -> None:
    _, objective, _ = _objective(config_with("objective", name))
    batches = list(objective.batches(np.random.default_rng(0)))
    assert len(batches) == len(objective)
    users = np.concatenate([getattr(batch, "users", batch) for batch in batches])
    eligible = eligible_users(DATA, DATA.train)
    np.testing.assert_array_equal(np.sort(users), eligible)


def trains_the_same_from_one_seed_and_leaves_the_test_part_alone(name: str, folder: Path) -> None:
    config = config_with("objective", name)
    other = np.where(DATA.part == TRAIN, DATA.item, (DATA.item + 1) % DATA.n_items).astype(np.int32)
    found = []
    for data in (DATA, DATA, replace(DATA, item=other)):
        network, objective, _ = _objective(config, data)
        terms = _step(network, objective)
        found.append([value.detach() for _, value in terms.values()])
    assert found[0] == found[1] == found[2]


# -- models ----------------------------------------------------------------------------------------------------------


@cache
def fitted(name: str) -> Any:
    return fit(DATA, config_with("model", name)).model


def asked() -> tuple[np.ndarray, Histories]:
    """All users with their histories; the first has none."""
    histories = DATA.train
    nothing = Histories.from_lists([[], *(histories.of(user) for user in range(1, DATA.n_users))])
    return np.arange(DATA.n_users), nothing


def scores_alike_once_loaded(config: Config, folder: Path) -> Any:
    result = train(DATA, config, folder / "run")
    assert result.parameters >= 0
    loaded, kept = load_model(folder / "run"), fit(DATA, config).model
    assert kept is not None
    assert kept.name
    users, histories = asked()
    scores = loaded.scores(users, histories)
    assert scores.shape == (DATA.n_users, DATA.n_items)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, kept.scores(users, histories), rtol=1e-5, atol=1e-6)
    return loaded


def is_fitted_kept_and_loaded(name: str, folder: Path) -> None:
    loaded = scores_alike_once_loaded(config_with("model", name), folder)
    assert loaded.n_items == DATA.n_items
    assert loaded.window is None or loaded.window >= 1
    assert loaded.seal


def scores_whoever_it_does_not_know(name: str, folder: Path) -> None:
    model = fitted(name)
    users, histories = asked()
    strangers, known = model.scores(None, histories), model.scores(users, histories)
    assert strangers.shape == known.shape
    assert np.isfinite(strangers).all()
    assert model.abilities.known_users == (strangers != known).any()
    others = histories.take(users[::-1])
    assert model.abilities.histories == (model.scores(None, others) != strangers).any()
    for user in (0, 5):  # one alone as among others
        alone = model.scores(users[[user]], histories.take(users[[user]]))
        np.testing.assert_allclose(alone[0], known[user], rtol=1e-4, atol=1e-5)


def does_what_it_declares(name: str, folder: Path) -> None:
    model = fitted(name)
    users, histories = asked()
    if model.abilities.similar:
        similar, reasons = model.similarity(3), model.reasons(np.array([1, 2, 3]), np.array([4, 5]))
        assert similar.shape == (DATA.n_items,)
        assert reasons.shape == (2, 3)
        assert np.isfinite(similar).all()
        assert np.isfinite(reasons).all()
    if model.abilities.attention:
        layers = np.array(model.attention(np.arange(5)))
        assert layers.shape[1:] == (5,)
        np.testing.assert_allclose(layers.sum(1), 1, rtol=1e-5)
    if model.abilities.vectors:
        assert len(item_vectors(model, histories)) == DATA.n_items
    if hasattr(model, "candidate_scores"):
        items = np.tile([7, 0, 3], (len(users), 1))
        np.testing.assert_allclose(
            model.candidate_scores(users, histories, items),
            np.take_along_axis(model.scores(users, histories), items, 1),
            rtol=1e-4,
            atol=1e-5,
        )


def leaves_the_test_part_alone(name: str, folder: Path) -> None:
    other = np.where(DATA.part == TEST, (DATA.item + 1) % DATA.n_items, DATA.item).astype(np.int32)
    users, histories = asked()
    changed = fit(replace(DATA, item=other), config_with("model", name)).model
    assert changed is not None
    np.testing.assert_array_equal(fitted(name).scores(users, histories), changed.scores(users, histories))


# -- callbacks -------------------------------------------------------------------------------------------------------


def changes_nothing_of_the_training(name: str, folder: Path) -> None:
    for library in filter(None, (getattr(CALLBACKS.find(name), "library", ""),)):
        pytest.importorskip(library, reason=f"{library} is not installed")
    with chdir(folder):  # where loggers write
        trains_the_same(name, folder)


def trains_the_same(name: str, folder: Path) -> None:
    network = next(kind for kind, model in MODELS.sound() if model.objective)
    plain = config_with("model", network)
    listened = resolve(options=_with(plain, callbacks=name))
    one, two = fit(DATA, plain), fit(DATA, listened)
    users, histories = asked()
    assert one.model is not None
    assert two.model is not None
    np.testing.assert_array_equal(one.model.scores(users, histories), two.model.scores(users, histories))
    for line, other in zip(one.lines, two.lines, strict=True):
        assert {**other, **line, "seconds": 0} == {**other, "seconds": 0}
    assert train(DATA, listened, folder / "run").epochs == two.result.epochs


def _with(config: Config, **train_settings: Any) -> dict[str, Any]:
    document = flat(config)
    return document | {"train": document["train"] | train_settings}


CHECKS: dict[str, list[Callable[[str, Path], None]]] = {
    "reader": [
        reads_its_sample_the_same_every_time,
        finds_its_sample_by_the_content,
        reads_a_packed_log,
        refuses_what_is_no_log_in_one_sentence,
        takes_names_of_columns_or_says_that_it_does_not,
    ],
    "metric": [judges_each_user_alone_or_the_lists_whole],
    "loss": [
        pushes_positives_up_and_negatives_down,
        leaves_out_what_does_not_count,
        takes_shared_candidates_as_their_table,
        trains_in_an_objective("loss"),
    ],
    "encoder": [
        makes_a_vector_of_each_window,
        learns_from_the_items_of_the_window_alone,
        sees_nothing_of_what_comes_next,
        tells_what_it_looked_at,
        is_trained_kept_and_loaded_in_a_model,
    ],
    "sampler": [
        draws_what_no_user_has,
        draws_candidates_as_often_as_it_says,
        draws_the_same_from_one_seed_and_knows_the_training_part_alone,
        trains_in_an_objective("sampler"),
    ],
    "objective": [
        tells_terms_that_can_be_learnt_from,
        asks_every_user_once_an_epoch,
        trains_the_same_from_one_seed_and_leaves_the_test_part_alone,
    ],
    "model": [
        is_fitted_kept_and_loaded,
        scores_whoever_it_does_not_know,
        does_what_it_declares,
        leaves_the_test_part_alone,
    ],
    "callback": [changes_nothing_of_the_training],
}


ONLY: dict[Callable[[str, Path], None], Callable[[str], bool]] = {
    finds_its_sample_by_the_content: lambda name: READERS.find(name).fits is not None,
    learns_from_the_items_of_the_window_alone: lambda name: not ENCODERS.find(name).silent,
    sees_nothing_of_what_comes_next: lambda name: ENCODERS.find(name).every_position,
    tells_what_it_looked_at: lambda name: ENCODERS.find(name).attends,
    draws_what_no_user_has: lambda name: SAMPLERS.find(name).draws == "pairs",
    draws_candidates_as_often_as_it_says: lambda name: SAMPLERS.find(name).draws == "candidates",
    **dict.fromkeys(CHECKS["model"], lambda name: getattr(MODELS.find(name), "learns", True)),
}
"""What is asked only of the parts that declare it."""


def checks_of(kind: str, name: str) -> list[Callable[[str, Path], None]]:
    """What a part keeps to."""
    return [check for check in CHECKS[kind] if check not in ONLY or ONLY[check](name)]
