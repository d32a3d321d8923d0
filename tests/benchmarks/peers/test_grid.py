import collections
import itertools

import numpy as np
import pytest

from benchmarks.peers.events import labels_per_epoch
from benchmarks.peers.export import read_train_part
from benchmarks.peers.grid import Grid, cut_sessions, grid_batches
from tests.data_pipelines.lanes import walking

GRID = Grid(lanes=3, sessions=4, events=3)


@pytest.fixture(scope="module")
def events():
    return read_train_part(walking.log(11, max_length=6), rows=9)


def users_of(events):
    """For each user its sessions: (first items, gap)."""
    users = collections.defaultdict(list)
    for session in range(events.session_n[-1] + 1):
        (place_n,) = np.nonzero(events.session_n == session)
        items = events.item_id_n[place_n][: GRID.events].tolist()
        users[int(events.user_n[place_n[0]])].append((items, events.gap_hours_n[place_n[0]]))
    return users


def stream_of(batches, lane):
    """The sessions of a lane: (items, starts a user, gap)."""
    for batch in batches:
        for session in range(GRID.sessions):
            items = batch.item_ids_bst[lane, session]
            length = np.count_nonzero(items)
            assert not items[length:].any()
            yield (
                items[:length].tolist(),
                bool(batch.starts_user_bs[lane, session]),
                batch.gap_hours_bs[lane, session],
            )


def test_a_lane_is_a_stream_of_whole_users(events):
    users = users_of(events)
    by_sessions = {repr(sessions): user for user, sessions in users.items()}
    assert len(by_sessions) == len(users)
    sessions = cut_sessions(events, GRID.events)
    batches = list(itertools.islice(grid_batches(sessions, GRID, seed=3), 60))
    seen = []
    for lane in range(GRID.lanes):
        turns = []
        for items, starts, gap in stream_of(batches, lane):
            if starts:
                turns.append([])
            turns[-1].append((items, gap))
        # The last user may continue in a batch that was not drawn.
        seen.append([by_sessions[repr(turn)] for turn in turns[:-1]])
    # Read in turn, the lanes give permutations of all users, end to end.
    rounds = min(map(len, seen))
    dealt = [seen[lane][turn] for turn in range(rounds) for lane in range(GRID.lanes)]
    epochs = [dealt[start : start + len(users)] for start in range(0, len(dealt), len(users))]
    assert len(epochs) >= 3
    for epoch in epochs[:-1]:
        assert sorted(epoch) == sorted(users)
    assert epochs[0] != epochs[1]


def test_events_outside_the_grid_are_cut_and_not_counted(events):
    sessions = cut_sessions(events, GRID.events)
    labels = labels_per_epoch(events, GRID.events)
    assert np.count_nonzero(sessions.item_ids_mt) == labels["torch"] < labels["hiertcn"]
    longest = events.session_lengths.max()
    assert labels_per_epoch(events, longest)["torch"] == labels["hiertcn"]


def test_order_is_a_function_of_the_seed(events):
    sessions = cut_sessions(events, GRID.events)

    def drawn(seed):
        batches = itertools.islice(grid_batches(sessions, GRID, seed), 5)
        return np.stack([batch.item_ids_bst for batch in batches])

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
