"""The ranking benchmark: a small run, whose two cases must agree."""

import json

import pytest

from benchmarks import ranking
from benchmarks.ranking import Settings, main
from experiments.judging.config import EvalConfig
from hiertcn_jax.scoring.scores import Queries


def settings_of(tmp_path):
    return Settings(
        300, 4, 9, EvalConfig(rank_events=4, rank_chunk=64), 2, str(tmp_path / "F.json")
    )


def test_a_small_run(tmp_path):
    main(settings_of(tmp_path))
    cases = json.loads((tmp_path / "F.json").read_text())["cases"]
    assert set(cases) == {"table", "file"}
    for case in cases.values():
        assert case["events_per_s"] > 0 and case["matmul_peak_fraction"] >= 0
        assert (case["items"], case["rank_chunk"]) == (300, 64)


def test_other_ranks_are_an_error(tmp_path, monkeypatch):
    real = ranking.StreamedRanks.__call__

    def wrong(self, queries, item_n, seen_nk):
        return real(self, Queries(-queries.vectors), item_n, seen_nk)

    monkeypatch.setattr(ranking.StreamedRanks, "__call__", wrong)
    with pytest.raises(RuntimeError, match="find different ranks"):
        ranking.measure(settings_of(tmp_path))
