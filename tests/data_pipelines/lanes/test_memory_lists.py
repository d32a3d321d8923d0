"""Memory's lists in a batch equal those of each event alone, and use nothing later."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import eval_loader, train_loader
from data_pipelines.lanes.memory_lists import own_items, remember
from hiertcn_jax.batch import Bucket
from hiertcn_jax.memory.clock import clock
from hiertcn_jax.memory.config import KINDS, SIZES
from hiertcn_jax.memory.levels import parse
from hiertcn_jax.memory.lists import AGE
from hiertcn_jax.models import build, model_config
from tests.data_pipelines.lanes.walking import ListSource, history
from tests.memory.plain_counts import world

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


def test_where_few_events_have_lists_nothing_else_differs():
    """Counts without room for other events: the same lists, and the same additions of a model."""
    source = source_of()
    recall = remember(source, ROWS, TRAIN)
    model = build(model_config("memory", memory=KINDS, memory_units=3, item_dim=4))
    rooms = set()
    for every, few in zip(
        eval_loader(source, BUCKET, split=VALID, recall=recall, prefetch=0),
        eval_loader(source, BUCKET, split=VALID, recall=recall._replace(few=True), prefetch=0),
        strict=True,
    ):
        every, few = jax.tree.map(jnp.asarray, (every.batch, few.batch))
        np.testing.assert_array_equal(few.memory_ids_blk, every.memory_ids_blk)
        assert few.memory_counts_blkf is None
        rooms.add(len(few.memory_events_n))
        params = model.init(
            jax.random.key(0), every.with_embeddings(np.ones((ROWS, 4))), model.init_carry(3)
        )
        params = jax.tree.map(lambda x: x + np.arange(x.size).reshape(x.shape) / x.size, params)
        u_bld = jnp.ones((*every.item_ids_bl.shape, 4))
        found, expected = (
            model.apply(params, batch, u_bld, method="additions") for batch in (few, every)
        )
        np.testing.assert_array_equal(found.item_ids, expected.item_ids)
        listed = np.asarray(expected.is_item())
        np.testing.assert_allclose(found.values[listed], expected.values[listed], rtol=1e-5)
    assert rooms <= {3, 6, 12, 24}


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


def places_of(record):
    """Position in the session, and part, of each event of a history."""
    for length, split in zip(record.session_lengths, record.session_splits, strict=True):
        yield from ((position, split) for position in range(length))


@pytest.mark.parametrize("text", ["fitted", "live", "delayed:1h", "static"])
@pytest.mark.parametrize("part", [VALID, TEST])
def test_a_level_counts_what_it_says(text, part):
    """The world of each list, against a plain loop over the events that the level knows."""
    source, level = source_of(), parse(text)
    recall = remember(source, ROWS, TEST if level.counts_held_out else TRAIN).at_level(level)
    histories = [list.__getitem__(source, user) for user in range(len(source))]
    counted = [
        (int(h.item_ids[event]), int(h.times[event]), -1, position)
        for h in histories
        for event, (position, split) in enumerate(places_of(h))
        if level.counts_held_out or split == TRAIN
    ]
    end = max(time for _, time, *_ in counted) + 1 if text == "static" else np.inf
    seen = 0
    for element in eval_loader(source, BUCKET, split=part, recall=recall, prefetch=0):
        batch = element.batch
        for (lane, column), _, _, time in asked_events(element):
            known = min(time - (3600 if text == "delayed:1h" else 0), end)
            ids_k = batch.memory_ids_blk[lane, column]
            for item, features_f in zip(ids_k, batch.memory_counts_blkf[lane, column], strict=True):
                if item:
                    expected = world(counted, item, known)
                    np.testing.assert_allclose(features_f[:AGE], expected, rtol=1e-5, atol=1e-30)
            assert {item for item, at, *_ in counted if at < known and item >= 2} <= set(ids_k)
            seen += known < time
    assert seen or text in ("fitted", "live")


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
