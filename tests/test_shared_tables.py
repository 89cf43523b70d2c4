"""Tables whose rows processes share out: first weights, ranks, files and steps of one process. Threads stand for them.

`test_processes.py` trains with real ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import sparse as sp
from torch import Tensor

from factories import random_dataset
from hardgnn.api import HardGNN
from hardgnn.config import Config, resolve
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import rank_targets
from hardgnn.models import shared_edges
from hardgnn.models.query import QueryModel
from hardgnn.models.shared_query import SharedQuery
from hardgnn.models.transformer import Transformer
from hardgnn.models.transitions import TransitionScores
from hardgnn.ops.form import asked_for
from hardgnn.parts import MODELS, OBJECTIVES, SAMPLERS
from hardgnn.processes import group, share
from hardgnn.processes.launch import Launched
from hardgnn.processes.share import Share, Stretch
from hardgnn.runs.fitting import Fitting
from hardgnn.runs.memory import Memory, fit
from hardgnn.runs.warm import WarmStart
from hardgnn.storage.tensors import BLANK, KEY, follow_tensors, open_tensors, save_tensors
from hardgnn.training import checkpoint, samplers
from hardgnn.training.callbacks import MovingAverage
from hardgnn.training.optimiser import optimiser_of
from hardgnn.training.shards import Shards

SMALL = ["model.dim=8", "model.window=6", "sampler.candidates=12", "objective.batch_positions=40", "train.shards=6"]


class Threads(group.Group):
    """Processes of which each is a thread."""

    def __init__(self, world: int) -> None:
        self.sent, self.own = 0, threading.local()
        self.all, self.barrier = world, threading.Barrier(world, timeout=20)
        self.box: list[Any] = [None] * world
        self.ways: dict[tuple[int, int], Queue[Tensor]] = {
            (one, other): Queue() for one in range(world) for other in range(world)
        }

    @property
    def launched(self) -> Launched:  # type: ignore[override]
        return Launched(self.own.rank, self.all)

    def gathered(self, value: Any) -> list[Any]:
        self.box[self.own.rank] = value
        self.barrier.wait()
        found = list(self.box)
        self.barrier.wait()
        return found

    def told(self, value: Any) -> Any:
        return self.gathered(value)[0]

    def summed(self, tensor: Tensor) -> None:
        tensor.copy_(sum(self.gathered(tensor.clone())))  # type: ignore[arg-type]

    def added(self, parts: Tensor) -> Tensor:
        return super().added(torch.cat(self.gathered(parts.clone())))

    def exchanged(self, tensors: Any) -> list[Tensor]:
        return [one[self.own.rank] for one in self.gathered([one.clone() for one in tensors])]

    def handed(self, tensor: Tensor, source: int, target: int) -> None:
        way = self.ways[source, target]
        if self.own.rank == source:
            way.put(tensor.clone())
        else:
            tensor.copy_(way.get(timeout=20))


@pytest.fixture
def each(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], list[Any]]:
    """What each of so many processes answers."""
    monkeypatch.setattr(share, "ROWS_TOGETHER", 4)
    monkeypatch.setattr(shared_edges, "ROWS_TOGETHER", 5)

    def run(world: int, work: Callable[[], Any]) -> list[Any]:
        together, found = Threads(world), [None] * world
        errors: list[BaseException] = []

        def one(rank: int) -> None:
            together.own.rank = rank
            try:
                found[rank] = work()
            except BaseException as error:
                errors.append(error)
                together.barrier.abort()

        with monkeypatch.context() as patched:
            patched.setattr(group, "_group", together)
            started = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
        if errors:
            raise errors[0]
        return found

    return run


def best(*words: str) -> Config:
    return resolve("best", settings=[*SMALL, "train.shard_tables=true", *words])


def network(config: Config, data: Dataset, shared: bool) -> Transformer:
    build = Transformer.build_share if shared else Transformer.build
    return build(config.model, data, torch.Generator().manual_seed(3))


def test_first_weights_are_those_of_one_process_and_each_has_its_rows_alone(each: Any) -> None:
    data, config = random_dataset(n_items=41), best()
    whole = network(config, data, False)
    parts = each(3, lambda: network(config, data, True))
    assert [len(one.item_embedding) for one in parts] == [13, 14, 14]
    assert torch.equal(torch.cat([one.item_embedding for one in parts]), whole.item_embedding)
    for name, parameter in whole.sequence_encoder.named_parameters():
        assert torch.equal(parts[2].sequence_encoder.get_parameter(name), parameter)
    assert {one.numbers for one in parts} == {sum(parameter.numel() for parameter in whole.parameters())}


def trained(config: Config, data: Dataset, shared: bool, steps: int, folder: Path | None = None) -> Any:
    """The weights, moments and average of a training of so many steps; from a state where there is a folder."""
    assert config.train is not None
    assert config.objective is not None
    net = network(config, data, shared)
    objective = OBJECTIVES.find(config.objective.kind)(config.objective, net, data)
    average = MovingAverage(net, 2, 5, net.by_rows)
    optimiser = optimiser_of(net, config.train, average)
    if folder is not None and group.processes().first:
        checkpoint.load(folder, net, optimiser, average.state(), of="me")
    elif folder is not None:
        checkpoint.follow_load(net, optimiser, average.state())
    step, done = Shards(net, objective, config.train.shards, 0, torch.device("cpu"), nullcontext), 0
    average.trainer = type("Of", (), {"network": net})()  # type: ignore[assignment]
    while done < steps:
        for batch in objective.batches(np.random.default_rng(done)):
            step(batch, 1, done, torch.Generator())
            optimiser.step()
            average.updated()
            optimiser.zero_grad()
            done += 1
    net.catch_up()
    return net, optimiser, average


def test_the_state_after_twenty_steps_is_that_of_one_process_bit_for_bit(
    each: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "BLOCKS", 20)
    data, config = random_dataset(n_users=40, n_items=50, seed=2), best("transitions.neighbours=8")
    whole = trained(config, data, False, 20)
    expected = checkpoint.tensors_of(whole[0], whole[1], whole[2].state())

    def work() -> None:
        net, optimiser, average = trained(config, data, True, 20)
        if group.processes().first:
            checkpoint.save(tmp_path, checkpoint.Progress(3), net, optimiser, average.state(), of="me")
        else:
            checkpoint.follow_save(net, optimiser, average.state())

    each(2, work)
    with open_tensors(tmp_path / checkpoint.FOLDER / checkpoint.STATE, "") as (stored, _):
        assert {*stored.keys()} == {*expected}
        for name, value in expected.items():
            assert torch.equal(stored.get_tensor(name), value), name

    parts = each(3, lambda: trained(config, data, True, 0, tmp_path))  # as many as like go on with it
    assert torch.equal(torch.cat([one[0].item_embedding for one in parts]), whole[0].item_embedding)
    assert torch.equal(torch.cat([one[2].network.item_embedding for one in parts]), whole[2].network.item_embedding)
    moments = [one[1].state[one[0].item_embedding]["exp_avg_sq"] for one in parts]
    assert torch.equal(torch.cat(moments), whole[1].state[whole[0].item_embedding]["exp_avg_sq"])


def test_draws_and_edges_are_those_of_one_process_and_each_has_its_own_alone(
    each: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "BLOCKS", 20)
    data, config = random_dataset(n_users=60, n_items=70, seed=4), best("transitions.neighbours=5")
    asked = config.objective.sampler  # type: ignore[union-attr]

    def work(shared: bool) -> Any:
        net = network(config, data, shared)
        sampler = SAMPLERS.find(asked.kind).make(asked, data, shared)
        rng = np.random.default_rng(0)
        graph = net.counted
        assert graph is not None
        return [sampler.draw(rng) for _ in range(30)], graph.joined(0.7), len(sampler.sampler._sample._ends)

    draws, matrix, _ = work(False)
    parts = each(3, lambda: work(True))
    for drawn, own, _ in parts:
        assert all((one == other).all() for draw, expected in zip(drawn, draws) for one, other in zip(draw, expected))
        assert own.nnz < matrix.nnz / 2
    assert (sp.hstack([own for _, own, _ in parts]) != matrix).nnz == 0
    assert sum(kept for *_, kept in parts) == data.n_items


def of_one(model: QueryModel) -> SharedQuery:
    """The rows that this process has of a whole model."""
    own = Share.own(model.n_items)
    weights = model.weights | {"parameters/item_embedding": model.weights["parameters/item_embedding"][own.mine]}
    transitions = model.transitions
    if transitions is not None:
        matrix = transitions.matrix[:, own.mine]
        transitions = TransitionScores(transitions.module, matrix, transitions.counts, transitions.window)
    vectors = model.item_vectors[own.mine]
    return SharedQuery(
        replace(model, item_vectors=vectors, weights=weights, transitions=transitions), {"item_embedding": own}
    )


def fitted(data: Dataset, config: Config) -> QueryModel:
    """A model whose clock tells something, and of whose items two are alike."""
    net = network(config, data, False)
    with torch.no_grad():
        net.item_embedding[::2] = net.item_embedding[1::2]
        if net.clock is not None:
            net.clock.weight.fill_(0.3)
    return net.fitted("x")


@pytest.mark.parametrize("form", ["native", "torch"])
@pytest.mark.parametrize("words", [(), ("transitions.use=false", "clock.use=false")])
def test_ranks_are_those_of_one_process(each: Any, form: str, words: tuple[str, ...]) -> None:
    data, config = random_dataset(n_users=60, repeats=True), best(*words)
    for protocol in ("full", "sampled-999", "full-successive"):
        with asked_for(form):
            model = fitted(data, config)
            expected = rank_targets(model, data, "valid", protocol)

        def work(model: QueryModel = model, protocol: str = protocol) -> Any:
            with asked_for(form):
                return rank_targets(of_one(model), data, "valid", protocol)

        for found in each(3, work):
            assert found.equals(expected), protocol


def test_a_file_has_the_bytes_that_one_process_writes(each: Any, tmp_path: Path) -> None:
    model = fitted(random_dataset(), best())
    whole = {name: value.detach().clone() for name, value in model.tensors().items()}
    save_tensors(tmp_path / "whole", whole, "a note")

    def work() -> None:
        tensors = of_one(model).tensors()
        assert sum(isinstance(one, Stretch) for one in tensors.values()) == 2
        if group.processes().first:
            save_tensors(tmp_path / "shared", tensors, "a note")
        else:
            follow_tensors(tensors)

    each(3, work)
    assert (tmp_path / "shared").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_file_by_blocks_is_as_the_library_writes_it_and_of_other_numbers_refused(tmp_path: Path) -> None:
    kinds = (torch.bool, torch.uint8, torch.int32, torch.float32, torch.float64, torch.int64)
    tensors = {f"{name}/{kind}": torch.ones(shape).to(kind) for kind in kinds for name, shape in (("é", 3), ("a", ()))}
    save_file(tensors, tmp_path / "theirs", metadata={KEY: BLANK.decode() + "é"})
    save_tensors(tmp_path / "whole", tensors, "é")
    streamed: dict[str, Any] = dict(tensors)
    streamed["a/torch.int64"] = Stretch(Share(0, 0, 1), torch.ones(0, dtype=torch.int64))
    plain = {name: value for name, value in tensors.items() if name != "a/torch.int64"}
    save_tensors(tmp_path / "plain", plain | {"a/torch.int64": torch.ones(0, dtype=torch.int64)}, "é")
    save_tensors(tmp_path / "blocks", streamed, "é")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "plain").read_bytes()
    assert (tmp_path / "theirs").stat().st_size == (tmp_path / "whole").stat().st_size
    with pytest.raises(ValueError, match="bfloat16"):
        save_tensors(tmp_path / "odd", streamed | {"b": torch.ones(2, dtype=torch.bfloat16)}, "")
    assert not (tmp_path / "odd").exists()


def test_a_warm_start_takes_the_rows_of_each(each: Any, tmp_path: Path) -> None:
    data, config = random_dataset(n_items=30), best()
    old = network(config, data, False)
    (tmp_path / "old").mkdir()
    tensors = {f"parameters/{name}": value.detach() for name, value in old.named_parameters()}
    save_tensors(tmp_path / "old" / "model.safetensors", tensors, "")
    order = np.random.default_rng(0).permutation(30)
    plan = WarmStart(tmp_path / "old", np.arange(data.n_users), order)

    def work() -> Tensor:
        net = network(config, data, True)
        plan.apply(net)
        return net.item_embedding

    assert torch.equal(torch.cat(each(2, work)), old.item_embedding[torch.from_numpy(order)])


def test_where_it_has_no_meaning_it_is_refused_in_one_sentence(each: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HardGNNError, match=r"shard_tables: optimiser.kind=adam changes all rows .* set optimiser.kind"):
        resolve("hardgnn", settings=["train.shard_tables=true"])
    data = random_dataset()
    with pytest.raises(HardGNNError, match=r"train.shard_tables: model.kind=selfgnn has no table of which"):
        HardGNN("hardgnn", optimiser={"kind": "adamw"}, train={"shard_tables": True, "epochs": 1}).fit(data)
    config = best()
    with pytest.raises(HardGNNError, match="train.shard_tables: no process has the whole model in memory; name"):
        each(2, lambda: fit(data, config))
    with monkeypatch.context() as patched, pytest.raises(HardGNNError, match=r"makes other without self.table\(name"):
        patched.setattr(Transformer, "by_rows", ("item_embedding", "other"))
        each(2, lambda: Fitting(data, config, [], Memory("x")).fit())
    mined = resolve(
        "best",
        settings=[
            "objective.kind=pairwise",
            "hard.k=2",
            "hard.weight=0.1",
            "transitions.use=false",
            "clock.use=false",
            *SMALL[:2],
        ],
    )
    assert mined.objective is not None
    objective = OBJECTIVES.find("pairwise")(
        mined.objective, MODELS.find("transformer").build(mined.model, data, torch.Generator()), data
    )
    objective.network.shares = {"item_embedding": Share(data.n_items, 0, 2)}
    batch = next(iter(objective.batches(np.random.default_rng(0))))
    objective.common = lambda *_: pytest.fail("a search in a part of the table")
    with pytest.raises(
        HardGNNError, match="objective.kind=pairwise does not know before a step which rows of item_emb"
    ):
        Shards(objective.network, objective, 2, 0, torch.device("cpu"), nullcontext)(batch, 1, 1, torch.Generator())
    with pytest.raises(HardGNNError, match="objective.kind=pairwise does not tell which edges of the transitions"):
        objective.walked([batch])
