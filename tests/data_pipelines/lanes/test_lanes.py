import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.histories.events import Stream, encode
from data_pipelines.histories.record import Split
from data_pipelines.lanes.dealing import Shuffled, deal_by_length
from data_pipelines.lanes.lanes import LanesIterDataset
from data_pipelines.lanes.loaders import ALL_SESSIONS
from hiertcn_jax.batch import Bucket
from tests.data_pipelines.lanes import walking

TRAIN = Stream(Split.TRAIN, Split.TRAIN, evaluated=False)
TEST = Stream(Split.TEST, Split.TEST, evaluated=True)
BUCKETS = st.builds(Bucket, st.just(4), st.integers(1, 9), st.integers(1, 5))


def training(source, bucket, **process):
    deal = Shuffled(len(source), bucket.lanes, seed=3)
    return LanesIterDataset(source, bucket, TRAIN, deal, **process)


def evaluation(source, bucket, stream=TEST, **process):
    return LanesIterDataset(
        source, bucket, stream, deal_by_length(source, stream, bucket), **process
    )


def first(dataset, batches):
    return list(itertools.islice(dataset, batches))


def walk_lane(dataset, lane, turns):
    """The events of a lane's first turns, in plain Python."""
    users = walking.dealt(dataset.deal, lane, turns)
    return [
        event for user in users for event in walking.walk_user(dataset.source, user, dataset.stream)
    ]


def assert_rows_equal(elements, lane, rows, bucket, evaluated):
    for element, row in zip(elements, rows, strict=True):
        arrays = walking.as_dict(element)
        for name, expected in walking.row_arrays(row, bucket, evaluated).items():
            np.testing.assert_array_equal(arrays[name][lane], expected, err_msg=name)
            assert arrays[name].dtype == expected.dtype, name


@given(walking.logs(), BUCKETS)
def test_training_rows_are_the_plain_walk(source, bucket):
    if not any(walking.has_target(source, TRAIN)):
        return
    dataset = training(source, bucket)
    elements = first(dataset, 5)
    for lane in range(bucket.lanes):
        turns = 8
        while len(rows := walking.walk_rows(walk_lane(dataset, lane, turns), bucket)) < 6:
            turns *= 2
        assert_rows_equal(elements, lane, rows[:5], bucket, evaluated=False)


@given(walking.logs(), BUCKETS, st.sampled_from([Split.VALID, Split.TEST]))
def test_evaluation_rows_are_the_plain_walk_padded_until_all_lanes_end(source, bucket, split):
    stream = Stream(split, split, evaluated=True)
    if not any(walking.has_target(source, stream)):
        return
    dataset = evaluation(source, bucket, stream)
    elements = list(dataset)
    lanes = [walk_lane(dataset, lane, len(source)) for lane in range(bucket.lanes)]
    rows = [walking.walk_rows(events, bucket) for events in lanes]
    assert len(elements) == max(map(len, rows))
    for lane, lane_rows in enumerate(rows):
        padded = lane_rows + [[]] * (len(elements) - len(lane_rows))
        assert_rows_equal(elements, lane, padded, bucket, evaluated=True)


@given(walking.logs(), BUCKETS)
def test_rows_of_one_user_each_are_the_plain_walk(source, bucket):
    if not any(walking.has_target(source, ALL_SESSIONS)):
        return
    deal = deal_by_length(source, ALL_SESSIONS, bucket, one_user_segments=True)
    dataset = LanesIterDataset(source, bucket, ALL_SESSIONS, deal, one_user_segments=True)
    elements = list(dataset)
    lanes = [walk_lane(dataset, lane, len(source)) for lane in range(bucket.lanes)]
    rows = [walking.walk_rows(events, bucket, one_user=True) for events in lanes]
    assert len(elements) == max(map(len, rows))
    for lane, lane_rows in enumerate(rows):
        assert all(len({event["user"] for event in row}) == 1 for row in lane_rows)
        padded = lane_rows + [[]] * (len(elements) - len(lane_rows))
        assert_rows_equal(elements, lane, padded, bucket, evaluated=False)
    # Each user ends once, at the end of a row.
    ended = [row[-1]["user"] for lane_rows in rows for row in lane_rows if row[-1]["ends_user"]]
    assert sorted(ended) == [n for n, user in enumerate(source) if len(user.item_ids)]


@given(walking.logs(), BUCKETS, BUCKETS)
def test_no_bucket_changes_the_events_of_a_lane(source, bucket, other):
    if not any(walking.has_target(source, TRAIN)):
        return
    events = walking.lane_events(first(training(source, bucket), 6))
    others = walking.lane_events(first(training(source, other), 6))
    for lane, other_lane in zip(events, others, strict=True):
        shared = min(len(lane), len(other_lane))
        assert shared >= 6
        assert lane[:shared] == other_lane[:shared]


@pytest.mark.parametrize("make", [training, evaluation])
@pytest.mark.parametrize("processes", [2, 4])
def test_a_lane_is_the_same_on_any_number_of_processes(make, processes):
    source, bucket = walking.log(11), Bucket(4, 5, 3)
    whole = [walking.as_dict(element) for element in first(make(source, bucket), 12)]
    parts = [
        first(make(source, bucket, process_index=index, process_count=processes), 12)
        for index in range(processes)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for step, expected in enumerate(whole):
        own = [walking.as_dict(part[step]) for part in parts]
        for name, array in expected.items():
            np.testing.assert_array_equal(np.concatenate([arrays[name] for arrays in own]), array)


@given(walking.logs(), st.integers(1, 6), st.sampled_from([(4, 3), (1, 1), (9, 2)]))
def test_evaluation_goes_through_every_event_once(source, lanes, shape):
    if not any(walking.has_target(source, TEST)):
        return
    dataset = evaluation(source, Bucket(lanes, *shape))
    events = [event for lane in walking.lane_events(list(dataset)) for event in lane]
    expected = [
        event
        for user in range(len(source))
        for event in walking.fields_of(walking.walk_user(source, user, TEST))
    ]
    assert sorted(events, key=str) == sorted(expected, key=str)


def test_with_fewer_users_than_lanes_the_next_epochs_follow():
    source = walking.log(2)
    elements = first(training(source, Bucket(5, 4, 3)), 6)
    assert all((element.info.item_ids_bl[:, 0] > 0).all() for element in elements)


def test_users_with_nothing_to_train_on_are_skipped():
    source = walking.log(5)
    source.insert(2, walking.history([3, 2], [Split.VALID, Split.TEST]))
    source.append(walking.history([], []))
    users = {
        event["user"]
        for lane in walking.lane_events(first(training(source, Bucket(2, 4, 3)), 40))
        for event in lane
    }
    assert users == {0, 1, 3, 4, 5}


def test_a_session_continues_in_slot_0_of_the_next_row():
    source = walking.ListSource([walking.history([1, 7, 2], [0, 0, 0])])
    rows = first(training(source, Bucket(1, 4, 2)), 3)
    # 1 + 3 of the second session; its next 4; the third, and the first of the next epoch.
    assert [row.batch.position_bl[0].tolist() for row in rows] == [
        [0, 0, 1, 2],
        [3, 4, 5, 6],
        [0, 1, 0, 0],
    ]
    assert [row.batch.session_bl[0].tolist() for row in rows] == [
        [0, 1, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
    ]
    assert [row.batch.starts_session_bs[0].tolist() for row in rows] == [
        [True, True],
        [False, False],
        [True, True],
    ]
    assert rows[1].info.session_in_user_bs[0].tolist() == [1, -1]
    assert rows[2].batch.starts_user_bs[0].tolist() == [False, True]


def test_one_event_users():
    source = walking.ListSource([walking.history([1], [0], seed=user) for user in range(6)])
    for element in first(training(source, Bucket(3, 4, 4)), 3):
        assert (element.batch.item_ids_bl > 0).all()
        assert element.batch.starts_user_bs.all()
        assert not element.batch.gap_hours_bs.any()


def test_a_user_of_100_000_events_is_fetched_once_and_resumes_anywhere():
    lengths = np.full(10_000, 10)
    source = walking.ListSource([walking.history(lengths, np.zeros(10_000))])
    iterator = iter(training(source, Bucket(1, 1_000, 200)))
    elements = [next(iterator) for _ in range(42)]
    assert source.fetches == 1
    positions = np.concatenate([element.batch.user_position_bl[0] for element in elements])
    np.testing.assert_array_equal(positions, np.arange(42_000))
    state = iterator.get_state()
    assert (state["epoch"], state["place"], state["event"]) == ([0], [0], [42_000])
    restored = iter(training(source, Bucket(1, 1_000, 200)))
    restored.set_state(state)
    np.testing.assert_array_equal(
        next(restored).batch.user_position_bl[0], np.arange(42_000, 43_000)
    )


def test_states_of_other_lanes_are_refused():
    source = walking.log(8)
    state = iter(training(source, Bucket(4, 4, 3))).get_state()
    with pytest.raises(ValueError, match="a state of 4 lanes, for 2 lanes"):
        iter(training(source, Bucket(2, 4, 3))).set_state(state)
    half = iter(training(source, Bucket(4, 4, 3), process_index=1, process_count=2)).get_state()
    with pytest.raises(ValueError, match=r"the state has no lane 0, only \[2, 3\]"):
        iter(training(source, Bucket(4, 4, 3))).set_state(half)


def test_impossible_states_are_refused_by_field():
    source, bucket = walking.log(8), Bucket(2, 4, 3)
    state = iter(training(source, bucket)).get_state()
    assert state["event"] == [0, 0]
    for name, value in (
        ("step", -1), ("step", "1"), ("step", True), ("lane_count", None), ("lane", 3),
        ("lane", [0, "1"]), ("epoch", [0, 2**31]), ("event", [-5, 0]), ("event", [0]),
        ("place", [0, 2.5]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}"):
            iter(training(source, bucket)).set_state({**state, name: value})
    # The lane's next users have so many events, and an event behind them is none of theirs.
    iterator = iter(training(source, bucket))
    turns = np.zeros(2, np.int64)
    users = iterator._dataset.deal.users(np.arange(2), turns).tolist()
    counts = [len(x) for x in encode(source.__getitems__(users), users, turns, TRAIN)]
    for lane, count in enumerate(counts):
        event = [0, 0]
        event[lane] = count - 1
        iterator.set_state({**state, "event": event})
        event[lane] = count
        message = rf"^lane {lane}: event={count}: its user there has {count} events$"
        with pytest.raises(ValueError, match=message):
            iterator.set_state({**state, "event": event})


@pytest.mark.parametrize(
    "index, count, message",
    [
        (0, 3, "process_count=3: must divide lanes=4"),
        (0, 0, "process_count=0: must divide lanes=4"),
        (2, 2, r"process_index=2: must be in 0\.\.1"),
    ],
)
def test_processes_out_of_range_are_refused(index, count, message):
    with pytest.raises(ValueError, match=message):
        training(walking.log(3), Bucket(4, 4, 3), process_index=index, process_count=count)


@given(walking.logs(), BUCKETS, st.integers(1, 4), st.booleans())
def test_events_carry_the_first_items_that_were_shown_with_them(source, bucket, k, has_shown):
    if not any(walking.has_target(source, TRAIN)):
        return
    if has_shown:
        walking.with_shown(source)
    dataset, plain = training(source, bucket, impressions=k), training(source, bucket)
    for element, other in zip(first(dataset, 4), first(plain, 4), strict=True):
        batch, info = element.batch, element.info
        assert other.batch.negatives_blk is None
        np.testing.assert_array_equal(batch.item_ids_bl, other.batch.item_ids_bl)
        assert batch.negatives_blk.shape == (bucket.lanes, bucket.events, k)
        assert batch.negatives_blk.dtype == np.int32
        for lane, place in itertools.product(range(bucket.lanes), range(bucket.events)):
            expected = np.zeros(k, np.int32)
            if batch.loss_weight_bl[lane, place]:
                user = info.user_bs[lane, batch.session_bl[lane, place]]
                event = batch.user_position_bl[lane, place]
                shown = walking.shown_beside(source[user], event)[:k]
                expected[: len(shown)] = shown
            np.testing.assert_array_equal(batch.negatives_blk[lane, place], expected)
