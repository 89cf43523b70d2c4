"""One self-contained HTML page about some runs: metrics, curves, settings; it asks nothing from the network."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError
from hardgnn.files import atomic_path, read_json
from hardgnn.run import CONFIG, ENVIRONMENT, METRICS, RESULT, run_name

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: safe for the colour-blind


def write_report(
    folders: Sequence[Path], out: Path, floors: dict[str, dict[str, dict[str, float]]] | None = None
) -> None:
    """Writes the page.

    Args:
        folders: finished run folders; test metrics appear where `hardgnn evaluate` has put them.
        floors: further rows, model -> protocol -> metrics, such as popularity.

    Raises:
        HardGNNError: a folder holds no finished run, or the report extra is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise HardGNNError("the report needs an extra: pip install 'hardgnn[report]'") from None
    runs = [_read(folder) for folder in folders]
    protocols = sorted({protocol for run in runs for protocol in run["result"].get("test", {})})
    tables = [_table(protocol, runs, floors or {}) for protocol in protocols]
    template = (resources.files("hardgnn") / "templates" / "report.html").read_text("utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(template)
    html = page.render(runs=runs, tables=tables, figures=_figures(runs), datasets=sorted({r["dataset"] for r in runs}))
    with atomic_path(out) as temporary:
        temporary.write_text(html, "utf-8")


def _read(folder: Path) -> dict[str, Any]:
    if not (folder / RESULT).exists():
        raise HardGNNError(f"{folder}: no finished run here, {RESULT} is missing")
    environment = read_json(folder / ENVIRONMENT)
    lines = [json.loads(line) for line in (folder / METRICS).read_text("utf-8").splitlines()]
    result = read_json(folder / RESULT)
    manifest = environment["data"]["manifest"]
    return {
        "name": run_name(folder),
        "dataset": result["dataset"],
        "result": result,
        "lines": lines,
        "config": (folder / CONFIG).read_text("utf-8"),
        "environment": environment,
        "manifest": manifest,
    }


def _table(protocol: str, runs: list[dict[str, Any]], floors: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"model": name, "metrics": by[protocol]} for name, by in floors.items() if protocol in by
    ]
    rows += [
        {"model": run["name"], "metrics": run["result"]["test"][protocol]}
        for run in runs
        if protocol in run["result"].get("test", {})
    ]
    metrics = list(rows[0]["metrics"])
    best = {name: max(row["metrics"].get(name, 0.0) for row in rows) for name in metrics}
    return {"protocol": protocol, "metrics": metrics, "rows": rows, "best": best}


def _figures(runs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Validation and training curves as inline SVG, with a text that says what they show."""
    metric = runs[0]["result"]["chosen_by"].split(" ")[0]
    curves = [
        ("validation", metric, [[(x["epoch"], x["valid"][metric]) for x in r["lines"] if "valid" in x] for r in runs]),
        ("training", "recommendation loss", [[(x["epoch"], x["loss_rec"]) for x in r["lines"]] for r in runs]),
    ]
    figures = []
    for title, axis, series in curves:
        ends = "; ".join(
            f"{run['name']} from {points[0][1]:.4f} to {points[-1][1]:.4f}"
            for run, points in zip(runs, series)
            if points
        )
        svg = _plot(axis, [run["name"] for run in runs], series)
        figures.append({"title": f"{title}: {axis} by epoch", "alt": f"{axis} by epoch: {ends}", "svg": svg})
    return figures


def _plot(axis: str, names: list[str], series: list[list[tuple[int, float]]]) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise HardGNNError("the report needs an extra: pip install 'hardgnn[report]'") from None
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hardgnn", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(zip(names, series)):
            style = ("-", "--", "-.", ":")[number % 4]
            axes.plot(*zip(*points), style, color=COLOURS[number % len(COLOURS)], label=name, linewidth=2)
        axes.set_xlabel("epoch")
        axes.set_ylabel(axis)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
