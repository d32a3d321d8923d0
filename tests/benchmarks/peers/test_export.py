import collections
import csv

import numpy as np
import pytest
from hypothesis import assume, given

from benchmarks.peers.events import Events, labels_per_epoch
from benchmarks.peers.export import read_train_part, write_recbole
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from tests.data_pipelines.lanes import walking


def train_sessions(source):
    """[user][session] -> (item ids, times), of users with a train session."""
    users = []
    for history in source:
        sessions, first = [], 0
        for length, split in zip(history.session_lengths, history.session_splits, strict=True):
            if split == Split.TRAIN:
                place = slice(first, first + length)
                sessions.append((history.item_ids[place].tolist(), history.times[place].tolist()))
            first += length
        if sessions:
            users.append(sessions)
    return users


@given(walking.logs())
def test_it_is_the_train_part_in_order(source):
    users = train_sessions(source)
    assume(users)
    events = read_train_part(source, rows=12)
    expected, session_index = [], 0
    for user, sessions in enumerate(users):
        for number, (items, times) in enumerate(sessions):
            gap = max(times[0] - sessions[number - 1][1][-1], 0) / 3600 if number else 0
            for place, (item, time) in enumerate(zip(items, times, strict=True)):
                expected.append((item, time, session_index, user, 0 if place else gap))
            session_index += 1
    got = zip(
        events.item_id_n,
        events.time_n,
        events.session_n,
        events.user_n,
        events.gap_hours_n,
        strict=True,
    )
    assert [row[:4] for row in expected] == [row[:4] for row in (tuple(row) for row in got)]
    np.testing.assert_allclose(events.gap_hours_n, [row[4] for row in expected], rtol=1e-6)
    assert events.rows == 12


@given(walking.logs())
def test_every_label_is_counted_once(source):
    users = train_sessions(source)
    assume(users)
    lengths = [len(items) for sessions in users for items, _ in sessions]
    labels = labels_per_epoch(read_train_part(source, rows=12), grid_events=4)
    assert labels == {
        "hiertcn": sum(lengths),
        "torch": sum(min(length, 4) for length in lengths),
        "gru4rec": sum(length - 1 for length in lengths),
        "recbole": sum(lengths) - len(users),
    }


def test_what_is_saved_is_read(tmp_path):
    events = read_train_part(walking.log(5), rows=9)
    events.save(tmp_path)
    read = Events.load(tmp_path)
    assert read.rows == 9
    for name, array in vars(events).items():
        np.testing.assert_array_equal(getattr(read, name), array)


def test_recbole_sees_the_users_in_the_same_order(tmp_path):
    source = walking.log(7)
    events = read_train_part(source, rows=9)
    write_recbole(events, tmp_path)
    with (tmp_path / "peers" / "peers.inter").open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == ["user_id:token", "item_id:token", "timestamp:float"]
    # As RecBole does: by user, then by time stamp.
    sequences = collections.defaultdict(list)
    for user, item, stamp in sorted(rows, key=lambda row: (row[0], np.float32(row[2]))):
        sequences[int(user)].append((np.float32(stamp), int(item)))
    for user, sessions in enumerate(train_sessions(source)):
        items = [item for session_items, _ in sessions for item in session_items]
        assert [item for _, item in sequences[user]] == items
        assert len({stamp for stamp, _ in sequences[user]}) == len(items)
    assert len(sequences) == len(source)


def test_a_log_without_a_train_part_is_refused():
    source = walking.ListSource([walking.history([2, 1], [Split.VALID, Split.TEST])])
    with pytest.raises(DataError, match="no user has a train session"):
        read_train_part(source, rows=9)
