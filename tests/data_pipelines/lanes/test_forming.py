import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.lanes.forming import count_segments
from hiertcn_jax.batch import Bucket
from tests.data_pipelines.lanes import walking


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 6), st.integers(1, 4))
def test_rows_are_counted_as_they_are_formed(lengths, events, sessions):
    walked = [{"position": position} for length in lengths for position in range(length)]
    rows = walking.walk_rows(walked, Bucket(1, events, sessions))
    assert count_segments(np.asarray(lengths, np.int64), events, sessions) == len(rows)


def test_a_row_closes_at_its_last_event_or_before_one_session_too_many():
    # 5 events in rows of 4: 4 + 1. Then sessions of 1, 1, 1 in rows of 2 sessions; the row that
    # holds the 1 left over has room for one session more.
    assert count_segments(np.asarray([5]), 4, 2) == 2
    assert count_segments(np.asarray([5, 1, 1, 1]), 4, 2) == 3
