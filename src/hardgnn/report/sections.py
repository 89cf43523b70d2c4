"""A section of the report, and those of test figures: a plan's, and the published ones beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hardgnn.evaluation.comparisons import SeedComparison
from hardgnn.experiments.results import BaselineFigures, ResultTable, Summary, VariantRow
from hardgnn.metrics import DEFAULT, split
from hardgnn.report import published
from hardgnn.report.canvas import Figure
from hardgnn.report.examples import Example
from hardgnn.report.looks import Looks
from hardgnn.report.standing import Standing
from hardgnn.report.strongest import SIGNIFICANT, against_strongest, lead, strongest_figures, strongest_table
from hardgnn.report.tables import Cell, Table, between, p_value, spread
from hardgnn.wording import corrected_over

SHOWN = tuple(f"{name}@10" for name in DEFAULT)  # what figures show, where it was computed
PROTOCOL = "full"


@dataclass
class PageSection:
    """One question: what was done in words, then tables, figures and example users."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def figures_section(
    title: str, summary: Summary, models: Sequence[Standing], looks: Looks, command: str, at: int = 10
) -> PageSection:
    """The test figures of one plan with their intervals, every comparison, each model against the strongest baseline.

    `models` are those of the summary, its baselines among them.
    """
    section = PageSection(title)
    comparisons = summary.comparisons
    for table in summary.tables:
        baselines = (summary.baselines or {}).get(table.data, {})
        mine = [one for one in models if (one.data, one.protocol) == (table.data, table.protocol)]
        section.tables.append(_main_table(summary.study, table, comparisons, baselines, mine, looks))
    against = against_strongest(models, at)
    if against:
        refitted = {one.model: one.learnt_from for one in models if one.learnt_from}
        plain = {one.model for one in models if one.baseline}
        section.text += lead([row for row in against if (row.a in refitted) == (row.b in refitted)], plain)
        section.tables.append(strongest_table(summary.study, against, refitted, looks))
        section.figures += strongest_figures(summary.study, against, looks, command)
    if comparisons:
        section.tables.append(_comparisons(summary.study, comparisons))
    if command:
        section.text.append(f"Made by: {command}")
    return section


def _main_table(
    plan: str,
    table: ResultTable[VariantRow],
    comparisons: Sequence[SeedComparison],
    baselines: BaselineFigures,
    models: Sequence[Standing],
    looks: Looks,
) -> Table:
    data, protocol, rows = table.data, table.protocol, table.rows
    metrics = list(rows[0].metrics)
    further = sorted({name for row in rows for name in row.further}, key=lambda name: split(name)[::-1])
    plain = [(name, by[protocol]) for name, by in baselines.items() if protocol in by]
    best = {
        name: max([row.metrics[name].mean for row in rows] + [by.get(name, 0.0) for _, by in plain]) for name in metrics
    }
    cutoffs = list(dict.fromkeys(split(name)[1] for name in metrics))
    names = list(dict.fromkeys(split(name)[0] for name in metrics))
    bounds = {
        one.model: {name: between(*found) for name, found in one.intervals(cutoffs, names).items()} for one in models
    }
    marks = {
        (row.a, row.metric): ("*" if row.permutation_p_holm < SIGNIFICANT else "")
        + ("‡" if row.seed_p_holm is not None and row.seed_p_holm < SIGNIFICANT else "")
        for row in comparisons
        if (row.data, row.protocol) == (data, protocol)
    }
    body = [
        [
            Cell(name, look=looks.of(name)),
            Cell("–"),
            *(
                Cell(f"{by.get(m, float('nan')):.4f}", by.get(m) == best[m], interval=bounds.get(name, {}).get(m, ""))
                for m in metrics
            ),
            *(Cell(f"{by[m]:.4f}" if m in by else "–") for m in further),
        ]
        for name, by in plain
    ]
    for row in rows:
        name, figures = row.variant, row.metrics
        body.append(
            [
                Cell(name + (" †" if row.leaks else ""), look=looks.of(name)),
                Cell(str(len(row.seeds))),
                *(
                    Cell(
                        spread(figures[m]),
                        figures[m].mean == best[m],
                        marks.get((name, m), ""),
                        bounds.get(name, {}).get(m, ""),
                    )
                    for m in metrics
                ),
                *(Cell(spread(row.further[m]) if m in row.further else "–") for m in further),
            ]
        )
    notes = ["Below each figure its 95 % bootstrap interval over users."] if bounds else []
    if any(figures.sd is not None for row in rows for figures in row.metrics.values()):
        notes.append("Mean ± standard deviation over seeds; best of a column in bold.")
    else:
        notes.append("One seed, so no spread can be told; best of a column in bold.")
    if marks:
        pairs = sorted({f"{row.a} with {row.b}" for row in comparisons})
        told = "; ".join(pairs) if len(pairs) <= 3 else f"every variant with {comparisons[0].b}"
        notes.append(
            f"* differs, paired permutation test over users, p < {SIGNIFICANT}; ‡ paired t-test over seeds likewise; "
            f"both Holm-corrected over {corrected_over(len(comparisons))} made. Compared: {told}."
        )
    if further:
        notes.append(f"Not compared, as the runs were evaluated with it: {', '.join(further)}.")
    notes += [f"† {row.variant} LEAKS: {'; '.join(row.leaks)}." for row in rows if row.leaks]
    notes += [
        f"{row.variant} learnt from {row.learnt_from}, with what was chosen on validation before."
        for row in rows
        if row.learnt_from
    ]
    caption = f"{data}: test, protocol {protocol}, {rows[0].users:,} users"
    return Table(f"{plan}-{data}-{protocol}", caption, ["model", "seeds", *metrics, *further], body, notes)


def _comparisons(plan: str, comparisons: Sequence[SeedComparison]) -> Table:
    header = ["data", "protocol", "compared", "metric", "difference", "95 % over users", "d over users"]
    header += ["Wilcoxon p", "permutation p", "seeds", "d over seeds", "t p over seeds"]
    rows = [
        [
            Cell(row.data),
            Cell(row.protocol),
            Cell(f"{row.a} − {row.b}"),
            Cell(row.metric),
            Cell(f"{row.difference:+.4f}"),
            Cell(f"{row.low:+.4f} – {row.high:+.4f}"),
            Cell(f"{row.effect_size:+.2f}"),
            Cell(f"{p_value(row.wilcoxon_p)} ({p_value(row.wilcoxon_p_holm)})"),
            Cell(f"{p_value(row.permutation_p)} ({p_value(row.permutation_p_holm)})"),
            Cell(str(row.seeds)),
            Cell("–" if row.seed_effect_size is None else f"{row.seed_effect_size:+.2f}"),
            Cell("–" if row.seed_p is None else f"{p_value(row.seed_p)} ({p_value(row.seed_p_holm)})"),
        ]
        for row in comparisons
    ]
    notes = [
        f"{len(rows)} comparisons were made and all are listed; p-values in brackets are Holm-corrected over them. "
        "d is Cohen's d of the paired differences. Over users the seeds' figures are averaged per user first."
    ]
    caption = f"All {len(rows)} comparisons of '{plan}'"
    return Table(f"{plan}-comparisons", caption, header, rows, notes, text_columns=4, folded=True)


def published_section(
    summary: Summary, names: Mapping[str, str], counts: Mapping[str, Mapping[str, int]], looks: Looks
) -> PageSection | None:
    """The published figures beside ours, for data sets that the papers have.

    Args:
        summary: our figures.
        names: maps our name of a data set to theirs.
        counts: how many users, items and interactions our data sets have; another size is another log.
        looks: of the page.
    """
    section = PageSection("Published figures")
    for table in summary.tables:
        theirs = names.get(table.data)
        if theirs is None or table.protocol != (papers := published.record(theirs)).protocol:
            continue
        metrics = list(table.rows[0].metrics)
        rows = [
            [
                Cell(row.variant, look=looks.of(row.variant)),
                Cell("ours"),
                *(Cell(spread(row.metrics[m])) for m in metrics),
            ]
            for row in table.rows
        ]
        for one in papers.rows:
            figures = [one.metrics.get(metric) for metric in metrics]
            texts = ["–" if figure is None else f"{figure:.{4 if papers.sources else 3}f}" for figure in figures]
            rows.append([Cell(one.model), Cell(one.source), *map(Cell, texts)])
        notes = [f"Published: {papers.how}. Ours: {table.protocol}."]
        notes += [f"{source}: {meaning}." for source, meaning in papers.sources.items()]
        if differs := papers.differs(counts.get(table.data, {})):
            section.text.append(f"{table.data} is not the published log ({differs}): nothing compares.")
        elif theirs != table.data and not papers.counts:
            notes.append(f"{table.data} may differ from the papers' {theirs}; if so, nothing compares.")
        caption = f"{table.data} beside the published {theirs}"
        name = f"published-{table.data}"
        section.tables.append(Table(name, caption, ["model", "source", *metrics], rows, notes, text_columns=2))
    return section if section.tables else None
