import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.histories.events import Stream
from data_pipelines.histories.record import Split
from data_pipelines.lanes.dealing import Once, Shuffled, deal_by_length, require_targets
from hiertcn_jax.batch import Bucket
from tests.data_pipelines.lanes import walking

TEST = Stream(Split.TEST, Split.TEST, evaluated=True)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_each_user_comes_once_in_each_epoch(users, lanes, seed):
    deal = Shuffled(users, lanes, seed)
    epochs = [[], [], []]
    for lane in range(lanes):
        turns = range(-(-3 * users // lanes) + 1)
        for turn, user in zip(turns, walking.dealt(deal, lane, len(turns)), strict=True):
            epoch, position = deal.position(lane, turn)
            assert deal.turn(lane, epoch, position) == turn
            if epoch < 3:
                epochs[epoch].append((position, user))
    for epoch in epochs:
        assert sorted(position for position, _ in epoch) == list(range(users))
        assert sorted(user for _, user in epoch) == list(range(users))


def test_first_epoch_deals_every_b_th_place():
    deal = Shuffled(10, 3, seed=0)
    order = walking.dealt(Shuffled(10, 1, seed=0), 0, 10)
    assert walking.dealt(deal, 1, 3) == [order[1], order[4], order[7]]


def test_same_seed_same_order_and_other_seeds_and_epochs_other_orders():
    def order(seed, epoch):
        return tuple(walking.dealt(Shuffled(100, 1, seed), 0, 200)[100 * epoch :][:100])

    assert order(0, 0) == order(0, 0)
    assert len({order(0, 0), order(1, 0), order(0, 1), order(1, 1)}) == 4


def test_a_place_that_the_lane_never_reaches_is_refused():
    with pytest.raises(ValueError, match="lane 1 of 3 never reaches epoch=0, position=2"):
        Shuffled(10, 3, seed=0).turn(1, 0, 2)
    with pytest.raises(ValueError, match="lane 0 never reaches epoch=0, position=3 with 2 users"):
        Once([np.asarray([4, 5])], batches=1).turn(0, 0, 3)


@given(walking.logs(), st.integers(1, 5))
def test_dealing_by_length_gives_each_user_with_targets_once(source, lanes):
    wanted = np.flatnonzero(walking.has_target(source, TEST)).tolist()
    if not wanted:
        return
    deal = deal_by_length(source, TEST, Bucket(lanes, 4, 3))
    hands = [walking.dealt(deal, lane, len(source) + 1) for lane in range(lanes)]
    assert sorted(user for hand in hands for user in hand) == wanted
    totals = []
    for hand in hands:
        lengths = [len(walking.walk_user(source, user, TEST)) for user in hand]
        assert lengths == sorted(lengths, reverse=True)
        totals.append((sum(lengths), lengths[-1] if lengths else 0))
    # The last user of a lane was assigned to it when it was the shortest.
    assert all(total - last <= min(totals)[0] for total, last in totals)


def test_dealing_by_length_in_blocks_is_in_order(monkeypatch):
    source = walking.log(7)
    expected = deal_by_length(source, TEST, Bucket(2, 4, 3))
    monkeypatch.setattr("data_pipelines.histories.events._HISTORIES_AT_ONCE", 2)
    deal = deal_by_length(source, TEST, Bucket(2, 4, 3))
    for lane in range(2):
        assert walking.dealt(deal, lane, 9) == walking.dealt(expected, lane, 9)
    assert deal.batches == expected.batches


def test_an_empty_part_is_an_error():
    source = walking.ListSource([walking.history([2], [Split.TRAIN])] * 3)
    with pytest.raises(ValueError, match="none of the 3 users has a session in the part test"):
        deal_by_length(source, TEST, Bucket(2, 4, 3))
    with pytest.raises(ValueError, match="none of the 3 users has a session in the part test"):
        require_targets(source, TEST)
    with pytest.raises(ValueError, match="none of the 0 users"):
        require_targets(walking.ListSource(), TEST)
