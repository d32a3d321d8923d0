"""What an answer says of its scores is what the Recommender of the export says."""

import shutil

import numpy as np
import pytest
from starlette.testclient import TestClient

import hiertcn_jax
from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.opening import open_store
from experiments.server.requests import Ask, Event
from experiments.server.worker import Worker
from hiertcn_jax.exported.layout import WEIGHTS
from hiertcn_jax.exported.reading import Export
from tests.experiments.server.conftest import NOW

PARTS = ["hierarchy", "world", "followers", "own", "memory_units"]


@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_explanations_are_those_of_the_recommender(engine, export):
    """For a user of the log, somebody new and a visitor, some of whose items follow some."""
    picks = [("i5", NOW - 400), ("i6", NOW - 300), ("i5", NOW - 200), ("i7", NOW - 100)]
    engine.observe([Event("x", *pick) for pick in picks])
    asks = [Ask("a", n=9), Ask("x", n=9), Ask(None, tuple(picks[:2]), n=9), Ask("nobody", n=9)]
    plain = engine.recommend(asks)
    answers = engine.recommend([one._replace(explain=True) for one in asks])
    rec = hiertcn_jax.load(export.directory)
    state = rec.start()
    for item, when in picks:
        state = rec.observe(state, item, time=when)
    visitor = rec.start()
    for item, when in picks[:2]:
        visitor = rec.observe(visitor, item, time=when, count=False)
    users = [["a"], state, visitor, rec.start()]
    for user, answer, same in zip(users, answers, plain, strict=True):
        assert answer.items == same.items and same.parts is None
        table = rec.recommend(user, k=9, at=NOW, explain=True)
        assert table["item_id"].to_list() == [item for item, _ in answer.items]
        assert [list(parts.values) for parts in answer.parts] == [PARTS] * 9
        for name in PARTS:
            values = [parts.values[name] for parts in answer.parts]
            np.testing.assert_allclose(values, table[name], rtol=1e-4, atol=1e-5, err_msg=name)
        sums = [sum(parts.values.values()) for parts in answer.parts]
        scores = [score for _, score in answer.items]
        np.testing.assert_allclose(sums, scores, rtol=1e-5, atol=1e-5)
        hours = [parts.half_life_hours for parts in answer.parts]
        assert hours == pytest.approx(table["world_half_life_hours"].to_list())
        assert [parts.followed for parts in answer.parts] == table["followers_of"].to_list()
    assert any(parts.followed for parts in answers[1].parts)
    assert not any(parts.followed for parts in answers[3].parts)


@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_parts_over_http(engine):
    with TestClient(make_app(Worker(engine))) as client:
        plain = client.get("/v1/recommend/a?n=5").json()["items"]
        items = client.get("/v1/recommend/a?n=5&explain=true").json()["items"]
        assert [{key: one[key] for key in plain[0]} for one in items] == plain
        names = [*PARTS, "world_half_life_hours", "followers_of"]
        for one in items:
            assert sorted(one["parts"]) == sorted(names)
            assert sum(one["parts"][name] for name in PARTS) == pytest.approx(
                one["score"], rel=1e-5, abs=1e-5
            )
            followed = one["parts"]["followers_of"]
            assert followed is None or followed["title"] in (None, f"title of {followed['item']}")
        body = {"users": ["a"], "n": 5, "explain": True}
        many = client.post("/v1/recommend", json=body).json()["users"][0]["items"]
        assert many == items
        body = {"events": [{"item": "i5", "time": NOW - 60}], "explain": True}
        visitor = client.post("/v1/session/recommend", json=body).json()["items"]
        assert all("parts" in one for one in visitor)
        answer = client.get("/v1/recommend/a?n=101&explain=true")
        assert answer.status_code == 422
        assert answer.json()["detail"] == "n: must be at most 100 with explain"


def test_an_export_that_is_gone_is_an_error_of_these_requests_alone(export, tmp_path, store_file):
    folder = tmp_path / "export"
    shutil.copytree(export.directory, folder)
    worker = Worker(Engine(Export(folder), open_store(str(store_file))[0]))
    (folder / WEIGHTS).unlink()
    with TestClient(make_app(worker)) as client:
        for path in ("/v1/recommend/a?explain=true", "/v1/items/i5/similar"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert answer.json()["detail"] == "the files of the export cannot be read any more"
        assert client.get("/v1/recommend/a").status_code == 200
