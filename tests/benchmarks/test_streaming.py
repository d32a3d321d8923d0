"""benchmarks.streaming: both engines are measured, with memory and without."""

import pytest

from benchmarks.streaming import exported, measure_jax, measure_onnx


@pytest.mark.thorough
def test_all_figures_of_a_small_catalogue(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.streaming._LEAST", 2)
    monkeypatch.setattr("benchmarks.streaming.BATCH", 4)
    export = exported(tmp_path, items=60, memory=True)
    found = measure_onnx(export, k=3, seconds=0)
    assert found["state"]["bytes"] < found["state"]["bytes_of_given_embeddings"] / 10
    for figures in (found, measure_jax(export, k=3, seconds=0)):
        for case in ("observe and recommend", "observe 4 users", "best items"):
            assert 0 < figures[case]["p50_ms"] <= figures[case]["p99_ms"]
        assert figures["observe 4 users"]["events_per_s"] > 0
