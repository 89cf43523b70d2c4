"""What a page holds: the sections of a study, or of some runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hardgnn.config import flat
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import TARGETS
from hardgnn.evaluation.quality import BASELINES
from hardgnn.experiments.choices import SWEEP, choices
from hardgnn.experiments.finished import Finished, finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.peers.tuning import PEERS
from hardgnn.experiments.plan import Grid, Plan, Variant
from hardgnn.experiments.results import Summary, summarise_cells, summary
from hardgnn.experiments.sweep import RETRAINED
from hardgnn.report import published as papers
from hardgnn.report.choice import choice_section
from hardgnn.report.curves import curve_figures, hard_section
from hardgnn.report.effects import components_figures, groups_parts, history_figures, noise_section_parts
from hardgnn.report.leaderboard import leaderboard, ranked
from hardgnn.report.leaderboard_page import leaderboard_tables
from hardgnn.report.lists import asked_lists, example_sections, exposure_figures
from hardgnn.report.log import data_parts
from hardgnn.report.looks import Looks
from hardgnn.report.ranking import rank_figures
from hardgnn.report.sections import PageSection, figures_section, published_section
from hardgnn.report.standing import BaselineRanks, Standing, baseline_figures, baseline_ranks, standings
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.folder import check_version, read_result, run_name
from hardgnn.storage.kinds import mistaken
from hardgnn.wording import option, said

TITLES = {
    RETRAINED: "Test figures of the chosen settings",
    "variants": "Test figures of the variants",
    "components": "Components",
    "noise": "Noise",
    "sparsity": "Sparsity",
    "history": "History",
}


@dataclass
class Contents:
    """What a page is made of: a title, sections, the runs that they are of, and how these are drawn."""

    title: str
    sections: list[PageSection] = field(default_factory=list)
    cells: list[Finished] = field(default_factory=list)
    looks: Looks = field(default_factory=Looks)


def of_study(study: Study, at: Sequence[int], published: dict[str, str]) -> Contents:
    """A study: what its plans were first for, what is common to all runs after.

    Raises:
        HardGNNError: nothing is finished, or `published` names what is not here.
    """
    page = Contents(f"Study {study.folder.resolve().name}")
    looks, sections = page.looks, page.sections
    everything: dict[tuple[str, str], Finished] = {}
    order = [name for name in TITLES if name in study.plans]
    for place, name in enumerate(order):
        plan = study.plans[name]
        cells = finished(study, plan)
        everything |= {(cell.data, cell.variant.name): cell for cell in cells}
        for cell in cells:
            looks.of(cell.variant.name)
        told = summary(study, name, at)
        baselines = baseline_ranks(study, plan.data, BASELINES) if plan.with_baselines else {}
        models = standings(cells, baselines)
        sections.append(_of_plan(name, plan, told, models, looks, at))
        beside = published_section(told, _published_names(plan.data, published), _counts(cells), looks)
        if place == 0 and beside is not None:
            sections.append(beside)
        if name == RETRAINED:
            sections.append(_choice_section(study))
    if SWEEP in study.plans and RETRAINED not in study.plans:
        plan = study.plans[SWEEP]
        sections.append(_choice_section(study))
        everything |= {(cell.data, cell.variant.name): cell for cell in finished(study, plan, test=False)}
    if PEERS in study.plans and ranked(study):
        tables = leaderboard_tables(leaderboard(study, at), looks)
        sections.append(PageSection("Leaderboard", [f"Peers: {study.plans[PEERS].command}"], tables))
    if not sections:
        raise HardGNNError(f"{study.folder}: nothing of the study is finished yet; run its command again to go on")
    page.cells = list(everything.values())
    if order:
        first = study.plans[order[0]]
        cells = finished(study, first)
        baselines = baseline_ranks(study, first.data, BASELINES) if first.with_baselines else {}
        sections += _common(order[0], cells, standings(cells, baselines), looks, first.command)
    return page


def _of_plan(
    name: str, plan: Plan, told: Summary, models: Sequence[Standing], looks: Looks, at: Sequence[int]
) -> PageSection:
    """The section of what a plan was for, with the figures of its kind."""
    section = figures_section(TITLES[name], told, models, looks, plan.command, at[0])
    if name == "noise":
        tables, figures = noise_section_parts(told, looks, plan.command)
        section.tables = [*tables, *section.tables]
    elif name == "sparsity":
        tables, figures = groups_parts(told, looks, plan.command)
        section.tables = [*section.tables, *tables]
    elif name == "history":
        windows = {variant.name: flat(variant.config(0))["model"]["window"] for variant in plan.variants}
        figures = history_figures(told, windows, looks, plan.command)
    else:
        figures = components_figures(told, looks, plan.command)
    section.figures = [*figures, *section.figures]
    return section


def _choice_section(study: Study) -> PageSection:
    plan = study.plans[SWEEP]
    return choice_section(choices(study), plan.more.grid if isinstance(plan.more, Grid) else None, plan.command)


def of_runs(
    folders: Sequence[Path], at: Sequence[int], baselines: BaselineRanks, published: dict[str, str]
) -> Contents:
    """Some runs, each a variant of its own; the others are compared with the first on their data.

    Raises:
        HardGNNError: a folder holds no finished run, or `published` names what is not here.
    """
    cells = run_cells(folders)
    datasets = list(dict.fromkeys(cell.data for cell in cells))
    count = f"{len(cells)} models" if len(cells) > 1 else cells[0].variant.name
    page = Contents(f"{count} on {', '.join(datasets)}", cells=cells)
    looks, sections = page.looks, page.sections
    for cell in cells:
        looks.of(cell.variant.name)
    names = _published_names(datasets, published)
    tables, comparisons = summarise_cells(cells, at)
    given = {data: baselines for data in datasets if baselines}
    told = Summary("runs", "runs", tables, comparisons, {data: baseline_figures(baselines, at) for data in given})
    models = standings(cells, given)
    section = figures_section("Test figures", told, models, looks, "", at[0])
    section.text += _never_evaluated(cells, folders)
    sections.append(section)
    beside = published_section(told, names, _counts(cells), looks)
    if beside is not None:
        sections.append(beside)
    sections += _common("runs", cells, models, looks, "")
    return page


def run_cells(folders: Sequence[Path]) -> list[Finished]:
    """Each run as a variant of its own, called by its folder."""
    names = [run_name(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    cells: list[Finished] = []
    for folder, name in zip(folders, names):
        if wrong := mistaken(folder, "a run folder"):
            raise HardGNNError(wrong)
        result = read_result(folder)
        if not result.get("finished"):
            how = said("`hardgnn train … --resume`", "resume=True")
            raise HardGNNError(f"{folder}: no finished run here; train it, or go on with {how}")
        reference = next((cell.variant.name for cell in cells if cell.data == result["dataset"]), "")
        preset = str(check_version(folder).get("preset"))
        variant = Variant(name, preset, reference=reference)
        cells.append(Finished(result["dataset"], variant, [result["seed"]], [folder]))
    return cells


def _never_evaluated(cells: Sequence[Finished], folders: Sequence[Path]) -> list[str]:
    """A sentence for each run whose test part was never ranked."""
    return [
        f"{cell.variant.name} was never evaluated on the test part, so it has no figures here: "
        f"hardgnn evaluate {folder}"
        for cell, folder in zip(cells, folders)
        if not any(cell.is_ranked(protocol) for protocol in TARGETS)
    ]


def _common(
    plan: str, cells: Sequence[Finished], models: Sequence[Standing], looks: Looks, command: str
) -> list[PageSection]:
    """What every page has: ranks, what is recommended, training, the data."""
    found = []
    if models:
        text = ["How far down the list the items stand that users took: the higher a line on the left, the better."]
        found.append(PageSection("Ranks", text, figures=rank_figures(plan, models, looks, command)))
    lists = asked_lists(cells)
    if lists:
        text = ["Asked as hardgnn recommend asks: with all that the run knows of a user, all its items included."]
        tables, figures = exposure_figures(lists, looks, command)
        found.append(PageSection("Coverage and popularity", text, tables, figures))
        users = example_sections(lists, looks)
        text = ["Users from little to much active, with their last interactions and what models recommend next."]
        found.append(PageSection("Example users", text, examples=users))
    curves = curve_figures(plan, cells, looks, command)
    if curves:
        text = ["Mean over seeds at the epochs that all of them reached; the ring is the epoch that was kept."]
        found.append(PageSection("Training and validation", text, figures=curves))
    told, hard = hard_section(plan, cells, looks, command)
    if hard or told:
        text = [
            "A hard negative that turns out to be the user's validation item is a false negative. It is counted after "
            "the choice and steers nothing."
        ]
        found.append(PageSection("Hard negatives", [*text, *told], figures=hard))
    tables, figures = data_parts(cells)
    found.append(PageSection("Data", [], tables, figures))
    return found


def _counts(cells: Sequence[Finished]) -> dict[str, dict[str, int]]:
    """How many users, items and interactions the data sets have."""
    return {cell.data: check_version(cell.folders[0])["data"]["manifest"].get("counts", {}) for cell in cells}


def _published_names(data: Sequence[str], asked: dict[str, str]) -> dict[str, str]:
    """The papers' name of each data set that has one.

    Raises:
        HardGNNError: a data set that is not here, or that the papers do not have.
    """
    for ours, theirs in asked.items():
        if ours not in data:
            raise HardGNNError(
                f"{option('published', f'{ours}={theirs}')}: no data set '{ours}' here, {nearest(ours, data)}"
            )
        papers.record(theirs)
    found = dict(asked)
    for name in data:
        try:
            papers.record(name)
        except HardGNNError:
            continue
        found.setdefault(name, name)
    return found


def runs_table(cells: Sequence[Finished], looks: Looks) -> Table:
    """Every model of a page, how long it trained and how large it is."""
    header = ["model", "data", "seeds", "best epoch", "epochs", "s per epoch", "peak MB", "parameters"]
    rows = []
    for cell in cells:
        results = cell.results
        seconds = sum(result["seconds_per_epoch"] for result in results) / len(results)
        texts = [
            cell.variant.name,
            cell.data,
            ", ".join(map(str, cell.seeds)),
            ", ".join(str(result["best_epoch"]) for result in results),
            ", ".join(str(result["epochs"]) for result in results),
            f"{seconds:.2f}",
            f"{max(result['peak_memory_mb'] for result in results):.0f}",
            f"{results[0]['parameters']:,}",
        ]
        rows.append([Cell(texts[0], look=looks.of(cell.variant.name)), *(Cell(text) for text in texts[1:])])
    return Table("runs", "Every model of this page, its seeds in order", header, rows, text_columns=2)
