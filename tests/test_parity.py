"""Our model against numbers exported from the released HardGNN code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FIXTURES = sorted((ROOT.parent / "shared" / "parity").glob("*.npz"))
needs_fixtures = pytest.mark.skipif(not FIXTURES, reason="no ../shared/parity beside this checkout")


def parity(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "parity.py", *words], capture_output=True, text=True, timeout=120
    )


@needs_fixtures
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("precision", [[], ["--double"]], ids=["float32", "float64"])
def test_every_quantity_agrees(fixture: Path, precision: list[str]) -> None:
    done = parity(fixture, *precision)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 beyond tolerance" in done.stdout


@needs_fixtures
@pytest.mark.parametrize(
    "changed", ["var/user_lstm.kernel", "out/preds", "grad/total/item_embedding", "hard/att_query_items"]
)
def test_a_number_that_differs_is_found(changed: str, tmp_path: Path) -> None:
    with np.load(FIXTURES[0], allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays[changed] = arrays[changed].copy()
    arrays[changed].flat[0] += 1
    np.savez(tmp_path / "changed.npz", **arrays)
    done = parity(tmp_path / "changed.npz")
    assert done.returncode == 1
    assert "EXCEEDED" in done.stdout


def test_what_is_no_fixture_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no numbers here")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("text.npz", "other.npz", "missing.npz"):
        done = parity(tmp_path / name)
        assert done.returncode == 2
        assert "not a parity fixture" in done.stderr
        assert "Traceback" not in done.stderr
