"""One self-contained HTML page about a study or some runs; it asks nothing from the network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hardgnn.config import flat
from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.experiments.choices import SWEEP, choices
from hardgnn.experiments.finished import Finished, finished
from hardgnn.experiments.folder import Study
from hardgnn.experiments.peers.tuning import PEERS
from hardgnn.experiments.plan import Grid, Plan, Variant
from hardgnn.experiments.results import BaselineFigures, Summary, summarise_cells, summary
from hardgnn.experiments.sweep import RETRAINED
from hardgnn.report import published as papers
from hardgnn.report.choice import choice_section
from hardgnn.report.curves import curve_figures, hard_figures
from hardgnn.report.effects import components_figures, groups_parts, history_figures, noise_section_parts
from hardgnn.report.leaderboard import leaderboard, ranked
from hardgnn.report.leaderboard_page import leaderboard_tables
from hardgnn.report.plots import ON_DARK, ON_LIGHT, PAGES
from hardgnn.report.sections import PageSection, figures_section, published_section
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.folder import check_version, load_config, read_result, run_name
from hardgnn.storage.files import atomic_path
from hardgnn.storage.kinds import mistaken

TITLES = {
    RETRAINED: "Test figures of the chosen settings",
    "variants": "Test figures of the variants",
    "components": "Components",
    "noise": "Noise",
    "sparsity": "Sparsity",
    "history": "History",
}


def write_report(
    folders: Sequence[Path],
    out: Path,
    baselines: BaselineFigures | None = None,
    figures: Path | None = None,
    published: dict[str, str] | None = None,
    at: Sequence[int] = (10, 20),
) -> None:
    """Writes the page, and with `figures` a folder of each figure as SVG and PDF and each table as LaTeX and Markdown.

    Args:
        folders: one study, or finished run folders; test figures appear where runs were evaluated.
        baselines: further rows for runs, such as popularity.
        published: the papers' name (amazon, gowalla, movielens, yelp) of a data set of ours; a data set that is
            called as the papers call it needs none.
        at: cut-offs.

    Raises:
        HardGNNError: a folder holds no finished run, the papers have no such data set, or the extra is missing.
    """
    try:
        import jinja2
    except ImportError:
        raise HardGNNError("the report needs an extra: pip install 'hardgnn[report]'") from None
    if len(folders) == 1 and Study.is_one(folders[0]):
        title = f"Study {folders[0].resolve().name}"
        sections, cells = _of_study(Study(folders[0]), at, published or {})
    else:
        title = "Runs " + ", ".join(run_name(folder) for folder in folders)
        sections, cells = _of_runs(folders, at, baselines or {}, published or {})
    again = shlex.join(["hardgnn", "report", *map(str, folders), "--out", str(out)])
    sections.append(PageSection("Runs", [f"This page: {again}"], [_runs_table(cells)] if cells else []))
    template = (resources.files("hardgnn.report") / "templates" / "report.html").read_text("utf-8")
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    html = page.from_string(template).render(
        title=title,
        sections=sections,
        leaking=any(cell.leaks for cell in cells),
        records=[Record.of(cell) for cell in cells],
        colours=(ON_LIGHT, ON_DARK),
        pages=PAGES,
    )
    with atomic_path(out) as temporary:
        temporary.write_text(html, "utf-8")
    if figures is not None:
        _write_figures(figures, sections)


def _shown(value: object) -> object:
    """What the page is about to hold, text shown line by line; markup of our own stays."""
    return "\n".join(map(shown, value.split("\n"))) if type(value) is str else value


def _write_figures(folder: Path, sections: list[PageSection]) -> None:
    for section in sections:
        for figure in section.figures:
            figure.save(folder)
        for table in section.tables:
            for ending, text in (("md", table.to_markdown()), ("tex", table.to_latex())):
                with atomic_path(folder / f"{table.stem}.{ending}") as temporary:
                    temporary.write_text(text, "utf-8")


def _of_study(study: Study, at: Sequence[int], published: dict[str, str]) -> tuple[list[PageSection], list[Finished]]:
    """The sections of a study, what its plans were first for, and its runs."""
    sections: list[PageSection] = []
    everything: dict[tuple[str, str], Finished] = {}
    order = [name for name in TITLES if name in study.plans]
    for place, name in enumerate(order):
        plan = study.plans[name]
        cells = finished(study, plan)
        everything |= {(cell.data, cell.variant.name): cell for cell in cells}
        told = summary(study, name, at)
        section = _of_plan(name, plan, told)
        sections.append(section)
        beside = published_section(told, _published_names(plan.data, published))
        if place == 0 and beside is not None:
            sections.append(beside)
        if name == RETRAINED:
            sections.append(_choice_section(study))
    if SWEEP in study.plans and RETRAINED not in study.plans:
        plan = study.plans[SWEEP]
        sections.append(_choice_section(study))
        everything |= {(cell.data, cell.variant.name): cell for cell in finished(study, plan, test=False)}
    if PEERS in study.plans and ranked(study):
        tables = leaderboard_tables(leaderboard(study, at))
        sections.append(PageSection("Leaderboard", [f"Peers: {study.plans[PEERS].command}"], tables))
    if not sections:
        raise HardGNNError(f"{study.folder}: nothing of the study is finished yet; run its command again to go on")
    if order:
        first = study.plans[order[0]]
        sections += _training_sections(order[0], finished(study, first), first.command)
    return sections, list(everything.values())


def _of_plan(name: str, plan: Plan, told: Summary) -> PageSection:
    """The section of what a plan was for, with the figures of its kind."""
    section = figures_section(TITLES[name], told, plan.command)
    if name == "noise":
        tables, section.figures = noise_section_parts(told, plan.command)
        section.tables = [*tables, *section.tables]
    elif name == "sparsity":
        tables, section.figures = groups_parts(told, plan.command)
        section.tables = [*section.tables, *tables]
    elif name == "history":
        windows = {variant.name: flat(variant.config(0))["model"]["window"] for variant in plan.variants}
        section.figures = history_figures(told, windows, plan.command)
    else:
        section.figures = components_figures(told, plan.command)
    return section


def _choice_section(study: Study) -> PageSection:
    plan = study.plans[SWEEP]
    return choice_section(choices(study), plan.more.grid if isinstance(plan.more, Grid) else None, plan.command)


def _of_runs(
    folders: Sequence[Path],
    at: Sequence[int],
    baselines: BaselineFigures,
    published: dict[str, str],
) -> tuple[list[PageSection], list[Finished]]:
    """The sections of some runs, each a variant of its own; the others are compared with the first on their data."""
    names = [run_name(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    cells: list[Finished] = []
    for folder, name in zip(folders, names):
        if wrong := mistaken(folder, "a run folder"):
            raise HardGNNError(wrong)
        result = read_result(folder)
        if not result.get("finished"):
            raise HardGNNError(f"{folder}: no finished run here; train it, or go on with `hardgnn train … --resume`")
        reference = next((cell.variant.name for cell in cells if cell.data == result["dataset"]), "")
        preset = str(check_version(folder).get("preset"))
        variant = Variant(name, preset, reference=reference)
        cells.append(Finished(result["dataset"], variant, [result["seed"]], [folder]))
    tables, comparisons = summarise_cells(cells, at)
    told = Summary("runs", "runs", tables, comparisons, {cell.data: baselines for cell in cells})
    sections = []
    if tables:
        sections.append(figures_section("Test figures", told, ""))
        datasets = list(dict.fromkeys(cell.data for cell in cells))
        beside = published_section(told, _published_names(datasets, published))
        if beside is not None:
            sections.append(beside)
    return sections + _training_sections("runs", cells, ""), cells


def _training_sections(plan: str, cells: Sequence[Finished], command: str) -> list[PageSection]:
    """Curves, and where hard negatives were mined, what they were like."""
    text = ["Mean over seeds at the epochs that all of them reached."]
    found = [PageSection("Training and validation", text, figures=curve_figures(plan, cells, command))]
    hard = hard_figures(plan, cells, command)
    if hard:
        text = [
            "A hard negative that turns out to be the user's validation item is a false negative. It is counted after "
            "the choice and steers nothing."
        ]
        found.append(PageSection("Hard negatives", text, figures=hard))
    return found


def _published_names(data: Sequence[str], asked: dict[str, str]) -> dict[str, str]:
    """The papers' name of each data set that has one.

    Raises:
        HardGNNError: a data set that is not here, or that the papers do not have.
    """
    for ours, theirs in asked.items():
        if ours not in data:
            raise HardGNNError(f"--published {ours}={theirs}: no data set '{ours}' here, {nearest(ours, data)}")
        papers.record(theirs)
    found = dict(asked)
    for name in data:
        try:
            papers.record(name)
        except HardGNNError:
            continue
        found.setdefault(name, name)
    return found


def _runs_table(cells: Sequence[Finished]) -> Table:
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
        rows.append([Cell(text) for text in texts])
    return Table("runs", "Every model of this page, its seeds in order", header, rows, text_columns=2)


@dataclass(frozen=True)
class Record:
    """Settings, data and versions of a variant, for whoever wants to have it again."""

    name: str
    preset: str | None
    seeds: list[int]
    config: str
    manifest: dict[str, Any]
    machine: dict[str, Any]
    packages: dict[str, str]

    @classmethod
    def of(cls, cell: Finished) -> Record:
        """What the folder of its first run tells."""
        environment = check_version(cell.folders[0])
        return cls(
            name=f"{cell.variant.name} on {cell.data}",
            preset=environment["preset"],
            seeds=cell.seeds,
            config=load_config(cell.folders[0]).to_toml(),
            manifest=environment["data"]["manifest"],
            machine={key: environment[key] for key in ("python", "platform", "processor", "cores", "threads")},
            packages=environment["packages"],
        )
