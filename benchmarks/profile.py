"""Shows where a training step's time goes: torch's profiler over a few steps on a simulated market.

python benchmarks/profile.py [--shape gowalla] [--model hardgnn] [--steps 5] [--rows 25] [--trace trace.json]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import shapes


class Window(shapes.Callback):
    """Watches training and profiles the steps from the third on."""

    def __init__(self, steps: int, profile: Any) -> None:
        self.steps, self.profile = steps, profile

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Starts after the second step, ends training after `steps` more."""
        if step == 2:
            self.profile.start()
        elif step == 2 + self.steps:
            self.profile.stop()
            raise KeyboardInterrupt


def main() -> None:
    """Parses, profiles, prints."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from hardgnn.data.dataset import Dataset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(shapes.SHAPES), default="gowalla")
    parser.add_argument("--model", choices=["selfgnn", "hardgnn"], default="selfgnn")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=int, default=25)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="settings of hardgnn train")
    parser.add_argument("--data", type=Path, help="folder that keeps the simulated markets")
    parser.add_argument("--trace", type=Path, help="a Chrome trace to write")
    options = parser.parse_args()
    window = Window(options.steps, profile(activities=[ProfilerActivity.CPU]))
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset.load(shapes.stored_market(options.shape, options.data or Path(folder)))
        config = shapes.settings(options.shape, options.model, options.set, 1, options.threads)
        with contextlib.suppress(KeyboardInterrupt):
            shapes.train(data, config, Path(folder) / "run", window)
    print(f"{options.shape}, {options.model}, {torch.get_num_threads()} threads: {options.steps} steps")
    print(window.profile.key_averages().table("self_cpu_time_total", options.rows, max_name_column_width=60))
    if options.trace:
        window.profile.export_chrome_trace(str(options.trace))


if __name__ == "__main__":
    main()
