"""Events move states and counts, each once, and a restart goes on from the file."""

import numpy as np
import pytest

from experiments.server.engine import AHEAD_SECONDS, Engine
from experiments.server.opening import open_store
from experiments.server.requests import Ask, Event, Outcome
from experiments.server.sqlite_store import SqliteStore
from experiments.server.store import KEPT_EVENTS, StoreError
from hiertcn_jax.exported.onnx_stream import OnnxStream
from tests.experiments.server.conftest import NEWEST, NOW, log_of

ACCEPTED, DUPLICATE = Outcome("accepted"), Outcome("duplicate")


def best(engine, user, **more):
    (answer,) = engine.recommend([Ask(user, n=9, **more)])
    return answer.items


def counts_of(engine):
    return engine.counts.memory.arrays()


def assert_same_counts(one, other):
    for name, array in counts_of(one).items():
        np.testing.assert_array_equal(array, counts_of(other)[name], name)


def random_events(number, seed=0):
    """Of users known and new, items known and not, in any order of time, some twice."""
    rng = np.random.default_rng(seed)
    return [
        Event(
            str(rng.choice(["a", "b", "x", "y"])),
            f"i{rng.integers(2, 14)}",
            int(NOW - 900 * rng.integers(1, 7)),
            str(rng.choice(["s", "t"])) if rng.random() < 0.3 else None,
        )
        for _ in range(number)
    ]


def test_answers_are_the_models(engine, export):
    """After events, those of the model itself over the same state and counts."""
    engine.observe([Event("a", "i5", NOW - 50), Event("x", "i6", NOW - 40)])
    engine.observe([Event("a", "i7", NOW - 30)])
    stream, memory = OnnxStream(export), export.memory()
    state, other = export.users.state_of("a"), stream.start()
    for who, item, when in (("a", "i5", 50), ("x", "i6", 40), ("a", "i7", 30)):
        before = state if who == "a" else other
        rows = export.items.encode([item])
        after = stream.observe(before, rows, [NOW - when])
        memory.observe(rows, np.array([NOW - when]), before.own_nm, after.position_n - 1)
        state, other = (after, other) if who == "a" else (state, after)
    for user, one in (("a", state), ("x", other)):
        expected = stream.recommend(one, [NOW], 9, memory)
        found = best(engine, user)
        assert [item for item, _ in found] == export.items.decode(expected.rows_nk[0])
        np.testing.assert_allclose([score for _, score in found], expected.scores_nk[0], rtol=1e-5)


def test_a_click_moves_its_user_and_the_counts_of_all(engine):
    own, others = best(engine, "a"), best(engine, "b")
    assert engine.observe([Event("a", "i9")]) == [ACCEPTED]
    assert best(engine, "a") != own
    assert best(engine, "b") != others


def test_an_event_counts_once(engine, clock):
    click = Event("x", "i5", NOW - 10)
    assert engine.observe([click, click]) == [ACCEPTED, DUPLICATE]
    before = best(engine, "x")
    assert engine.observe([click]) == [DUPLICATE]
    assert best(engine, "x") == before
    assert engine.observe([click._replace(time=NOW - 9)]) == [ACCEPTED]
    logged = Event("a", "i4", int(log_of(0).times[-1]))
    assert engine.observe([logged]) == [DUPLICATE]
    assert engine.observe([logged._replace(user="b")]) == [ACCEPTED]
    assert engine.counts.events == 3


def test_times_ahead_are_refused(engine):
    (outcome,) = engine.observe([Event("x", "i5", NOW + AHEAD_SECONDS + 1)])
    assert outcome == Outcome("refused", "time: 301 s ahead of the server's clock")
    assert engine.record("x") is None
    assert engine.observe([Event("x", "i5", NOW + AHEAD_SECONDS)]) == [ACCEPTED]
    # It counts now, so that nobody else's events are late.
    assert engine.counts.newest == NOW


def test_sessions_by_id_or_by_pause(engine):
    gap = int(engine.export.gap_seconds)
    engine.observe(
        [
            Event("x", "i2", NOW - 10_000, "s"),
            Event("x", "i3", NOW - 10_000 + gap + 1, "s"),
            Event("x", "i4", NOW - 10_000 + gap + 2, "t"),
            Event("x", "i5", NOW - 10_000 + gap + 3),
            Event("x", "i6", NOW - 10_000 + 3 * gap),
        ]
    )
    starts = [starts for _, _, starts in engine.record("x").received]
    assert starts == [True, False, True, False, True]


def test_one_batch_or_many(export, tmp_path, clock):
    """The same events, together or alone: the same states and counts."""
    events = sorted(random_events(60), key=lambda one: one.time)
    together = Engine(export, SqliteStore(tmp_path / "1.db"), clock)
    alone = Engine(export, SqliteStore(tmp_path / "2.db"), clock)
    outcomes = together.observe(events)
    assert outcomes == [outcome for one in events for outcome in alone.observe([one])]
    assert DUPLICATE in outcomes
    assert_same_counts(together, alone)
    for user in "abxy":
        assert [i for i, _ in best(together, user)] == [i for i, _ in best(alone, user)]
        assert together.record(user) == alone.record(user)


def test_a_restart_goes_on(export, place, clock):
    """With the same counts, bit for bit, and the same answers."""
    first = Engine(export, open_store(place)[0], clock)
    for start in range(0, 90, 7):
        first.observe(random_events(90)[start : start + 7])
    answers = [best(first, user) for user in "abxy"]
    first.close()
    second = Engine(export, open_store(place)[0], clock)
    assert [best(second, user) for user in "abxy"] == answers
    assert_same_counts(first, second)
    assert second.observe(random_events(90)[:1]) == [DUPLICATE]
    second.close()


def test_states_of_another_model_are_made_again(engine):
    engine.observe(sorted(random_events(60), key=lambda one: one.time))
    answers = [best(engine, user) for user in "abxy"]
    engine.users.version = engine.version = "another"
    remade = [best(engine, user) for user in "abxy"]
    assert [[i for i, _ in one] for one in remade] == [[i for i, _ in one] for one in answers]
    stored = engine._store.users("abxy").values()
    assert {one.version for one in stored} == {"another"}


def test_a_store_that_fails_changes_nothing(engine, monkeypatch):
    before, counted = best(engine, "x"), engine.counts.events

    def full(*_):
        raise StoreError("shop.db: database or disk is full")

    with monkeypatch.context() as patch:
        inside = "_drop_oldest" if isinstance(engine._store, SqliteStore) else "_write"
        patch.setattr(engine._store, inside, full)
        with pytest.raises(StoreError, match="full"):
            engine.observe([Event("x", "i5")])
    assert (best(engine, "x"), engine.counts.events) == (before, counted)
    assert engine.record("x") is None
    assert engine.observe([Event("x", "i5")]) == [ACCEPTED]


def test_only_the_newest_events_are_kept(engine):
    events = [Event("x", f"i{2 + n % 9}", NOW - 1_000 + n) for n in range(KEPT_EVENTS + 5)]
    engine.observe(events)
    received = engine.record("x").received
    assert [time for _, time, _ in received] == [one.time for one in events[5:]]
    assert engine.observe([events[5]]) == [DUPLICATE]
    for old in (events[0], events[4]._replace(item="i9")):
        assert engine.observe([old])[0].reason.startswith("time: before the oldest event")


def test_seen_items_and_candidates(engine, export):
    engine.observe([Event("a", "i9")])
    seen = {"i2", "i3", "i4", "i9"}
    assert seen <= {item for item, _ in best(engine, "a")}
    assert not seen & {item for item, _ in best(engine, "a", exclude_seen=True)}
    some = frozenset({"i5", "i6"})
    chosen, left = engine.recommend(
        [Ask("a", n=9, candidates=some), Ask("a", n=20, exclude=some, exclude_seen=True)]
    )
    assert {item for item, _ in chosen.items} == {"i5", "i6"}
    assert {item for item, _ in left.items} == {"i7", "i8", "i10", "i11"}


def test_a_visitor_leaves_nothing(engine):
    picks = (("i5", NOW - 60), ("i6", None))
    asks = [Ask(None, picks, n=9), Ask("x", n=9), Ask(None, picks[:1], n=9)]
    visitor, _, shorter = engine.recommend(asks)
    assert engine._store.sizes() == (0, 0)
    assert visitor.items != shorter.items
    engine.observe([Event("x", "i5", NOW - 60), Event("x", "i6")])
    memory = engine.export.memory()
    engine.counts.memory, engine.counts.newest = memory, NEWEST
    assert best(engine, "x") == visitor.items


def test_a_forgotten_user_is_gone(engine, store_file, redis_server):
    name = "somebody-special"
    engine.observe([Event(name, "i5"), Event("a", "i6")])
    counts = counts_of(engine)
    fresh = best(engine, "nobody")
    assert best(engine, name) != fresh
    assert engine.forget(name)
    assert engine.forget("a")
    assert not engine.forget(name)
    assert not engine.forget("a")
    is_shared = engine.is_shared
    while is_shared and engine._store._db.info()["aof_rewrite_in_progress"]:
        pass
    for file in (redis_server.directory if is_shared else store_file.parent).rglob("*"):
        assert file.is_dir() or name.encode() not in file.read_bytes()
    assert best(engine, name) == best(engine, "a") == best(engine, "nobody")
    assert engine.record("a") is None
    for one, array in counts_of(engine).items():
        np.testing.assert_array_equal(array, counts[one])
    # Somebody who comes back is new.
    assert engine.observe([Event("a", "i7")]) == [ACCEPTED]
    assert [item for item, _, _ in engine.record("a").received] == ["i7"]
    assert engine.record("a").logged == []


def test_a_record_is_all_that_is_known(engine):
    engine.observe([Event("a", "unheard-of", NOW - 5), Event("a", "i7", NOW - 7)])
    record = engine.record("a")
    assert [item for item, _, _ in record.logged] == ["i2", "i3", None, "i4"]
    assert record.received == [("i7", NOW - 7, True), ("unheard-of", NOW - 5, False)]
