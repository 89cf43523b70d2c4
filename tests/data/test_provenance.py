"""The manifest with types: what is written is what was said, and older records are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factories import tiny_dataset
from hardgnn.data.provenance import KINDS, Noise, Provenance, Step
from hardgnn.errors import HardGNNError

FULL = Provenance(
    name="market",
    source_sha256="0" * 64,
    settings={"k_core": 5, "since": None},
    steps=(Step("read", 9, 3, 4), Step("k_core", 6, 2, 3)),
    read={"format": "csv", "rating": None},
    counts={"users": 2, "items": 3},
    warnings=("doubtful",),
    leaks=("a leak",),
    cut_times_s={"valid": 1.5, "test": 2.5},
    time_span_s=(0.0, 4.0),
    released={"users": 2},
    noise=Noise(0.1, 3),
    versions={"python": "3.11"},
)


def test_what_is_written_is_read_again() -> None:
    document = json.loads(json.dumps(FULL.manifest()))
    assert Provenance.of(document) == FULL
    assert set(document) == {"format_version", *KINDS}
    assert document["steps"][1] == {"step": "k_core", "interactions": 6, "users": 2, "items": 3}
    assert document["noise"] == {"share": 0.1, "seed": 3}


def test_what_a_record_lacks_is_as_by_default_and_what_it_has_more_does_not_matter() -> None:
    assert Provenance.of({}) == Provenance()
    step = {"step": "read", "interactions": 1, "users": 1, "items": 1, "seconds": 2}
    assert Provenance.of({"steps": [step], "weather": "fine", "leaks": None}) == Provenance(
        steps=(Step("read", 1, 1, 1),)
    )
    assert {"noise", "leaks", "released"}.isdisjoint(Provenance(name="x").manifest())


@pytest.mark.parametrize(
    "record",
    [
        {"counts": "many"},
        {"counts": {"users": "many"}},
        {"steps": [{"step": "read"}]},
        {"steps": 5},
        {"time_span_s": [1]},
        {"noise": {"share": 0.1}},
        {"noise": [0.1, 3]},
    ],
)
def test_a_record_that_cannot_be_gets_a_sentence(record: dict[str, Any]) -> None:
    with pytest.raises(HardGNNError, match=r"here/manifest.json: damaged \(.*\); prepare it again"):
        Provenance.of(record, "here/manifest.json")


def test_a_data_set_knows_where_it_comes_from() -> None:
    data = tiny_dataset([[0, 1, 2, 3]], name="four")
    assert (data.name, data.time_span, data.provenance.noise) == ("four", None, None)
    assert data.counts == {"users": 1, "items": 4, "interactions": 4, "train": 2, "valid": 1, "test": 1}
    assert data.lacking is None
    assert tiny_dataset([[0, 1]]).lacking == "validation"
