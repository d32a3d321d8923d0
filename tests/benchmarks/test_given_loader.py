"""The benchmark of the loader of given embeddings: a small run."""

import json

import pytest

from benchmarks.given_loader import Settings, main
from hiertcn_jax.batch import Bucket


@pytest.mark.thorough
def test_a_small_run(tmp_path):
    sizes = {"items": 60, "width": 4, "negatives": 3, "users": 20, "cache_bytes": 300}
    settings = Settings(Bucket(2, 8, 4), **sizes, batches=2, turns=1, json=str(tmp_path / "F.json"))
    main(settings)
    cases = json.loads((tmp_path / "F.json").read_text())["cases"]
    assert list(cases) == ["step", "step_with_loader", "loader"]
    assert cases["step"]["times_step"] == 1
    for case in cases.values():
        assert case["events_per_s"] > 0 and 2 < case["distinct_items"] <= 60
