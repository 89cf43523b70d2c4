"""The whole job at once, on a small market in the place of MovieLens-100K."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardgnn import demo
from hardgnn.errors import HardGNNError
from hardgnn.evaluation.protocols import PROTOCOLS


def test_the_demo_trains_evaluates_and_reports_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{user}\t{item}\t5\t{place}" for user in range(40) for place, item in enumerate(rng.permutation(30)[:12])]
    raw = tmp_path / "u.data"
    raw.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(demo, "download", lambda name, to, say: raw)
    told: list[str] = []
    document = demo.demo(tmp_path / "demo", demo.SHORT, 1, told.append)
    assert [one["protocol"] for one in document["protocols"]] == list(PROTOCOLS)
    for protocol in document["protocols"]:
        assert {row["model"] for row in protocol["rows"]} == {*demo.FLOORS, *demo.MODELS}
        assert all(0 <= value <= 1 for row in protocol["rows"] for value in row["metrics"].values())
    assert len(document["verdict"]) == len(PROTOCOLS) * (len(demo.MODELS) - 1)
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "recencyknn" in page
    assert "hardgnn" in page
    written = (tmp_path / "demo" / "runs" / "best" / "model.safetensors").stat().st_mtime_ns
    assert demo.demo(tmp_path / "demo", demo.SHORT, 1, told.append) == document  # what is finished is not trained again
    assert (tmp_path / "demo" / "runs" / "best" / "model.safetensors").stat().st_mtime_ns == written
    before = len(told)
    with pytest.raises(HardGNNError, match="other settings"):  # checked before anything is done
        demo.demo(tmp_path / "demo", demo.SHORT, 2, told.append)
    assert len(told) == before
    assert "run again it goes on" in told[0]
    with pytest.raises(HardGNNError, match="a prepared folder; choose another --to"):
        demo.demo(tmp_path / "demo" / "data", demo.SHORT, 1, told.append)
