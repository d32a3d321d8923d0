"""The express way takes what is plainly valid, and says what the application says."""

import asyncio
import json
import threading

import pytest
from starlette.testclient import TestClient

from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.handover import Handover
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import Worker
from tests.experiments.server.conftest import NOW, Clock


@pytest.fixture(scope="module")
def guard(export, tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("store") / "shop.db")
    guard = make_app(Worker(Engine(export, store, Clock())), "secret")
    with TestClient(guard):
        yield guard


@pytest.fixture
def client(guard):
    """Goes the general way."""
    return TestClient(guard, headers={"authorization": "Bearer secret"})


def take(guard, path, body=b"", token=b"Bearer secret"):
    path, _, query = path.partition("?")
    headers = [(b"authorization", token)]
    if body:
        headers.append((b"content-type", b"application/json"))
    scope = {
        "method": "POST" if body else "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
    }
    assert guard.takes(scope)
    taken = guard.take(scope, body)
    if taken is None:
        return None
    status, text = taken.say(taken.future.result(60))
    return status, json.loads(text)


def events(*given):
    return json.dumps({"events": given}).encode()


@pytest.mark.parametrize("path", ["a", "nobody", "a/b", "a?n=3", "7?n=1000"])
def test_recommendations_are_those_of_the_application(guard, client, path):
    answer = client.get(f"/v1/recommend/{path}")
    assert take(guard, f"/v1/recommend/{path}") == (answer.status_code, answer.json())
    assert answer.status_code == 200


def test_events_are_taken_as_the_application_takes_them(guard, client):
    click = {"user": 12, "item": "i5", "time": NOW - 60, "session": 3}
    late = {**click, "time": NOW + 10_000}
    body = events(click, {"user": "é", "item": "i6", "time": None}, late)
    status, said = take(guard, "/v1/events", body)
    assert (status, said["accepted"], said["refused"]) == (200, 2, 1)
    for given in (events(click), events(late), events(click, late)):
        kind = {"content-type": "application/json"}
        answer = client.post("/v1/events", content=given, headers=kind)
        assert take(guard, "/v1/events", given) == (answer.status_code, answer.json())
    assert [item["item"] for item in client.get("/v1/users/12").json()["received"]] == ["i5"]


@pytest.mark.parametrize(
    "path",
    ["", "u" * 257, "a%20b", "a?n=0", "a?n=1001", "a?n=x", "a?n=1&n=2", "a?at=5", "a?explain=1"],
)
def test_other_questions_go_the_general_way(guard, path):
    assert take(guard, f"/v1/recommend/{path}") is None


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"events": [], "more": 1}',
        events(),
        events(3),
        events(*[{"user": "u", "item": "i5"}] * 1_001),
        events({"user": "u"}),
        events({"user": True, "item": "i5"}),
        events({"user": "", "item": "i5"}),
        events({"user": "u", "item": "i" * 257}),
        events({"user": "u", "item": "i5", "time": "2026-01-01"}),
        events({"user": "u", "item": "i5", "time": -1}),
        events({"user": "u", "item": "i5", "session": ""}),
        events({"user": "u", "item": "i5", "other": 1}),
        events({"user": 2**70, "item": "i5"}),
        b'{"events": [{"user": "\\ud800", "item": "i5"}]}',
        b'{"events": [{"user": "\xff", "item": "i5"}]}',
    ],
    ids=range(17),
)
def test_other_events_go_the_general_way(guard, body):
    assert take(guard, "/v1/events", body) is None


def test_without_the_token_the_general_way_refuses(guard):
    assert take(guard, "/v1/recommend/a", token=b"Bearer other") is None


def test_results_are_handed_over_in_order_in_the_loop():
    """Of another thread; whoever is done already is handed over too."""
    from concurrent.futures import Future

    async def run():
        loop = asyncio.get_running_loop()
        handover, futures, found = Handover(loop), [Future() for _ in range(20)], []
        everything = asyncio.Event()
        futures[0].set_result(0)

        def note(future):
            found.append((future.result(), threading.current_thread()))
            if len(found) == len(futures):
                everything.set()

        for future in futures:
            handover.when_done(future, note)
        thread = threading.Thread(
            target=lambda: [future.set_result(n) for n, future in enumerate(futures) if n]
        )
        thread.start()
        await everything.wait()
        thread.join()
        return found

    assert asyncio.run(run()) == [(n, threading.current_thread()) for n in range(20)]
