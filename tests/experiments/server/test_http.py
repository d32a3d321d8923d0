"""The routes, and what they say to bad requests."""

import asyncio
import math
import threading

import numpy as np
import pytest
from starlette.testclient import TestClient

from experiments.server import app as app_module
from experiments.server import guard
from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.requests import Event, Outcome
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import BusyError, Worker
from tests.experiments.server.conftest import NOW, Clock


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """No test fails because the machine is busy."""
    monkeypatch.setattr(app_module, "ANSWER_SECONDS", 600.0)


@pytest.fixture(scope="module")
def client(export, tmp_path_factory):
    """A server that all tests of this file use, each with users of its own."""
    store = SqliteStore(tmp_path_factory.mktemp("store") / "shop.db")
    app = make_app(Worker(Engine(export, store, Clock())))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def post_events(client, *events):
    return client.post("/v1/events", json={"events": list(events)})


def items_of(answer):
    assert answer.status_code == 200, answer.text
    return [one["item"] for one in answer.json()["items"]]


def test_a_click_changes_the_next_answer(client):
    before = client.get("/v1/recommend/anna?n=5").json()
    assert (before["user"], before["known"], before["model"]) == ("anna", False, "m")
    assert len(before["items"]) == 5
    answer = post_events(client, {"user": "anna", "item": "i5", "time": NOW - 60})
    assert answer.json() == {
        "accepted": 1,
        "duplicate": 0,
        "refused": 0,
        "events": [{"status": "accepted"}],
    }
    after = client.get("/v1/recommend/anna?n=5").json()
    assert after["known"]
    assert after["items"] != before["items"]
    assert "i5" not in items_of(client.get("/v1/recommend/anna?n=10&exclude_seen=true"))


def test_an_event_is_accepted_a_duplicate_or_refused(client):
    click = {"user": 12, "item": "i5", "time": "2023-11-15T00:00:00Z", "session": 3}
    late = {**click, "time": NOW + 10_000}
    assert post_events(client, click).json()["accepted"] == 1
    answer = post_events(client, click, late, {"user": "12", "item": "i6"}).json()
    assert [one["status"] for one in answer["events"]] == ["duplicate", "refused", "accepted"]
    assert answer["events"][1]["reason"] == "time: 10000 s ahead of the server's clock"
    refused = post_events(client, late)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("events[0]: time: 10000 s ahead")


def test_many_users_and_visitors(client):
    post_events(client, {"user": "bert", "item": "i5", "time": NOW - 60})
    body = {"users": ["bert", "nobody", "bert"], "n": 3, "candidates": ["i5", "i6", "i7", "i8"]}
    answers = client.post("/v1/recommend", json={**body, "exclude": ["i6"]}).json()["users"]
    assert [one["user"] for one in answers] == body["users"]
    assert answers[0] == answers[2] != answers[1]
    assert all({i["item"] for i in one["items"]} == {"i5", "i7", "i8"} for one in answers)
    one = {"events": [{"item": "i5", "time": NOW - 60}, {"item": "i7"}], "n": 4}
    visitor = client.post("/v1/session/recommend", json=one)
    shorter = client.post("/v1/session/recommend", json={"events": [], "n": 4})
    assert visitor.json()["items"] != shorter.json()["items"]
    assert len(items_of(visitor)) == 4


def test_similar_items(client, export):
    answer = client.get("/v1/items/i5/similar?n=3").json()
    name = export.manifest["functions"]["recommend"]["weights"]["item_rows"]
    rows = export.weights()[name][2:]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit[3]
    expected = [place for place in np.argsort(-cosine) if place != 3][:3]
    assert [one["item"] for one in answer["items"]] == [f"i{2 + place}" for place in expected]
    np.testing.assert_allclose(
        [one["cosine"] for one in answer["items"]], cosine[expected], rtol=1e-5
    )
    assert client.get("/v1/items/i999/similar").status_code == 404


def test_titles_wherever_items_are(client):
    """The first item has none, and neither has an unknown one."""
    post_events(client, {"user": "tina", "item": "unheard-of", "time": NOW - 60})
    body = {"users": ["tina"], "n": 10}
    answers = [
        client.get("/v1/recommend/tina?n=10").json()["items"],
        client.post("/v1/recommend", json=body).json()["users"][0]["items"],
        client.post("/v1/session/recommend", json={"events": []}).json()["items"],
        [client.get("/v1/items/i5/similar").json()],
        client.get("/v1/items/i5/similar?n=10").json()["items"],
        client.get("/v1/users/b").json()["log"],
        client.get("/v1/users/tina").json()["received"],
    ]
    for items in answers:
        for one in items:
            known = one["item"] not in ("i2", "unheard-of", None)
            assert one["title"] == (f"title of {one['item']}" if known else None)
    assert {len(items) for items in answers[:3]} == {10}


def test_what_is_known_of_a_user_and_forgetting_it(client):
    odd = "a/b ?&é"
    path = "/v1/users/a%2Fb%20%3F%26%C3%A9"
    assert client.get(path).status_code == 404
    post_events(client, {"user": odd, "item": "i5", "time": NOW - 9})
    assert client.get(path).json() == {
        "user": odd,
        "log": [],
        "received": [
            {"item": "i5", "title": "title of i5", "time": NOW - 9, "starts_session": True}
        ],
    }
    assert client.delete(path).status_code == 204
    assert client.delete(path).status_code == 404
    assert client.get(path).json()["detail"] == f"nothing is known of user {odd!r}"
    assert [one["item"] for one in client.get("/v1/users/b").json()["log"]] == [
        "i2",
        "i3",
        None,
        "i5",
    ]


def test_state_and_description(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["model"] == "m"
    text = client.get("/metrics").text
    assert 'hiertcn_request_seconds_count{method="GET",route="/healthz",status="200"}' in text
    assert "hiertcn_model_newest_timestamp_seconds 1.7e+09" in text
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) == 11
    assert set(paths["/v1/users/{user}"]) == {"get", "delete"}
    docs = client.get("/docs").text
    assert all(f"{method.upper()} {path}" in docs for path in paths for method in paths[path])
    assert "http" not in docs
    assert client.get("/v1/users?n=2").json() == {"users": ["a", "b"]}


EVENTS = "/v1/events"
EVENT = '{"events": [{"user": "u", "item": "i5", "time": %s}]}'
BAD = {
    "no JSON": (EVENTS, "{", 422, "the body is no JSON"),
    "nothing": (EVENTS, "", 422, "body: field required"),
    "nested": (EVENTS, "[" * 100_000, 400, ""),
    "nested field": (EVENTS, '{"events": ' + "[" * 500 + "]" * 500 + "}", 422, "events[0]: "),
    "no list": (EVENTS, '{"events": 3}', 422, "events: input should be a valid list"),
    "no events": (EVENTS, '{"events": []}', 422, "events: list should have at least 1"),
    "too many": (EVENTS, '{"events": [' + "1," * 1_000 + "1]}", 422, "events"),
    "no item": (EVENTS, '{"events": [{"user": "u"}]}', 422, "events[0].item: field required"),
    "typo": (EVENTS, '{"event": []}', 422, "event"),
    "no id": (EVENTS, '{"events": [{"user": true, "item": "i"}]}', 422, "events[0].user: must be"),
    "empty id": (EVENTS, '{"events": [{"user": "", "item": "i"}]}', 422, "events[0].user: "),
    "long id": (
        EVENTS,
        '{"events": [{"user": "' + "u" * 10_000 + '", "item": "i"}]}',
        422,
        "events[0].user: string should have at most 256",
    ),
    "huge number": (EVENTS, EVENT % ("9" * 400), 422, "events[0].time: must be 0 or more"),
    "enormous number": (EVENTS, EVENT % ("9" * 5_000), 400, ""),
    "infinity": (EVENTS, EVENT % "1e999", 422, "events[0].time: must be 0 or more"),
    "not a number": (EVENTS, EVENT % "NaN", 422, "events[0].time: must be 0 or more"),
    "before 1970": (EVENTS, EVENT % "-1", 422, "events[0].time: must be 0 or more"),
    "no time": (EVENTS, EVENT % '"soon"', 422, "events[0].time: must be seconds"),
    "odd digits": (EVENTS, EVENT % '"\\u00b2"', 422, "events[0].time: must be seconds"),
    "first year": (EVENTS, EVENT % '"0001-01-01T00:00:00+23:59"', 422, "events[0].time: must be"),
    "half a letter": (
        EVENTS,
        '{"events": [{"user": "\\ud800", "item": "i"}]}',
        422,
        "events[0].user: is no valid Unicode",
    ),
    "no UTF-8": (EVENTS, b'{"events": "\xff"}', 400, "the body is no UTF-8"),
    "large": (EVENTS, " " * 1_000_001, 413, "the body has more than 1,000,000 bytes"),
    "no users": ("/v1/recommend", '{"users": []}', 422, "users: list should have"),
    "unknown candidate": (
        "/v1/recommend",
        '{"users": ["u"], "candidates": ["i5", "z"]}',
        422,
        "candidates[1]: 'z' is not in the catalogue",
    ),
    "past": (
        "/v1/session/recommend",
        '{"at": "2001-01-01", "events": [{"item": "i5"}]}',
        422,
        "at: what everybody did is known from 1699002800 on",
    ),
    "n": ("/v1/session/recommend", '{"n": 0}', 422, "n: input should be greater than or equal to"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_gets_one_reason(client, case):
    path, body, status, reason = BAD[case]
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    check_problem(answer, status, reason)


def check_problem(answer, status, reason):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert said["detail"].startswith(reason)
    assert "\n" not in said["detail"]
    assert len(said["detail"]) < 400


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/recommend/u?n=x", 422, "n: input should be a valid integer"),
        ("/v1/recommend/u?n=1001", 422, "n: input should be less than or equal to 1000"),
        ("/v1/recommend/u?at=1000", 422, "at: what everybody did is known from 1699002800 on"),
        ("/v1/recommend/u?at=soon", 422, "at: must be seconds"),
        ("/v1/recommend/u?exclude_seen=perhaps", 422, "exclude_seen: input should be"),
        ("/v1/recommend/", 422, "user: string should have at least 1"),
        ("/v1/recommend/" + "u" * 10_000, 422, "user: string should have at most 256"),
        ("/v1/recommend/%FF", 400, "the path is no UTF-8"),
        ("/v1/recommend/u?at=%FF", 400, "the query is no UTF-8"),
        ("/v1/users/..%2F..%2Fetc%2Fpasswd", 404, "nothing is known of user '../../etc/passwd'"),
        ("/v1/users/%00", 404, "nothing is known of user '\\x00'"),
        ("/etc/passwd", 404, "there is no such route"),
        ("/v1/events", 405, "GET is not allowed here"),
    ],
)
def test_a_bad_path_gets_one_reason(client, path, status, reason):
    check_problem(client.get(path), status, reason)


def test_another_content_type(client):
    answer = client.post("/v1/events", content="user=u", headers={"content-type": "text/plain"})
    check_problem(answer, 415, "send the header Content-Type: application/json")


def test_a_body_without_a_length_is_limited_too(client):
    def parts():
        for _ in range(11):
            yield b" " * 100_000

    answer = client.post("/v1/events", content=parts())
    check_problem(answer, 413, "the body has more than")


def test_a_token(export, tmp_path):
    app = make_app(Worker(Engine(export, SqliteStore(tmp_path / "s.db"), Clock())), "secret")
    with TestClient(app) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        pages = ("/", "/page.css", "/page.js", "/docs", "/openapi.json")
        assert all(client.get(path).status_code == 200 for path in pages)
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
            answer = client.get("/v1/recommend/a", headers=headers)
            check_problem(answer, 401, "send the header Authorization: Bearer TOKEN")
        assert client.get("/v1/recommend/a", headers={"authorization": "Bearer secret"}).json()


class Held(Engine):
    """Waits before each batch until it may go on."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.free, self.began = threading.Event(), threading.Event()
        self.batches = []

    def observe(self, events):
        self.batches.append(len(events))
        self.began.set()
        assert self.free.wait(60)
        return super().observe(events)


def test_requests_that_wait_share_a_batch_and_too_many_are_sent_away(export, tmp_path):
    engine = Held(export, SqliteStore(tmp_path / "s.db"), Clock())
    worker = Worker(engine, waiting_most=5)
    with TestClient(make_app(worker)) as client:
        first = worker.observe([Event("u0", "i5")])
        assert engine.began.wait(60)
        waiting = [worker.observe([Event(f"u{number}", "i5")]) for number in range(1, 6)]
        waiting[1].cancel()
        busy = client.get("/v1/recommend/x")
        check_problem(busy, 429, "too many requests wait")
        assert busy.headers["retry-after"] == "1"
        engine.free.set()
        for future in (first, waiting[0], *waiting[2:]):
            assert future.result(60) == [Outcome("accepted")]
        assert engine.batches == [1, 4]
        assert client.get("/v1/recommend/x").status_code == 200
        assert client.get("/v1/users/u2").status_code == 404


def test_what_would_wait_too_long_is_sent_away(export, tmp_path):
    """At the pace of the last batches; a request that comes to an empty queue is always taken."""
    engine = Held(export, SqliteStore(tmp_path / "s.db"), Clock())
    worker = Worker(engine, wait_seconds=1.0)
    worker._pace, worker._pressed = 0.11, 1.0
    futures = [worker.observe([Event("u0", "i5")])]
    assert engine.began.wait(60)
    futures += [worker.observe([Event(f"u{number}", "i5")]) for number in range(1, 11)]
    with pytest.raises(BusyError):
        worker.observe([Event("u11", "i5")])
    with TestClient(make_app(worker)) as client:
        # Before its body is read: this one has none.
        for answer in (client.get("/v1/recommend/x"), client.post("/v1/events")):
            check_problem(answer, 429, "too many requests wait")
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert 'route="none",status="429"' in client.get("/metrics").text
        engine.free.set()
        for future in futures:
            assert future.result(60) == [Outcome("accepted")]
        assert client.get("/v1/recommend/x").status_code == 200
        assert worker._pace != 0.11


def test_a_thread_that_never_rests_takes_less(export, tmp_path):
    """A few that come at once may wait longer than those that keep coming."""
    engine = Held(export, SqliteStore(tmp_path / "s.db"), Clock())
    worker = Worker(engine, wait_seconds=1.0)
    worker._pace = 0.01
    futures = [worker.observe([Event("u0", "i5")])]
    assert engine.began.wait(60)
    # Held, so that only the test says when it rested: now, and then long ago.
    worker._rested = math.inf
    futures += [worker.observe([Event(f"u{number}", "i5")]) for number in range(1, 10)]
    assert not worker.is_busy()
    worker._rested = -math.inf
    with pytest.raises(BusyError):
        worker.observe([Event("u10", "i5")])
    engine.free.set()
    for future in futures:
        assert future.result(60) == [Outcome("accepted")]
    worker.close()


def test_a_slow_body_is_cut_off(export, tmp_path, monkeypatch):
    """The limit is 0 s here, and the body never comes."""
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.0)
    worker = Worker(Engine(export, SqliteStore(tmp_path / "s.db"), Clock()))
    app = make_app(worker)
    sent = []

    async def never():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(app(scope, never, send))
    worker.close()
    assert sent[0]["status"] == 408
