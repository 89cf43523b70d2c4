"""Peers on data sets of a study: each is tuned by as many trials on validation, then fitted per seed and ranked once.

`peers/DATA/PEER/` of a study folder holds the trials' journal, `chosen.json`, and a folder for each setting and seed
that was fitted; those of the chosen setting also have test ranks, as a run folder has them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hardgnn.data.dataset import Dataset, read_manifest, same_data
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import FULL, PROTOCOLS, rank_targets
from hardgnn.evaluation.ranks import ranks_path, write_ranks
from hardgnn.experiments.folder import Study, opened
from hardgnn.experiments.heartbeat import Beat
from hardgnn.experiments.peers.light import LIGHT, Cap, FittedPeer, Peer, PeerFitting, Setting
from hardgnn.experiments.peers.neural import NEURAL
from hardgnn.experiments.peers.records import CHOSEN, Chosen, PeerPoint, PeerResult
from hardgnn.experiments.plan import Beside, Plan
from hardgnn.experiments.sweep import Watched
from hardgnn.experiments.trials import Asked, optuna_trials, pull_trials, require_optuna
from hardgnn.experiments.workers import LOCK_PATIENCE_S, Report, Task, carry_out, raise_failed
from hardgnn.metrics import MAIN_AT, summarise
from hardgnn.ops.native.library import described as operations
from hardgnn.runs.folder import ENVIRONMENT, FORMAT_VERSION, RESULT
from hardgnn.runtime import environment
from hardgnn.storage.files import sweep, writing
from hardgnn.storage.locks import locked
from hardgnn.storage.records import read_json, write_json
from hardgnn.wording import option

PEERS = "peers"
PEER_BY_NAME = {peer.name: peer for peer in (*NEURAL, *LIGHT)}


@dataclass(frozen=True)
class Tuning:
    """What is asked of every peer: `trials` settings at most, seen with the first seed; then the best with each."""

    trials: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    cap: Cap = field(default_factory=Cap)

    def record(self) -> dict[str, int | float | None]:
        """What a choice depends on."""
        return {"trials": self.trials, "epochs": self.cap.epochs, "minutes": self.cap.minutes, "seed": self.seeds[0]}


def checked_peers(words: Sequence[str]) -> list[Peer]:
    """The peers of these names.

    Raises:
        HardGNNError: an unknown name (names the nearest), one twice, or none at all.
    """
    for name in words:
        if name not in PEER_BY_NAME:
            raise HardGNNError(f"{option('peers')}: unknown peer '{name}'; {nearest(name, PEER_BY_NAME)}")
    if not words or len(set(words)) < len(words):
        raise HardGNNError(f"{option('peers')}: expected different names such as sasrec,ease,pop")
    return [PEER_BY_NAME[name] for name in words]


def run_peers(
    data: Sequence[Path],
    out: Path,
    names: Sequence[str],
    tuning: Tuning,
    *,
    runs: Sequence[Path] = (),
    workers: int = 1,
    command: str = "",
    watched: Watched | None = None,
) -> Study:
    """Tunes, fits and ranks peers on prepared folders, or goes on with it; a study folder may hold other plans too.

    Args:
        data: prepared folders.
        out: the study folder.
        names: the peers, in the order of the work.
        runs: run folders that the leaderboard shows beside them.
        workers: processes at a time; 0 works in this process.

    Raises:
        HardGNNError: bad names or data, before any work; a peer that was tuned otherwise in this folder; or peers
            that failed, after all others are done.
    """
    watched = watched or Watched()
    peers = checked_peers(names)
    if any(peer.space for peer in peers):
        require_optuna()
    with opened(out) as study:
        listed = study.add_data(data)
        for name in listed:
            for peer in peers:
                check_choice(peer_folder(study, name, peer.name), study.paths[name], tuning)
        earlier = study.plans.get(PEERS)
        before = beside(study)
        more = Beside(
            peers=tuple(dict.fromkeys([*before.peers, *(peer.name for peer in peers)])),
            runs=tuple(dict.fromkeys([*before.runs, *(str(run.resolve()) for run in runs)])),
        )
        together = tuple(dict.fromkeys([*(earlier.data if earlier else ()), *listed]))
        study.save(PEERS, Plan(PEERS, together, (), tuning.seeds, test=False, command=command, more=more))
        tasks = [
            Task(
                f"{name}/{peer.name}",
                carry_out_peer,
                (peer_folder(study, name, peer.name), study.paths[name], peer.name, tuning),
            )
            for name in listed
            for peer in peers
        ]
        watched.begins("peers", len(tasks))
        errors = carry_out(tasks, workers, watched.told)
        raise_failed("peer", errors)
        return study


def beside(study: Study) -> Beside:
    """The peers of a study, and the run folders that they were asked to stand beside."""
    more = study.plans[PEERS].more if PEERS in study.plans else None
    return more if isinstance(more, Beside) else Beside()


def runs_beside(study: Study) -> list[Path]:
    """The run folders that the peers of a study were asked to stand beside."""
    return [Path(run) for run in beside(study).runs]


def peer_folder(study: Study, data: str, name: str) -> Path:
    """Where a peer's work on a data set is kept."""
    return study.folder / PEERS / data / name


def check_choice(folder: Path, data_path: Path, tuning: Tuning) -> None:
    """A choice whose test part has been read is final, and so is the data set it was made on.

    Raises:
        HardGNNError: the peer was tuned with other trials, caps or choice seed, or on another data set.
    """
    if (folder / ENVIRONMENT).exists() and not same_data(
        read_json(folder / ENVIRONMENT)["data"]["manifest"], read_manifest(data_path)
    ):
        raise HardGNNError(f"{folder}: fitted on another data set before; choose another --out")
    if not (folder / CHOSEN).exists():
        return
    made = Chosen.read(folder).tuning
    for key, value in tuning.record().items():
        if made[key] != value:
            asked = f"first of --seeds {value}" if key == "seed" else f"--{key} {value}"
            raise HardGNNError(
                f"{folder}: tuned before with {key} {made[key]} and its test part read, so the choice is final; "
                f"choose another --out for {asked}"
            )


def carry_out_peer(folder: Path, data_path: Path, name: str, tuning: Tuning, report: Report) -> None:
    """Tunes one peer on one data set if it is not tuned yet, then fits and ranks what is not ranked yet.

    Raises:
        HardGNNError: nothing could be fitted, or another process is at work in the folder.
    """
    peer = PEER_BY_NAME[name]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, LOCK_PATIENCE_S):
        sweep(folder)
        data = Dataset.load(data_path)
        if not (folder / ENVIRONMENT).exists():
            of = {"path": str(data_path), "manifest": data.manifest}
            described = {"format_version": FORMAT_VERSION, "data": of, "peers": _versions()}
            write_json(folder / ENVIRONMENT, environment() | {"operations": operations()} | described, sealed=True)
        seeds = (0,) if peer.deterministic else tuning.seeds
        share = 1 / (_trials(peer, tuning) + len(seeds))
        if not (folder / CHOSEN).exists():
            write_json(folder / CHOSEN, tune(peer, data, folder, tuning, share, report).to_dict(), sealed=True)
        setting = Chosen.read(folder).setting
        for number, seed in enumerate(seeds):
            place = fitted_folder(folder, setting, seed)
            if not all(ranks_path(place, "test", protocol).exists() for protocol in PROTOCOLS):
                told = partial(_tell, report, 1 - share * (len(seeds) - number), share)
                rank_test(peer, data, setting, seed, tuning.cap, place, told)


def tune(peer: Peer, data: Dataset, folder: Path, tuning: Tuning, share: float, report: Report) -> Chosen:
    """The setting with the best NDCG@10 (full) on validation, the library's ordinary one tried first.

    Raises:
        HardGNNError: no trial could be fitted; the first one's reason.
    """
    if not peer.space:
        return untuned(peer, data, folder, tuning, share, report)
    search = Asked(peer.space, tuning.seeds, tuning.trials)
    trials = optuna_trials(search, folder, peer.name)
    if not trials.trials:
        trials.enqueue_trial(peer.ordinary)

    def figure(trial: Any, beat: Beat) -> float:
        def validated(epoch: int, value: float) -> None:
            beat.check()
            trial.report(value, epoch)
            if trial.should_prune():
                raise require_optuna().TrialPruned

        seed = 0 if peer.deterministic else tuning.seeds[0]
        place = fitted_folder(folder, trial.params, seed)
        told = partial(_tell, report, share * trial.number, share)
        result, _ = fit_once(peer, data, trial.params, seed, tuning.cap, place, told, validated)
        return result.valid[FULL][MAIN_AT]

    pull_trials(folder, peer.name, search, figure)
    points = tuple(
        PeerPoint(t.number, t.state.name.lower(), dict(t.params), t.value)
        for t in trials.trials
        if t.state.name in ("COMPLETE", "PRUNED")
    )
    complete = [point for point in points if point.state == "complete"]
    if not complete:
        reasons = [t.user_attrs["error"] for t in trials.trials if "error" in t.user_attrs]
        raise HardGNNError(reasons[0] if reasons else f"{peer.name}: no trial is complete")
    best = max(complete, key=lambda point: point.valid or 0.0)
    seconds = sum(t.duration.total_seconds() for t in trials.trials if t.duration is not None)
    return Chosen(
        setting=best.setting,
        valid=best.valid or 0.0,
        tuning=tuning.record(),
        seconds=round(seconds, 1),
        points=points,
    )


def untuned(peer: Peer, data: Dataset, folder: Path, tuning: Tuning, share: float, report: Report) -> Chosen:
    """The one setting of a peer that has nothing to search, so that no library for a search is asked for."""
    seed = 0 if peer.deterministic else tuning.seeds[0]
    began = time.perf_counter()
    told = partial(_tell, report, 0.0, share)
    place = fitted_folder(folder, peer.ordinary, seed)
    result, _ = fit_once(peer, data, peer.ordinary, seed, tuning.cap, place, told)
    value = result.valid[FULL][MAIN_AT]
    return Chosen(
        setting=peer.ordinary,
        valid=value,
        tuning=tuning.record(),
        seconds=round(time.perf_counter() - began, 1),
        points=(PeerPoint(0, "complete", peer.ordinary, value),),
    )


def fit_once(
    peer: Peer,
    data: Dataset,
    setting: Setting,
    seed: int,
    cap: Cap,
    folder: Path,
    report: Report,
    validated: Callable[[int, float], None] = lambda epoch, value: None,
) -> tuple[PeerResult, FittedPeer | None]:
    """Fits a peer, ranks the validation part and writes result.json; one that is there already is only read."""
    if (folder / RESULT).exists():
        return PeerResult.read(folder), None
    began = time.process_time()
    fitted = _fit(peer, PeerFitting(data, setting, seed, cap, folder, validated, report))
    seconds = time.process_time() - began
    ranks = rank_targets(fitted.ranker, data, "valid")["rank"].to_numpy()
    record: dict[str, Any] = {"training_seconds": round(seconds, 2), **fitted.record}
    result = PeerResult(
        dataset=data.name,
        peer=peer.name,
        setting=setting,
        seed=seed,
        valid={FULL: summarise(ranks)},
        leaks=tuple(data.manifest.get("leaks", ())),
        parameters=fitted.parameters,
        **record,
    )
    write_json(folder / RESULT, result.to_dict(), sealed=True)
    return result, fitted


def rank_test(peer: Peer, data: Dataset, setting: Setting, seed: int, cap: Cap, folder: Path, report: Report) -> None:
    """Fits a peer where it is not fitted yet and ranks its test part, once, under every protocol."""
    result, fitted = fit_once(peer, data, setting, seed, cap, folder, report)
    fitted = fitted or _fit(peer, PeerFitting(data, setting, seed, cap, folder, report=report))
    test = dict(result.test or {})
    for protocol in PROTOCOLS:
        frame = rank_targets(fitted.ranker, data, "test", protocol)
        test[protocol] = summarise(frame["rank"].to_numpy())
        write_ranks(ranks_path(folder, "test", protocol), frame)
    write_json(folder / RESULT, replace(result, test=test).to_dict(), sealed=True)


def fitted_folder(folder: Path, setting: Setting, seed: int) -> Path:
    """Where a setting's fit with a seed is kept; the same one is never trained twice."""
    digest = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:10]
    return folder / f"{digest}-{seed}"


def _fit(peer: Peer, fitting: PeerFitting) -> FittedPeer:
    fitting.folder.mkdir(parents=True, exist_ok=True)
    return peer.fit(fitting)


def _trials(peer: Peer, tuning: Tuning) -> int:
    return tuning.trials if peer.space else 1


def _tell(report: Report, before: float, share: float, done: float) -> None:
    report(min(0.99, before + share * done))


def _versions() -> dict[str, str]:
    """The libraries that fit peers."""
    return {name: importlib.metadata.version(name) for name in ("torch",)}
