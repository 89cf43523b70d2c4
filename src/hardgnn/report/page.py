"""One self-contained HTML page about a study or some runs; it asks nothing from the network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardgnn.errors import HardGNNError, shown
from hardgnn.experiments.finished import Finished
from hardgnn.experiments.folder import Study
from hardgnn.report.contents import Contents, of_runs, of_study, runs_table
from hardgnn.report.looks import ON_DARK, ON_LIGHT, PAGES
from hardgnn.report.sections import PageSection
from hardgnn.report.standing import BaselineRanks
from hardgnn.runs.folder import check_version, load_config
from hardgnn.storage.files import atomic_path

if TYPE_CHECKING:
    from markupsafe import Markup


def write_report(
    folders: Sequence[Path],
    out: Path,
    baselines: BaselineRanks | None = None,
    figures: Path | None = None,
    published: dict[str, str] | None = None,
    at: Sequence[int] = (10, 20),
) -> None:
    """Writes the page, and with `figures` a folder of each figure as SVG and PDF and each table as LaTeX and Markdown.

    Args:
        folders: one study, or finished run folders; test figures appear where runs were evaluated.
        baselines: further rows for runs, such as popularity: test ranks by name and protocol.
        published: the papers' name (amazon, gowalla, movielens, yelp) of a data set of ours; a data set that is
            called as the papers call it needs none.
        at: cut-offs.

    Raises:
        HardGNNError: a folder holds no finished run, the papers have no such data set, or the extra is missing.
    """
    if len(folders) == 1 and Study.is_one(folders[0]):
        contents = of_study(Study(folders[0]), at, published or {})
    else:
        contents = of_runs(folders, at, baselines or {}, published or {})
    write_page(contents, out, shlex.join(["hardgnn", "report", *map(str, folders), "--out", str(out)]), figures)


def write_page(contents: Contents, out: Path, command: str, figures: Path | None = None) -> None:
    """Writes what `write_report` found; `command` makes it again.

    Raises:
        HardGNNError: the extra is missing.
    """
    try:
        import jinja2
    except ImportError:
        raise HardGNNError("the report needs an extra: pip install 'hardgnn[report]'") from None
    cells = contents.cells
    tables = [runs_table(cells, contents.looks)] if cells else []
    sections = [*contents.sections, PageSection("Runs", [f"This page: {command}"], tables)]
    page = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
        loader=jinja2.PackageLoader("hardgnn.report"),
    )
    page.filters["breakable"] = _breakable
    html = page.get_template("report.html").render(
        title=contents.title,
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


def _breakable(name: str) -> Markup:
    """The name of a metric, which a narrow column breaks before its cut-off and never inside."""
    from markupsafe import Markup, escape

    return Markup(str(escape(shown(name))).replace("@", "<wbr>@").replace("_", "_<wbr>"))


def _write_figures(folder: Path, sections: list[PageSection]) -> None:
    for section in sections:
        for figure in section.figures:
            figure.save(folder)
        for table in section.tables:
            for ending, text in (("md", table.to_markdown()), ("tex", table.to_latex())):
                with atomic_path(folder / f"{table.stem}.{ending}") as temporary:
                    temporary.write_text(text, "utf-8")


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
