"""Several servers with one Redis are as one."""

import threading

import numpy as np
import pytest
import redis
from starlette.testclient import TestClient

from data_pipelines.errors import DataError
from experiments.server import worker as worker_module
from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.opening import open_store
from experiments.server.redis_store import PREFIX, RedisStore
from experiments.server.requests import Ask, Event
from experiments.server.store import StoreError
from experiments.server.worker import Worker
from tests.experiments.server.conftest import NOW
from tests.experiments.server.test_engine import (
    ACCEPTED,
    DUPLICATE,
    assert_same_counts,
    best,
    random_events,
)


@pytest.fixture
def pair(export, database, clock):
    """Two servers' engines."""
    engines = [Engine(export, RedisStore(database), clock) for _ in range(2)]
    yield engines
    for engine in engines:
        engine.close()


def test_an_event_at_one_changes_the_others_answers(pair):
    """Those of its user, and by the counts those of everybody."""
    one, other = pair
    own, others = best(other, "x"), best(other, "b")
    assert one.observe([Event("x", "i5", NOW - 50)]) == [ACCEPTED]
    assert best(other, "x") == best(one, "x") != own
    assert best(other, "b") == best(one, "b") != others
    assert other.observe([Event("x", "i5", NOW - 50)]) == [DUPLICATE]
    assert_same_counts(one, other)


def test_events_in_turns_are_those_of_one_server(pair, export, database, tmp_path, clock):
    """Counts, records and answers of two servers are those of a third that follows them, and of one
    that took all events alone."""
    events = sorted(random_events(120), key=lambda one: one.time)
    alone = Engine(export, open_store(str(tmp_path / "alone.db"))[0], clock)
    rng = np.random.default_rng(0)
    for start in range(0, len(events), 6):
        part = events[start : start + 6]
        assert pair[rng.integers(2)].observe(part) == alone.observe(part)
    third = Engine(export, RedisStore(database), clock)
    for engine in (*pair, third):
        engine.follow()
        assert_same_counts(engine, alone)
        for user in "abxy":
            assert best(engine, user) == best(alone, user)
            assert engine.record(user) == alone.record(user)
    alone.close()
    third.close()


def test_servers_that_change_a_user_at_the_same_time(pair, monkeypatch):
    """Neither's events are lost, and the state has both."""
    one, other = pair
    one.observe([Event("x", "i2", NOW - 90)])
    write = one._store.write

    def late(users, events=()):
        monkeypatch.setattr(one._store, "write", write)
        both = [Event("x", "i3", NOW - 80), Event("y", "i9", NOW - 70)]
        assert other.observe(both) == [ACCEPTED, ACCEPTED]
        return write(users, events)

    monkeypatch.setattr(one._store, "write", late)
    same = Event("y", "i9", NOW - 70)
    assert one.observe([Event("x", "i4", NOW - 60), same]) == [ACCEPTED, DUPLICATE]
    assert [item for item, _, _ in one.record("x").received] == ["i2", "i3", "i4"]
    for engine in pair:
        engine.follow()
        assert engine.counts.events == 4
    states = [engine._store.users("x")["x"].state for engine in pair]
    one.users.version = "another"
    remade = one.users.find(["x"]).remade[0].state
    assert states[0] == states[1] == remade


def test_threads_that_write_at_the_same_time(pair):
    """Each event counts once, whoever takes it, and however often."""
    events = [Event(f"u{n % 3}", f"i{2 + n % 9}", NOW - 900 + n) for n in range(40)]
    outcomes = [[], []]

    def send(number):
        for start in range(0, len(events), 4):
            outcomes[number] += pair[number].observe(events[start : start + 4])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for together in zip(*outcomes, strict=True):
        assert sorted(one.status for one in together) == ["accepted", "duplicate"]
    for engine in pair:
        engine.follow()
        assert engine.counts.events == len(events)
    assert_same_counts(*pair)


def test_somebody_forgotten_meanwhile_starts_anew(pair, monkeypatch):
    """The state that was read before is not written after."""
    one, other = pair
    write = one._store.write

    def late(users, events=()):
        monkeypatch.setattr(one._store, "write", write)
        assert other.forget("a")
        return write(users, events)

    monkeypatch.setattr(one._store, "write", late)
    assert one.observe([Event("a", "i7")]) == [ACCEPTED]
    assert one.observe([Event("nobody", "i7")]) == [ACCEPTED]
    assert best(one, "a") == best(other, "a") == best(other, "nobody")
    assert one.record("a").logged == []


def test_a_server_that_nobody_asks_follows_too(pair, monkeypatch):
    monkeypatch.setattr(worker_module, "_FOLLOW_SECONDS", 0.001)
    one, other = pair
    counted, follow = threading.Event(), other.follow

    def noted():
        follow()
        if other.counts.events == 1:
            counted.set()

    monkeypatch.setattr(other, "follow", noted)
    worker = Worker(other)
    one.observe([Event("x", "i5")])
    assert counted.wait(60)
    worker.close()


def test_a_redis_that_is_gone_for_a_while(export, database, redis_server, clock, monkeypatch):
    """503 and nothing lost; afterwards it goes on by itself."""
    monkeypatch.setattr(worker_module, "_FOLLOW_SECONDS", 0.001)
    worker = Worker(Engine(export, RedisStore(database), clock))
    click = {"user": "x", "item": "i5", "time": NOW - 9}
    with TestClient(make_app(worker)) as client:
        assert client.post("/v1/events", json={"events": [click]}).status_code == 200
        redis_server.kill()
        for answer in (
            client.get("/v1/recommend/x"),
            client.post("/v1/events", json={"events": [{**click, "item": "i6"}]}),
        ):
            assert answer.status_code == 503
            assert "send it again" in answer.json()["detail"]
        while client.get("/readyz").status_code == 200:
            pass
        redis_server.start()
        while client.get("/readyz").status_code == 503:
            pass
        both = [click, {**click, "item": "i6"}]
        answer = client.post("/v1/events", json={"events": both}).json()
        assert [one["status"] for one in answer["events"]] == ["duplicate", "accepted"]
        assert client.get("/v1/recommend/x").json()["known"]


def test_settings_that_can_lose_events_are_said(database):
    store, risks = open_store(database)
    assert risks == []
    try:
        store._db.config_set("appendfsync", "everysec")
        assert store.risks() == ["appendfsync is everysec, not always: accepted events can be lost"]
    finally:
        store._db.config_set("appendfsync", "always")
    store.close()


def test_places_that_cannot_be_used(database):
    with pytest.raises(DataError, match="store=http://x: must be a file, or a URL such as redis:"):
        open_store("http://x")
    with pytest.raises(StoreError, match=r"^redis://127.0.0.1:1/0: cannot be reached") as found:
        open_store("redis://:secret@127.0.0.1:1/0")
    assert "secret" not in str(found.value)
    with pytest.raises(StoreError, match="write it as redis://host:6379/0"):
        open_store("redis://host:port/0")
    with redis.Redis.from_url(database) as client:
        client.set(f"{PREFIX}schema", "2")
        with pytest.raises(StoreError, match="schema b'2', but this version reads b'1'"):
            open_store(database)


def test_foreign_values_are_said(export, database, clock):
    engine = Engine(export, RedisStore(database), clock)
    with redis.Redis.from_url(database) as client:
        client.hset(f"{PREFIX}user:x", "version", "v")
        client.xadd(f"{PREFIX}world", {"event": "[]"}, "1-0")
    with pytest.raises(StoreError, match="holds values that are not of this program"):
        engine.observe([Event("x", "i5")])
    with pytest.raises(StoreError, match="holds values that are not of this program"):
        engine.recommend([Ask("y")])
    with pytest.raises(StoreError):
        Engine(export, RedisStore(database), clock)
