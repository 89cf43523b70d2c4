"""The contenders of benchmarks/peers.py: each trains in a process and an environment of its own and is judged alike."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Log:
    """What is published for a log: window and dropout of SASRec, and the number in the list of `best`, from 1."""

    window: int
    dropout: float
    listed: int


LOGS = {"beauty-s3rec": Log(50, 0.5, 1), "toys-s3rec": Log(50, 0.5, 1), "ml-1m-lrurec": Log(200, 0.2, 2)}
Scores = Callable[[np.ndarray], np.ndarray]


class Split:
    """Training items of all users (U), oldest first, and who is asked for which validation item, of I items."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as found:
            self.offsets, self.items = found["offsets"], found["items"]
            self.asked, self.target = found["asked"], found["target"]
            self.n_items = int(found["n_items"])

    @staticmethod
    def save(data: Any, folder: Path) -> None:
        """Writes that of a prepared data set as `split.npz` of a folder; nothing of the test part is in it."""
        asked, target = data.targets(1)
        known = {"offsets": data.train.offsets, "items": data.train.items, "n_items": data.n_items}
        np.savez(folder / "split.npz", asked=asked, target=target, **known)

    def windows(self, users: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The last items of `users` (B,), from 1 and padded with 0 on the left, (B, length), and how many they are."""
        ends, sizes = self.offsets[users + 1], np.minimum(np.diff(self.offsets)[users], length)
        back = np.arange(length, 0, -1)
        return np.where(back <= sizes[:, None], self.items[np.maximum(ends[:, None] - back, 0)] + 1, 0), sizes

    def ndcg(self, scores: Scores) -> float:
        """NDCG@10 of `scores`, which gives (B, I) for users (B,)."""
        total = 0.0
        for start in range(0, len(self.asked), 1024):
            users, target = self.asked[start : start + 1024], self.target[start : start + 1024]
            found, rows = scores(users), np.arange(len(users))
            own = found[rows, target]
            sizes = np.diff(self.offsets)[users]
            seen = np.concatenate([self.items[self.offsets[user] : self.offsets[user + 1]] for user in users])
            found[np.repeat(rows, sizes), seen] = -np.inf
            found[rows, target] = own
            ranks = (found >= own[:, None]).sum(axis=1) - 1
            total += (1 / np.log2(ranks[ranks < 10] + 2)).sum()
        return float(total / len(self.asked))


class TimeOver(Exception):
    """A contender's processor time is over, within an epoch."""


class Meter:
    """Seconds that training took, and what it was worth after each epoch, written to `epochs.json` as it goes.

    What goes on when the processor time is over ends in `TimeOver`.
    """

    def __init__(self, minutes: float, patience: int) -> None:
        self.minutes, self.patience = minutes, patience
        self.spent, self.mark = np.zeros(2), self.now()
        self.epochs: list[dict[str, float]] = []
        signal.signal(signal.SIGPROF, self._ends)
        self._go()

    def _go(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, max(0.001, 60 * self.minutes - self.spent[1]))
        self.mark = self.now()

    def _ends(self, *_: Any) -> None:
        raise TimeOver

    @staticmethod
    def now() -> np.ndarray:
        """Wall and processor seconds."""
        return np.array([time.perf_counter(), time.process_time()])

    def lap(self) -> None:
        """What was since the last call is training; the timer rests until the next epoch."""
        self.rest()
        now = self.now()
        self.spent, self.mark = self.spent + now - self.mark, now

    @staticmethod
    def rest() -> None:
        """Stops the timer."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def judged(self, epoch: int, value: float) -> str:
        """Notes an epoch; what was since the last call does not count. Why training ends, or nothing."""
        self.epochs.append({"epoch": epoch, "wall_s": self.spent[0], "processor_s": self.spent[1], "ndcg": value})
        best = int(np.argmax([one["ndcg"] for one in self.epochs]))
        why = "patience" if 0 < self.patience < len(self.epochs) - best else self.over()
        self.write(why or "minutes")
        if not why:
            self._go()
        return why

    def write(self, ended: str) -> None:
        """Writes what is known; `ended` says why training ends, if it ends here."""
        Path("epochs.json").write_text(json.dumps({"epochs": self.epochs, "ended": ended}))

    def over(self) -> str:
        """Whether its time is over."""
        return "minutes" if self.spent[1] > 60 * self.minutes else ""


def fit_best(options: argparse.Namespace, split: Split) -> tuple[Meter, str]:
    """Our preset, or the one of its list that the log asks for."""
    from hardgnn.data.dataset import Dataset
    from hardgnn.experiments.listed import tries
    from hardgnn.runs.memory import fit
    from hardgnn.training.callbacks import Callback

    data = Dataset.load(options.data)
    listed = LOGS[options.log].listed
    config = tries("best", listed, ["run.threads=1", *options.set], options.seed)[-1].config
    meter = Meter(options.minutes, 0)

    class Clock(Callback):
        def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
            meter.lap()

        def epoch(self, line: dict[str, Any]) -> None:
            if "valid" in line:
                meter.judged(line["epoch"], line["valid"]["ndcg@10"])
                meter.rest()
            meter.mark = meter.now()

        def ends(self) -> str:
            return meter.over() if meter.epochs else ""

    fitted = fit(data, config, callbacks=[Clock()])
    known = data.train
    found = split.ndcg(lambda users: np.array(fitted.model.scores(users, known.take(users))))
    best = max(one["ndcg"] for one in meter.epochs)
    if abs(found - best) > 1e-5:
        raise SystemExit(f"the two ways to judge differ: {found:.6f} and {best:.6f}")
    return meter, meter.over() or ("epochs" if fitted.result.epochs == config.train.epochs else "patience")


def fit_rectools(options: argparse.Namespace, split: Split) -> tuple[Meter, str]:
    """RecTools' SASRec: 64 numbers, 2 blocks, 2 heads, batches of 128 users, rate 1e-3.

    Its loss by default: gBCE with 256 negatives and t = 0.75, as published for gSASRec (Petrov and Macdonald, 2023).
    """
    import pandas as pd
    import pytorch_lightning as lightning
    import torch
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    log, why, lengths = LOGS[options.log], [], np.diff(split.offsets)
    lightning.seed_everything(options.seed)
    meter = Meter(options.minutes, options.patience)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    times = pd.to_datetime(np.arange(len(owner)) - split.offsets[owner], unit="D")
    table = pd.DataFrame({"user_id": owner, "item_id": split.items, "weight": 1.0, "datetime": times})

    class Judge(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            meter.lap()
            module.eval()
            with torch.no_grad():
                why.append(meter.judged(trainer.current_epoch + 1, split.ndcg(scores)))
            module.train()
            trainer.should_stop = bool(why[-1])

    def trainer() -> Any:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        kept = {"enable_checkpointing": False, "accelerator": "cpu", "devices": 1}
        return lightning.Trainer(max_epochs=1000, min_epochs=1, callbacks=[Judge()], **quiet, **kept)

    def scores(users: np.ndarray) -> np.ndarray:
        network, numbers = model.lightning_model.torch_model, np.zeros(split.n_items + 1, np.int64)
        known = model.data_preparator.get_known_item_ids().astype(np.int64)
        numbers[known + 1] = model.data_preparator.get_known_items_sorted_internal_ids()
        window, _ = split.windows(users, log.window)
        items = network.item_model.get_all_embeddings()
        states = network.encode_sessions({"x": torch.from_numpy(numbers[window])}, items)[:, -1]
        found = np.full((len(users), split.n_items), -np.inf, np.float32)
        found[:, known] = (states @ items.T).numpy()[:, numbers[known + 1]]
        return found

    shape = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": log.window, "dropout_rate": log.dropout}
    losses = {"loss": options.rectools_loss, "n_negatives": 256, "gbce_t": 0.75}
    model = SASRecModel(**shape, **losses, lr=1e-3, batch_size=128, get_trainer_func=trainer)
    model.fit(Dataset.construct(table))
    return meter, why[-1]


def fit_recbole(options: argparse.Namespace, split: Split) -> tuple[Meter, str]:
    """RecBole's SASRec and its trainer: cross-entropy over all items, 64 numbers, 2 layers, 2 heads, 2,048 prefixes."""
    import logging

    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    log, lengths = LOGS[options.log], np.diff(split.offsets)
    logging.disable(logging.WARNING)
    folder = Path("recbole/log")
    folder.mkdir(parents=True)
    meter = Meter(options.minutes, options.patience)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    # Its leave-one-out takes a user's last two from training: the validation item, here twice, is told and not read.
    users, items = np.concatenate([owner, split.asked, split.asked]), np.concatenate([split.items, *[split.target] * 2])
    order = np.argsort(users, kind="stable")
    rows = "".join(f"{users[at]}\t{items[at]}\t{place}\n" for place, at in enumerate(order))
    (folder / "log.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + rows)
    settings = {
        "data_path": "recbole",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": log.window,
        "hidden_dropout_prob": log.dropout,
        "attn_dropout_prob": log.dropout,
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "use_gpu": False,
        "show_progress": False,
        "seed": options.seed,
    }
    config = Config(model="SASRec", dataset="log", config_dict=settings)
    init_seed(options.seed, True)
    training, _, _ = data_preparation(config, create_dataset(config))
    model = get_model("SASRec")(config, training.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    tokens = training.dataset.field2id_token["item_id"]  # of its numbers; 0 is padding
    numbers = np.zeros(split.n_items + 1, np.int64)
    numbers[tokens[1:].astype(np.int64) + 1] = np.arange(1, len(tokens))

    def scores(users: np.ndarray) -> np.ndarray:
        window, sizes = split.windows(users, log.window)
        places = np.arange(log.window) + log.window - sizes[:, None]  # it pads on the right
        window = np.take_along_axis(np.pad(numbers[window], ((0, 0), (0, log.window))), places, axis=1)
        asked = {"item_id_list": torch.from_numpy(window), "item_length": torch.from_numpy(sizes)}
        return model.full_sort_predict(asked).numpy()[:, numbers[1:]]

    epoch, why = 0, ""
    while not why:
        model.train()
        trainer._train_epoch(training, epoch, show_progress=False)
        meter.lap()
        model.eval()
        with torch.no_grad():
            why = meter.judged(epoch := epoch + 1, split.ndcg(scores))
    return meter, why


FITS = {"best": fit_best, "rectools": fit_rectools, "recbole": fit_recbole}


def main() -> None:
    """Trains one contender on `split.npz` of a data folder and writes `epochs.json` here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=list(FITS))
    parser.add_argument("log", choices=list(LOGS))
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--rectools-loss", default="gBCE")
    parser.add_argument("--set", nargs="*", default=[])
    options = parser.parse_args()
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]  # its profile.py is not Python's
    Path("epochs.json").write_text(json.dumps({"epochs": [], "ended": "minutes"}))
    with suppress(TimeOver):
        meter, ended = FITS[options.contender](options, Split(options.data / "split.npz"))
        meter.write(ended)


if __name__ == "__main__":
    main()
