"""Runs of several seeds against others: mean ± sd over seeds, and paired tests over users, Holm-corrected over all.

python benchmarks/seeds.py --of RUN [RUN ...] --against RUN [RUN ...] --protocol full full-successive
Runs whose names differ in a trailing number alone (best-0, best-1; best-0-re, best-1-re) are seeds of one model. Test
parts that are not ranked yet are ranked first.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import Comparison, compare_ranks, correct
from hardgnn.evaluation.protocols import metrics_of
from hardgnn.evaluation.ranks import ranks_path, read_ranks
from hardgnn.runs.evaluated import rank_missing
from hardgnn.runtime import use_threads


@dataclass(frozen=True)
class Group:
    """Runs of one model."""

    name: str
    folders: list[Path]

    def frames(self, protocol: str) -> list:
        return [read_ranks(ranks_path(folder, "test", protocol)) for folder in self.folders]


def groups(folders: list[Path]) -> list[Group]:
    """The runs by model, in their order."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        found.setdefault(re.sub(r"-\d+(?=$|-re$)", "", folder.name), []).append(folder)
    return [Group(name, each) for name, each in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", type=Path, required=True)
    parser.add_argument("--against", nargs="*", type=Path, default=[])
    parser.add_argument("--protocol", nargs="+", default=["full"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    use_threads(options.threads)
    rows: list[Comparison] = []
    try:
        for protocol in options.protocol:
            rank_missing([*options.of, *options.against], "test", protocol)
            ours, others = groups(options.of), groups(options.against)
            for group in (*ours, *others):
                each = [metrics_of(frame, [10], ["ndcg", "hr"]) for frame in group.frames(protocol)]
                told = []
                for name in ("ndcg@10", "hr@10"):
                    values = [float(one[name].mean()) for one in each]
                    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
                    told.append(f"{name} {np.mean(values):.4f}{spread}")
                print(f"{protocol:16s} {group.name:36s} {len(each)} seeds  {'  '.join(told)}")
            for one in ours:
                for other in others:
                    (row,) = compare_ranks(one.frames(protocol), other.frames(protocol), [10], ["ndcg"])
                    rows.append(Comparison(a=f"{one.name}, {protocol}", b=other.name, **vars(row)))
    except HardGNNError as error:
        parser.error(str(error))
    for row in correct(rows):
        print(
            f"{row.a} − {row.b}: {row.difference:+.4f} ({row.low:+.4f} – {row.high:+.4f}), {row.users:,} users, "
            f"permutation p {row.permutation_p:.2g} (Holm {row.permutation_p_holm:.2g}), "
            f"Wilcoxon p {row.wilcoxon_p:.2g} (Holm {row.wilcoxon_p_holm:.2g})"
        )


if __name__ == "__main__":
    main()
