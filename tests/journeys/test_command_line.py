"""A user's first hour at the command line: from events in a file of their own to recommendations and a report."""

from __future__ import annotations

import random
from pathlib import Path

from terminals import Terminal


def write_events(path: Path) -> None:
    """Plays of 80 listeners: whoever hears song n mostly hears song n + 1 next."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as handle:
        print("listener,song,played_at", file=handle)
        for listener in range(80):
            song = rng.randrange(50)
            for hour in range(15):
                song = (song + 1) % 50 if rng.random() < 0.8 else rng.randrange(50)
                print(f"l{listener},s{song},2026-01-{1 + hour:02d}T{rng.randrange(24):02d}:00:00", file=handle)


def test_a_first_hour_at_the_command_line(terminal: Terminal, tmp_path: Path) -> None:
    write_events(tmp_path / "plays.csv")

    def typed(command: str, status: int = 0) -> str:
        return terminal.run(command, tmp_path, status).words

    # What is there, and what could be trained?
    assert "recommend" in typed("hardgnn")
    assert "recencyknn" in typed("hardgnn presets")

    # The log is given to train at once: the answer is the command that prepares it.
    assert "prepare it first: `hardgnn prepare plays.csv --out data/plays`" in typed(
        "hardgnn train plays.csv --out runs/knn", status=2
    )
    # Its columns have names of their own.
    told = typed("hardgnn prepare plays.csv --out data/plays", status=2)
    assert "listener" in told
    columns = "--user-col listener --item-col song --time-col played_at"
    # Too strict a filter leaves nothing, and the sentence says which one leaves something.
    told = typed(f"hardgnn prepare plays.csv --out data/plays {columns} --k-core 100", status=2)
    assert "the highest k_core that leaves any is " in told
    told = typed(f"hardgnn prepare plays.csv --out data/plays {columns} --k-core 3")
    assert "next: `hardgnn train data/plays --out runs/plays`" in told

    # The quick model first, then the default one, for two epochs.
    typed("hardgnn train data/plays --out runs/knn --preset recencyknn")
    small = "--set train.epochs=2 --set model.dim=16 --set train.eval_every=1"
    told = typed(f"hardgnn train data/plays --out runs/best {small}")
    assert "preset best, seed 0; set: model.dim=16 (64), train.epochs=2 (150)" in told
    assert "epoch 2/2" in told
    # The same command again would overwrite it, and is refused.
    assert "--resume" in typed(f"hardgnn train data/plays --out runs/best {small}", status=2)

    assert "95 % interval" in typed("hardgnn evaluate runs/best")
    assert "paired over users" in typed("hardgnn compare runs/knn runs/best")
    told = typed("hardgnn recommend runs/knn --user l7 --n 3")
    assert told.count(" l7 ") == 3
    typed("hardgnn report runs/knn runs/best --out report.html")
    assert "best" in (tmp_path / "report.html").read_text("utf-8")
