import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.sessions.sessionize import by_gap
from data_pipelines.sessions.splits import Sessions, SplitOptions, assign_splits, sessions_of
from tests.data_pipelines.logs import codes_log


def sessions_with(starts_of_users):
    """Sessions of one event each."""
    users = np.repeat(np.arange(len(starts_of_users)), [len(s) for s in starts_of_users])
    starts = np.array([start for starts in starts_of_users for start in sorted(starts)])
    return Sessions(users.astype(np.int32), starts, np.ones(len(users), np.int32))


def user_ids(count):
    return pl.Series([f"user {k}" for k in range(count)])


def split(sessions, **options):
    ids = user_ids(sessions.users.max() + 1)
    return assign_splits(sessions, ids, SplitOptions(**options))


def test_last_session_is_test_and_the_one_before_valid():
    splits, too_short = split(sessions_with([[1, 2, 3, 4], [1], [5, 6], [1, 2, 3]]))
    assert splits.tolist() == [0, 0, 1, 2, 0, 0, 0, 0, 1, 2]
    assert too_short == 2


def test_time_goes_by_the_start():
    sessions = sessions_with([[1, 10, 20], [9, 19]])
    splits, too_short = split(sessions, split="time", valid_after_ms=10, test_after_ms=20)
    assert splits.tolist() == [0, 1, 2, 0, 1]
    assert too_short == 0


def test_time_fractions_are_quantiles_of_the_starts():
    splits, _ = split(
        sessions_with([[1000 * k] for k in range(100)]),
        split="time", valid_fraction=0.2, test_fraction=0.3,
    )  # fmt: skip
    assert np.bincount(splits).tolist() == [50, 20, 30]
    assert np.all(np.diff(splits.astype(int)) >= 0)


def test_users_are_dealt_whole_by_their_id_alone():
    sessions = sessions_with([[1, 2]] * 3000)
    splits, _ = split(sessions, split="user")
    assert np.all(splits[::2] == splits[1::2])
    # 6 standard deviations of a binomial draw around 80 / 10 / 10 per cent.
    shares = np.bincount(splits) / len(splits)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=6 * np.sqrt(0.1 * 0.9 / 3000))
    # With other users and in another order, each user stays in the same part.
    reverse, _ = assign_splits(
        sessions_with([[1]] * 3000), user_ids(3000).reverse(), SplitOptions(split="user")
    )
    np.testing.assert_array_equal(reverse[::-1], splits[::2])


def test_the_hash_of_a_user_never_changes():
    # First 8 bytes of BLAKE2b of "user 0".."user 29": computed once, with hashlib.
    splits, _ = split(
        sessions_with([[1]] * 30), split="user", valid_fraction=0.3, test_fraction=0.3
    )
    assert "".join(map(str, splits)) == "012022020201200001000212021000"


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=20),
    st.sampled_from(["last_session", "user", "time"]),
)
def test_a_users_sessions_come_train_then_valid_then_test(starts, name):
    sessions = sessions_with(starts)
    try:
        splits, _ = split(sessions, split=name)
    except DataError:
        return
    same_user = np.diff(sessions.users) == 0
    assert np.all(np.diff(splits.astype(int))[same_user] >= 0)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, "valid"),
        ({"split": "user"}, "train|valid|test"),
        ({"split": "time", "valid_after_ms": 0, "test_after_ms": 2}, "train"),
        ({"split": "time", "valid_after_ms": 2, "test_after_ms": 99}, "test"),
    ],
)
def test_an_empty_part_is_an_error(options, part):
    name = options.get("split", "last_session")
    with pytest.raises(DataError, match=f"split={name}: the ({part}) part is left empty"):
        split(sessions_with([[1, 2]]), **options)


def test_sessions_of_events():
    events = by_gap(codes_log([0, 0, 0, 1], [0] * 4, [0, 1, 10**9, 5]), 30)
    sessions = sessions_of(events)
    assert sessions.users.tolist() == [0, 0, 1]
    assert sessions.starts_ms.tolist() == [0, 10**9, 5]
    assert sessions.lengths.tolist() == [2, 1, 1]
