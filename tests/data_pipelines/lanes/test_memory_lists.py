"""Memory's lists in a batch equal those of each event alone, and use nothing later."""

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import eval_loader, train_loader
from data_pipelines.lanes.memory_lists import own_items, remember
from hiertcn_jax.batch import Bucket
from hiertcn_jax.memory.clock import clock
from hiertcn_jax.memory.config import SIZES
from tests.data_pipelines.lanes.walking import ListSource, history

ROWS, BUCKET = 9, Bucket(lanes=3, events=8, sessions=4)
TRAIN, VALID, TEST = Split.TRAIN, Split.VALID, Split.TEST


def source_of(seed=0):
    return ListSource(
        history([3, 2, 4, 1], [TRAIN, TRAIN, VALID, TEST], seed=seed + user) for user in range(7)
    )


def asked_events(element):
    """Index in the batch, user, index in the history, and time of each event with a list."""
    batch, info = element
    asked_bl = (batch.loss_weight_bl > 0) | batch.scored_bl
    user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
    for lane, place in np.argwhere(asked_bl):
        yield (
            (lane, place),
            int(user_bl[lane, place]),
            int(batch.user_position_bl[lane, place]),
            int(info.time_bl[lane, place]),
        )


def expected_lists(source, recall, user, place, time):
    """Memory's counts, queried by hand for one event."""
    items = (
        source[user : user + 1][0] if isinstance(user, slice) else list.__getitem__(source, user)
    )
    own_m = np.zeros(SIZES.own_events, np.int32)
    before = items.item_ids[:place][::-1][: SIZES.own_events]
    own_m[: len(before)] = before
    starts = np.cumsum(items.session_lengths) - items.session_lengths
    position = place - int(starts[starts <= place][-1])
    return recall.memory.lists(np.asarray([time]), own_m[None], np.asarray([position], np.int32))


@pytest.mark.parametrize("part", ["train", "valid"])
def test_each_event_has_the_list_of_its_own(part):
    source = source_of()
    recall = remember(source, ROWS, TRAIN)
    if part == "train":
        loader = train_loader(source, BUCKET, seed=0, recall=recall, prefetch=0)
        elements = [next(iter(loader))]
    else:
        elements = list(eval_loader(source, BUCKET, split=VALID, recall=recall, prefetch=0))
    seen = 0
    for element in elements:
        batch = element.batch
        for (lane, column), user, place, time in asked_events(element):
            lists = expected_lists(source, recall, user, place, time)
            np.testing.assert_array_equal(batch.memory_ids_blk[lane, column], lists.item_ids_nk[0])
            np.testing.assert_array_equal(
                batch.memory_counts_blkf[lane, column], lists.features_nkf[0]
            )
            np.testing.assert_array_equal(batch.clock_blg[lane, column], clock([time])[0])
            seen += 1
        asked_bl = (batch.loss_weight_bl > 0) | batch.scored_bl
        assert not batch.memory_ids_blk[~asked_bl].any()
    assert seen > 10


def test_counts_end_with_the_fitted_part():
    """Events of others in valid change nothing if only train is fitted."""
    source, altered = source_of(), source_of()
    for user in range(len(source)):
        record = list.__getitem__(source, user)
        items = record.item_ids.copy()
        items[5:] = 8
        altered[user] = type(record)(**{**vars(record), "item_ids": items})
    asked = (
        np.asarray([2_000_000_000]),
        np.zeros((1, SIZES.own_events), np.int32),
        np.zeros(1, np.int32),
    )
    one, other = (remember(log, ROWS, TRAIN).memory.lists(*asked) for log in (source, altered))
    np.testing.assert_array_equal(one.features_nkf, other.features_nkf)
    late = remember(altered, ROWS, VALID).memory.lists(*asked)
    assert (late.features_nkf != one.features_nkf).any()


def test_late_and_frozen_counts():
    source = source_of()
    time = int(
        np.concatenate([list.__getitem__(source, user).times[:5] for user in range(7)]).max()
    )
    recall = {
        "at once": remember(source, ROWS, TRAIN),
        "late": remember(source, ROWS, TRAIN, delay=3600),
        "frozen": remember(source, ROWS, TRAIN, frozen=True),
    }
    assert recall["late"].delay == 3600
    assert recall["frozen"].frozen_at == time + 1

    def first_list(one):
        for element in eval_loader(source, BUCKET, split=TEST, recall=one, prefetch=0):
            for index, *_ in asked_events(element):
                return element.batch.memory_counts_blkf[index]
        raise AssertionError("no event of test")

    assert (first_list(recall["late"]) != first_list(recall["at once"])).any()
    assert (first_list(recall["frozen"]) != first_list(recall["at once"])).any()


def test_own_items_are_the_users_own():
    source = source_of()
    recall = remember(source, ROWS, TRAIN)
    own_nm = own_items(recall, np.asarray([2, 2, 0]), np.asarray([0, 3, 9]))
    assert not own_nm[0].any()
    for n, (user, place) in enumerate([(2, 0), (2, 3), (0, 9)]):
        before = list.__getitem__(source, user).item_ids[:place][::-1]
        np.testing.assert_array_equal(own_nm[n, : len(before)], before)
        assert not own_nm[n, len(before) :].any()


def test_the_clock_by_hand():
    monday = 1_700_438_400  # 2023-11-20 00:00 UTC
    np.testing.assert_allclose(clock([monday]), [[0, 1, 0, 1]], atol=1e-6)
    noon_thursday = monday + 3 * 86_400 + 43_200
    np.testing.assert_allclose(clock([noon_thursday]), [[0, -1, 0, -1]], atol=1e-6)
