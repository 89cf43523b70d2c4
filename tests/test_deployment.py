"""The units and manifests of the docs: what they start, ask and mount is what our commands and service have."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("yaml", reason="PyYAML comes with schemathesis and optuna")

import yaml

from hardgnn.api import HardGNN
from hardgnn.cli.app import app
from hardgnn.data.dataset import Dataset
from hardgnn.recommend.recommender import Recommender
from hardgnn.serve.routes import router
from hardgnn.serve.supervisor import END_S

DOCS = Path(__file__).resolve().parent.parent / "docs"
COMMAND = typer.main.get_command(app)
PATHS = {route.path for route in router.routes}  # type: ignore[attr-defined]
KEYS = {
    "pod": {"terminationGracePeriodSeconds", "initContainers", "containers", "volumes", "restartPolicy"},
    "container": {
        *("name", "image", "command", "args", "env", "ports", "resources", "securityContext", "volumeMounts"),
        *("startupProbe", "readinessProbe", "livenessProbe"),
    },
    "probe": {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold"},
    "Deployment": {"replicas", "strategy", "selector", "template"},
    "Job": {"completionMode", "completions", "parallelism", "backoffLimitPerIndex", "template"},
    "Service": {"selector", "ports"},
    "PodDisruptionBudget": {"minAvailable", "selector"},
}
"""The fields of Kubernetes that are used, for a misspelt one is not told apart there."""
VERSIONS = {"Deployment": "apps/v1", "Job": "batch/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.S | re.M)


def manifests(page: str) -> dict[str, Any]:
    found = [one for block in blocks(page, "yaml") for one in yaml.safe_load_all(block)]
    for one in found:
        assert one["apiVersion"] == VERSIONS[one["kind"]]
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(one["spec"]) <= KEYS[one["kind"]]
    return {one["kind"]: one for one in found}


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command of ours, which takes these words."""
    assert Path(words[0]).name == "hardgnn"
    return dict(COMMAND.commands[words[1]].make_context(words[1], words[2:]).params)


def check_pod(spec: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """What is mounted is there; yields containers with the words that they run."""
    assert set(spec) <= KEYS["pod"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        assert set(container) <= KEYS["container"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        yield container, [*container["command"], *container.get("args", [])]


def under(path: Path, container: dict[str, Any]) -> bool:
    return any(path.is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"])


def test_the_deployment_is_one_of_the_service() -> None:
    found = manifests("serving.md")
    spec = found["Deployment"]["spec"]
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    (fetching, fetched), (serving, words) = check_pod(pod)
    options = parsed(words)
    assert under(options["run"], serving)
    assert under(options["token_file"], serving)
    assert fetched[:3] == ["aws", "s3", "sync"]
    assert fetched[4] == str(options["run"])
    assert under(options["run"], fetching)
    assert options["host"] == "0.0.0.0"
    assert pod["terminationGracePeriodSeconds"] >= options["drain"] + END_S
    (port,) = serving["ports"]
    assert port["containerPort"] == options["port"]
    for name, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        probe = serving[name]
        assert set(probe) <= KEYS["probe"]
        assert probe["httpGet"] == {"path": path, "port": port["name"]}
        assert path in PATHS
    noticed = serving["readinessProbe"]
    assert noticed["periodSeconds"] * noticed["failureThreshold"] < options["drain"]
    (balanced,) = found["Service"]["spec"]["ports"]
    assert balanced["targetPort"] == port["name"]
    assert found["Service"]["metadata"]["name"] in options["allowed_host"]
    budget = found["PodDisruptionBudget"]["spec"]
    assert labels == found["Service"]["spec"]["selector"]
    assert labels == spec["selector"]["matchLabels"] == budget["selector"]["matchLabels"]
    assert budget["minAvailable"] < spec["replicas"]


def test_the_job_makes_every_shard() -> None:
    spec = manifests("scale.md")["Job"]["spec"]
    ((container, words),) = check_pod(spec["template"]["spec"])
    assert words[:2] == ["sh", "-c"]
    made = set()
    for index in range(spec["completions"]):
        shown = words[2].replace("exec hardgnn", "printf '%s\\n' hardgnn")
        script = f"JOB_COMPLETION_INDEX={index}; {shown}"
        options = parsed(subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout.splitlines())
        assert under(options["run"], container)
        assert under(options["out"], container)
        made.add(options["shard"])
    assert made == {f"{number + 1}/{spec['completions']}" for number in range(spec["completions"])}


def test_the_unit_is_one_of_systemd_and_of_the_service(tmp_path: Path) -> None:
    (unit,) = blocks("serving.md", "ini")
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(unit)
    service = found["Service"]
    words = shlex.split(service["ExecStart"])
    options = parsed(words)
    assert str(options["run"]).startswith(found["Unit"]["RequiresMountsFor"])
    assert int(service["TimeoutStopSec"]) >= options["drain"] + END_S
    assert service["KillMode"] == "mixed"  # the parent ends its workers
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["LoadCredential"].partition(":")[0] == options["token_file"].name
    if shutil.which("systemd-analyze") is None:
        return
    here = tmp_path / "hardgnn.service"
    here.write_text(unit.replace(words[0], sys.executable), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "hardgnn" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_what_is_shown_for_spark_and_ray_recommends_as_the_library_does(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    HardGNN("recencyknn").fit(Dataset.load(market), "runs/knn")
    space: dict[str, Any] = {}
    for block in blocks("scale.md", "python"):
        names = {node.name for node in ast.parse(block).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        if names & {"recommend", "Recommend"}:
            exec(block, space)
    users = Recommender("runs/knn").tables.user_ids[:50].to_list()
    frames = [pd.DataFrame({"user": part}) for part in (users[:30], users[30:])]
    wanted = Recommender("runs/knn").for_users(users, n=20).to_pandas()
    columns = ["user", "item", "score", "rank"]
    spark = pd.concat(space["recommend"](iter(frames)))
    ray = pd.concat(map(space["Recommend"]("runs/knn"), frames))
    for found in (spark, ray):
        assert found[columns[:2]].to_numpy().tolist() == wanted[columns[:2]].to_numpy().tolist()
        np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-5)
    assert spark.columns.to_list() == columns
