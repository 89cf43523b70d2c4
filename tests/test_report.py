"""The report of a study: every figure and table is there, readable in light and dark, on a phone, without a network."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.dom import minidom

import numpy as np
import polars as pl
import pytest

from browser import CHROMIUM, Browser

pytest.importorskip("matplotlib")

from hardgnn import config as settings
from hardgnn.data.dataset import Dataset
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.comparisons import compare_ranks
from hardgnn.evaluation.protocols import evaluate
from hardgnn.evaluation.quality import baseline
from hardgnn.evaluation.ranks import ranks_path, read_ranks
from hardgnn.experiments.folder import Study
from hardgnn.experiments.results import summary
from hardgnn.experiments.studies import run_study
from hardgnn.experiments.sweep import Retraining, run_sweep
from hardgnn.report.contents import Contents, of_runs, of_study
from hardgnn.report.curves import hard_section
from hardgnn.report.heat import heat_map
from hardgnn.report.looks import ON_DARK, ON_LIGHT, PAGES, Looks
from hardgnn.report.names import file_name
from hardgnn.report.page import write_page, write_report
from hardgnn.report.plots import Series, dots, lines, panels
from hardgnn.report.ranking import within
from hardgnn.report.standing import Standing
from hardgnn.report.tables import Cell, Table
from hardgnn.runs.evaluated import evaluate_run
from hardgnn.runs.train import train

SMALL = ("model.dim=16", "model.heads=2", "model.intervals=3", "train.eval_every=1", "train.epochs=2")
FIGURES = {
    *(f"figure-{metric}-against-hard-{key}" for metric in ("hr10", "ndcg10") for key in ("k", "weight")),
    *("figure-grid-gowalla", "figure-retrained-gowalla", "figure-components-gowalla", "figure-sparsity-gowalla"),
    *("figure-noise-hr10", "figure-noise-ndcg10", "figure-history-hr10", "figure-history-ndcg10"),
    *("figure-curve-validation-retrained-gowalla", "figure-curve-training-retrained-gowalla"),
    *("figure-false-negatives-retrained-gowalla", "figure-ranks-retrained-gowalla", "figure-popularity-bias-gowalla"),
    *("figure-events-gowalla", "figure-activity-gowalla", "figure-popularity-gowalla"),
    *(f"figure-strongest-retrained-gowalla-{protocol}" for protocol in ("full", "sampled-999")),
}
PLANS = ("retrained", "components", "noise", "sparsity", "history")
TABLES = {
    *(f"table-{plan}-gowalla-{protocol}" for plan in PLANS for protocol in ("full", "sampled-999")),
    *(f"table-{plan}-comparisons" for plan in PLANS),
    *("table-choice-gowalla", "table-published-gowalla", "table-runs", "table-noise-relative-gowalla-full"),
    *("table-retrained-strongest-baseline", "table-exposure-gowalla", "table-data"),
    *("table-sparsity-groups-gowalla-full", "table-sparsity-groups-gowalla-sampled-999"),
}


@pytest.fixture(scope="module")
def study(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every study once, on a data set that is called as the papers call one of theirs."""
    base = tmp_path_factory.mktemp("report")
    shutil.copytree(market, base / "gowalla")
    data, out = [base / "gowalla"], base / "s"
    again = Retraining(epochs=2, baseline="selfgnn", with_baselines=True)
    grid = ("hard.k=2,4", "hard.weight=0.1,0.5")
    run_sweep(data, out, grid=grid, shared=SMALL, seeds=(0, 1), retraining=again, workers=0, command="hardgnn sweep x")
    for kind in ("components", "noise", "sparsity", "history"):
        baseline = "selfgnn" if kind == "sparsity" else None
        command = f"hardgnn study {kind} x"
        run_study(kind, data, out, settings=SMALL, seeds=(0, 1), baseline=baseline, workers=0, command=command)
    return out


@pytest.fixture(scope="module")
def contents(study: Path) -> Contents:
    return of_study(Study(study), (10, 20), {})


@pytest.fixture(scope="module")
def page(study: Path, contents: Contents) -> Path:
    write_page(contents, study.parent / "report.html", "hardgnn report s", study.parent / "figures")
    return study.parent / "report.html"


class _Reader(HTMLParser):
    """Collects ids, addresses and labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.addresses.append(str(value))
            elif name == "aria-label":
                self.labels.append(str(value))
        assert tag not in ("script", "link", "iframe", "img")


def test_the_page_has_every_figure_and_table_and_asks_nothing_from_the_network(page: Path) -> None:
    text = page.read_text("utf-8")
    reader = _Reader(text)
    assert set(reader.ids) >= FIGURES | TABLES
    assert all(address.startswith("#") for address in reader.addresses)
    assert not re.search(r"@import|url\((?!#)", text)
    # Markers and clips are named by their content, so equal names are equal shapes.
    repeated = {one for one in reader.ids if reader.ids.count(one) > 1}
    assert [one for one in repeated if not re.fullmatch(r"[mpC][0-9a-f_]+", one)] == []
    figures = [one for one in reader.labels if one not in ("Sections", "Last interactions, newest first")]
    assert len(figures) >= len(FIGURES)
    assert all(len(label) > 40 and re.search(r"\d", label) for label in figures)
    for kind in ("sweep", "study components", "study noise", "study sparsity", "study history"):
        assert f"hardgnn {kind} x" in text


def test_the_page_tells_the_figures_of_the_study_and_the_number_of_comparisons(page: Path, study: Path) -> None:
    text = page.read_text("utf-8")
    document = summary(Study(study), "retrained")
    for table in document.tables:
        for row in table.rows:
            for figure in row.metrics.values():
                assert f"{figure.mean:.4f} ± {figure.sd:.4f}" in text
    for figures in document.baselines["gowalla"].values():
        assert f"{figures['full']['ndcg@10']:.4f}" in text
    for plan in ("components", "noise", "sparsity", "history"):
        count = len(summary(Study(study), plan).comparisons)
        assert f"all {count} comparisons made" in text
    assert "0.637" in text  # HardGNN's published HR@10 on Gowalla stands beside ours


def test_no_label_of_a_figure_is_cut(contents: Contents) -> None:
    for figure in (figure for section in contents.sections for figure in section.figures):
        figure.canvas.draw_without_rendering()
        box = figure.canvas.get_tightbbox()
        width, height = figure.canvas.get_size_inches()
        assert box.x0 > -0.05, figure.name
        assert box.y0 > -0.05, figure.name
        assert box.x1 < width + 0.05, figure.name
        assert box.y1 < height + 0.05, figure.name


def test_figures_and_tables_come_as_files_for_papers(page: Path) -> None:
    folder = page.parent / "figures"
    for name in FIGURES:
        stem = name.removeprefix("figure-")
        assert (folder / f"{stem}.svg").read_text("utf-8").startswith("<?xml")
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    for name in TABLES:
        stem = name.removeprefix("table-")
        markdown = [row for row in (folder / f"{stem}.md").read_text("utf-8").splitlines() if row.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in markdown}) == 1
        latex = (folder / f"{stem}.tex").read_text("utf-8")
        assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 1


def test_signs_are_escaped_in_latex_and_markdown() -> None:
    table = Table("t", "50 % of a_b", ["a|b", "x"], [[Cell("k=3 & λ"), Cell("0.5 ± 0.1", True, "*")]], ["p < 0.05"])
    assert r"k=3 \& $\lambda$ & \textbf{0.5 $\pm$ 0.1}\textsuperscript{*} \\" in table.to_latex()
    assert r"50 \% of a\_b" in table.to_latex()
    assert r"| k=3 &amp; λ | **0.5 ± 0.1**\* |" in table.to_markdown()
    assert r"**50 % of a\_b**" in table.to_markdown()
    assert r"a\|b" in table.to_markdown()


@pytest.mark.parametrize(
    ("text", "markdown", "latex"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;", "$<$img src=x onerror=alert(1)$>$"),
        ("$x$", r"\$x\$", r"\$x\$"),
        ("a_b^c$", r"a\_b^c\$", r"a\_b\textasciicircum{}c\$"),
        ("[a](javascript:b)", r"\[a\](javascript:b)", "{}[a](javascript:b)"),
        ("*x*`y`~z~", r"\*x\*\`y\`\~z\~", r"{}*x*`y`\textasciitilde{}z\textasciitilde{}"),
        ("a\nb\\c", r"a\\nb\\c", r"a\textbackslash{}nb\textbackslash{}c"),
        ("&lt;", "&amp;lt;", r"\&lt;"),
        ("\udcff\u202e", r"\\xff\\u202e", r"\textbackslash{}xff\textbackslash{}u202e"),
    ],
)
def test_a_name_is_never_markup(text: str, markdown: str, latex: str) -> None:
    table = Table("t", text, ["model", text], [[Cell(text), Cell("1")]], [text])
    told = table.to_markdown()
    assert told.startswith(f"**{markdown}**\n")
    assert f"| {markdown} | 1 |\n" in told
    assert f"\n{latex} & 1 \\\\\n" in table.to_latex()
    (table.to_markdown() + table.to_latex()).encode("utf-8")


@pytest.mark.parametrize("start", ["# ", "- ", "+ ", "1. ", "12) ", "= ", "    ", "> "])
def test_a_name_does_not_begin_a_block_of_markdown(start: str) -> None:
    line = Table("t", "", ["model"], [], [f"{start}model"]).to_markdown().splitlines()[-2]
    assert not re.match(r"[#+=>-]|\d+[.)]|\s", line)
    assert line.endswith("model")


def test_names_of_files_stay_in_their_folder_and_apart() -> None:
    assert file_name("runs-日本_a.b+c=d,e@f-full") == "runs-日本_a.b+c=d,e@f-full"
    odd = ["a/b", "a b", "a\nb", "../../a-b", "-a", ".a", "", "x" * 300, "x" * 301, "é" * 300, "$x$", "\udcff", "a:b"]
    names = [file_name(one) for one in odd]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w+=,@-][\w.+=,@-]*", name) and len(name.encode()) < 200 for name in names)


def test_figures_show_names_as_they_are() -> None:
    names = [
        "$x$",
        "a_b^c$",
        "_under",
        "<img onerror=a>",
        "l\nb\x1b[31m",
        "\udcff",
        "x" * 200,
        '#101112 id="a_1" \\frac',
    ]
    series = [Series(one, [0.001, 0.01, 0.1], [n, n, n + 0.1]) for n, one in enumerate(names)]
    figures = [
        lines("$n$/..", "T", "weight $w$", "ndcg@10", series, log=True, connect=False),
        lines("c", "T", "x", "y", [Series("s", [0, 1], [0.5, 0.6])], categories=names[:2]),
        dots("d", "T", "x", [(one, 0.1, None, None) for one in names]),
        heat_map("h", "T", "x", "y", names[:2], names[2:4], np.eye(2)),
        panels("p", "T", [("kind", names, range(len(names)))]),
    ]
    for figure in figures:
        document = minidom.parseString(f"<a>{figure.inline()}</a>".encode())
        texts = {"".join(child.data for child in one.childNodes) for one in document.getElementsByTagName("text")}
        assert "$x$" in texts
        assert "a_b^c$" in texts
        assert not document.getElementsByTagName("img")
        if len(texts) > 12:
            wanted = {" _under", "<img onerror=a>", r"l\nb\x1b[31m", r"\xff", f"{'x' * 17}…{'x' * 16}", names[-1]}
            assert texts >= wanted
        assert not [one for one in texts if "mathdefault" in one]
        assert figure.stem == file_name(figure.name)


def test_every_colour_stands_out_from_its_page() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for colours, page in ((ON_LIGHT, PAGES[0]), (ON_DARK, PAGES[1])):
        for colour in colours:
            light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, colour  # WCAG 2.2, 1.4.11


def test_odd_figures_are_drawn() -> None:
    one = lines("a", "A", "x", "y", [Series("s", [1], [0.5], [0.4], [0.6], 0), Series("t", [1], [0.5])], log=True)
    assert "0.5000 at 1" in one.alt
    many = [Series(f"a variant with a long name {n}", [1, 2], [0.1, 0.2], [0, 0.1], [0.2, 0.3]) for n in range(9)]
    crowded = lines("d", "D", "epoch", "share of hard negatives", many, band=True)
    crowded.canvas.draw_without_rendering()
    assert crowded.canvas.axes[0].get_window_extent().height > 0.5 * 3.4 * crowded.canvas.dpi
    flat = heat_map("b", "B", "x", "y", ["1"], ["1", "2"], np.array([[0.5], [np.nan]]), chosen=(0, 0))
    assert "0.5000" in flat.inline()
    words = lines("c", "C", "x", "y", [Series("s", [0, 1], [0.5, 0.6])], categories=["full", "none"])
    assert "at none" in words.alt


def test_a_report_of_plain_runs(market: Path, tmp_path: Path) -> None:
    for name in ("selfgnn", "hardgnn", "recencyknn"):
        config = settings.resolve(name, settings=SMALL if name != "recencyknn" else ())
        train(Dataset.load(market), config, tmp_path / name, preset=name, data_path=market)
    write_report([tmp_path / "hardgnn"], tmp_path / "early.html")
    early = (tmp_path / "early.html").read_text("utf-8")
    assert "table-runs-market" not in early
    assert "hardgnn was never evaluated on the test part" in early
    runs = [tmp_path / name for name in ("selfgnn", "hardgnn", "recencyknn")]
    for run in runs:
        evaluate_run(run)
    popular = evaluate(baseline("popularity", Dataset.load(market)), Dataset.load(market), "test")
    best = popular[1].with_columns(rank=pl.lit(0, dtype=pl.Int32))  # as strong as can be
    standing = Standing("market", "full", "popularity", True, (popular[1],))
    assert within(standing, np.array([10, 60])).tolist() == pytest.approx([popular[0].metrics["hr@10"], 1.0])
    write_report(runs, tmp_path / "r.html", {"popularity": {"full": best}})
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "<strong>1.0000</strong>" in text
    assert "hardgnn − selfgnn" in text
    assert "One seed, so no spread can be told" in text
    assert "the baseline popularity leads with ndcg@10 1.0000" in text
    assert text.count('id="table-example-market-') == 5
    (table,) = [
        one for one in of_runs(runs, (10, 20), {}, {}).sections[0].tables if one.name == "runs-strongest-baseline"
    ]
    ranks = {run.name: read_ranks(ranks_path(run, "test", "full")) for run in runs}
    for row in table.rows:
        assert row[5].text == "recencyknn"  # the only one that needs no gradient
        (same,) = compare_ranks(ranks[row[0].text], ranks["recencyknn"], [10], ["ndcg"])
        assert row[1].text == f"{same.difference:+.4f}"
        assert row[1].interval == f"{same.low:+.4f} to {same.high:+.4f}"
    with pytest.raises(HardGNNError, match="no data set 'x' here"):
        write_report([tmp_path / "selfgnn"], tmp_path / "n.html", published={"x": "gowalla"})
    with pytest.raises(HardGNNError, match="did you mean 'gowalla'"):
        write_report([tmp_path / "selfgnn"], tmp_path / "n.html", published={"market": "gowala"})
    with pytest.raises(HardGNNError, match="no finished run"):
        write_report([tmp_path], tmp_path / "n.html")
    assert not (tmp_path / "n.html").exists()
    write_report(runs[:2], tmp_path / "p.html", published={"market": "beauty"})
    assert "market is not the published log (200 users instead of 22,363" in (tmp_path / "p.html").read_text("utf-8")


PROBE = """(() => {
  const box = one => one.getBoundingClientRect();
  const across = (a, b) => a.left < b.left - 2 || a.right > b.right + 2;
  const outside = (a, b) => across(a, b) || a.top < b.top - 2 || a.bottom > b.bottom + 2;
  const size = text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
  const figures = [...document.querySelectorAll("figure svg")].map(svg => [svg, box(svg)]);
  const texts = figures.flatMap(([svg, frame]) => [...svg.querySelectorAll("text")].map(text => [text, frame]));
  const wide = [...document.querySelectorAll(".wide")].filter(one => one.scrollWidth > one.clientWidth + 1);
  const inks = [...document.querySelectorAll("tbody th .mark path")].map(path =>
    [path.closest("th").textContent.replace(" †", ""), path.getAttribute("fill") + path.getAttribute("d")].join("|"));
  return {
    page: document.documentElement.scrollWidth, figures: figures.length,
    empty: figures.filter(([svg, frame]) => frame.width < 200 || frame.height < 40).length,
    cut: texts.filter(([text, frame]) => outside(box(text), frame)).map(([text]) => text.textContent),
    small: texts.filter(([text]) => size(text) > 0 && size(text) < 8).map(([text]) => text.textContent),
    fonts: [...new Set(texts.map(([text]) => getComputedStyle(text).fontFamily))],
    font: getComputedStyle(document.body).fontFamily,
    inks: [...new Set(inks)],
    // Of a table that scrolls: no column is cut at its right edge, and something says that there is more.
    halved: wide.flatMap(one => [...one.querySelectorAll("thead th:not(:first-child)")].filter(cell =>
      box(cell).left < box(one).left + one.clientWidth - 2 && box(cell).right > box(one).left + one.clientWidth + 2)
      .map(cell => one.innerText.slice(0, 60))),
    spilt: [...document.querySelectorAll(".many td, .many thead th")]
      .filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent),
    untold: wide.filter(one => !one.previousElementSibling.matches(".cue") || !box(one.previousElementSibling).height)
      .map(one => one.getAttribute("aria-labelledby")),
    background: getComputedStyle(document.body).backgroundColor,
  };
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_a_browser_shows_it_whole(page: Path, tmp_path: Path) -> None:
    with Browser(390) as browser:
        browser.open(page.as_uri())
        browser.wait("document.readyState == 'complete'")
        for width, dark in ((390, False), (390, True), (1400, False), (1400, True)):
            browser.look(width, dark)
            seen = browser.value(PROBE)
            assert seen["figures"] >= len(FIGURES)
            assert (seen["empty"], seen["cut"], seen["small"], seen["spilt"]) == (0, [], [], [])
            assert seen["page"] <= width  # tables scroll inside the page
            assert seen["fonts"] == [seen["font"]]
            assert (int(re.findall(r"\d+", seen["background"])[0]) > 128) != dark
            names, marks = zip(*(one.split("|") for one in seen["inks"]))
            assert len(set(names)) == len(set(marks)) == len(names) > 5  # one colour and marker per model, everywhere
            if width == 390:
                assert (seen["halved"], seen["untold"]) == ([], [])
            browser.picture(tmp_path / f"report-{width}-{'dark' if dark else 'light'}.png")
        assert browser.problems == []
        assert browser.asked == [page.as_uri()]


def test_what_stays_as_it_was_is_told_and_not_drawn() -> None:
    def cell(name: str, *temperatures: float) -> Any:
        found = [{"epoch": epoch, "temperature": value} for epoch, value in enumerate(temperatures, 1)]
        return SimpleNamespace(data="a", variant=SimpleNamespace(name=name), lines=[found], results=[{}])

    told, figures = hard_section("p", [cell("best", 0.1, 0.1), cell("paper", 0.2, 0.1)], Looks(), "")
    assert told == ["a: temperature τ 0.1 throughout (best)."]
    assert [figure.alt.count("best") for figure in figures] == [0]
    assert hard_section("p", [cell("best", 0.1, 0.1)], Looks(), "")[1] == []
