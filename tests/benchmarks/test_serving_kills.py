"""Servers that are killed lose no accepted event and count none twice."""

import pytest

from benchmarks.serving_kills import Case, LossError, measure, require_none_lost
from tests.experiments.server.conftest import export  # noqa: F401  (a fixture)
from tests.volume import few, mostly_thorough


@pytest.mark.parametrize("store", mostly_thorough(["file", "redis"], "redis"))
def test_kills_lose_nothing(store, export, tmp_path):  # noqa: F811
    """One kill of one of two servers with Redis; with --thorough more, also of Redis itself."""
    kills = few(1, 8)
    figures = measure(Case(export, kills, 1, tmp_path), store)
    assert figures["kills"] == kills
    assert figures["accepted"] > 40
    require_none_lost({store: figures})


@pytest.mark.parametrize("wrong", ["lost", "accepted_twice", "counted_wrongly", "not_known_again"])
def test_a_loss_is_an_error(wrong):
    none = dict.fromkeys(["lost", "accepted_twice", "counted_wrongly", "not_known_again"], 0)
    with pytest.raises(LossError, match=f"file: {wrong}=2"):
        require_none_lost({"file": {**none, wrong: 2}})
