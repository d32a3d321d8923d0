"""A snapshot and the events after it give the counts of the whole stream, to the last bit."""

import numpy as np
import pytest

from experiments.server import snapshots
from experiments.server.counts import Counts
from experiments.server.requests import Event
from experiments.server.snapshots import Snapshots
from experiments.server.sqlite_store import SqliteStore
from experiments.server.store import NewEvent, Part, StoredUser, StoreError, WorldEvent
from hiertcn_jax.memory.config import SIZES
from tests.experiments.server.conftest import NEWEST, NOW
from tests.volume import few


class Stream:
    """A store's stream and snapshot, in memory."""

    identity = "here"

    def __init__(self, first=0):
        self.events, self.first, self.data = [], first, None

    def first_number(self, version):
        return self.first

    def sizes(self):
        return 1, len(self.events)

    def world(self, first, newest=None):
        part = [
            (number, event)
            for number, event in enumerate(self.events, 1)
            if number > first or (newest is not None and event.time > newest)
        ]
        for start in range(0, len(part), 30):
            numbers, events = zip(*part[start : start + 30], strict=True)
            yield Part(numbers[-1], list(events))

    def read_snapshot(self, version):
        return self.data

    def write_snapshot(self, version, number, data):
        self.data = data


def random_events(rng, number):
    """In the order of a stream; before and after the end of the log, some items unknown."""
    times = NEWEST + np.cumsum(rng.choice([-9_000, 0, 1, 60, 9_000], number))
    return [
        WorldEvent(
            f"i{rng.integers(2, 14)}",
            int(time),
            int(time),
            int(rng.integers(0, 3)),
            tuple(None if one == 1 else f"i{one}" for one in rng.integers(1, 12, 8).tolist()),
        )
        for time in times
    ]


def lists_of(counts, seed):
    """What is known from the newest event on, for some users."""
    rng = np.random.default_rng(seed)
    number = 20
    return counts.memory.lists(
        counts.newest + np.sort(rng.integers(0, 10**6, number)),
        rng.integers(0, 12, (number, SIZES.own_events)).astype(np.int32),
        rng.integers(0, 3, number).astype(np.int32),
    )


def assert_same(one, other):
    assert (one.newest, one.events, one.number) == (other.newest, other.events, other.number)
    for found, expected in zip(lists_of(one, 0), lists_of(other, 0), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(few(2, 30)))
def test_a_snapshot_and_what_came_later_are_the_whole(seed, export, monkeypatch):
    """At any places, again and again, while some servers stop in order and others do not."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(snapshots, "SNAPSHOT_EVENTS", int(rng.integers(20, 200)))
    stream = Stream(first=int(rng.integers(0, 50)))
    stream.events = random_events(rng, int(rng.integers(0, 100)))
    stream.first = min(stream.first, len(stream.events))
    for _ in range(4):
        one = Snapshots(export, stream, "v")
        counts = one.restore()
        for size in rng.integers(1, 20, 8).tolist():
            stream.events += (events := random_events(rng, size))
            counts.add(events, len(stream.events))
            one.write_if_due(counts)
        if rng.random() < 0.3:
            one.close(counts)
        one.wait()
        whole = Counts(export)
        whole.replay(stream, stream.first, export.newest)
        assert_same(counts, whole)
        assert_same(Snapshots(export, stream, "v").restore(), whole)
    assert stream.data is not None


@pytest.fixture
def written(export):
    """A stream with a snapshot of all but the last ten events."""
    stream = Stream()
    stream.events = random_events(np.random.default_rng(0), 80)
    one = Snapshots(export, stream, "v")
    one.close(one.restore())
    stream.events += random_events(np.random.default_rng(1), 10)
    return stream


def test_what_it_was_made_from_is_said(export, written):
    one = Snapshots(export, written, "v")
    counts = one.restore()
    assert one.note == f"a snapshot of {counts.events - 10} events and 10 later ones"
    written.data = None
    assert Snapshots(export, written, "v").restore().events == counts.events


@pytest.mark.parametrize("case", ["cut", "empty", "flipped", "export", "store", "behind", "format"])
def test_a_snapshot_that_cannot_be_used_is_ignored(export, written, case):
    """With one line; the counts are those of the stream, and a new snapshot replaces it."""
    version, data = "v", written.data
    if case == "cut":
        written.data = data[: len(data) // 2]
    if case == "empty":
        written.data = b""
    if case == "flipped":
        place = np.random.default_rng(3).integers(len(data))
        written.data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    if case == "format":
        import hashlib

        written.data = hashlib.sha256(b"x").digest() + b"x"
    if case == "export":
        version = "w"
    if case == "store":
        written.identity = "there"
    if case == "behind":
        written.events = written.events[:40]
    one = Snapshots(export, written, version)
    counts, whole = one.restore(), Counts(export)
    whole.replay(written, 0, export.newest)
    assert_same(counts, whole)
    assert one.note.startswith(f"all {counts.events} events; the snapshot is ")
    assert one.note.endswith("was not used")
    one.wait()
    again = Snapshots(export, written, version)
    again.restore()
    assert again.note.startswith("a snapshot of ")


def test_a_snapshot_that_cannot_be_written_stops_nothing(export, written, caplog):
    def full(*_):
        raise StoreError("shop.db.counts: cannot be written: No space left on device")

    written.write_snapshot = full
    one = Snapshots(export, written, "v")
    counts = one.restore()
    one.close(counts)
    assert "No space left on device; a start will read more" in caplog.text


def test_stores_keep_snapshots(engine, export, place, clock):
    """Of a model that keeps one, after a restart and a crash while one is written."""
    engine.observe([Event("x", f"i{2 + n % 9}", NOW - 900 + n) for n in range(40)])
    engine.snapshots.write(engine.counts)
    engine.snapshots.wait()
    data = engine._store.read_snapshot(engine.version)
    if isinstance(engine._store, SqliteStore):
        engine._store.path.with_name("shop.db.counts.writing").write_bytes(b"half")
    one = Snapshots(export, engine._store, engine.version)
    assert_same(one.restore(), engine.counts)
    assert one.note == "a snapshot of 40 events and 0 later ones"
    assert data == engine._store.read_snapshot(engine.version)


def test_later_asks_know_what_a_snapshot_keeps(engine):
    """`at` before it stands for the newest time that is known."""
    from experiments.server.requests import Ask

    engine.observe([Event("x", "i5", NOW - 50), Event("x", "i6", NOW - 40)])
    engine.snapshots.write(engine.counts)
    assert engine.counts.known_from == NOW - 40
    early, known = engine.recommend([Ask("x", at=NOW - 45), Ask("x", at=NOW - 40)])
    assert early.items == known.items


def test_numbers_of_the_stream(engine):
    """Both stores number events one by one, and find those after a number."""
    store = engine._store
    user = StoredUser("x", "v", b"state")
    for start in (0, 3):
        events = [
            NewEvent("x", False, WorldEvent(f"i{start + n}", start + n, 9, 0, (None, "i1")))
            for n in range(3)
        ]
        assert store.write([user], events) == start + 3
        user = store.users(["x"])["x"]
    whole = [one for part in store.world(0) for one in part.events]
    assert [one.item for one in whole] == [f"i{n}" for n in range(6)]
    assert whole[4] == WorldEvent("i4", 4, 9, 0, (None, "i1"))
    (part,) = store.world(4)
    assert (part.number, part.events) == (6, whole[4:])
    late = [one for part in store.world(4, 2) for one in part.events]
    assert late == whole[3:]
    assert list(store.world(6)) == []
