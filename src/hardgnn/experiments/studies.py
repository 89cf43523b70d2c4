"""The named studies: the papers' questions as small sets of config differences over one machinery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardgnn.errors import HardGNNError, nearest
from hardgnn.experiments.folder import Study, opened
from hardgnn.experiments.plan import Plan, Variant
from hardgnn.storage.texts import read_toml

# Ablations as differences of config. In HardGNN hard negatives serve InfoNCE alone, so without InfoNCE nothing is left
# of them and the model is SelfGNN; without hard negatives InfoNCE contrasts with random ones of the batch instead.
COMPONENTS: dict[str, list[str]] = {
    "without-graphs": ["model.layers=0"],
    "without-interval-encoder": ["model.interval_encoder=sum"],
    "without-sequence-encoder": ["encoder.kind=none"],
    "without-self-augmented-loss": ["ssl.weight=0"],
    "without-hard-negatives": ["hard.used_in=none"],
    "without-infonce": ["hard.weight=0"],
}
NOISE_PERCENT = (5, 10, 15, 20, 25)
HISTORY: dict[str, list[str]] = {"window-50": ["model.window=50"], "window-200": ["model.window=200"]}
STUDIES = ("components", "noise", "sparsity", "history", "variants")


def variants_of(
    kind: str, preset: str, shared: Sequence[str] = (), baseline: str | None = None, file: Path | None = None
) -> tuple[Variant, ...]:
    """The variants of a named study.

    Args:
        kind: one of `STUDIES`.
        preset: the model that is studied.
        shared: settings of all variants, over the preset.
        baseline: a second preset that noise, sparsity and history are asked of too.
        file: a TOML file of variants, for `variants`.

    Raises:
        HardGNNError: an unknown study, or a file where none belongs or the other way about.
    """
    if kind not in STUDIES:
        raise HardGNNError(f"unknown study '{kind}': {nearest(kind, STUDIES)}")
    if (kind == "variants") != (file is not None):
        raise HardGNNError("hardgnn study variants needs --variants FILE.toml, the other studies take none")
    settings = tuple(shared)
    if file is not None:
        return variants_from(file, settings)
    if kind == "components":
        if baseline is not None:
            raise HardGNNError("the components are those of one model: --baseline does not go with them")
        ablated = [Variant(name, preset, (*settings, *change), reference=preset) for name, change in COMPONENTS.items()]
        return (Variant(preset, preset, settings), *ablated)
    models = [preset] if baseline in (None, preset) else [preset, str(baseline)]
    found: list[Variant] = []
    for model in models:
        if kind == "noise":
            found.append(Variant(model, model, settings))
            found += [
                Variant(f"{model}-noise-{percent:02}", model, settings, noise=percent / 100, reference=model)
                for percent in NOISE_PERCENT
            ]
        elif kind == "history":
            names = [f"{model}-{name}" for name in HISTORY]
            found += [
                Variant(name, model, (*settings, *change), reference="" if name == names[-1] else names[-1])
                for name, change in zip(names, HISTORY.values())
            ]
        else:
            found.append(Variant(model, model, settings, reference="" if model == models[-1] else models[-1]))
    return tuple(found)


def variants_from(file: Path, shared: tuple[str, ...] = ()) -> tuple[Variant, ...]:
    """Variants that a user names in a TOML file: `reference = "a"`, then `[variants.a]` with `preset` and `set`.

    Raises:
        HardGNNError: no such file, not TOML, or a key that does not belong there.
    """
    document = read_toml(file, "a TOML file of variants")
    _known(file, document, ("reference", "variants"), "")
    listed = document.get("variants")
    if not isinstance(listed, dict) or not listed:
        raise HardGNNError(f"{file}: names no variant; write [variants.NAME] with preset and set")
    reference = document.get("reference", "")
    if reference and reference not in listed:
        raise HardGNNError(f"{file}: reference: no variant '{reference}', {nearest(str(reference), listed)}")
    found = []
    for name, fields in listed.items():
        if not isinstance(fields, dict):
            raise HardGNNError(f"{file}: variants.{name}: expected a table with preset and set, got {fields!r}")
        _known(file, fields, ("preset", "set", "noise"), f"variants.{name}.")
        change, noise = fields.get("set", []), fields.get("noise", 0.0)
        if not isinstance(change, list) or not all(isinstance(one, str) for one in change):
            raise HardGNNError(f"{file}: variants.{name}.set: expected a list such as ['model.dim=32'], got {change!r}")
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise <= 1:
            raise HardGNNError(f"{file}: variants.{name}.noise: expected a share between 0 and 1, got {noise!r}")
        preset = str(fields.get("preset", "hardgnn"))
        against = reference if name != reference else ""
        found.append(Variant(name, preset, (*shared, *change), float(noise), against))
    return tuple(found)


def run_study(
    kind: str,
    data: Sequence[Path],
    out: Path,
    *,
    preset: str = "hardgnn",
    settings: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    baseline: str | None = None,
    file: Path | None = None,
    allow_leaks: bool = False,
    with_baselines: bool = False,
    workers: int = 1,
    command: str = "",
    told: Callable[[float, int, str], None] = lambda done, failed, names: None,
    counted: Callable[[int], None] = lambda total: None,
) -> Study:
    """Carries out a named study, or goes on with it; runs that other plans of the study folder made are used again.

    Asked again with the same variants for other data sets or seeds, the study then has both.

    Raises:
        HardGNNError: bad settings or data, before any work; failed runs, after all others.
    """
    variants = variants_of(kind, preset, settings, baseline, file)
    with opened(out) as study:
        plan = Plan(
            kind,
            study.add_data(data),
            variants,
            tuple(seeds),
            allow_leaks=allow_leaks,
            with_baselines=with_baselines,
            command=command,
        )
        study.check(plan)
        study.save(kind, _with_earlier(plan, study.plans.get(kind)))
        counted(study.size(plan))
        study.carry_out(plan, workers, told)
        return study


def _with_earlier(plan: Plan, earlier: Plan | None) -> Plan:
    """`plan`, and the data sets and seeds that the same variants were asked for before."""
    if earlier is None or earlier.variants != plan.variants:
        return plan
    data = tuple(dict.fromkeys([*earlier.data, *plan.data]))
    seeds = tuple(sorted({*earlier.seeds, *plan.seeds}))
    leaks, baselines = earlier.allow_leaks or plan.allow_leaks, earlier.with_baselines or plan.with_baselines
    command = earlier.command if plan.command in earlier.command else f"{earlier.command} && {plan.command}"
    return replace(plan, data=data, seeds=seeds, allow_leaks=leaks, with_baselines=baselines, command=command)


def _known(file: Path, fields: dict[str, Any], known: Sequence[str], prefix: str) -> None:
    for key in fields:
        if key not in known:
            raise HardGNNError(f"{file}: unknown key '{prefix}{key}': {nearest(key, known)}")
