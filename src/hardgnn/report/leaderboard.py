"""The leaderboard of a study: our models and the peers side by side, each compared with one reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardgnn.config import resolve
from hardgnn.data.dataset import MANIFEST
from hardgnn.errors import HardGNNError, nearest
from hardgnn.evaluation.protocols import FULL, checked_protocol
from hardgnn.evaluation.ranks import ranks_path
from hardgnn.evaluation.stats import correct
from hardgnn.experiments.peers.tuning import CHOSEN, PEER_BY_NAME, PEERS, fitted_folder, peer_folder
from hardgnn.experiments.plan import Study, Variant
from hardgnn.experiments.results import Finished, by_metric, compared, finished
from hardgnn.metrics import JUDGED, split, summarise
from hardgnn.report.tables import Cell, Table, markdown_line, markdown_text, p_value, spread
from hardgnn.runs.evaluated import evaluate_run, run_leaks
from hardgnn.runs.folder import CONFIG, ENVIRONMENT, check_version, load_config, load_data, run_name
from hardgnn.storage.records import read_json


def places(paths: Sequence[Path], out: Path | None) -> tuple[list[Path], list[Path], Path]:
    """What `compare --peers` was given: the prepared folders (the runs' own among them), the runs, the study folder.

    Raises:
        HardGNNError: a path that is none of these, a run whose data is not there, or no place to keep the work.
    """
    if len(paths) == 1 and Study.is_one(paths[0]):
        if out not in (None, paths[0]):
            raise HardGNNError("--out: a study keeps the work of its peers itself")
        return list(Study(paths[0]).paths.values()), [], paths[0]
    if out is None:
        raise HardGNNError("--peers needs --out STUDY, the folder that keeps their trials and ranks")
    data, runs = [], []
    for path in paths:
        if (path / CONFIG).exists():
            load_data(path)  # tells what is wrong with it
            runs.append(path)
            data.append(Path(check_version(path)["data"]["path"]))
        elif (path / MANIFEST).exists():
            data.append(path)
        else:
            raise HardGNNError(f"{path}: neither a prepared folder nor a run folder")
    return list({path.resolve(): path for path in data}.values()), runs, out


def leaderboard(
    study: Study, at: Sequence[int] = (10, 20), protocol: str = FULL, reference: str | None = None
) -> dict[str, Any]:
    """All models of a study whose test part is ranked, data set by data set.

    Args:
        study: holds peers, runs of our models, or both.
        at: cut-offs; models are compared by NDCG at the first.
        protocol: whose figures are shown.
        reference: the model that all others are compared with. By default the first of ours, and where there is
            none the first peer.

    Returns:
        study, protocol, reference, metric and tables: per data set data, users and rows (model, peer, deterministic,
        seeds, metrics as `by_metric` gives them, training_seconds as mean over runs, parameters, setting, tuning of a
        peer, leaks, comparison with the reference or None), the best first; and comparisons, the rows of all of them,
        p-values Holm-corrected over these.

    Raises:
        HardGNNError: an unknown protocol or reference, or nothing is ranked yet.
    """
    checked_protocol(protocol)
    cells = ranked(study, protocol)
    if not cells:
        raise HardGNNError(f"{study.folder}: nothing is ranked under {protocol} yet; run its command again to go on")
    names = list(dict.fromkeys(cell.variant.name for cell in cells))
    if reference is not None and reference not in names:
        raise HardGNNError(f"reference '{reference}': no such model in {study.folder}; {nearest(reference, names)}")
    reference = reference or names[0]
    metric = f"{JUDGED}@{at[0]}"
    tables: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = {cell.variant.name: cell for cell in cells if cell.data == data}
        frames = {name: cell.ranks(protocol) for name, cell in mine.items()}
        rows = [_row(study, cell, frames[name], at) for name, cell in mine.items()]
        rows.sort(key=lambda row: -row["metrics"][metric]["mean"])
        tables.append({"data": data, "users": frames[rows[0]["model"]][0].height, "rows": rows})
        if reference in mine:
            for name, cell in mine.items():
                if name != reference:
                    found = compared(mine[reference], cell, frames, protocol, at)
                    comparisons += [row for row in found if row["metric"] == metric]
    comparisons = correct(comparisons)
    by_name = {(row["data"], row["b"]): row for row in comparisons}
    for table in tables:
        for row in table["rows"]:
            row["comparison"] = by_name.get((table["data"], row["model"]))
    return {
        "study": str(study.folder),
        "protocol": protocol,
        "reference": reference,
        "metric": metric,
        "tables": tables,
        "comparisons": comparisons,
    }


def ranked(study: Study, protocol: str = FULL) -> list[Finished]:
    """The models of a study whose test part is ranked, ours first."""
    return [*_our_cells(study, protocol), *_peer_cells(study, protocol)]


def _our_cells(study: Study, protocol: str) -> list[Finished]:
    """Our models: of every plan that ranks the test part, and the runs that the peers were asked to stand beside."""
    found: dict[tuple[str, str], Finished] = {}
    beside = study.plans[PEERS].more["runs"] if PEERS in study.plans else []
    for folder in map(Path, beside):
        if not ranks_path(folder, "test", protocol).exists():
            evaluate_run(folder, "test", protocol)
        record = check_version(folder)
        data = Path(record["data"]["path"]).name
        variant = Variant(run_name(folder), str(record.get("preset")))
        key = (data, variant.name)
        if key in found:
            raise HardGNNError(f"{folder}: two runs on {data} are called '{variant.name}'; rename one folder")
        found[key] = Finished(data, variant, [load_config(folder).run.seed], [folder])
    for plan in study.plans.values():
        if plan.test:
            for cell in finished(study, plan):
                if cell.is_ranked(protocol):
                    found.setdefault((cell.data, cell.variant.name), cell)
    return list(found.values())


def _peer_cells(study: Study, protocol: str) -> list[Finished]:
    """The peers' chosen settings with the seeds that are ranked."""
    if PEERS not in study.plans:
        return []
    plan, found = study.plans[PEERS], []
    for data in plan.data:
        for name in plan.more["peers"]:
            folder = peer_folder(study, data, name)
            if not (folder / CHOSEN).exists():
                continue
            setting = read_json(folder / CHOSEN)["setting"]
            prefix = fitted_folder(folder, setting, 0).name.rpartition("-")[0]
            ranked = {int(place.name.rpartition("-")[2]): place for place in folder.glob(f"{prefix}-*")}
            places = [place for _, place in sorted(ranked.items()) if ranks_path(place, "test", protocol).exists()]
            if places:
                seeds = [int(place.name.rpartition("-")[2]) for place in places]
                found.append(Finished(data, Variant(name, ""), seeds, places, PEER_BY_NAME[name].deterministic))
    return found


def _row(study: Study, cell: Finished, frames: list[Any], at: Sequence[int]) -> dict[str, Any]:
    is_peer = not cell.variant.preset
    chosen = read_json(peer_folder(study, cell.data, cell.variant.name) / CHOSEN) if is_peer else {}
    seconds = [result.get("training_seconds") for result in cell.results]
    timed = [one for one in seconds if one is not None]
    return {
        "model": cell.variant.name,
        "peer": is_peer,
        "deterministic": cell.deterministic,
        "seeds": cell.seeds,
        "metrics": by_metric([summarise(frame["rank"].to_numpy(), at) for frame in frames]),
        "training_seconds": sum(timed) / len(timed) if timed else None,
        "parameters": cell.results[0].get("parameters"),
        "setting": chosen["setting"] if is_peer else _our_setting(cell),
        "tuning": chosen.get("tuning"),
        "valid": chosen.get("valid"),
        "trials": len(chosen["points"]) if is_peer else None,
        "tuning_seconds": chosen.get("seconds"),
        "leaks": [] if is_peer else run_leaks(cell.folders[0]),
    }


def _our_setting(cell: Finished) -> list[str]:
    """The preset of our model and what the run's config has otherwise, without the seed."""
    preset = cell.variant.preset
    plain = resolve(None if preset == "None" else preset).model_dump()
    own = load_config(cell.folders[0]).model_dump()
    changed = [
        f"{section}.{key}={value}"
        for section, fields in own.items()
        for key, value in fields.items()
        if (section, key) != ("run", "seed") and value != plain[section][key]
    ]
    return [*([] if preset == "None" else [f"preset {preset}"]), *changed] or ["the defaults"]


def leaderboard_tables(document: dict[str, Any]) -> list[Table]:
    """One table per data set, the best of each column marked, with the settings as notes."""
    metrics = list(document["tables"][0]["rows"][0]["metrics"])
    compared_by, _ = split(document["metric"])
    metrics.sort(key=lambda name: (split(name)[1], split(name)[0] != compared_by))
    count = len(document["comparisons"])
    found = []
    for table in document["tables"]:
        best = {metric: max(row["metrics"][metric]["mean"] for row in table["rows"]) for metric in metrics}
        rows = [
            [
                Cell(row["model"] + (" †" if row["leaks"] else "")),
                Cell("any" if row["deterministic"] else str(len(row["seeds"]))),
                *(Cell(spread(row["metrics"][m]), row["metrics"][m]["mean"] == best[m]) for m in metrics),
                *_compared_cells(row, document["reference"]),
                Cell("–" if row["training_seconds"] is None else f"{row['training_seconds']:,.0f}"),
                Cell("–" if row["parameters"] is None else f"{row['parameters']:,}"),
            ]
            for row in table["rows"]
        ]
        header = ["model", "seeds", *map(_title, metrics), f"{document['reference']} − it"]
        found.append(
            Table(
                f"leaderboard-{table['data']}",
                f"{table['data']}: test, {document['protocol']}, {table['users']:,} users, mean ± sd over seeds",
                [*header, "p, Wilcoxon", "p, permutation", "p, seeds", "s to train", "parameters"],
                rows,
                [
                    f"The difference of {document['reference']} from each model and its p-values are of "
                    f"{_title(document['metric'])}: Wilcoxon's signed-rank test and the paired permutation test of the "
                    f"mean, both over users (metrics averaged over seeds), and the paired t-test over seeds; each "
                    f"Holm-corrected over all {count} comparisons.",
                    "Seconds to train one model: processor time for peers, the clock for ours.",
                    *(f"† {row['model']} LEAKS: {'; '.join(row['leaks'])}" for row in table["rows"] if row["leaks"]),
                    *(f"{row['model']}: {_setting(row)}" for row in table["rows"]),
                ],
            )
        )
    return found


def _compared_cells(row: dict[str, Any], reference: str) -> list[Cell]:
    if row["comparison"] is None:
        return [Cell("reference" if row["model"] == reference else "–"), *[Cell("–")] * 3]
    made = row["comparison"]
    return [
        Cell(f"{made['difference']:+.4f}"),
        Cell(p_value(made["wilcoxon_p_holm"])),
        Cell(p_value(made["permutation_p_holm"])),
        Cell(p_value(made["seed_p_holm"])),
    ]


def _setting(row: dict[str, Any]) -> str:
    """The setting in words, and how it was found."""
    if not row["peer"]:
        return ", ".join(row["setting"])
    words = ", ".join(f"{key} {_value(value)}" for key, value in row["setting"].items()) or "nothing to set"
    return f"{words}; best of {row['trials']} on validation ({row['valid']:.4f})"


def _value(value: Any) -> str:
    return "all" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _title(metric: str) -> str:
    return metric.upper()


def markdown(document: dict[str, Any]) -> str:
    """The leaderboard as a Markdown page."""
    peers = [row for table in document["tables"] for row in table["rows"] if row["peer"]]
    versions = {
        name: version
        for table in document["tables"]
        for row in table["rows"]
        if row["peer"]
        for name, version in read_json(Path(document["study"]) / PEERS / table["data"] / row["model"] / ENVIRONMENT)[
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
    for table, shown in zip(document["tables"], leaderboard_tables(document)):
        lines += ["", f"## {markdown_line(table['data'])}", "", _as_list(shown)]
    return "\n".join(lines).rstrip() + "\n"


def _as_list(table: Table) -> str:
    """The table as Markdown, its notes as a list below."""
    text = Table(table.name, table.caption, table.header, table.rows, text_columns=table.text_columns).to_markdown()
    return text.rstrip() + "\n\n" + "\n".join(f"- {markdown_line(note)}" for note in table.notes)
