"""Every model against the strongest baseline: tested, in words, as a table and as figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from hardgnn.evaluation.comparisons import Difference, SeedComparison, compare_ranks, correct
from hardgnn.metrics import MAIN
from hardgnn.report.canvas import Figure
from hardgnn.report.looks import Looks
from hardgnn.report.plots import dots
from hardgnn.report.standing import Standing
from hardgnn.report.tables import Cell, Table, p_value
from hardgnn.wording import corrected_over

SIGNIFICANT = 0.05


def against_strongest(models: Sequence[Standing], at: int) -> list[SeedComparison]:
    """Every model compared with the strongest baseline on its data under its protocol, by NDCG at `at`.

    The strongest is that with the highest test figure, so that no model gains by the choice; among those that learnt
    from the same parts, where there are such. p-values are corrected over all rows.
    """
    rows: list[SeedComparison] = []
    for data, protocol in dict.fromkeys((one.data, one.protocol) for one in models):
        mine = [one for one in models if (one.data, one.protocol) == (data, protocol)]
        means = {one.model: float(next(iter(one.values([at], [MAIN]).values())).mean()) for one in mine}
        baselines = [one for one in mine if one.baseline]
        if not baselines:
            continue
        for one in mine:
            fair = [other for other in baselines if other.learnt_from == one.learnt_from] or baselines
            strongest = max(fair, key=lambda other: means[other.model])
            if one is not strongest:
                (row,) = compare_ranks(one.frames, strongest.frames, [at], [MAIN])
                rows.append(_row(one, strongest, row))
    return correct(rows)


def _row(one: Standing, strongest: Standing, found: Difference) -> SeedComparison:
    """A difference as that of two models; over seeds nothing is tested, for a baseline has one."""
    return SeedComparison(
        data=one.data,
        protocol=one.protocol,
        a=one.model,
        b=strongest.model,
        seeds=len(one.frames),
        seed_p=None,
        seed_effect_size=None,
        **asdict(found),
    )


def lead(against: Sequence[SeedComparison], baselines: Collection[str]) -> list[str]:
    """What the figures come to, a sentence for each data set: the best model that is no baseline, if there is one."""
    told = []
    for data in dict.fromkeys(row.data for row in against):
        mine = [row for row in against if row.data == data]
        mine = [row for row in mine if row.protocol == mine[0].protocol]
        best = max([row for row in mine if row.a not in baselines] or mine, key=lambda row: row.mean_a)
        gap, p = f"{abs(best.difference):.4f}", p_value(best.permutation_p_holm)
        tested = f"p = {p} over {best.users:,} users, Holm-corrected over {corrected_over(best.comparisons)}"
        if best.difference > 0:
            leads = f"{best.a} leads with {best.metric} {best.mean_a:.4f}, {gap} above {best.b}, the strongest baseline"
        else:
            leads = f"the baseline {best.b} leads with {best.metric} {best.mean_b:.4f}, {gap} above {best.a}"
        told.append(f"{data}, {best.protocol}: {leads} ({tested}).")
    return told


def strongest_table(plan: str, against: Sequence[SeedComparison], refitted: Mapping[str, str], looks: Looks) -> Table:
    rows = [
        [
            Cell(row.a, look=looks.of(row.a)),
            Cell(f"{row.difference:+.4f}", interval=f"{row.low:+.4f} to {row.high:+.4f}"),
            Cell(p_value(row.permutation_p_holm), row.permutation_p_holm < SIGNIFICANT),
            Cell(p_value(row.permutation_p)),
            Cell(f"{100 * row.difference / row.mean_b:+.0f} %" if row.mean_b else "–"),
            Cell(row.b, look=looks.of(row.b)),
            Cell(row.protocol),
        ]
        for row in against
    ]
    metric = against[0].metric
    header = ["model", f"{metric}, difference", "p, Holm", "p", "in %", "strongest baseline", "protocol"]
    notes = [
        "Paired over users: 95 % bootstrap interval, permutation test, Holm-corrected over "
        f"{corrected_over(len(rows))}; in bold p < {SIGNIFICANT}. A baseline is a model that needs no gradient; the "
        "strongest has the highest test figure among those that learnt from the same parts, so that no model gains by "
        "the choice.",
        *(
            f"{a} learnt from {refitted[a]}, and {b} from the training part alone."
            for a, b in dict.fromkeys((row.a, row.b) for row in against)
            if a in refitted and b not in refitted
        ),
    ]
    data = ", ".join(dict.fromkeys(row.data for row in against))
    caption = f"{data}: each model against the strongest baseline"
    return Table(f"{plan}-strongest-baseline", caption, header, rows, notes)


def strongest_figures(plan: str, against: Sequence[SeedComparison], looks: Looks, command: str) -> list[Figure]:
    """The differences from the strongest baseline with their intervals, a figure for each data set and protocol."""
    found = []
    for data, protocol in dict.fromkeys((row.data, row.protocol) for row in against):
        mine = [row for row in against if (row.data, row.protocol) == (data, protocol)]
        mine.sort(key=lambda row: -row.difference)
        others = list(dict.fromkeys(row.b for row in mine))
        strongest = f"{others[0]}, the strongest baseline" if len(others) == 1 else "the strongest baseline of its kind"
        found.append(
            dots(
                f"strongest-{plan}-{data}-{protocol}",
                f"{data}: {mine[0].metric} minus that of {strongest}; {protocol}, 95 % intervals",
                f"difference in {mine[0].metric}",
                [(row.a, row.difference, row.low, row.high) for row in mine],
                look=looks.of,
                zero=True,
                command=command,
            )
        )
    return found
