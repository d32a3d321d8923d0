import numpy as np

from benchmarks.users import draw_users, globo_lengths
from data_pipelines.histories.record import Split
from hiertcn_jax.batch import FIRST_ITEM_ID


def test_the_histograms_are_those_of_the_log():
    sessions, events = globo_lengths()
    # 118,728 sessions of 13,365 users, and 369,434 events in them.
    np.testing.assert_allclose(sessions.mean(), 118_728 / 13_365)
    np.testing.assert_allclose(events.mean(), 369_434 / 118_728)
    assert sessions.value_n.min() == 5 and events.value_n.min() == 2


def test_users_follow_the_histograms():
    users = draw_users(3000, items=50, seed=0)
    sessions, events = globo_lengths()
    lengths = np.concatenate([user.session_lengths for user in users])
    assert len(users) == 3000
    np.testing.assert_allclose(len(lengths) / 3000, sessions.mean(), rtol=0.03)
    np.testing.assert_allclose(lengths.mean(), events.mean(), rtol=0.03)
    assert set(lengths.tolist()) <= set(events.value_n.tolist())
    items = np.concatenate([user.item_ids for user in users])
    assert items.min() == FIRST_ITEM_ID and items.max() < FIRST_ITEM_ID + 50
    # Zipf's law: the first item comes twice as often as the second.
    counts = np.bincount(items)
    np.testing.assert_allclose(counts[FIRST_ITEM_ID] / counts[FIRST_ITEM_ID + 1], 2, rtol=0.05)


def test_histories_are_whole_and_repeat():
    users, again = (draw_users(20, items=9, seed=3) for _ in range(2))
    for user, same in zip(users, again, strict=True):
        assert len(user.item_ids) == len(user.times) == user.session_lengths.sum()
        assert (user.session_splits == Split.TRAIN).all()
        assert (np.diff(user.times) > 0).all()
        np.testing.assert_array_equal(user.item_ids, same.item_ids)
    assert [user.user_id for user in users.__getitems__([4, 2])] == ["4", "2"]
