import numpy as np
from hypothesis import given

from data_pipelines.histories.events import EVENT, Stream, encode
from data_pipelines.histories.record import Split
from tests.data_pipelines.lanes import walking

TRAIN = Stream(Split.TRAIN, Split.TRAIN, evaluated=False)
STREAMS = (
    TRAIN,
    Stream(Split.TRAIN, Split.VALID, evaluated=False),
    Stream(Split.VALID, Split.VALID, evaluated=True),
    Stream(Split.TEST, Split.TEST, evaluated=True),
)


@given(walking.logs())
def test_encode_is_the_plain_walk(source):
    for stream in STREAMS:
        users = list(range(len(source)))
        encoded = encode(source, users, [10 + user for user in users], stream)
        for user, records in zip(users, encoded, strict=True):
            events = records.view(EVENT)
            expected = walking.walk_user(source, user, stream)
            assert (events["turn"] == 10 + user).all()
            assert len(events) == len(expected)
            for name in EVENT.names:
                if name != "turn":
                    assert events[name].tolist() == [event[name] for event in expected], name


def test_gap_is_in_hours_and_never_negative():
    record = walking.history([2, 1, 1], [0, 0, 0])
    record.times[:] = [0, 3600, 3600 + 1800, 0]
    events = encode([record], [0], [0], TRAIN)[0].view(EVENT)
    np.testing.assert_array_equal(events["gap_hours"], np.float32([0, 0, 0.5, 0]))


def test_seconds_end_with_32_bits():
    record = walking.history([2, 2], [0, 0])
    record.times[:] = [5, 4, 5 + 2**31, 5 + 2**40]
    events = encode([record], [0], [0], TRAIN)[0].view(EVENT)
    assert events["seconds"].tolist() == [0, 0, 2**31 - 1, 2**31 - 1]


def test_stream_names_its_targets():
    assert [str(stream) for stream in STREAMS] == ["train", "train+valid", "valid", "test"]
