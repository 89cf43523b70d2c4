"""The leaderboard as tables and as a Markdown page."""

from __future__ import annotations

from pathlib import Path

from hardgnn.experiments.peers.tuning import PEERS
from hardgnn.metrics import split
from hardgnn.report.leaderboard import BoardRow, Leaderboard
from hardgnn.report.looks import Looks
from hardgnn.report.tables import Cell, Table, markdown_line, markdown_text, p_value, spread
from hardgnn.runs.folder import ENVIRONMENT
from hardgnn.storage.records import read_json
from hardgnn.wording import corrected_over

LEARNT = "learnt from {}, with what was chosen on validation before."


def leaderboard_tables(board: Leaderboard, looks: Looks | None = None) -> list[Table]:
    """One table per data set, the best of each column marked, with the settings as notes; `looks` are a page's."""
    metrics = list(board.tables[0].rows[0].metrics)
    compared_by, _ = split(board.metric)
    metrics.sort(key=lambda name: (split(name)[1], split(name)[0] != compared_by))
    count = len(board.comparisons)
    found = []
    for table in board.tables:
        best = {metric: max(row.metrics[metric].mean for row in table.rows) for metric in metrics}
        rows = [
            [
                Cell(row.model + (" †" if row.leaks else ""), look=looks.of(row.model) if looks else None),
                Cell("any" if row.deterministic else str(len(row.seeds))),
                *(Cell(spread(row.metrics[m]), row.metrics[m].mean == best[m]) for m in metrics),
                *_compared_cells(row, board.reference),
                Cell("–" if row.training_seconds is None else f"{row.training_seconds:,.0f}"),
                Cell("–" if row.parameters is None else f"{row.parameters:,}"),
            ]
            for row in table.rows
        ]
        header = ["model", "seeds", *map(_title, metrics), f"{board.reference} − it"]
        found.append(
            Table(
                f"leaderboard-{table.data}",
                f"{table.data}: test, {board.protocol}, {table.users:,} users, mean ± sd over seeds",
                [*header, "p, Wilcoxon", "p, permutation", "p, seeds", "s to train", "parameters"],
                rows,
                [
                    f"The difference of {board.reference} from each model and its p-values are of "
                    f"{_title(board.metric)}: Wilcoxon's signed-rank test and the paired permutation test of the "
                    f"mean, both over users (metrics averaged over seeds), and the paired t-test over seeds; each "
                    f"Holm-corrected over {corrected_over(count)}.",
                    "Seconds to train one model: processor time for peers, the clock for ours.",
                    *(f"† {row.model} LEAKS: {'; '.join(row.leaks)}" for row in table.rows if row.leaks),
                    *(f"{row.model} {LEARNT.format(row.learnt_from)}" for row in table.rows if row.learnt_from),
                    *(f"{row.model}: {_setting(row)}" for row in table.rows),
                ],
            )
        )
    return found


def _compared_cells(row: BoardRow, reference: str) -> list[Cell]:
    if row.comparison is None:
        return [Cell("reference" if row.model == reference else "–"), *[Cell("–")] * 3]
    made = row.comparison
    return [
        Cell(f"{made.difference:+.4f}"),
        Cell(p_value(made.wilcoxon_p_holm)),
        Cell(p_value(made.permutation_p_holm)),
        Cell(p_value(made.seed_p_holm)),
    ]


def _setting(row: BoardRow) -> str:
    """The setting in words, and how it was found."""
    if not isinstance(row.setting, dict):
        return ", ".join(row.setting)
    words = ", ".join(f"{key} {_value(value)}" for key, value in row.setting.items()) or "nothing to set"
    return f"{words}; best of {row.trials} on validation ({row.valid:.4f})"


def _value(value: object) -> str:
    return "all" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _title(metric: str) -> str:
    return metric.upper()


def markdown(board: Leaderboard) -> str:
    """The leaderboard as a Markdown page."""
    peers = [row for table in board.tables for row in table.rows if row.peer]
    versions = {
        name: version
        for table in board.tables
        for row in table.rows
        if row.peer
        for name, version in read_json(Path(board.study) / PEERS / table.data / row.model / ENVIRONMENT)[
            "peers"
        ].items()
    }
    lines = [
        "# Leaderboard",
        "",
        "Every model sees the same training items, is chosen by NDCG@10 (full) on validation, and ranks the test part "
        "once: all items but the user's training and validation items, ties against the model. At test time the "
        "validation item belongs to the history of every model (bpr and lightgcn, which know users by learnt vectors, "
        "cannot use it).",
    ]
    if peers:
        library = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines += [
            "",
            f"How the peers are trained and tuned: docs/peers.md{f' ({markdown_text(library)})' if library else ''}.",
        ]
    for table, shown in zip(board.tables, leaderboard_tables(board)):
        lines += ["", f"## {markdown_line(table.data)}", "", _as_list(shown)]
    return "\n".join(lines).rstrip() + "\n"


def _as_list(table: Table) -> str:
    """The table as Markdown, its notes as a list below."""
    text = Table(table.name, table.caption, table.header, table.rows, text_columns=table.text_columns).to_markdown()
    return text.rstrip() + "\n\n" + "\n".join(f"- {markdown_line(note)}" for note in table.notes)
