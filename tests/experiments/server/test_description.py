"""Requests made from /openapi.json, valid and not: answers are as described, and never 500."""

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from starlette.testclient import TestClient

from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import Worker
from tests.experiments.server.conftest import Clock
from tests.volume import few

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def app(export, tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("store") / "shop.db")
    app = make_app(Worker(Engine(export, store, Clock())))
    with TestClient(app):
        yield app


ROUTES = [
    ("/v1/events", "POST"),
    ("/v1/recommend/{user}", "GET"),
    ("/v1/recommend", "POST"),
    ("/v1/session/recommend", "POST"),
    ("/v1/items/{item}/similar", "GET"),
    ("/v1/users/{user}", "GET"),
    ("/v1/users/{user}", "DELETE"),
]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.mark.thorough
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_answers_are_as_described(app, path, method, mode):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    cases = schema[path][method].as_strategy(generation_mode=mode)

    @seed(0)
    @settings(
        max_examples=few(6, 200),
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def check(case):
        answer = case.call()
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            said = answer.json()
            assert answer.headers["content-type"][0].startswith("application/problem+json")
            assert said["status"] == answer.status_code
            assert said["detail"]
            assert "\n" not in said["detail"]

    check()
