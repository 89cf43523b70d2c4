"""Several processes at one training: the weights of one, and an end together, in one sentence, whatever comes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from factories import random_dataset
from hardgnn.cli.app import run
from hardgnn.config import resolve
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import means_of, rank_targets
from hardgnn.models.selfgnn.common import SameWeights
from hardgnn.models.selfgnn.network import SelfGNN
from hardgnn.ops.native import graph
from hardgnn.ops.native.graph import NativePropagation
from hardgnn.ops.native.library import library
from hardgnn.parts import MODELS, OBJECTIVES
from hardgnn.processes.group import Group, together
from hardgnn.processes.launch import Launched, launched
from hardgnn.recommend.recommender import Recommender
from hardgnn.runs.folder import load_data, read_metrics, read_result
from hardgnn.runs.models import load_model
from hardgnn.training.objectives.base import Term, TermedObjective
from hardgnn.training.shards import Alike, Shards, fingerprint
from hardgnn.training.trainer import total

TINY = ["run.threads=1", "model.dim=8", "model.window=10", "train.eval_every=1", "train.patience=0"]
BEST = [*TINY, "train.shards=6", "train.epochs=8", "objective.batch_positions=1024", "transitions.neighbours=20"]
GRAPHS = [*TINY, "model.dim=16", "train.shards=4", "train.epochs=2", "objective.batch_users=90", "model.intervals=2"]
LIMIT_S = 10.0


def words_of(data: Path, out: Path, settings: Sequence[str], *more: str) -> list[str]:
    return ["train", str(data), "--out", str(out), *more, *(word for one in settings for word in ("--set", one))]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **more}


@contextmanager
def ranks(count: int, words: Callable[[int], Sequence[str]], **more: str) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes of a command, started as a launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(count):
        told = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **more}
        command = [sys.executable, "-m", "hardgnn", *words(rank)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, env=environment(**told), **streams))  # type: ignore[call-overload]
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()


def ended(started: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """How each ended, and what it said last."""
    said = [one.communicate(timeout=120)[0].strip() for one in started]
    return [(one.returncode, text.splitlines()[-1] if text else "") for one, text in zip(started, said, strict=True)]


def wait_for_an_epoch(out: Path, started: Sequence[subprocess.Popen[str]]) -> None:
    while not (out / "metrics.jsonl").exists():
        assert all(one.poll() is None for one in started)
        time.sleep(0.02)


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def alone(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of six shards."""
    out = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run([sys.executable, "-m", "hardgnn", *words_of(market, out, BEST)], check=True, env=environment())
    return out


def torchrun(count: int, words: Sequence[str], *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *more]
    command += ["-m", "hardgnn", *words]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=250)


def test_two_processes_come_to_the_weights_of_one_and_the_first_alone_speaks_and_writes(
    alone: Path, market: Path, tmp_path: Path
) -> None:
    done = torchrun(2, words_of(market, tmp_path / "run", BEST))
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "run") == weights(alone)
    assert done.stdout.count("next: ") == done.stderr.count("preset best") == 1
    assert {path.name for path in tmp_path.rglob("*")} - {"run"} == {path.name for path in alone.rglob("*")}


def test_two_that_share_out_the_table_are_killed_and_three_go_on_to_the_weights_of_one(
    alone: Path, market: Path, tmp_path: Path
) -> None:
    out, shared = tmp_path / "run", [*BEST, "train.shard_tables=true"]
    with ranks(2, lambda _: words_of(market, out, shared)) as started:
        wait_for_an_epoch(out, started)
        started[1].kill()
        assert [status for status, _ in ended(started)] == [3, -signal.SIGKILL]
    done = torchrun(3, words_of(market, out, shared, "--resume"))
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "checkpoint/state.safetensors"):
        expected, found = load_file(alone / name), load_file(out / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[one], value) for one, value in expected.items())
    figures = [[line["valid"] for line in read_metrics(one)] for one in (alone, out)]
    assert figures[0] == figures[1]
    model = load_model(out)
    assert means_of(rank_targets(model, load_data(out)), [10, 20]) == figures[0][read_result(out)["best_epoch"] - 1]
    lists = [Recommender(one).for_users(n=5) for one in (alone, out)]
    assert lists[0].equals(lists[1])


def test_three_end_with_a_killed_one_and_one_process_goes_on_to_the_same_weights(
    alone: Path, market: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with ranks(3, lambda _: words_of(market, out, BEST)) as started:
        wait_for_an_epoch(out, started)
        started[1].kill()
        began = time.monotonic()
        (first, said), (killed, _), (third, nothing) = ended(started)
        assert time.monotonic() - began < LIMIT_S
    assert (first, killed, third) == (3, -signal.SIGKILL, 3)
    assert (said, nothing) == ("error: process 1 of 3 was killed, or its host is gone", "")
    subprocess.run(
        [sys.executable, "-m", "hardgnn", *words_of(market, out, BEST, "--resume")], check=True, env=environment()
    )
    assert weights(out) == weights(alone)


def test_a_process_with_other_settings_is_told_by_the_first_and_none_writes(market: Path, tmp_path: Path) -> None:
    with ranks(2, lambda rank: words_of(market, tmp_path / "run", BEST, "--seed", str(rank))) as started:
        found = ended(started)
    assert found == [
        (2, "error: process 1 of 2 has another config than process 0; start all with the same"),
        (2, ""),
    ]
    assert not (tmp_path / "run").exists()


def test_what_torch_leaves_running_does_not_abort_a_process_that_has_failed(tmp_path: Path) -> None:
    script = "import atexit, os; atexit.register(os.abort); from hardgnn.cli.boundary import main; main()"
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9", "HARDGNN_RENDEZVOUS_S": "1"}
    words = ["train", str(tmp_path / "nothing"), "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", script, *words], env=environment(**told), timeout=100)
    assert done.returncode == 2


def test_who_does_not_come_is_waited_for_so_long_as_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in (told | {"HARDGNN_RENDEZVOUS_S": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HardGNNError, match=f"2 processes did not find each other at 127.0.0.1:{port} within 1 s"):
        together().__enter__()
    monkeypatch.setenv("MASTER_ADDR", "no..host")
    with pytest.raises(HardGNNError, match=r"MASTER_ADDR=no..host: no such host is known after 1 s"):
        together().__enter__()
    with pytest.raises(HardGNNError, match="evaluate is done by one process, and 2 were started"):
        run(["evaluate", "nowhere"])


WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"WORLD_SIZE": None}, "RANK is set and WORLD_SIZE is not"),
        ({"RANK": None}, "WORLD_SIZE is set and RANK is not"),
        ({"RANK": "2"}, "RANK=2 is none of WORLD_SIZE=2 processes"),
        ({"RANK": "one"}, "RANK=one: expected a whole number"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT=70000 is no port"),
        ({"LOCAL_RANK": "3"}, "LOCAL_RANK=3 is none of LOCAL_WORLD_SIZE=2"),
    ],
)
def test_a_broken_environment_is_told(change: dict[str, str | None], said: str) -> None:
    with pytest.raises(HardGNNError, match=said):
        launched({name: value for name, value in (WHOLE | change).items() if value is not None})


def test_the_environment_tells_who_one_is() -> None:
    assert launched(WHOLE) == Launched(1, 2, 1, 2, "here", 29500)
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) == launched({}) == Launched()


def test_shards_are_shared_out_evenly_or_refused() -> None:
    four = [Group(Launched(rank, 4)) for rank in range(4)]
    assert [shard for one in four for shard in one.shards(8)] == list(range(8))
    with pytest.raises(HardGNNError, match=r"train.shards=6 cannot .* over 4 processes: set train.shards=8, or"):
        four[0].shards(6)


def objective_of(*words: str, preset: str, items: int = 50) -> Any:
    data = random_dataset(n_users=40, n_items=items, seed=2)
    still = ["model.dim=8", "model.dropout=0", *words]
    config = resolve(preset, settings=still)
    network = MODELS.find(config.model.kind).build(config.model, data, torch.Generator().manual_seed(0))
    assert config.objective is not None
    found = OBJECTIVES.find(config.objective.kind)(config.objective, network, data)
    found.new_epoch()
    return found


PAIRS = ("model.edge_dropout=0", "model.intervals=2")


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("best", ("hard.share=1", "sampler.candidates=20", "objective.batch_positions=64")),
        ("hardgnn", PAIRS),
        ("hardgnn", (*PAIRS, "loss.reduction=sum", "hard.refresh=2")),
        ("hardgnn", (*PAIRS, "model.layers=0", "hard.weight=0", "ssl.weight=0.1")),
        ("hardgnn", (*PAIRS, "model.dim=32", "model.layer_combination=concat")),
        ("selfgnn", (*PAIRS, "model.dim=16", "ssl.weight=0.1")),
    ],
)
@pytest.mark.parametrize("shards", [2, 64])
def test_the_parts_of_a_step_add_up_to_the_whole_where_nothing_is_random(
    preset: str, words: tuple[str, ...], shards: int
) -> None:
    whole, cut = (objective_of(*words, preset=preset) for _ in range(2))
    step = Shards(cut.network, cut, shards, 0, torch.device("cpu"), nullcontext)
    for number, batch in enumerate(whole.batches(np.random.default_rng(0)), 1):
        terms = whole.losses(batch, None)
        total(terms).backward()
        loss, parts = step(batch, 1, number, torch.Generator())
        assert loss == pytest.approx(total(terms).item(), rel=1e-5)
        assert parts == pytest.approx({name: term.item() for name, (_, term) in terms.items()}, rel=1e-5)
        for (name, one), other in zip(whole.network.named_parameters(), cut.network.parameters(), strict=True):
            expected = torch.zeros_like(one) if one.grad is None else one.grad
            room = 1e-6 + 1e-5 * expected.abs().max().item()
            torch.testing.assert_close(other.grad, expected, rtol=1e-4, atol=room, msg=name)
            one.grad = other.grad = None


def test_of_tables_the_rows_that_a_step_touches_are_exchanged_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = objective_of("sampler.candidates=5", "objective.batch_positions=8", preset="best")
    seen: list[int] = []
    monkeypatch.setattr(Group, "added", lambda self, parts: (seen.append(parts.shape[1]), parts.sum(0))[1])
    batch = next(iter(objective.batches(np.random.default_rng(0))))
    Shards(objective.network, objective, 2, 0, torch.device("cpu"), nullcontext)(batch, 1, 1, torch.Generator())
    items = len(objective.touched(batch)["item_embedding"])
    small = sum(one.numel() for one in objective.network.parameters()) - 50 * 8
    assert items < 30
    assert seen == [items * 8 + small + 1 + len(objective.terms)]


NATIVE = pytest.mark.skipif(library().functions is None, reason="no C compiler")


@NATIVE
@pytest.mark.parametrize("preset", ["hardgnn", "selfgnn"])
def test_parts_compute_the_graphs_once_and_exchange_the_rows_that_they_ask_for(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = objective_of(*PAIRS, "model.dim=16", "objective.batch_users=4", preset=preset)
    network, seen, backward, whole = objective.network, [], [], []
    monkeypatch.setattr(Group, "added", lambda self, parts: (seen.append(parts.shape[1]), parts.sum(0))[1])
    plain, layers = NativePropagation.backward, graph._layers
    monkeypatch.setattr(NativePropagation, "backward", lambda ctx, *of: (backward.append(1), plain(ctx, *of))[1])
    monkeypatch.setattr(graph, "_layers", lambda *of: (whole.append(of[-1] is None or len(of) < 8), layers(*of))[1])
    batch = next(iter(objective.batches(np.random.default_rng(0))))
    Shards(network, objective, 2, 0, torch.device("cpu"), nullcontext)(batch, 1, 1, torch.Generator())
    tables = 2 * (40 + 50) * 16
    others = sum(one.numel() for one in network.parameters()) - tables
    rows, rest = divmod(seen[0] - others - 2 - 1 - len(objective.terms), 2 * 16)
    assert (rest, len(seen), len(backward), sum(whole)) == (0, 1, 1, 1)
    assert 4 < rows < 4 + 50
    assert all(one.grad is not None for one in network.tables())


@pytest.mark.parametrize("used_in", ["infonce", "hinge", "none"])
def test_processes_agree_on_what_their_parts_have_in_common(used_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    for rank in range(2):
        objective = objective_of(
            *PAIRS, "objective.batch_users=4", f"hard.used_in={used_in}", preset="hardgnn", items=900
        )
        parts = objective.cut(next(iter(objective.batches(np.random.default_rng(0)))), 2)
        objective._begin()
        hard = [[objective._searched(part).hard for part in parts[rank : rank + 1]] for rank in range(2)]
        ids = [[one.numpy().ravel() for one in each if one is not None] for each in hard]
        monkeypatch.setattr(Group, "gathered", lambda self, own, ids=ids, rank=rank: same_as(own, ids, rank))
        parts, common = objective.common(parts, range(rank, rank + 1), torch.Generator())
        found.append([place.tolist() for place in common._places])
        assert objective.losses(parts[rank], torch.Generator())["rec"][1] > 0
    assert found[0] == found[1]
    assert 8 < sum(place >= 0 for place in found[0][1]) < 400


def same_as(own: Any, ids: list[Any], rank: int) -> list[Any]:
    assert all(map(np.array_equal, own, ids[rank]))
    return ids


class Twice(SelfGNN):
    """Somebody's network, whose items are twice as long."""

    def vectors(self, *of: Any, **how: Any) -> Any:
        found = super().vectors(*of, **how)
        return replace(found, items=2 * found.items)


class Added(SelfGNN):
    """Somebody's network that adds to the short-term vectors."""

    def initialise(self, generator: torch.Generator) -> None:
        super().initialise(generator)
        self.more = torch.nn.Parameter(torch.full((self.settings.dim,), 0.1))

    def short_term(self, *of: Any, **how: Any) -> Any:
        found = super().short_term(*of, **how)
        return replace(found, users=found.users + self.more, items=found.items + self.more)


@pytest.mark.parametrize("network", [Twice, Added])
@pytest.mark.parametrize("shards", [1, 3])
def test_networks_and_terms_of_ones_own_have_the_same_gradients_in_parts(
    network: type[SelfGNN], shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODELS, "find", lambda name, find=MODELS.find: network if name == "selfgnn" else find(name))
    found = []
    for plain in (True, False):
        objective = objective_of(*PAIRS, "model.dim=16", "ssl.weight=0.1", preset="hardgnn")
        if plain:
            monkeypatch.setattr(network, "now", lambda self: self)
        else:
            monkeypatch.undo()
            assert isinstance(objective.network.now(), SameWeights) or library().functions is None
        table = objective.network.user_embedding
        share = 1 if plain or shards == 1 else shards
        objective.terms.append(Term("small", 1.0, lambda step, table=table, share=share: table.square().sum() / share))
        batch = next(iter(objective.batches(np.random.default_rng(0))))
        if plain or shards == 1:
            total(objective.losses(batch, None)).backward()
        else:
            Shards(objective.network, objective, shards, 0, torch.device("cpu"), nullcontext)(
                batch, 1, 1, torch.Generator()
            )
        found.append(dict(objective.network.named_parameters()))
    for name, one in found[0].items():
        room = 1e-6 + 1e-5 * one.grad.abs().max().item()
        torch.testing.assert_close(found[1][name].grad, one.grad, rtol=1e-4, atol=room, msg=name)


@NATIVE
@pytest.mark.parametrize("refresh", [1, 2])
@pytest.mark.parametrize("shards", [1, 2])
def test_graphs_that_the_search_has_computed_give_the_step_the_same_bits(
    refresh: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(SelfGNN, "now", lambda self: self)
        objective = objective_of(
            *PAIRS, "model.dim=16", "objective.batch_users=8", f"hard.refresh={refresh}", preset="hardgnn"
        )
        network, losses = objective.network, []
        shared = Shards(network, objective, shards, 0, torch.device("cpu"), nullcontext)
        for number, batch in enumerate(objective.batches(np.random.default_rng(0)), 1):
            network.zero_grad()
            if shards > 1:
                losses.append(shared(batch, 1, number, torch.Generator())[0])
            else:
                loss = total(objective.losses(batch, None))
                loss.backward()
                losses.append(loss.item())
            with torch.no_grad():
                for one in network.parameters():
                    one -= 0.01 * (0 if one.grad is None else one.grad)
        found.append(losses)
    assert len(found[0]) > 3
    assert found[0] == found[1]


def test_graphs_that_every_process_computes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardgnn.training.shards.processes", lambda: Group(Launched(0, 2)))
    graphs, rows = objective_of(*PAIRS, preset="hardgnn"), objective_of(preset="best")
    with pytest.warns(UserWarning, match="each of the 2 processes computes the graphs of all items"):
        Shards(graphs.network, graphs, 2, 0, torch.device("cpu"), nullcontext)
    with warnings.catch_warnings(action="error"):
        Shards(rows.network, rows, 2, 0, torch.device("cpu"), nullcontext)


def test_an_objective_or_network_that_cannot_be_cut_says_so() -> None:
    objective = objective_of(preset="best")
    with pytest.raises(HardGNNError, match="does not tell how a step is cut; set train.shards=1"):
        TermedObjective.cut(objective, None, 2)
    objective.network.norm = torch.nn.BatchNorm1d(3)
    with pytest.raises(HardGNNError, match=r"running means \(norm.running_mean, .*set train.shards=1"):
        Shards(objective.network, objective, 2, 0, torch.device("cpu"), nullcontext)


def test_weights_that_drift_apart_by_a_bit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    network = objective_of(preset="best").network
    alike = Alike(None)
    alike.trainer = SimpleNamespace(network=network)  # type: ignore[assignment]
    before = fingerprint(network)
    monkeypatch.setattr(Group, "gathered", lambda self, own: [before, own])
    alike.epoch({"epoch": 1})
    with torch.no_grad():
        value = network.item_embedding.view(-1)[:1]
        value.copy_(torch.nextafter(value, value + 1))
    with pytest.raises(HardGNNError, match="epoch 2: process 1 has other weights than process 0"):
        alike.epoch({"epoch": 2})


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["hardgnn", "released"])
def test_graphs_come_to_the_same_weights_with_one_two_and_four_processes(
    preset: str, market: Path, tmp_path: Path
) -> None:
    found = set()
    for count in (1, 2, 4):
        out = tmp_path / f"{count}"
        done = torchrun(count, words_of(market, out, GRAPHS, "--preset", preset, "--allow-leaks"))
        assert done.returncode == 0, done.stderr
        found.add(weights(out))
    assert len(found) == 1


@pytest.mark.slow
def test_torchrun_starts_all_anew_after_a_kill_and_they_come_to_the_same_weights(
    alone: Path, market: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "--max-restarts", "1", "-m", "hardgnn", *words_of(market, out, BEST, "--resume")]
    for victim in ("0", "1"):
        job = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_an_epoch(out, [job])  # type: ignore[list-item]
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(job.pid)], capture_output=True, text=True)
        for pid in listed.stdout.split():
            if f"\0RANK={victim}\0".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
        assert job.wait(250) == 0
        assert weights(out) == weights(alone)
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "rank"), [(signal.SIGINT, 0), (signal.SIGTERM, 1), (signal.SIGKILL, 0)])
def test_all_end_soon_with_one_that_is_stopped(
    signals: signal.Signals, rank: int, market: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with ranks(2, lambda _: words_of(market, out, BEST)) as started:
        wait_for_an_epoch(out, started)
        started[rank].send_signal(signals)
        began = time.monotonic()
        found = ended(started)
        assert time.monotonic() - began < LIMIT_S
    assert all(status for status, _ in found)
    if signals == signal.SIGKILL:
        assert found[1] == (3, "error: process 0 of 2 was killed, or its host is gone")
    else:
        assert found[0][1].startswith("error: interrupted; it goes on with: hardgnn train")
        assert found[1][1] == ""


@pytest.mark.slow
def test_what_fails_in_another_process_is_told_by_the_first(market: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with ranks(2, lambda rank: words_of([market, missing][rank], tmp_path / "run", BEST)) as started:
        (first, said), (second, nothing) = ended(started)
    assert (first, second, nothing) == (2, 2, "")
    assert said.startswith(f"error: process 1 of 2: {missing}: no such folder")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "train.lr=1e30"], "error: epoch 1: the loss is "),
        (["--preset", "ease"], "error: model.kind=ease is fitted in one go by one process: start it without torchrun"),
        (["--set", "train.shards=3"], "error: train.shards=3 cannot be shared out over 2 processes"),
    ],
)
def test_what_fails_in_all_is_told_once(words: list[str], said: str, market: Path, tmp_path: Path) -> None:
    settings = [] if "ease" in words else BEST
    done = torchrun(2, [*words_of(market, tmp_path / "run", settings), *words])
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert said in done.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
